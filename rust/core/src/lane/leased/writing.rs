//! What a lane writes into its lanes file: checkpoint, windows, in-flight slot.

use super::LeasedLane;
use crate::checkpoint::slot::shorten;
use crate::checkpoint::{Entry, InFlight, ResumePoint, Windows};
use crate::clock::Deadline;
use crate::error::Result;
use crate::lane::windowing::Windowing;
use crate::types::SequenceNumber;

impl LeasedLane {
    /// Moves the checkpoint up to the lowest record that is open.
    pub(super) fn advance(&mut self, lowest: SequenceNumber) -> Result<()> {
        if lowest <= self.checkpoint {
            return Ok(());
        }
        let records = self.open.as_ref().and_then(|open| open.records.as_ref());
        let found = records.and_then(|records| records.get(records.search(lowest).ok()?));
        let hint = found.map(|(batch, _)| batch.position()).unwrap_or_default();
        let shard_epoch = self.source.shard_epoch();
        self.write_checkpoint(ResumePoint { next_seq: lowest, hint, shard_epoch })
    }

    pub(super) fn write_checkpoint(&mut self, place: ResumePoint) -> Result<()> {
        if self.windowing.is_some() {
            return self.write_windows(place, Windowing::advanced);
        }
        self.file.checkpoint(self.share.slot, place, self.around.clock.now())?;
        self.checkpoint = place.next_seq;
        Ok(())
    }

    /// Writes a position and the windows as they stand there.
    pub(super) fn write_windows(
        &mut self,
        place: ResumePoint,
        windows: fn(&Windowing) -> Windows,
    ) -> Result<()> {
        let Some(windowing) = &mut self.windowing else { return Ok(()) };
        let windows = windows(windowing);
        let (slot, now) = (self.share.slot, self.around.clock.now());
        self.file.checkpoint_windows(slot, place, &windows, now)?;
        windowing.wrote(windows);
        self.barrier = None;
        self.checkpoint = place.next_seq;
        Ok(())
    }

    /// Writes what of the batch is open, and whether the function is being called with it.
    pub(in crate::lane) fn write_slot(&mut self, is_calling: bool) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let entries = shorten(&open.entries, open.end);
        // WHY: a state that a crash takes back must take the slot with it, or records that the slot
        // leaves out would be missing in both. So the slot of a window stands on its last pair.
        let formed_at = if self.windowing.is_some() { self.checkpoint } else { open.formed_at };
        self.put_in_flight(formed_at, open.end, is_calling, entries)
    }

    pub(super) fn put_in_flight(
        &mut self,
        formed_at: SequenceNumber,
        end: SequenceNumber,
        is_calling: bool,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let rest = self.rest.filter(|rest| !rest.is_past());
        let in_flight = InFlight {
            boot_id: self.around.boot_id,
            worker: self.taker.worker,
            runner: self.taker.runner,
            generation: self.generation,
            formed_at,
            end,
            is_calling,
            worker_deaths: self.worker_deaths,
            is_alone: self.is_alone,
            is_exclusive: self.taker.is_exclusive,
            is_final: self.open.as_ref().is_some_and(|open| open.is_final),
            exponent: self.exponent,
            not_before: rest.map_or(0, Deadline::shared_millis),
            entries,
        };
        self.file.put_in_flight(self.share.slot, &in_flight)?;
        self.slot_exponent = self.exponent;
        Ok(())
    }
}
