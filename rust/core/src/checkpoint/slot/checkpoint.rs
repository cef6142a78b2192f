//! A checkpoint slot of a lane.

use super::sealed::{seal, unseal, OTHER_FORMAT};
use crate::format::{Bytes, Damage};
use crate::types::{Micros, Position, SequenceNumber};

/// Length of a checkpoint slot.
pub const CHECKPOINT_BYTES: usize = 64;

const CHECKPOINT_MAGIC: [u8; 8] = *b"SFCHKPT\x01";

const _: () = assert!(CHECKPOINT_BYTES <= 512, "a slot lies in one sector");

/// One of a lane's two checkpoint slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Rises with every write of the lane; of the head's generation, the higher one counts.
    pub counter: u64,
    /// Generation of the head it was written under.
    pub generation: u64,
    /// Fencing token: a lease's writes are refused once any slot has a higher one.
    pub lease_epoch: u64,
    /// Everything below is done; the next sequence number to read.
    pub next_seq: SequenceNumber,
    /// Where `next_seq` was last found; only a hint, all zero if unknown.
    pub hint: Position,
    /// Wall time of the write.
    pub written: Micros,
    /// Epoch of the shard at the write.
    pub shard_epoch: u32,
}

impl Checkpoint {
    /// Writes one slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHECKPOINT_BYTES);
        bytes.extend(CHECKPOINT_MAGIC);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.lease_epoch.to_le_bytes());
        bytes.extend(self.next_seq.to_le_bytes());
        bytes.extend(self.hint.to_word().to_le_bytes());
        bytes.extend(self.written.to_le_bytes());
        bytes.extend(self.shard_epoch.to_le_bytes());
        seal(bytes)
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let from = unseal(bytes.get(..CHECKPOINT_BYTES))?;
        Self::decode_fields(from).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Self> {
        if from.array::<8>()? != CHECKPOINT_MAGIC {
            return None;
        }
        Some(Self {
            counter: from.u64()?,
            generation: from.u64()?,
            lease_epoch: from.u64()?,
            next_seq: from.u64()?,
            hint: Position::from_word(from.u64()?),
            written: from.u64()?,
            shard_epoch: from.u32()?,
        })
    }
}
