//! Which records of a shard belong to a lane.

use super::cache::CachedBatch;
use super::selection::Picked;
use crate::types::SequenceNumber;

/// The share of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) factor: u32,
    pub(super) slot: u32,
    /// Of a replay: only those below.
    pub(super) until: Option<SequenceNumber>,
}

impl Share {
    /// The lane's records in a batch, with numbers from `from_seq` on.
    pub(super) fn of(&self, cached: &CachedBatch, from_seq: SequenceNumber) -> Picked {
        let picked = cached.picked(self.factor, self.slot, from_seq);
        let Some(until) = self.until else { return picked };
        let below = until.saturating_sub(cached.batch().base_seq());
        picked.slice(0, picked.below(u32::try_from(below).unwrap_or(u32::MAX)))
    }
}
