//! Replays: a function is called again with a range of its stream, beside its normal work.
//!
//! ```text
//! planned: numbers ── lanes files ── the record, with the ranges ── lanes run ── all at their ends
//!                                    └─ it is there, as `<function>@replay-N`       └─ it is removed
//! ```
//! A replay is a mapping that reads one range of each shard. The ranges are computed once, before
//! it is made, and never change.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lanes::LaneView;
use super::mapping::Mapping;
use super::slot::RecordRange;
use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::log::{ReadBuffer, ShardLog};
use crate::stream::{ShardMeta, Stream};
use crate::types::{Micros, SequenceNumber, ShardId, Start};

/// A worker does not wait for the locks of a replay that it removes: it tries again soon.
const AT_ONCE: Duration = Duration::ZERO;

impl Mapping {
    /// What a replay of a stream would read: of each shard, or of the named one, the records from
    /// `from` up to the one before `to`, as both are now. A time means the first record put then or
    /// later; [`Start::Latest`] means the visible end.
    ///
    /// # Errors
    /// [`Error::Config`] if it does not read the stream, or there is no such shard;
    /// [`Error::SequenceTrimmed`] if `from` is a number that is no longer kept; errors of reading.
    pub fn plan_replay(
        &self,
        stream: &str,
        from: Start,
        to: Start,
        shard: Option<ShardId>,
    ) -> Result<Vec<RecordRange>> {
        if !self.has_begun(stream)? {
            let reason = format!("`{}` does not read `{stream}`", self.name());
            return Err(Error::config("stream", reason));
        }
        let source = self.log().stream(stream)?;
        let mut shards: Vec<ShardId> = source.shards()?.iter().map(|meta| meta.id).collect();
        shards.retain(|id| shard.is_none_or(|only| only == *id));
        if let (Some(shard), true) = (shard, shards.is_empty()) {
            let reason = format!("`{stream}` has no shard {shard}");
            return Err(Error::config("shard_id", reason));
        }
        let range = |&shard: &ShardId| {
            let log = source.shard(shard)?;
            let until = place_of(&log, to)?.min(log.visible_end());
            let first = place_of(&log, from)?.min(until);
            let horizon = log.trim_horizon()?;
            if first < until && first < horizon {
                return Err(Error::SequenceTrimmed { lost_from: first, lost_to: horizon - 1 });
            }
            Ok(RecordRange { shard, first, until })
        };
        shards.iter().map(range).collect()
    }

    /// Makes a replay of what was planned. Workers that run this mapping's function find it, call the
    /// function, and remove it at its end; this mapping's own lanes are not touched. Until then,
    /// retention by consumption keeps its records.
    ///
    /// # Errors
    /// [`Error::Config`] if no range has a record, [`Error::SequenceTrimmed`] if some are no longer
    /// kept, [`Error::LogFull`], [`Error::LockTimeout`], [`Error::Io`]; there is no replay then.
    ///
    /// # Durability
    /// Durable when it returns; a crash leaves the whole replay or none.
    pub fn replay(
        &self,
        stream: &str,
        ranges: &[RecordRange],
        patience: &Patience<'_>,
    ) -> Result<Self> {
        if ranges.iter().all(RecordRange::is_empty) {
            return Err(Error::config(
                "stream",
                format!("there is nothing of `{stream}` to replay"),
            ));
        }
        let source = self.log().stream(stream)?;
        Self::alone(self.log(), patience, || {
            let wanted = self.wanted()?;
            let replay = Self::at(self.log(), &self.next_replay()?);
            replay.create_replay(stream, wanted, ranges)?;
            // WHY after it was made: only then retention heeds it.
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                let horizon = source.shard(range.shard)?.trim_horizon()?;
                if range.first < horizon {
                    replay.erase()?;
                    let (lost_from, lost_to) = (range.first, horizon - 1);
                    return Err(Error::SequenceTrimmed { lost_from, lost_to });
                }
            }
            self.log().bump();
            Ok(replay)
        })
    }

    /// Removes a replay if all of it is done and no lane is leased; returns whether it is removed.
    ///
    /// # Errors
    /// [`Error::Config`] if it was removed before, [`Error::Io`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn finish_replay(&self) -> Result<bool> {
        let patience = Patience::of(AT_ONCE);
        let finished = Self::alone(self.log(), &patience, || {
            let _leases = self.every_lease(&patience)?;
            let is_done = self.is_replay() && self.lanes(None)?.iter().all(|lane| lane.is_finished);
            if is_done {
                self.erase()?;
                self.log().bump();
            }
            Ok(is_done)
        });
        match finished {
            Err(Error::LockTimeout { .. }) => Ok(false),
            finished => finished,
        }
    }

    /// Where a lane's reading ends: its replay's end, or the visible end.
    pub(super) fn end_in(&self, stream: &Stream, shard: ShardId) -> Result<SequenceNumber> {
        let visible_end = stream.shard(shard)?.visible_end();
        Ok(self.range_of(shard)?.map_or(visible_end, |range| range.until.min(visible_end)))
    }

    /// Whether a replay is done, for good, with everything that came before a shard.
    ///
    /// It checks more than the parents: if a parent's range is empty, nothing has waited for that
    /// one's parents.
    pub(super) fn is_past_ancestors(&self, stream: &Stream, shard: &ShardMeta) -> Result<bool> {
        let shards = stream.shards()?;
        let mut ahead = shard.parents.clone();
        let mut seen = BTreeSet::new();
        while let Some(id) = ahead.pop() {
            let Some(meta) = shards.iter().find(|meta| meta.id == id && seen.insert(id)) else {
                continue;
            };
            ahead.extend(&meta.parents);
            if self.range_of(id)?.is_none() {
                continue;
            }
            let end = self.end_in(stream, id)?;
            let file = self.lanes_file(stream.name(), id)?;
            let is_past =
                |view: &LaneView| view.checkpoint.next_seq >= end && view.window().is_none();
            if !file.lanes()?.iter().all(is_past) {
                return Ok(false);
            }
            file.sync_all()?;
        }
        Ok(true)
    }
}

/// The number that a place of a shard stands for; it may be beyond its end.
fn place_of(log: &ShardLog, place: Start) -> Result<SequenceNumber> {
    match place {
        Start::TrimHorizon => log.trim_horizon(),
        Start::Latest => Ok(log.visible_end()),
        Start::AtSequence(seq) => Ok(seq),
        Start::AtTimestamp(time) => first_at(log, time),
    }
}

/// The first record that was put at `time` or later.
fn first_at(log: &ShardLog, time: Micros) -> Result<SequenceNumber> {
    let cursor = log.cursor(Start::AtTimestamp(time))?;
    let Ok(Some((batch, _))) = log.read(&cursor, &mut ReadBuffer::default()) else {
        // What cannot be read is in the range, so that it is told.
        return Ok(cursor.next_seq);
    };
    if batch.control().is_some() {
        return Ok(cursor.next_seq);
    }
    let older = (0..batch.count()).take_while(|&index| batch.timestamp(index) < time).count();
    Ok(cursor.next_seq.max(batch.base_seq() + older as u64))
}

#[cfg(test)]
mod tests;
