//! The `state` file of a shard: two slots, 4096 bytes apart, of which the newer valid one counts.
//!
//! Writing one never touches the other, and they lie in different blocks, so a torn write loses at
//! most the newer.

use super::checksum::crc32c;
use super::{Bytes, Damage};
use crate::types::{Micros, Position, SequenceNumber};

/// Length of a slot.
pub const STATE_SLOT_BYTES: usize = 512;
/// Distance between the slots.
pub const STATE_SLOT_STRIDE: u64 = 4096;
const MAGIC: [u8; 8] = *b"SFSTATE\x01";

/// What a shard remembers beside its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShardState {
    /// Rises with every write; the slot with the higher one counts.
    pub counter: u64,
    /// Epoch of the shard; rises at every unclean stop.
    pub epoch: u32,
    /// No sequence number at or above this was ever issued.
    pub reserved: SequenceNumber,
    /// Lowest sequence number kept.
    pub trim_horizon: SequenceNumber,
    /// Everything before this place was synced when the slot was written.
    pub recovery_point: Position,
    /// The sequence number expected at the recovery point.
    pub recovery_seq: SequenceNumber,
    /// The header checksum that the batch at the recovery point chains to.
    pub recovery_crc: u32,
    /// The highest append time before the recovery point, µs UTC.
    pub recovery_ts: Micros,
}

impl ShardState {
    /// The state of a shard without a record: its first batch will begin the first segment.
    pub fn fresh() -> Self {
        let start = super::segment_header::SEGMENT_HEADER_BYTES as u64;
        Self { recovery_point: Position { segment: 0, offset: start }, ..Self::default() }
    }

    /// Writes one slot.
    pub fn encode(&self) -> [u8; STATE_SLOT_BYTES] {
        let mut bytes = Vec::with_capacity(STATE_SLOT_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.epoch.to_le_bytes());
        bytes.extend(self.recovery_crc.to_le_bytes());
        bytes.extend(self.reserved.to_le_bytes());
        bytes.extend(self.trim_horizon.to_le_bytes());
        bytes.extend(self.recovery_point.to_word().to_le_bytes());
        bytes.extend(self.recovery_seq.to_le_bytes());
        bytes.extend(self.recovery_ts.to_le_bytes());
        assert_eq!(bytes.len(), 64, "docs/format.md draws 64 bytes of fields");
        bytes.resize(STATE_SLOT_BYTES - 4, 0);
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("512 bytes")
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let (head, crc) = bytes
            .get(..STATE_SLOT_BYTES)
            .and_then(|bytes| bytes.split_last_chunk::<4>())
            .ok_or(Damage("the state slot is cut off"))?;
        if crc32c(head) != u32::from_le_bytes(*crc) {
            return Err(Damage("the state slot's checksum does not match"));
        }
        Self::decode_fields(head).ok_or(Damage("the state slot has another format"))
    }

    fn decode_fields(head: &[u8]) -> Option<Self> {
        let mut from = Bytes(head);
        if from.array::<8>()? != MAGIC {
            return None;
        }
        let (counter, epoch, recovery_crc) = (from.u64()?, from.u32()?, from.u32()?);
        Some(Self {
            counter,
            epoch,
            reserved: from.u64()?,
            trim_horizon: from.u64()?,
            recovery_point: Position::from_word(from.u64()?),
            recovery_seq: from.u64()?,
            recovery_crc,
            recovery_ts: from.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ShardState {
        ShardState {
            counter: 9,
            epoch: 2,
            reserved: 1 << 20,
            trim_horizon: 5,
            recovery_point: Position { segment: 1, offset: 4096 },
            recovery_seq: 77,
            recovery_crc: 8,
            recovery_ts: 123,
        }
    }

    #[test]
    fn a_slot_comes_back_as_it_was() {
        assert_eq!(Ok(state()), ShardState::decode(&state().encode()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = state().encode();
        for bit in 0..STATE_SLOT_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);

            assert!(ShardState::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
