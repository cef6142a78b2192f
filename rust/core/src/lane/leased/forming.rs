//! Reading on until a batch, or a window, closes.

use std::time::Duration;

use super::{LeasedLane, OpenBatch, PART_BYTES, REST_AFTER_BUSY, TURN_BYTES_MAX};
use crate::checkpoint::{Entry, InFlight};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::format::Control;
use crate::lane::cache::CachedBatch;
use crate::lane::selection::Picked;
use crate::lane::windowing::Windowing;
use crate::lane::work::Work;
use crate::lane::CHECKPOINT_INTERVAL;
use crate::types::SequenceNumber;

impl LeasedLane {
    pub(super) fn read_on(&mut self, is_burst: bool) -> Result<Option<Work>> {
        let mut looked_through = 0;
        while !self.forming.tally.is_full && !self.is_tumbling() {
            let end = self.end();
            if self.share.until.is_some() && self.cursor.next_seq >= end {
                self.seen_end = Some(end);
                self.end_batch();
                break;
            }
            let read = match self.source.read(&self.cursor) {
                // What was read before the damage is called first; the next turn meets it again.
                Err(Error::Corruption { .. }) if self.forming.tally.count > 0 => {
                    return self.form();
                }
                read => read?,
            };
            let Some(cached) = read else {
                self.seen_end = Some(end);
                break;
            };
            self.take_from(&cached)?;
            looked_through += cached.batch().memory();
            if looked_through >= TURN_BYTES_MAX {
                self.seen_end = None;
                break;
            }
        }
        self.look_at_clock()?;
        self.forming.tally.is_full |= self.is_tumbling() && self.forming.tally.count > 0;
        if self.forming.tally.is_due(self.is_window_over(is_burst)) {
            return self.form();
        }
        if self.is_tumbling() {
            return self.form_final();
        }
        if self.is_position_due(is_burst) {
            self.write_checkpoint(self.source.place(&self.cursor))?;
            self.persist = Deadline::after(CHECKPOINT_INTERVAL);
        }
        Ok(None)
    }

    /// Takes the lane's records out of a batch, as many as go into the batch that is forming.
    fn take_from(&mut self, cached: &CachedBatch) -> Result<()> {
        let batch = cached.batch();
        let forming = &mut self.forming;
        let picked = match &mut self.filter {
            Some(filter) => filter.pick(cached, self.share, self.cursor.next_seq)?,
            None => self.share.of(cached, self.cursor.next_seq),
        };
        let at_once = match &picked {
            Picked::Range(range) if self.windowing.is_none() => {
                let bytes = batch.range_bytes(range);
                forming.tally.admit_all(&self.limits, picked.len(), bytes)
            }
            _ => false,
        };
        let windowing = &mut self.windowing;
        let mut is_in_window = |index: u32| {
            windowing.as_mut().is_none_or(|windowing| windowing.admit(batch.timestamp(index)))
        };
        let fits = |i: &usize| {
            picked.get(*i).is_some_and(|index| {
                let bytes = batch.record_bytes(index);
                is_in_window(index) && forming.tally.admit(&self.limits, bytes)
            })
        };
        let taken = if at_once { picked.len() } else { (0..picked.len()).take_while(fits).count() };
        if taken > 0 {
            if forming.window.is_none() {
                forming.from = self.cursor;
            }
            forming.window.get_or_insert_with(|| Deadline::after(self.limits.window));
            forming.records.push(batch, picked.slice(0, taken));
            // Its part of what it keeps in memory; the lanes of a shard keep the same batches.
            let part = batch.memory() / batch.count().max(1) as usize * taken + PART_BYTES;
            self.count_waiting(self.waiting_bytes + part);
        }
        if let Some(next) = picked.get(taken) {
            self.cursor.next_seq = batch.base_seq() + u64::from(next);
            return Ok(());
        }
        // Behind CLOSE nothing will ever follow: the batch has all it can get.
        let is_last = matches!(batch.control(), Some(Control::Close { .. }));
        if let Some(windowing) = self.windowing.as_mut().filter(|w| is_last && w.open().is_some()) {
            // SOURCE: W-5, the end of the shard closes the window. CLOSE is passed after that.
            windowing.end();
            return Ok(());
        }
        let before = self.cursor;
        self.source.pass(cached, &mut self.cursor);
        if let Some(until) = self.share.until.filter(|until| *until < self.cursor.next_seq) {
            // The rest of the batch, or a gap, is beyond the end.
            self.cursor = before;
            self.cursor.next_seq = until;
        }
        self.forming.tally.is_full |= is_last && self.forming.tally.count > 0;
        Ok(())
    }

