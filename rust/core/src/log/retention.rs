//! Removes old records: whole segments, oldest first, never the one being written.
//!
//! ```text
//! state.trim_horizon raised, synced ──▶ segment unlinked ──▶ folder synced
//! ```
//! A crash between the steps leaves files below the horizon; the next pass removes them. What may
//! go is decided from the batches themselves, never from an index.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::format::record_batch::{HeaderRead, HEADER_BYTES};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{BatchHeader, SegmentHeader};
use crate::types::{Micros, Position, SequenceNumber};

use super::append::Writer;
use super::cursor::{Cursor, Next};
use super::read_buffer::ReadBuffer;
use super::segment::Segment;
use super::{ShardLog, SEGMENT_START};

/// A segment is closed at this part of the retention age, so that a quiet stream's records expire
/// too.
const ROLLS_PER_AGE: u64 = 8;
/// ... but not more often than this.
const ROLL_AGE_MIN: Duration = Duration::from_secs(60);
/// Retention can wait for its next pass when writers are busy.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// What a shard has to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Records appended at or after this time, µs UTC.
    pub since: Option<Micros>,
    /// So many bytes of the newest segments.
    pub bytes: Option<u64>,
    /// Records from this number on: all below are consumed.
    pub from: Option<SequenceNumber>,
}

