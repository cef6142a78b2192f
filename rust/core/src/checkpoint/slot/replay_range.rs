//! What a replay reads of each shard, and the names of replays.

use super::sealed::{seal, unseal, CRC_BYTES, OTHER_FORMAT};
use crate::format::{Bytes, Damage};
use crate::types::{SequenceNumber, ShardId};

const RANGE_BYTES: usize = 24;
const RANGES_MAGIC: [u8; 8] = *b"SFREPLY\x01";

/// The records of one shard that a replay reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRange {
    /// The shard.
    pub shard: ShardId,
    /// The first of them.
    pub first: SequenceNumber,
    /// The number behind the last.
    pub until: SequenceNumber,
}

impl RecordRange {
    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.first >= self.until
    }

    /// Writes those of a replay, in the order of their shards; they stand behind the two slots of its
    /// record.
    pub fn encode_all(ranges: &[Self]) -> Vec<u8> {
        let count = u32::try_from(ranges.len()).expect("at most 4096 shards");
        let mut bytes = Vec::with_capacity(16 + ranges.len() * RANGE_BYTES + CRC_BYTES);
        bytes.extend(RANGES_MAGIC);
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 4]);
        for Self { shard, first, until } in ranges {
            bytes.extend(shard.0.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(first.to_le_bytes());
            bytes.extend(until.to_le_bytes());
        }
        seal(bytes)
    }

    /// Reads what [`RecordRange::encode_all`] wrote.
    ///
    /// # Errors
    /// [`Damage`] if it was not written wholly.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Damage> {
        Self::decode_fields(unseal(Some(bytes))?).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Vec<Self>> {
        if from.array::<8>()? != RANGES_MAGIC {
            return None;
        }
        let count = from.u32()?;
        from.take(4)?;
        if from.0.len() != count as usize * RANGE_BYTES {
            return None;
        }
        let mut ranges: Vec<Self> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let shard = ShardId(from.u32()?);
            from.take(4)?;
            let range = Self { shard, first: from.u64()?, until: from.u64()? };
            let is_next = ranges.last().is_none_or(|last| last.shard < shard);
            if !is_next || range.first > range.until {
                return None;
            }
            ranges.push(range);
        }
        Some(ranges)
    }
}

/// What separates the name of a mapping from the number of its replay.
pub const REPLAY_MARK: &str = "@replay-";

/// The name of a replay.
pub(in crate::checkpoint) fn replay_name(mapping: &str, number: u64) -> String {
    format!("{mapping}{REPLAY_MARK}{number}")
}

/// The name of the mapping that a replay, by its name, is of.
pub fn replayed(name: &str) -> Option<&str> {
    let (mapping, number) = name.split_once(REPLAY_MARK)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && number.len() < 20).then_some(mapping)
}
