//! Hands out the open records of a batch; reads them again if they are not in memory.

use super::LeasedLane;
use crate::clock::Deadline;
use crate::error::Result;
use crate::lane::selection::Selection;
use crate::lane::source::covered;
use crate::lane::windowing::Windowing;
use crate::lane::work::{Window, Work};
use crate::lane::CHECKPOINT_INTERVAL;
use crate::types::{Position, SequenceNumber};

impl LeasedLane {
    /// Hands out what is open, to be called.
    pub(super) fn hand_out(&mut self) -> Result<Option<Work>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.is_final {
            return self.hand_to_function(Selection::default());
        }
        let records = match open.records.take() {
            Some(records) => covered(&records, &open.entries),
            None if open.entries.is_empty() => Selection::default(),
            None => {
                let filter = self.filter.as_mut();
                let (share, entries) = (self.share, &open.entries);
                let found =
                    self.source.collect(share, entries, open.from, filter, self.at_damage)?;
                let records = found.records;
                open.after = Some(found.after);
                let may_lack = self.filter.is_some() || found.damage.is_some();
                // Told at the next turn.
                self.trouble = found.damage;
                if may_lack && self.source.visible_end() >= open.end {
                    // WHY: the filter may be another one than when the batch was formed, and nobody
                    // is to be called with an entry of no records.
                    open.entries.retain(|e| !records.between(e.first, e.last).is_empty());
                }
                records
            }
        };
        if records.is_empty() {
            return self.pass_over();
        }
        open.records = Some(records.clone());
        if !self.is_within_window(&records) {
            return self.form_again();
        }
        self.count_waiting(0);
        self.hand_to_function(records)
    }

    fn hand_to_function(&mut self, records: Selection) -> Result<Option<Work>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let (entries, end, is_resumed) = (open.entries.clone(), open.end, open.is_resumed);
        let is_final = open.is_final;
        self.write_slot(true)?;
        if let Some(windowing) = &mut self.windowing {
            windowing.forget();
        }
        let (stream, shard) = self.source.name();
        let window = self.windowing.as_ref().and_then(Windowing::open);
        let window = window.map(|open| Window { open: open.clone(), is_final });
        let (lane, exponent, is_alone) = (self.number, self.exponent, self.is_alone);
        Ok(Some(Work {
            lane,
            records,
            entries,
            exponent,
            end,
            is_resumed,
            is_alone,
            stream,
            shard,
            window,
        }))
    }

    /// Whether all records of a batch that was taken over are in one window; opens it.
    fn is_within_window(&mut self, records: &Selection) -> bool {
        let Some(windowing) = &mut self.windowing else { return true };
        let times = [0, records.len().saturating_sub(1)]
            .map(|i| records.get(i).map_or(0, |(batch, index)| batch.timestamp(index)));
        let [first, last] = times;
        let is_in_time =
            |windowing: &Windowing| windowing.open().is_some_and(|open| last < open.end);
        if windowing.open().is_none() {
            windowing.admit(first);
        }
        is_in_time(windowing)
    }

    /// Discards a batch that was formed when windows had another width; its records are read again.
    fn form_again(&mut self) -> Result<Option<Work>> {
        self.cursor = self.source.cursor(self.checkpoint, Position::default())?;
        self.open = None;
        self.seen_end = None;
        if let Some(windowing) = &mut self.windowing {
            windowing.reset();
        }
        Ok(None)
    }

    /// Continues behind a batch of which no record is left.
    fn pass_over(&mut self) -> Result<Option<Work>> {
        let Some(open) = &self.open else { return Ok(None) };
        if self.source.visible_end() < open.end {
            // Records that were in flight come back; they are not gone.
            self.rest = Some(Deadline::after(CHECKPOINT_INTERVAL));
            return Ok(None);
        }
        self.settle(self.exponent)?;
        Ok(None)
    }

    pub(super) fn skip_lost(&mut self, lost_to: SequenceNumber) -> Result<()> {
        self.cursor = self.source.cursor_behind(lost_to)?;
        if let Some(open) = &mut self.open {
            open.entries.retain(|entry| entry.last > lost_to);
            for entry in &mut open.entries {
                entry.first = entry.first.max(lost_to + 1);
            }
            open.end = open.end.max(lost_to + 1);
            open.records = None;
            open.from = self.cursor;
            open.after = Some(self.cursor);
        }
        Ok(())
    }

    /// Frees the records of a resting batch if the runner's budget needs their bytes.
    pub(super) fn put_by(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.is_resumed = true;
        let bytes = open.records.as_ref().map_or(0, Selection::bytes);
        self.count_waiting(bytes);
        if self.around.is_over_budget() {
            self.count_waiting(0);
            if let Some(open) = &mut self.open {
                open.records = None;
            }
        }
    }
}