/// What a pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Segment files.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl ShardLog {
    /// Removes the segments that no limit in `keep` protects. With no limit set, nothing is
    /// removed.
    ///
    /// # Errors
    /// [`crate::Error::LockTimeout`] if writers are busy, errors of the file system; the next pass
    /// goes on from there. [`crate::Error::StoragePoisoned`] if a sync of the shard failed: nothing is
    /// removed then.
    pub fn retain(&self, keep: &Keep) -> Result<Trimmed> {
        self.directory.check()?;
        if keep.since.is_none() && self.page().committed().segment == self.first_ordinal()? {
            return Ok(Trimmed::default());
        }
        let Some(mut writer) = self.try_exclude_writers() else { return Ok(Trimmed::default()) };
        let _locked = self.append_lock.lock(&Patience::of(LOCK_PATIENCE))?;
        self.directory.check()?;
        if let Some(since) = keep.since {
            match self.roll_by_age(&mut writer, since) {
                // What makes room must not wait for room.
                Err(Error::LogFull { .. }) => {}
                rolled => rolled?,
            }
        }
        let horizon = self.horizon(keep)?;
        self.cut_before(horizon)
    }

    /// Raises the trim horizon to `seq`, at most to the visible end: records below are gone for
    /// every reader at once, and their segments as far as they hold nothing else.
    ///
    /// # Errors
    /// As [`ShardLog::retain`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn trim(&self, seq: SequenceNumber, patience: &Patience<'_>) -> Result<Trimmed> {
        self.directory.check()?;
        let _writer = self.exclude_writers();
        let _locked = self.append_lock.lock(patience)?;
        self.directory.check()?;
        let horizon = seq.min(self.visible_end());
        if horizon > self.trim_horizon()? {
            self.update_state(|state| state.trim_horizon = horizon)?;
        }
        self.cut_before(horizon)
    }

    fn first_ordinal(&self) -> Result<u32> {
        Ok(self.segments.list()?.first().map_or(0, |segment| segment.ordinal))
    }

    /// Begins a new segment if the first record of this one is older than that part of the
    /// retention age.
    fn roll_by_age(&self, writer: &mut Writer, since: Micros) -> Result<()> {
        let now = self.directory.clock().now();
        let age = now.saturating_sub(since);
        let most = (age / ROLLS_PER_AGE).max(u64::try_from(ROLL_AGE_MIN.as_micros()).unwrap_or(0));
        let end = self.page().committed();
        let Some(active) = self.segments.get(end.segment)? else { return Ok(()) };
        let first = match self.first_batch_time(&active)? {
            // Rot hides it, not that something is there.
            None if end.offset > SEGMENT_START => Some(self.created(&active)?),
            first => first,
        };
        match first {
            Some(first) if now.saturating_sub(first) > most => self.roll(writer),
            _ => Ok(()),
        }
    }

    /// A time before all records of a segment; 0 if its header is damaged.
    fn created(&self, segment: &Segment) -> Result<Micros> {
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        let file = segment.open(self.directory.fs())?;
        file.read_at(&mut bytes, 0).at(segment.path())?;
        Ok(SegmentHeader::decode(&bytes).map_or(0, |header| header.created))
    }

    /// The first sequence number to be kept.
    pub(super) fn horizon(&self, keep: &Keep) -> Result<SequenceNumber> {
        let segments = self.segments.list()?;
        let last_kept = self.last_needed();
        let mut left: u64 = 0;
        for segment in &segments {
            left += segment.open(self.directory.fs())?.length().at(segment.path())?;
        }
        let mut horizon = self.trim_horizon()?;
        for (index, pair) in segments.windows(2).enumerate() {
            let [old, next] = pair else { break };
            if old.ordinal >= last_kept {
                break;
            }
            let is_old = match keep.since {
                Some(since) => self.is_older(segments.get(index..).unwrap_or_default(), since)?,
                None => false,
            };
            let is_over = keep.bytes.is_some_and(|most| left > most);
            let is_consumed = keep.from.is_some_and(|from| next.base_seq <= from);
            if !(is_old || is_over || is_consumed) {
                break;
            }
            left -= old.open(self.directory.fs())?.length().at(old.path())?;
            horizon = horizon.max(next.base_seq);
        }
        Ok(horizon.min(self.visible_end()))
    }

    /// Ordinal of the first segment that writers and recovery still need: that of the last batch.
    fn last_needed(&self) -> u32 {
        let page = self.page();
        match page.last_position() {
            last if last.offset == 0 => page.committed().segment,
            last => last.segment.min(page.committed().segment),
        }
    }

    fn cut_before(&self, horizon: SequenceNumber) -> Result<Trimmed> {
        let gone = self.whole_below(horizon)?;
        let mut trimmed = Trimmed::default();
        if gone.is_empty() {
            return Ok(trimmed);
        }
        // WHY: what `state` says of the horizon may be what a failed sync left in memory. Files that
        // went on such a promise would be missing after the next stop of the machine.
        self.page().check(&self.folder)?;
        // INVARIANT: first the promise, then the deed. A reader that finds a file gone reads the
        // horizon and says what was lost.
        if self.trim_horizon()? < horizon {
            self.update_state(|state| state.trim_horizon = horizon)?;
        }
        let fs = self.directory.fs();
        for segment in gone {
            segment.check_writable(fs)?;
            trimmed.bytes += segment.open(fs)?.length().at(segment.path())?;
            fs.remove(segment.path()).at(segment.path())?;
            trimmed.segments += 1;
        }
        fs.sync_dir(&self.folder).at(&self.folder).map_err(|error| self.fail_stop(&error))?;
        self.segments.list()?;
        Ok(trimmed)
    }

    /// The segments that hold nothing from `horizon` on, and that no writer needs.
    pub(super) fn whole_below(&self, horizon: SequenceNumber) -> Result<Vec<Arc<Segment>>> {
        let segments = self.segments.list()?;
        let needed = self.last_needed();
        let whole = |pair: &&[Arc<Segment>]| match pair {
            [old, next] => next.base_seq <= horizon && old.ordinal < needed,
            _ => false,
        };
        let gone = segments.windows(2).take_while(whole).filter_map(|pair| pair.first().cloned());
        Ok(gone.collect())
    }

    /// Whether all records of the first of these segments, which is closed, are older than `since`.
    fn is_older(&self, segments: &[Arc<Segment>], since: Micros) -> Result<bool> {
        let Some((segment, later)) = segments.split_first() else { return Ok(false) };
        // Times rise: one look at the first spares reading the headers of all the others.
        match self.first_batch_time(segment)? {
            Some(first) if first >= since => return Ok(false),
            Some(_) => match self.last_batch_time(segment) {
                Err(Error::Corruption { .. }) => {}
                last => return Ok(last? < since),
            },
            None => {}
        }
        // Damage hides the times of the segment, but not that what follows it is old already.
        for segment in later {
            if let Some(first) = self.first_batch_time(segment)? {
                return Ok(first < since);
            }
        }
        Ok(false)
    }

    /// Append time of the last record of a closed segment.
    fn last_batch_time(&self, segment: &Segment) -> Result<Micros> {
        if let Some(last) = segment.last_time.get() {
            return Ok(*last);
        }
        let position = Position { segment: segment.ordinal, offset: SEGMENT_START };
        let mut cursor = Cursor::at(position, segment.base_seq);
        let mut buffer = ReadBuffer::default();
        let mut last = 0;
        while let Next::Batch(header, crc) = self.next_header(&cursor, &mut buffer)? {
            if header.record_count > 0 {
                last = header.max_ts;
            }
            cursor = cursor.after(&header, crc);
        }
        Ok(*segment.last_time.get_or_init(|| last))
    }

    /// Append time of the first batch of a segment; `None` while it is empty, or if it is damaged.
    pub(super) fn first_batch_time(&self, segment: &Segment) -> Result<Option<Micros>> {
        let mut bytes = [0; HEADER_BYTES];
        let file = segment.open(self.directory.fs())?;
        file.read_at(&mut bytes, SEGMENT_START).at(segment.path())?;
        Ok(match BatchHeader::decode(&bytes) {
            HeaderRead::Valid(header, _) => Some(header.base_ts),
            _ => None,
        })
    }
}