    /// Where reading ends: for now or, in a replay, forever.
    pub(super) fn end(&self) -> SequenceNumber {
        let visible_end = self.source.visible_end();
        self.share.until.map_or(visible_end, |until| until.min(visible_end))
    }

    /// Closes the batch, and the window, at the end of a replay: nothing will follow.
    fn end_batch(&mut self) {
        self.forming.tally.is_full = self.forming.tally.count > 0;
        if let Some(windowing) = &mut self.windowing {
            windowing.end();
        }
    }

    fn form(&mut self) -> Result<Option<Work>> {
        let mut forming = std::mem::take(&mut self.forming);
        let records = forming.records.finish();
        let (first, last) = records.first().zip(records.last()).expect("a batch is never empty");
        self.open = Some(OpenBatch {
            formed_at: self.checkpoint,
            end: self.cursor.next_seq,
            entries: vec![Entry::fresh(first, last)],
            records: Some(records),
            from: forming.from,
            after: None,
            is_resumed: false,
            is_final: false,
        });
        self.hand_out()
    }

    /// Makes the final call of the window that is over, all of which is settled.
    fn form_final(&mut self) -> Result<Option<Work>> {
        if self.cursor.next_seq > self.checkpoint {
            self.write_checkpoint(self.source.place(&self.cursor))?;
        }
        self.open = Some(OpenBatch {
            formed_at: self.checkpoint,
            end: self.checkpoint,
            entries: vec![InFlight::final_entry(self.checkpoint)],
            records: None,
            from: self.cursor,
            after: None,
            is_resumed: false,
            is_final: true,
        });
        self.hand_out()
    }

    /// Whether the window that is open has had its last record.
    pub(super) fn is_tumbling(&self) -> bool {
        self.windowing.as_ref().is_some_and(Windowing::is_over)
    }

    /// Whether the window that is open may be over by the clock.
    fn is_past_window(&self) -> bool {
        let open = self.windowing.as_ref().and_then(Windowing::open);
        open.is_some_and(|open| self.around.clock.now() >= open.end)
    }

    pub(super) fn is_final_call_due(&self) -> bool {
        let has_read = |barrier| self.cursor.next_seq >= barrier;
        self.is_tumbling() || (self.is_past_window() && self.barrier.is_none_or(has_read))
    }

    /// When the window that is open ends.
    pub(super) fn window_end(&self) -> Option<Deadline> {
        let open = self.windowing.as_ref()?.open()?;
        let left = open.end.saturating_sub(self.around.clock.now());
        Some(Deadline::after(Duration::from_micros(left)))
    }

    /// Ends the window that is open once its time is over and all that can lie in it was read.
    ///
    /// A record gets its time under `append.lock`. So after the lock was taken and freed once, what
    /// is appended has a later one, and what was appended before has a number below the barrier.
    fn look_at_clock(&mut self) -> Result<()> {
        if self.seen_end.is_none() || self.is_tumbling() || !self.is_past_window() {
            return Ok(());
        }
        if self.barrier.is_none() {
            self.barrier = self.source.barrier()?;
        }
        match (self.barrier, &mut self.windowing) {
            (Some(barrier), Some(windowing)) if self.cursor.next_seq >= barrier => windowing.end(),
            (None, _) => self.rest = Some(Deadline::after(REST_AFTER_BUSY)),
            _ => {}
        }
        Ok(())
    }
}
