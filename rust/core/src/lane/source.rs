//! One shard as the lanes of a runner read it: together, through the cache.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use crate::sync::Mutex;

use super::cache::{BatchCache, CachedBatch};
use super::lane_filter::LaneFilter;
use super::selection::{Builder, Selection};
use super::share::Share;
use crate::checkpoint::{Entry, ResumePoint};
use crate::error::{Error, Result};
use crate::log::{Cursor, ReadBuffer, ShardLog, SpentBuffers};
use crate::types::{Position, SequenceNumber, ShardId, Start};

/// Read-aheads kept for one shard: one for the lanes in front, others for those that lag.
const BUFFERS_MAX: usize = 3;

/// A shard, and the lanes that read it.
#[derive(Debug)]
pub(super) struct Source {
    number: u32,
    shard: Arc<ShardLog>,
    cache: Arc<BatchCache>,
    spent: Arc<SpentBuffers>,
    /// Each with the place where it continues; the one used last is at the end.
    buffers: Mutex<Vec<(Position, ReadBuffer)>>,
    lanes: AtomicU32,
}

/// What to do with damage that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtDamage {
    /// Continue behind it, giving up what is lost.
    Pass,
    /// Fail.
    Stop,
}

/// Records of a work list that were read again.
pub(super) struct Collected {
    pub(super) records: Selection,
    /// From where reading can continue behind them.
    pub(super) after: Cursor,
    /// The damage that was passed over, if any.
    pub(super) damage: Option<Error>,
}

impl Source {
    pub(super) fn new(
        number: u32,
        shard: Arc<ShardLog>,
        cache: Arc<BatchCache>,
        spent: Arc<SpentBuffers>,
    ) -> Self {
        Self { number, shard, cache, spent, buffers: Mutex::default(), lanes: AtomicU32::new(0) }
    }

    /// Whether it reads the shard through this handle.
    pub(super) fn is_of(&self, shard: &Arc<ShardLog>) -> bool {
        Arc::ptr_eq(&self.shard, shard)
    }

