//! The types of the log: numbers and places that must not be confused.

use std::fmt;

/// Place of a record in its shard: the first is 0, it only rises, and it is never issued twice.
pub type SequenceNumber = u64;

/// Microseconds since the Unix epoch, UTC.
pub type Micros = u64;

/// Most shards one log directory can hold; the control file has one page for each.
pub const SHARDS_MAX: u32 = 4_096;
/// Largest record: data, partition key and encoded headers together, in bytes.
pub const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Extra room of a dead letter above [`RECORD_BYTES_MAX`], so that any record fits with its header.
pub const DEAD_LETTER_BYTES_EXTRA: usize = 64 * 1024;
/// Longest partition key, in characters.
pub const PARTITION_KEY_CHARS_MAX: usize = 256;
/// Largest encoded headers of one record, in bytes.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Longest stream, app or function name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most records in one call of a function.
pub const BATCH_SIZE_MAX: u32 = 100_000;
/// Largest number of lanes of one shard.
pub const FACTOR_MAX: u32 = 256;

/// A shard's number within its stream; printed as Kinesis does, `shardId-000000000000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl ShardId {
    /// Reads `shardId-` and twelve digits, or a plain number.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("shardId-").unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(Self)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shardId-{:012}", self.0)
    }
}

/// A byte place in a shard: which segment, and where in it. Fits one atomic word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Ordinal of the segment file, from 0.
    pub segment: u32,
    /// Byte offset in that file; a multiple of 8.
    pub offset: u64,
}

impl Position {
    /// Packs into `segment << 32 | offset / 8`, which orders as the position does.
    pub fn to_word(self) -> u64 {
        assert!(
            self.offset.is_multiple_of(8) && u32::try_from(self.offset / 8).is_ok(),
            "8-aligned, <= 32 GiB"
        );
        (u64::from(self.segment) << 32) | (self.offset / 8)
    }

    /// Reads what [`Position::to_word`] wrote.
    #[allow(clippy::cast_possible_truncation, reason = "the halves of a u64 fit a u32")]
    pub fn from_word(word: u64) -> Self {
        Self { segment: (word >> 32) as u32, offset: (word & 0xffff_ffff) * 8 }
    }
}

/// What a stream's acknowledgement survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The kill of any process; an operating-system crash may take the last second.
    Process,
    /// Power loss too, on a disk that honours flush. Nothing is shown to a reader before.
    Group,
}

impl Durability {
    /// Reads the word used in manifests and by users.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "process" => Some(Self::Process),
            "group" => Some(Self::Group),
            _ => None,
        }
    }

    /// The word used in manifests and by users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Group => "group",
        }
    }
}

/// How record batches of a stream are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// zstd, level 1.
    Zstd,
}

impl Compression {
    /// Reads the word used in manifests and by users.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The word used in manifests and by users.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record kept.
    TrimHorizon,
    /// After the last record visible now.
    Latest,
    /// The first record appended at or after this time (µs UTC).
    AtTimestamp(Micros),
    /// This record, or the next one there is.
    AtSequence(SequenceNumber),
}

/// The name rule of streams, apps and functions: 1–128 of `[A-Za-z0-9_-]`.
pub fn is_valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The name rule of internal streams and mappings: valid names joined by dots (`app.function.dlq`).
pub fn is_valid_internal_name(name: &str) -> bool {
    name.contains('.') && name.split('.').count() <= 3 && name.split('.').all(is_valid_name)
}
