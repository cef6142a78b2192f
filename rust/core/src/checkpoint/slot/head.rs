//! The head of a lanes file: how many lanes there are, and whether they have windows.

use super::sealed::{seal, unseal, OTHER_FORMAT};
use crate::format::{Bytes, Damage};
use crate::types::FACTOR_MAX;

/// Length of a head slot.
pub const HEAD_BYTES: usize = 32;

const HEAD_MAGIC: [u8; 8] = *b"SFLANES\x01";
const FLAG_WINDOWED: u16 = 1;

/// The layout of a shard's lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLayout {
    /// How many there are.
    pub factor: u32,
    /// Whether they have tumbling windows: then the window files hold their positions.
    pub is_windowed: bool,
}

impl From<u32> for LaneLayout {
    fn from(factor: u32) -> Self {
        Self { factor, is_windowed: false }
    }
}

impl LaneLayout {
    /// The only layout with windows: a state belongs to a whole shard.
    pub const WINDOWED: Self = Self { factor: 1, is_windowed: true };

    /// Whether such a layout is possible.
    pub(in crate::checkpoint) fn is_valid(self) -> bool {
        (1..=FACTOR_MAX).contains(&self.factor) && (self.factor == 1 || !self.is_windowed)
    }
}

/// Head of a lanes file: how many lanes the shard has, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Rises with every write; the valid slot with the higher one counts.
    pub counter: u64,
    /// Rises with every change of the factor; lane slots of another generation are ignored.
    pub generation: u64,
    /// The factor in force.
    pub factor: u32,
    /// Whether the lanes have tumbling windows: then the window files hold their positions.
    pub is_windowed: bool,
}

impl Head {
    /// The layout of the lanes.
    pub fn layout(&self) -> LaneLayout {
        LaneLayout { factor: self.factor, is_windowed: self.is_windowed }
    }

    /// Writes one slot.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend(HEAD_MAGIC);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(u16::try_from(self.factor).expect("<= 256").to_le_bytes());
        bytes.extend((if self.is_windowed { FLAG_WINDOWED } else { 0 }).to_le_bytes());
        seal(bytes)
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let from = unseal(bytes.get(..HEAD_BYTES))?;
        Self::decode_fields(from).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Self> {
        if from.array::<8>()? != HEAD_MAGIC {
            return None;
        }
        let (counter, generation) = (from.u64()?, from.u64()?);
        let (factor, flags) = (u32::from(from.u16()?), from.u16()?);
        let head = Self { counter, generation, factor, is_windowed: flags & FLAG_WINDOWED != 0 };
        (head.layout().is_valid() && flags & !FLAG_WINDOWED == 0).then_some(head)
    }
}
