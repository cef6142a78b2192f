//! The status of a mapping's lanes.

use super::folder::{stream_of, LANES_SUFFIX, RECORD, REMOVED};
use super::Mapping;
use crate::checkpoint::lanes::LaneView;
use crate::checkpoint::lease::Lease;
use crate::checkpoint::slot::InFlight;
use crate::error::{IoContext, Result};
use crate::types::{Micros, SequenceNumber, ShardId};

/// The status of one lane.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    /// The stream it reads.
    pub stream: String,
    /// The shard it reads.
    pub shard: ShardId,
    /// Its number among the lanes of the shard.
    pub slot: u32,
    /// Lanes of the shard.
    pub factor: u32,
    /// Everything below is done.
    pub checkpoint: SequenceNumber,
    /// The shard's visible records are below.
    pub end: SequenceNumber,
    /// Sequence numbers from the checkpoint to the last record, of this lane or another.
    pub behind: u64,
    /// The batch in flight, with at least one entry; `None` if there is none or it is void.
    pub in_flight: Option<InFlight>,
    /// Whether a live process holds the lease.
    pub is_leased: bool,
    /// Wall time of the checkpoint.
    pub written: Micros,
    /// Whether the lane has tumbling windows.
    pub is_windowed: bool,
    /// Start and end of the window that is open.
    pub window: Option<(Micros, Micros)>,
    /// Whether it is done for good: all is settled, and nothing will follow, in a shard that was
    /// split or merged, or in a replay.
    pub is_finished: bool,
}

impl Mapping {
    /// The status of the lanes of one stream, or of all.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`], [`Error::Io`].
    pub fn lanes(&self, stream: Option<&str>) -> Result<Vec<LaneStatus>> {
        let streams = match stream {
            Some(stream) => vec![stream.to_owned()],
            None => self.record()?.begun,
        };
        let mut lanes = Vec::new();
        for stream in streams {
            for shard in self.shards_with_lanes(&stream)? {
                self.add_status(&stream, shard, &mut lanes)?;
            }
        }
        Ok(lanes)
    }

    /// Every stream and shard that has lanes.
    pub(in crate::checkpoint) fn shards(&self) -> Result<Vec<(String, ShardId)>> {
        let mut shards = Vec::new();
        for stream in self.record()?.begun {
            let found = self.shards_with_lanes(&stream)?;
            shards.extend(found.into_iter().map(|shard| (stream.clone(), shard)));
        }
        Ok(shards)
    }

    pub(super) fn shards_with_lanes(&self, stream: &str) -> Result<Vec<ShardId>> {
        let folder = self.stream_folder(stream);
        if !self.log.fs().exists(&folder).at(&folder)? {
            return Ok(Vec::new());
        }
        let names = self.log.fs().list(&folder).at(&folder)?;
        let shard = |name: &String| ShardId::parse(name.strip_suffix(LANES_SUFFIX)?);
        Ok(names.iter().filter_map(shard).collect())
    }

    fn add_status(&self, stream: &str, shard: ShardId, to: &mut Vec<LaneStatus>) -> Result<()> {
        let file = self.lanes_file(stream, shard)?;
        let views = file.lanes()?;
        let source = self.log.stream(stream)?;
        let end = self.end_in(&source, shard)?;
        let log = source.shard(shard)?;
        let (is_closed, end_of_records) = (log.is_finished(end), log.end_of_records(end));
        for (slot, view) in (0..).zip(views) {
            let in_flight = view.still_open(self.log.boot_id());
            let window = view.window().map(|open| (open.start, open.end));
            let LaneView { head, checkpoint, .. } = view;
            let in_flight = in_flight.filter(|open| !open.entries.is_empty());
            let is_settled = checkpoint.next_seq >= end && in_flight.is_none() && window.is_none();
            to.push(LaneStatus {
                stream: stream.to_owned(),
                shard,
                slot,
                factor: head.factor,
                checkpoint: checkpoint.next_seq,
                end: end.max(checkpoint.next_seq),
                behind: end_of_records.saturating_sub(checkpoint.next_seq),
                in_flight,
                is_leased: Lease::is_held(self.log.fs(), &file.lease_path(slot))?,
                written: checkpoint.written,
                is_windowed: head.is_windowed,
                window,
                is_finished: is_settled && (is_closed || self.is_replay()),
            });
        }
        Ok(())
    }

    /// The streams it has lanes in, and the shards; also if its record cannot be read.
    pub(in crate::checkpoint) fn shards_on_disk(&self) -> Result<Vec<(String, ShardId)>> {
        let mut shards = Vec::new();
        for name in self.log.fs().list(&self.folder).at(&self.folder)? {
            if name != RECORD && name != REMOVED {
                let stream = stream_of(&name);
                let found = self.shards_with_lanes(stream)?;
                shards.extend(found.into_iter().map(|shard| (stream.to_owned(), shard)));
            }
        }
        Ok(shards)
    }
}
