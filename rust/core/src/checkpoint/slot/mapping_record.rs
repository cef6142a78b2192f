//! A slot of the record of a mapping.

use super::head::LaneLayout;
use super::sealed::{seal, unseal, CRC_BYTES, OTHER_FORMAT};
use crate::format::{Bytes, Damage};
use crate::types::{is_valid_internal_name, is_valid_name, Start, NAME_BYTES_MAX};

/// Length of a slot of the mapping's record.
pub const MAPPING_BYTES: usize = 4096;
/// Most streams one mapping reads: its source, and what is redriven.
pub const STREAMS_MAX: usize = 8;

const MAPPING_MAGIC: [u8; 8] = *b"SFMAPNG\x01";
const FLAG_PAUSED: u16 = 1;
const FLAG_WANTS_WINDOWS: u16 = 2;
/// The longest internal stream name: three names and two dots.
const STREAM_NAME_BYTES_MAX: usize = 3 * NAME_BYTES_MAX + 2;

const _: () = assert!(
    36 + STREAMS_MAX * (2 + STREAM_NAME_BYTES_MAX) + 8 + (4 + 2 + NAME_BYTES_MAX) + CRC_BYTES
        <= MAPPING_BYTES
);

/// Where failed records go. It is only shown to users; nothing here depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// To the function's own dead letters, or it was not noted.
    #[default]
    DeadLetters,
    /// Nowhere: it is dropped.
    Dropped,
    /// To a stream of the user's.
    Stream(String),
}

/// A slot of the durable record of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingRecord {
    /// Rises with every write; the valid slot with the higher one counts.
    pub counter: u64,
    /// Lanes that a shard should have; the factor in force is in each lanes file.
    pub wanted_factor: u32,
    /// Whether they should have tumbling windows.
    pub wants_windows: bool,
    /// Whether the mapping is paused.
    pub is_paused: bool,
    /// Where a stream that is new to the mapping begins.
    pub start: Start,
    /// Streams whose shards all have a lanes file; a shard that comes later begins at its first record.
    pub begun: Vec<String>,
    /// How many replays were made of it: the highest number so far. No number is used twice,
    /// because dead letters of a finished replay still name it.
    pub replays: u64,
    /// Where failures go, as the worker that started last noted it.
    pub on_failure: OnFailure,
}

impl MappingRecord {
    /// The layout that the lanes of a shard should have.
    pub fn wanted(&self) -> LaneLayout {
        LaneLayout { factor: self.wanted_factor, is_windowed: self.wants_windows }
    }

    /// Writes one slot.
    ///
    /// # Panics
    /// If there are more than [`STREAMS_MAX`] streams or one has an impossible name.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.begun.len() <= STREAMS_MAX, "a mapping reads its source and what is redriven");
        let (kind, value): (u32, u64) = match self.start {
            Start::TrimHorizon => (0, 0),
            Start::Latest => (1, 0),
            Start::AtTimestamp(time) => (2, time),
            Start::AtSequence(seq) => (3, seq),
        };
        let mut bytes = Vec::with_capacity(MAPPING_BYTES);
        bytes.extend(MAPPING_MAGIC);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.wanted_factor.to_le_bytes());
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        let flags =
            flag(self.is_paused, FLAG_PAUSED) | flag(self.wants_windows, FLAG_WANTS_WINDOWS);
        bytes.extend(flags.to_le_bytes());
        bytes.extend(u16::try_from(self.begun.len()).expect("<= 8").to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        for name in &self.begun {
            assert!(name.len() <= STREAM_NAME_BYTES_MAX, "`{name}` is not a stream's name");
            bytes.extend(u16::try_from(name.len()).expect("<= 386").to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        bytes.extend(self.replays.to_le_bytes());
        let (kind, name): (u32, &str) = match &self.on_failure {
            OnFailure::DeadLetters => (0, ""),
            OnFailure::Dropped => (1, ""),
            OnFailure::Stream(name) => (2, name),
        };
        assert!(name.len() <= NAME_BYTES_MAX, "`{name}` is not a stream's name");
        bytes.extend(kind.to_le_bytes());
        bytes.extend(u16::try_from(name.len()).expect("<= 128").to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.resize(MAPPING_BYTES - CRC_BYTES, 0);
        seal(bytes)
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let from = unseal(bytes.get(..MAPPING_BYTES))?;
        Self::decode_fields(from).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Self> {
        if from.array::<8>()? != MAPPING_MAGIC {
            return None;
        }
        let (counter, wanted_factor) = (from.u64()?, from.u32()?);
        let (flags, streams) = (from.u16()?, from.u16()? as usize);
        let start = match (from.u32()?, from.u64()?) {
            (0, _) => Start::TrimHorizon,
            (1, _) => Start::Latest,
            (2, time) => Start::AtTimestamp(time),
            (3, seq) => Start::AtSequence(seq),
            _ => return None,
        };
        let wants_windows = flags & FLAG_WANTS_WINDOWS != 0;
        let wanted = LaneLayout { factor: wanted_factor, is_windowed: wants_windows };
        if !wanted.is_valid() || streams > STREAMS_MAX {
            return None;
        }
        let mut begun = Vec::with_capacity(streams);
        for _ in 0..streams {
            let length = from.u16()? as usize;
            let name = std::str::from_utf8(from.take(length)?).ok()?;
            // WHY: it becomes part of a path.
            if !is_valid_name(name) && !is_valid_internal_name(name) {
                return None;
            }
            begun.push(name.to_owned());
        }
        let is_paused = flags & FLAG_PAUSED != 0;
        let replays = from.u64()?;
        let on_failure = Self::decode_on_failure(&mut from)?;
        Some(Self {
            counter,
            wanted_factor,
            wants_windows,
            is_paused,
            start,
            begun,
            replays,
            on_failure,
        })
    }

    fn decode_on_failure(from: &mut Bytes<'_>) -> Option<OnFailure> {
        let (kind, length) = (from.u32()?, from.u16()? as usize);
        let name = std::str::from_utf8(from.take(length)?).ok()?;
        match kind {
            2 if !is_valid_name(name) => None,
            2 => Some(OnFailure::Stream(name.to_owned())),
            1 => Some(OnFailure::Dropped),
            _ => Some(OnFailure::DeadLetters),
        }
    }
}
