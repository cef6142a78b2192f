//! Edits the in-flight slot of a lane without running the lane: a supervisor takes the lease just
//! long enough to write what a death or a time-out means for the batch.

use std::sync::Arc;

use super::cache::BatchCache;
use super::lane_filter::{Filtering, LaneFilter};
use super::share::Share;
use super::source::{AtDamage, Source};
use crate::checkpoint::slot::shorten;
use crate::checkpoint::{Entry, InFlight, LanesFile, Lease, Mapping, ResumePoint};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::log::Cursor;
use crate::stream::Log;
use crate::types::{SequenceNumber, ShardId};

/// Bytes of decoded batches kept while a verdict on a lane is written.
const BUDGET_BYTES: usize = 4 * 1024 * 1024;

/// What a supervisor writes into the slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFlightEdit {
    /// What is still open, first call first.
    pub entries: Vec<Entry>,
    /// The worker the slot is to name.
    pub worker: [u8; 16],
    /// Whether a call is to be assumed in progress.
    pub is_calling: bool,
    /// Worker deaths in a row.
    pub worker_deaths: u32,
    /// Whether the batch must run alone in its runner.
    pub is_alone: bool,
    /// Whether it runs with nothing else in its worker.
    pub is_exclusive: bool,
}

/// A lane whose lease a supervisor has, to edit its in-flight slot; released when dropped.
#[derive(Debug)]
pub struct InFlightEditor {
    log: Arc<Log>,
    file: Arc<LanesFile>,
    share: Share,
    source: Source,
    checkpoint: Cursor,
    in_flight: Option<InFlight>,
    filter: Option<Arc<Filter>>,
    lease: Option<Lease>,
}

impl InFlightEditor {
    /// Takes a lane's lease; `None` if another process has it, or the factor in force has no such
    /// lane. `filter` is the mapping's.
    ///
    /// # Errors
    /// As [`LanesFile::take`]; [`Error::StreamNotFound`].
    pub fn take(
        mapping: &Mapping,
        stream: &str,
        shard: ShardId,
        slot: u32,
        filter: Option<Arc<Filter>>,
    ) -> Result<Option<Self>> {
        let log = Arc::clone(mapping.log());
        let file = mapping.lanes_file(stream, shard)?;
        if slot >= file.head()?.factor {
            return Ok(None);
        }
        let owner = format!("the supervisor, process {}", std::process::id());
        let Some(lease) = mapping.try_lease(&file, slot, &owner)? else { return Ok(None) };
        let Some(view) = file.take(slot)? else { return Ok(None) };
        let in_flight = view.still_open(log.boot_id()).filter(|open| !open.entries.is_empty());
        let cache = Arc::new(BatchCache::new(BUDGET_BYTES));
        let source = Source::new(0, log.stream(stream)?.shard(shard)?, cache, Arc::default());
        let share = Share { factor: view.head.factor, slot, until: None };
        let checkpoint = match source.cursor(view.checkpoint.next_seq, view.checkpoint.hint) {
            // What is no longer kept is nothing to judge; `records` says what it meets.
            Err(Error::SequenceTrimmed { .. }) => Cursor::default(),
            other => other?,
        };
        let lease = Some(lease);
        Ok(Some(Self { log, file, share, source, checkpoint, in_flight, filter, lease }))
    }

    /// The batch in flight, with at least one entry.
    pub fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// Rewrites the slot; the range of the batch, its runner and its exponent stay. Without an
    /// entry the batch is done: the checkpoint moves to its end.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing is in flight or an entry is not within the batch;
    /// [`Error::LeaseLost`] also after [`InFlightEditor::release`]; errors of writing.
    pub fn write(&mut self, edit: InFlightEdit) -> Result<()> {
        let Some(found) = &self.in_flight else {
            return Err(Error::config("entries", "no batch is in flight"));
        };
        if !edit.entries.iter().all(|entry| found.covers(entry)) {
            return Err(Error::config("entries", "an entry is not within the batch"));
        }
        let InFlightEdit { entries, worker, is_calling, worker_deaths, is_alone, is_exclusive } =
            edit;
        let in_flight = InFlight {
            worker,
            is_calling,
            worker_deaths,
            is_alone,
            is_exclusive,
            entries: shorten(&entries, found.end),
            ..found.clone()
        };
        if in_flight.entries.is_empty() {
            // What the slot says lies below the checkpoint then, and is over.
            let shard_epoch = self.source.shard_epoch();
            let place = ResumePoint { next_seq: found.end, shard_epoch, ..ResumePoint::default() };
            self.file.checkpoint(self.share.slot, place, self.log.clock().now())?;
            self.in_flight = None;
        } else {
            self.file.put_in_flight(self.share.slot, &in_flight)?;
            self.in_flight = Some(in_flight);
        }
        Ok(())
    }

    /// The lane's sequence numbers from `first` to `last`, as far as the filter takes them.
    ///
    /// # Errors
    /// Errors of reading the shard.
    pub fn records(
        &self,
        first: SequenceNumber,
        last: SequenceNumber,
    ) -> Result<Vec<SequenceNumber>> {
        if first > last {
            return Ok(Vec::new());
        }
        let range = [Entry::fresh(first, last)];
        let filtering = self.filter.clone().map(|filter| Filtering { filter, counts: None });
        let mut lane_filter = filtering.map(LaneFilter::new).transpose()?;
        // The runner that takes the lane meets the damage; here only the records that are left matter.
        let (place, lane_filter) = (self.checkpoint, lane_filter.as_mut());
        let found = self.source.collect(self.share, &range, place, lane_filter, AtDamage::Pass)?;
        let records = found.records;
        Ok((0..records.len()).filter_map(|i| records.sequence_number(i)).collect())
    }

    /// Releases the lane.
    ///
    /// # Errors
    ///
    /// Those of syncing its checkpoint; the lease is released all the same.
    pub fn release(&mut self) -> Result<()> {
        match self.lease.take() {
            Some(lease) => {
                let synced = self.file.give_back(self.share.slot);
                drop(lease);
                synced
            }
            None => Ok(()),
        }
    }
}

impl Drop for InFlightEditor {
    fn drop(&mut self) {
        // What was written survives the process; only a power cut could take it.
        let _ = self.release();
    }
}