    /// Whether the stream was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.shard.is_removed()
    }

    pub(super) fn join(&self) {
        self.lanes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn visible_end(&self) -> SequenceNumber {
        self.shard.visible_end()
    }

    /// Where a lane continues, according to its checkpoint.
    pub(super) fn cursor(&self, next_seq: SequenceNumber, hint: Position) -> Result<Cursor> {
        self.shard.cursor_hint(next_seq, hint)
    }

    /// Where reading continues after records that are no longer kept.
    pub(super) fn cursor_behind(&self, lost_to: SequenceNumber) -> Result<Cursor> {
        self.shard.cursor(Start::AtSequence(lost_to + 1))
    }

    /// Name of the stream, and the shard.
    pub(super) fn name(&self) -> (Arc<str>, ShardId) {
        (Arc::clone(self.shard.stream()), self.shard.id())
    }

    /// See [`ShardLog::barrier`].
    pub(super) fn barrier(&self) -> Result<Option<SequenceNumber>> {
        self.shard.barrier()
    }

    pub(super) fn shard_epoch(&self) -> u32 {
        self.shard.epoch()
    }

    /// A cursor as a checkpoint notes it.
    pub(super) fn place(&self, cursor: &Cursor) -> ResumePoint {
        let (next_seq, hint) = (cursor.next_seq, cursor.position);
        ResumePoint { next_seq, hint, shard_epoch: self.shard.epoch() }
    }

    /// The batch at a cursor; `None` at the visible end.
    pub(super) fn read(&self, cursor: &Cursor) -> Result<Option<Arc<CachedBatch>>> {
        if let Some(batch) = self.cached(cursor) {
            return Ok(Some(batch));
        }
        if self.shard.visible_end() <= cursor.next_seq {
            return Ok(None);
        }
        let mut buffers = self.buffers.lock();
        // WHY: another lane may have read it while this one waited for the buffers.
        if let Some(batch) = self.cached(cursor) {
            return Ok(Some(batch));
        }
        let mut buffer = take_buffer(&mut buffers, cursor.position)
            .unwrap_or_else(|| ReadBuffer::with(&self.spent));
        let read = self.shard.read(cursor, &mut buffer);
        // A buffer with damage is not kept: the file may be put right, and is read again.
        let read = read?;
        let next = read.as_ref().map(|(_, after)| after.position);
        buffers.push((next.unwrap_or(cursor.position), buffer));
        let Some((batch, after)) = read else { return Ok(None) };
        let batch = Arc::new(CachedBatch::new(batch, after));
        let lanes = self.lanes.load(Ordering::Relaxed);
        // INVARIANT: a batch is found under its own place. The cursor's may be that of a batch
        // before it, which this lane has no need of, but others have.
        self.cache.put(self.number, batch.batch().position(), &batch, lanes);
        Ok(Some(batch))
    }

    /// The batch at a cursor, if it is in memory and continues from the cursor.
    fn cached(&self, cursor: &Cursor) -> Option<Arc<CachedBatch>> {
        let found = self.cache.get(self.number, cursor.position)?;
        // WHY: a lane that passed over damage may have left the batch behind it here. A lane
        // that comes from before the damage has to meet it, too.
        let batch = found.batch();
        let goes_on = batch.base_seq() <= cursor.next_seq || batch.control().is_some();
        goes_on.then_some(found)
    }

    /// A place behind the damage that reading met at a cursor.
    pub(super) fn cursor_behind_damage(&self, cursor: &Cursor) -> Result<Cursor> {
        Ok(self.shard.skip_damage(cursor)?.cursor)
    }

    /// Moves a cursor of a lane behind a batch.
    pub(super) fn pass(&self, batch: &CachedBatch, cursor: &mut Cursor) {
        self.cache.pass(self.number, batch.batch().position());
        let next_seq = cursor.next_seq;
        *cursor = batch.after();
        // The lane that read the batch may have been further back.
        cursor.next_seq = cursor.next_seq.max(next_seq);
    }

    /// The records of a lane that a work list covers, as far as they are kept, visible and what the
    /// filter takes. `from` is a place before them, if one is known; `at_damage` says
    /// whether to pass over what cannot be read.
    pub(super) fn collect(
        &self,
        share: Share,
        entries: &[Entry],
        from: Cursor,
        mut filter: Option<&mut LaneFilter>,
        at_damage: AtDamage,
    ) -> Result<Collected> {
        let lowest = entries.iter().map(|entry| entry.first).min().unwrap_or(0);
        let highest = entries.iter().map(|entry| entry.last).max().unwrap_or(lowest);
        let mut builder = Builder::default();
        let is_before = from != Cursor::default() && from.next_seq <= lowest;
        let mut cursor =
            if is_before { from } else { self.shard.cursor(Start::AtSequence(lowest))? };
        let mut damage = None;
        loop {
            let cached = match self.read(&cursor) {
                Err(error @ Error::Corruption { .. }) if at_damage == AtDamage::Pass => {
                    damage = damage.or(Some(error));
                    cursor = self.cursor_behind_damage(&cursor)?;
                    continue;
                }
                other => other?,
            };
            let Some(cached) = cached else { break };
            let batch = cached.batch();
            if batch.base_seq() <= highest {
                let picked = share.of(&cached, lowest);
                let above = u32::try_from((highest - batch.base_seq()).saturating_add(1))
                    .unwrap_or(u32::MAX);
                let picked = picked.slice(0, picked.below(above));
                builder.push(
                    batch,
                    match &mut filter {
                        Some(filter) => filter.retain(batch, &picked),
                        None => picked,
                    },
                );
            }
            if batch.next_seq() > highest {
                break;
            }
            self.pass(&cached, &mut cursor);
        }
        Ok(Collected { records: covered(&builder.finish(), entries), after: cursor, damage })
    }
}

/// The buffer that continues at `position`, or the least recently used one.
fn take_buffer(
    buffers: &mut Vec<(Position, ReadBuffer)>,
    position: Position,
) -> Option<ReadBuffer> {
    let fitting = buffers.iter().position(|(next, _)| *next == position);
    let at = fitting.or((buffers.len() >= BUFFERS_MAX).then_some(0))?;
    Some(buffers.remove(at).1)
}

/// The records that any entry covers, in ascending order.
pub(super) fn covered(records: &Selection, entries: &[Entry]) -> Selection {
    let mut ranges: Vec<(SequenceNumber, SequenceNumber)> =
        entries.iter().map(|entry| (entry.first, entry.last)).collect();
    ranges.sort_unstable();
    let mut parts = Vec::with_capacity(ranges.len());
    let mut next = 0;
    for (first, last) in ranges {
        if last >= next {
            parts.push(records.between(first.max(next), last));
            next = last.saturating_add(1);
        }
    }
    match parts.as_slice() {
        [only] => only.clone(),
        parts => Selection::concat(parts),
    }
}
