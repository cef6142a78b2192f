//! Where a lane continues reading.

use crate::types::{Position, SequenceNumber};

/// A place in a shard, as a checkpoint notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ResumePoint {
    /// The next sequence number to read.
    pub next_seq: SequenceNumber,
    /// Where it was last found; verified before use.
    pub hint: Position,
    /// Epoch of the shard.
    pub shard_epoch: u32,
}
