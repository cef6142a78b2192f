//! Reads and writes the slots of a lanes file; every call needs the file's lock.

use super::view::{view_of, LaneView};
use super::{LanesFile, LANES_START, LANE_BYTES, STRIDE};
use crate::checkpoint::slot::{self, Checkpoint, Head, InFlight};
use crate::checkpoint::window::Pair as WindowPair;
use crate::error::{Error, IoContext, Result};

/// The two checkpoint slots of a lane, those that are valid.
pub(super) struct Slots(pub(super) [Option<Checkpoint>; 2]);

impl Slots {
    /// The checkpoint that counts under this generation, and its slot.
    pub(super) fn newest(&self, generation: u64) -> Option<(u64, Checkpoint)> {
        let slots = (0..).zip(self.0).filter_map(|(i, slot)| slot.map(|slot| (i, slot)));
        slots.filter(|(_, slot)| slot.generation == generation).max_by_key(|(_, slot)| slot.counter)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.iter().flatten().map(|slot| slot.lease_epoch).max().unwrap_or(0)
    }

    pub(super) fn counter(&self) -> u64 {
        self.0.iter().flatten().map(|slot| slot.counter).max().unwrap_or(0)
    }
}

/// Where the slots of a lane begin.
pub(super) fn lane_start(slot: u32) -> u64 {
    LANES_START + u64::from(slot) * LANE_BYTES
}

impl LanesFile {
    fn read<const N: usize>(&self, position: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_at(&mut bytes, position).at(&self.path)?;
        Ok(bytes)
    }

    pub(super) fn read_head(&self) -> Result<Head> {
        let slots = [
            Head::decode(&self.read::<{ slot::HEAD_BYTES }>(0)?),
            Head::decode(&self.read::<{ slot::HEAD_BYTES }>(STRIDE)?),
        ];
        let newest = slots.into_iter().flatten().max_by_key(|head| head.counter);
        newest.ok_or_else(|| Error::CheckpointConflict {
            path: self.path.clone(),
            reason: format!("both heads are damaged: {}", self.how_to_go_on()),
        })
    }

    /// WHY one read with everything in between: both slots are read before each write, twice a
    /// batch. Two calls of `pread` take 860 ns, this one 500.
    pub(super) fn read_slots(&self, slot: u32) -> Result<Slots> {
        const BETWEEN: usize = 4096;
        const _: () = assert!(BETWEEN as u64 == STRIDE, "the second slot is a stride further");
        let bytes = self.read::<{ BETWEEN + slot::CHECKPOINT_BYTES }>(lane_start(slot))?;
        let (first, second) = bytes.split_at(BETWEEN);
        Ok(Slots([Checkpoint::decode(first).ok(), Checkpoint::decode(second).ok()]))
    }

    pub(super) fn read_in_flight(&self, slot: u32) -> Result<Option<InFlight>> {
        let position = lane_start(slot) + 2 * STRIDE;
        Ok(InFlight::decode(&self.read::<{ slot::IN_FLIGHT_BYTES_MAX }>(position)?).ok())
    }

    pub(super) fn read_lane(&self, head: Head, slot: u32) -> Result<LaneView> {
        let newest = self.read_slots(slot)?.newest(head.generation);
        let (_, checkpoint) = newest.ok_or_else(|| self.conflict(slot))?;
        let pair = self.read_windows(head)?;
        Ok(view_of(head, checkpoint, pair, self.read_in_flight(slot)?))
    }

    /// The pair that counts, and its file; `None` of lanes without windows.
    pub(super) fn read_windows(&self, head: Head) -> Result<Option<(u64, WindowPair)>> {
        if !head.is_windowed {
            return Ok(None);
        }
        let found = self.window_files.newest(head.generation)?;
        found.map(Some).ok_or_else(|| Error::CheckpointConflict {
            path: self.window_files.path().to_owned(),
            reason: format!("both window files are damaged: {}", self.how_to_go_on()),
        })
    }

    pub(super) fn write_checkpoint(
        &self,
        slot: u32,
        target: u64,
        checkpoint: &Checkpoint,
    ) -> Result<()> {
        let position = lane_start(slot) + target * STRIDE;
        self.file.write_at(&[&checkpoint.encode()], position).at(&self.path)
    }

    pub(super) fn conflict(&self, slot: u32) -> Error {
        let how = self.how_to_go_on();
        Error::CheckpointConflict {
            path: self.path.clone(),
            reason: format!("both checkpoint slots of lane {slot} are damaged: {how}"),
        }
    }

    fn how_to_go_on(&self) -> String {
        let mapping = self.label.split(' ').next().unwrap_or_default();
        format!("set its position with `streamfn fn seek {mapping}`")
    }
}
