//! The bytes of a lanes file and of a mapping's record: structures to slots and back, total functions.
//!
//! Everything is little-endian; every slot ends with the CRC-32C of what stands before it.
//!
//! ```text
//! head        "SFLANES\x01" | counter u64 | generation u64 | factor u16 | flags u16 | crc        32 bytes
//! checkpoint  "SFCHKPT\x01" | counter u64 | generation u64 | lease epoch u64 | next seq u64
//!             | position hint u64 | written µs u64 | shard epoch u32 | crc                       64 bytes
//! in-flight   "SFFLGHT\x01" | boot id 16 | worker 16 | generation u64 | formed at u64 | end u64
//!             | runner u32 | worker deaths u32 | exponent u32 | flags u8 | n u8 | 0 u16
//!             | n × entry | crc                                                     84 + 40 n bytes
//! entry       first u64 | last u64 | first failed µs u64 | attempts u32 | detail i32 | cause u8
//!             | flags u8 | 0 u16 | 0 u32                                                         40 bytes
//! stretches   "SFREPLY\x01" | n u32 | 0 u32 | n × { shard u32 | 0 u32 | first u64 | until u64 } | crc
//! mapping     "SFMAPNG\x01" | counter u64 | wanted factor u32 | flags u16 | n u16 | start kind u32
//!             | start value u64 | n × { length u16 | stream name } | replays u64
//!             | on-failure kind u32 | length u16 | stream name | zeros | crc                   4096 bytes
//! ```

use crate::format::checksum::crc32c;
use crate::format::{Bytes, Damage};
use crate::types::{
    is_valid_internal_name, is_valid_name, Micros, Position, SequenceNumber, ShardId, Start,
    FACTOR_MAX, NAME_BYTES_MAX,
};

/// Length of a head slot.
pub const HEAD_BYTES: usize = 32;
/// Length of a checkpoint slot.
pub const CHECKPOINT_BYTES: usize = 64;
/// Most entries an in-flight slot holds; a longer work list becomes one range.
pub const SLOT_ENTRIES_MAX: usize = 20;
/// Length of the longest in-flight slot.
pub const IN_FLIGHT_BYTES_MAX: usize =
    IN_FLIGHT_HEAD_BYTES + SLOT_ENTRIES_MAX * ENTRY_BYTES + CRC_BYTES;
/// Length of a slot of the mapping's record.
pub const MAPPING_BYTES: usize = 4096;
/// Most streams one mapping reads: its source, and what is redriven.
pub const STREAMS_MAX: usize = 8;

pub(super) const CRC_BYTES: usize = 4;
const IN_FLIGHT_HEAD_BYTES: usize = 80;
const ENTRY_BYTES: usize = 40;
const STRETCH_BYTES: usize = 24;
const NOT_BEFORE_BYTES: usize = 6;
const NOT_BEFORE_MAX: u64 = (1 << (8 * NOT_BEFORE_BYTES)) - 1;
const HEAD_MAGIC: [u8; 8] = *b"SFLANES\x01";
const CHECKPOINT_MAGIC: [u8; 8] = *b"SFCHKPT\x01";
const IN_FLIGHT_MAGIC: [u8; 8] = *b"SFFLGHT\x01";
const MAPPING_MAGIC: [u8; 8] = *b"SFMAPNG\x01";
const STRETCHES_MAGIC: [u8; 8] = *b"SFREPLY\x01";

const _: () = assert!(CHECKPOINT_BYTES <= 512, "a slot lies in one sector");
const _: () = assert!(IN_FLIGHT_BYTES_MAX <= 4096, "the in-flight slot has one page of a lane");
/// The longest internal stream name: three names and two dots.
const STREAM_NAME_BYTES_MAX: usize = 3 * NAME_BYTES_MAX + 2;
const _: () = assert!(
    36 + STREAMS_MAX * (2 + STREAM_NAME_BYTES_MAX) + 8 + (4 + 2 + NAME_BYTES_MAX) + CRC_BYTES
        <= MAPPING_BYTES
);

const FLAG_CALLING: u8 = 1;
const FLAG_ALONE: u8 = 2;
const FLAG_EXCLUSIVE: u8 = 4;
const FLAG_FINAL: u8 = 8;
const FLAG_JOINED: u8 = 1;
const FLAG_PAUSED: u16 = 1;
const FLAG_WANTS_WINDOWS: u16 = 2;
const FLAG_WINDOWED: u16 = 1;

/// Puts the checksum behind the bytes of a slot.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The bytes before the checksum, if it matches.
pub(super) fn unseal(bytes: Option<&[u8]>) -> Result<Bytes<'_>, Damage> {
    let (head, crc) = bytes
        .and_then(|bytes| bytes.split_last_chunk::<CRC_BYTES>())
        .ok_or(Damage("the slot is cut off"))?;
    if crc32c(head) != u32::from_le_bytes(*crc) {
        return Err(Damage("the slot's checksum does not match"));
    }
    Ok(Bytes(head))
}

pub(super) const OTHER_FORMAT: Damage = Damage("the slot has another format");

/// What the lanes of a shard are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many there are.
    pub factor: u32,
    /// Whether they have tumbling windows: then the window files hold their positions.
    pub is_windowed: bool,
}

impl From<u32> for Shape {
    fn from(factor: u32) -> Self {
        Self { factor, is_windowed: false }
    }
}

impl Shape {
    /// The only shape with windows: a state belongs to a whole shard.
    pub const WINDOWED: Self = Self { factor: 1, is_windowed: true };

    /// Whether there are lanes like that.
    pub(super) fn is_valid(self) -> bool {
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
    /// What the lanes are like.
    pub fn shape(&self) -> Shape {
        Shape { factor: self.factor, is_windowed: self.is_windowed }
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
        (head.shape().is_valid() && flags & !FLAG_WINDOWED == 0).then_some(head)
    }
}

/// One of a lane's two checkpoint slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Rises with every write of the lane; of the head's generation, the higher one counts.
    pub counter: u64,
    /// Generation of the head it was written under.
    pub generation: u64,
    /// Fencing token: a lease's writes are refused once a higher one stands in any slot.
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

/// Why records failed, when no runner lived to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cause {
    /// Nothing, or something a runner knows more about.
    #[default]
    None,
    /// The process died.
    Crashed,
    /// The process was killed at the deadline of the call.
    TimedOut,
}

impl Cause {
    /// Reads the number in an entry.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Crashed),
            2 => Some(Self::TimedOut),
            _ => None,
        }
    }

    /// The number in an entry.
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Crashed => 1,
            Self::TimedOut => 2,
        }
    }
}

/// A range of a lane's records that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its first sequence number.
    pub first: SequenceNumber,
    /// Its last sequence number.
    pub last: SequenceNumber,
    /// Calls of exactly these records that failed so far.
    pub attempts: u32,
    /// Handed over in the same call as the entry before it.
    pub is_joined: bool,
    /// Of the last failure, when no runner could tell.
    pub cause: Cause,
    /// For [`Cause::Crashed`]: the signal's number, or minus the exit code.
    pub detail: i32,
    /// When it first failed; 0 if it has not.
    pub first_failed: Micros,
}

impl Entry {
    /// Records that were not handed over yet.
    pub fn fresh(first: SequenceNumber, last: SequenceNumber) -> Self {
        Self { first, last, ..Self::default() }
    }

    /// `not_before` is the slot's; the entry that is called first carries it.
    fn encode(&self, not_before: u64, bytes: &mut Vec<u8>) {
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.last.to_le_bytes());
        bytes.extend(self.first_failed.to_le_bytes());
        bytes.extend(self.attempts.to_le_bytes());
        bytes.extend(self.detail.to_le_bytes());
        bytes.extend([self.cause.number(), if self.is_joined { FLAG_JOINED } else { 0 }]);
        bytes.extend(&not_before.min(NOT_BEFORE_MAX).to_le_bytes()[..NOT_BEFORE_BYTES]);
    }

    /// The entry, and what it says of when it is called.
    fn decode(from: &mut Bytes<'_>) -> Option<(Self, u64)> {
        let (first, last, first_failed) = (from.u64()?, from.u64()?, from.u64()?);
        let (attempts, detail) = (from.u32()?, i32::from_le_bytes(from.array()?));
        let (cause, flags) = (Cause::from_number(from.u8()?)?, from.u8()?);
        let mut not_before = [0; 8];
        not_before[..NOT_BEFORE_BYTES].copy_from_slice(from.take(NOT_BEFORE_BYTES)?);
        let is_joined = flags & FLAG_JOINED != 0;
        let entry = Self { first, last, attempts, is_joined, cause, detail, first_failed };
        (first <= last).then_some((entry, u64::from_le_bytes(not_before)))
    }
}

/// A lane's batch in flight: who has it, and what of it is still open.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "the flags of the slot, each asked for by its name"
)]
pub struct InFlight {
    /// The boot it was written in; after another one nothing in the slot counts.
    pub boot_id: [u8; 16],
    /// The worker whose runner wrote it.
    pub worker: [u8; 16],
    /// The runner, by its worker's numbering.
    pub runner: u32,
    /// Generation of the head it was written under.
    pub generation: u64,
    /// The checkpoint when the batch was formed.
    pub formed_at: SequenceNumber,
    /// The checkpoint once the list is empty.
    pub end: SequenceNumber,
    /// A call was in progress or about to start; false while waiting.
    pub is_calling: bool,
    /// Worker deaths in a row with this batch in flight.
    pub worker_deaths: u32,
    /// Must run alone in its runner until settled.
    pub is_alone: bool,
    /// It ran with nothing else in its worker.
    pub is_exclusive: bool,
    /// The final call of a window: no record is in it, its one entry stands for the call.
    pub is_final: bool,
    /// The lane's back-off exponent.
    pub exponent: u32,
    /// While it waits before a retry: no call before this, [`Deadline::shared_millis`]; 0: at once.
    ///
    /// [`Deadline::shared_millis`]: crate::clock::Deadline::shared_millis
    pub not_before: u64,
    /// The work list, first call first.
    pub entries: Vec<Entry>,
}

impl InFlight {
    /// Writes the slot.
    ///
    /// # Panics
    /// If there are more than [`SLOT_ENTRIES_MAX`] entries; [`shorten`] sees to that.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.entries.len() <= SLOT_ENTRIES_MAX, "a longer list is one range");
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let mut bytes = Vec::with_capacity(IN_FLIGHT_BYTES_MAX);
        bytes.extend(IN_FLIGHT_MAGIC);
        bytes.extend(self.boot_id);
        bytes.extend(self.worker);
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.formed_at.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        bytes.extend(self.runner.to_le_bytes());
        bytes.extend(self.worker_deaths.to_le_bytes());
        bytes.extend(self.exponent.to_le_bytes());
        bytes.push(
            flag(self.is_calling, FLAG_CALLING)
                | flag(self.is_alone, FLAG_ALONE)
                | flag(self.is_exclusive, FLAG_EXCLUSIVE)
                | flag(self.is_final, FLAG_FINAL),
        );
        bytes.push(u8::try_from(self.entries.len()).expect("<= 20"));
        bytes.extend([0; 2]);
        assert_eq!(
            bytes.len(),
            IN_FLIGHT_HEAD_BYTES,
            "docs/format.md draws 80 bytes before the entries"
        );
        for (place, entry) in self.entries.iter().enumerate() {
            entry.encode(if place == 0 { self.not_before } else { 0 }, &mut bytes);
        }
        seal(bytes)
    }

    /// Reads the slot.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let count = bytes.get(IN_FLIGHT_HEAD_BYTES - 3).copied().unwrap_or(0) as usize;
        if count > SLOT_ENTRIES_MAX {
            return Err(OTHER_FORMAT);
        }
        let from = unseal(bytes.get(..IN_FLIGHT_HEAD_BYTES + count * ENTRY_BYTES + CRC_BYTES))?;
        Self::decode_fields(from, count).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>, count: usize) -> Option<Self> {
        if from.array::<8>()? != IN_FLIGHT_MAGIC {
            return None;
        }
        let (boot_id, worker) = (from.array()?, from.array()?);
        let (generation, formed_at, end) = (from.u64()?, from.u64()?, from.u64()?);
        let (runner, worker_deaths, exponent, flags) =
            (from.u32()?, from.u32()?, from.u32()?, from.u8()?);
        from.take(3)?;
        let entries: Vec<_> =
            (0..count).map(|_| Entry::decode(&mut from)).collect::<Option<_>>()?;
        Some(Self {
            boot_id,
            worker,
            runner,
            generation,
            formed_at,
            end,
            is_calling: flags & FLAG_CALLING != 0,
            worker_deaths,
            is_alone: flags & FLAG_ALONE != 0,
            is_exclusive: flags & FLAG_EXCLUSIVE != 0,
            is_final: flags & FLAG_FINAL != 0,
            exponent,
            not_before: entries.first().map_or(0, |&(_, not_before)| not_before),
            entries: entries.into_iter().map(|(entry, _)| entry).collect(),
        })
    }

    /// What of the slot counts in this boot, under this head and at this checkpoint.
    ///
    /// `None` if it is void: written in another boot or under another head, or formed above the
    /// checkpoint (which went back since). Entries below the checkpoint are dropped, so a settled
    /// batch needs no clearing of its slot: nothing of it is left.
    #[must_use]
    pub fn still_open(
        mut self,
        boot_id: [u8; 16],
        generation: u64,
        checkpoint: SequenceNumber,
    ) -> Option<Self> {
        if self.boot_id != boot_id || self.generation != generation || self.formed_at > checkpoint {
            return None;
        }
        self.entries.retain(|entry| entry.last >= checkpoint);
        for entry in &mut self.entries {
            entry.first = entry.first.max(checkpoint);
        }
        if let Some(first) = self.entries.first_mut() {
            first.is_joined = false;
        }
        self.end = self.end.max(checkpoint);
        Some(self)
    }

    /// The one entry of a final call that is made at a position.
    pub fn final_entry(position: SequenceNumber) -> Entry {
        Entry::fresh(position, position)
    }

    /// Whether an entry can be one of this batch.
    pub fn covers(&self, entry: &Entry) -> bool {
        let last = if self.is_final { self.end } else { self.end.saturating_sub(1) };
        self.formed_at <= entry.first && entry.first <= entry.last && entry.last <= last
    }

    /// The entries that go into the next call together.
    pub fn first_call(&mut self) -> &mut [Entry] {
        let joined = self.entries.iter().skip(1).take_while(|entry| entry.is_joined).count();
        let length = self.entries.len().min(1 + joined);
        self.entries.get_mut(..length).unwrap_or_default()
    }
}

/// Makes a work list fit a slot: one that is too long becomes one range, from the lowest open record
/// to the end of the batch. After a crash that range is repeated in order.
pub fn shorten(entries: &[Entry], end: SequenceNumber) -> Vec<Entry> {
    if entries.len() <= SLOT_ENTRIES_MAX {
        return entries.to_vec();
    }
    let lowest = entries.iter().map(|entry| entry.first).min().unwrap_or(end);
    let last = end.saturating_sub(1).max(lowest);
    let first_failed = entries.iter().map(|entry| entry.first_failed).filter(|&at| at > 0).min();
    vec![Entry { first_failed: first_failed.unwrap_or(0), ..Entry::fresh(lowest, last) }]
}

/// The records of one shard that a replay reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The shard.
    pub shard: ShardId,
    /// The first of them.
    pub first: SequenceNumber,
    /// The number behind the last.
    pub until: SequenceNumber,
}

impl Stretch {
    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.first >= self.until
    }

    /// Writes those of a replay, in the order of their shards; they stand behind the two slots of its
    /// record.
    pub fn encode_all(stretches: &[Self]) -> Vec<u8> {
        let count = u32::try_from(stretches.len()).expect("at most 4096 shards");
        let mut bytes = Vec::with_capacity(16 + stretches.len() * STRETCH_BYTES + CRC_BYTES);
        bytes.extend(STRETCHES_MAGIC);
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 4]);
        for Self { shard, first, until } in stretches {
            bytes.extend(shard.0.to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(first.to_le_bytes());
            bytes.extend(until.to_le_bytes());
        }
        seal(bytes)
    }

    /// Reads what [`Stretch::encode_all`] wrote.
    ///
    /// # Errors
    /// [`Damage`] if it was not written wholly.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, Damage> {
        Self::decode_fields(unseal(Some(bytes))?).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Vec<Self>> {
        if from.array::<8>()? != STRETCHES_MAGIC {
            return None;
        }
        let count = from.u32()?;
        from.take(4)?;
        if from.0.len() != count as usize * STRETCH_BYTES {
            return None;
        }
        let mut stretches: Vec<Self> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let shard = ShardId(from.u32()?);
            from.take(4)?;
            let stretch = Self { shard, first: from.u64()?, until: from.u64()? };
            let is_next = stretches.last().is_none_or(|last| last.shard < shard);
            if !is_next || stretch.first > stretch.until {
                return None;
            }
            stretches.push(stretch);
        }
        Some(stretches)
    }
}

/// What stands between the name of a mapping and the number of a replay of it.
pub const REPLAY_MARK: &str = "@replay-";

/// The name of a replay.
pub(super) fn replay_name(mapping: &str, number: u64) -> String {
    format!("{mapping}{REPLAY_MARK}{number}")
}

/// The name of the mapping that a replay, by its name, is of.
pub fn replayed(name: &str) -> Option<&str> {
    let (mapping, number) = name.split_once(REPLAY_MARK)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && number.len() < 20).then_some(mapping)
}

/// Where what its function gives up goes, for those who look; nothing here goes by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// To the function's own dead letters; or nobody noted where.
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
    /// Lanes a shard should have; the factor in force stands in each lanes file.
    pub wanted_factor: u32,
    /// Whether they should have tumbling windows.
    pub wants_windows: bool,
    /// Whether the mapping rests.
    pub is_paused: bool,
    /// Where a stream that is new to the mapping begins.
    pub start: Start,
    /// Streams whose shards all have a lanes file; a shard that comes later begins at its first record.
    pub begun: Vec<String>,
    /// How many replays were made of it: the highest number of one. None is given out twice, for dead
    /// letters of a replay that is over go on to name it.
    pub replays: u64,
    /// Where failures go, as the worker that started last noted it.
    pub on_failure: OnFailure,
}

impl MappingRecord {
    /// What the lanes of a shard should be like.
    pub fn wanted(&self) -> Shape {
        Shape { factor: self.wanted_factor, is_windowed: self.wants_windows }
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
        let wanted = Shape { factor: wanted_factor, is_windowed: wants_windows };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        (any::<[u64; 5]>(), any::<u32>(), any::<u32>()).prop_map(|(words, offset, shard_epoch)| {
            let [counter, generation, lease_epoch, next_seq, written] = words;
            let hint = Position { segment: shard_epoch, offset: u64::from(offset) * 8 };
            Checkpoint { counter, generation, lease_epoch, next_seq, hint, written, shard_epoch }
        })
    }

    fn entries() -> impl Strategy<Value = Entry> {
        (any::<[u64; 3]>(), any::<u32>(), any::<bool>(), 0u8..3, any::<i32>()).prop_map(
            |([a, b, first_failed], attempts, is_joined, cause, detail)| {
                let cause = Cause::from_number(cause).unwrap();
                Entry {
                    first: a.min(b),
                    last: a.max(b),
                    attempts,
                    is_joined,
                    cause,
                    detail,
                    first_failed,
                }
            },
        )
    }

    fn in_flights() -> impl Strategy<Value = InFlight> {
        let entries = prop::collection::vec(entries(), 0..=SLOT_ENTRIES_MAX);
        (any::<[[u8; 16]; 2]>(), any::<[u64; 4]>(), any::<[u32; 3]>(), any::<[bool; 4]>(), entries)
            .prop_map(
                |(
                    [boot_id, worker],
                    [generation, formed_at, end, not_before],
                    [runner, worker_deaths, exponent],
                    flags,
                    entries,
                )| {
                    let [is_calling, is_alone, is_exclusive, is_final] = flags;
                    InFlight {
                        boot_id,
                        worker,
                        runner,
                        generation,
                        formed_at,
                        end,
                        is_calling,
                        worker_deaths,
                        is_alone,
                        is_exclusive,
                        is_final,
                        exponent,
                        not_before: if entries.is_empty() { 0 } else { not_before >> 16 },
                        entries,
                    }
                },
            )
    }

    fn starts() -> impl Strategy<Value = Start> {
        prop_oneof![
            Just(Start::TrimHorizon),
            Just(Start::Latest),
            any::<u64>().prop_map(Start::AtTimestamp),
            any::<u64>().prop_map(Start::AtSequence),
        ]
    }

    fn mapping_records() -> impl Strategy<Value = MappingRecord> {
        let begun = prop::collection::vec("[a-z]{1,128}(\\.[a-z]{1,128}){0,2}", 0..=STREAMS_MAX);
        (any::<[u64; 2]>(), 1..=FACTOR_MAX, any::<bool>(), starts(), begun).prop_map(
            |([counter, replays], wanted_factor, is_paused, start, begun)| MappingRecord {
                on_failure: match counter % 3 {
                    0 => OnFailure::DeadLetters,
                    1 => OnFailure::Dropped,
                    _ => OnFailure::Stream("b".repeat(1 + (replays % 128) as usize)),
                },
                counter,
                wanted_factor,
                wants_windows: wanted_factor == 1 && counter % 2 == 0,
                is_paused,
                start,
                begun,
                replays,
            },
        )
    }

    proptest! {
        #[test]
        fn a_head_comes_back_as_it_was(counter: u64, generation: u64, factor in 1..=FACTOR_MAX) {
            let head = Head { counter, generation, factor, is_windowed: factor == 1 };
            prop_assert_eq!(Ok(head), Head::decode(&head.encode()));
        }

        #[test]
        fn a_checkpoint_comes_back_as_it_was(checkpoint in checkpoints()) {
            prop_assert_eq!(Ok(checkpoint), Checkpoint::decode(&checkpoint.encode()));
        }

        #[test]
        fn an_in_flight_slot_comes_back_as_it_was(in_flight in in_flights()) {
            prop_assert_eq!(Ok(in_flight.clone()), InFlight::decode(&in_flight.encode()));
        }

        #[test]
        fn an_in_flight_slot_ignores_what_a_longer_one_left_behind_it(long in in_flights(), short in in_flights()) {
            let (mut bytes, short_bytes) = (long.encode(), short.encode());
            bytes.resize(IN_FLIGHT_BYTES_MAX, 0);
            bytes[..short_bytes.len()].copy_from_slice(&short_bytes);

            prop_assert_eq!(Ok(short), InFlight::decode(&bytes));
        }

        #[test]
        fn a_mapping_record_comes_back_as_it_was(record in mapping_records()) {
            prop_assert_eq!(Ok(record.clone()), MappingRecord::decode(&record.encode()));
        }

        #[test]
        fn stretches_come_back_as_they_were(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
            let stretch = |(shard, &(a, b)): (u32, &(u64, u64))| {
                Stretch { shard: ShardId(3 * shard), first: a.min(b), until: a.max(b) }
            };
            let stretches: Vec<Stretch> = (0..).zip(&pairs).map(stretch).collect();
            prop_assert_eq!(Ok(stretches.clone()), Stretch::decode_all(&Stretch::encode_all(&stretches)));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..1000)) {
            let _ = (Head::decode(&bytes), Checkpoint::decode(&bytes), InFlight::decode(&bytes), MappingRecord::decode(&bytes));
        }

        #[test]
        fn what_is_still_open_lies_at_or_above_the_checkpoint(in_flight in in_flights(), checkpoint: u64) {
            let (boot, generation) = (in_flight.boot_id, in_flight.generation);
            if let Some(open) = in_flight.still_open(boot, generation, checkpoint) {
                prop_assert!(open.entries.iter().all(|e| checkpoint <= e.first && e.first <= e.last));
                prop_assert!(open.end >= checkpoint);
            }
        }
    }

    fn in_flight() -> InFlight {
        InFlight {
            boot_id: [1; 16],
            worker: [2; 16],
            runner: 3,
            generation: 4,
            formed_at: 100,
            end: 200,
            is_calling: true,
            exponent: 5,
            not_before: 6,
            entries: vec![
                Entry {
                    attempts: 2,
                    cause: Cause::Crashed,
                    detail: 11,
                    first_failed: 9,
                    ..Entry::fresh(100, 119)
                },
                Entry { is_joined: true, ..Entry::fresh(120, 149) },
                Entry::fresh(150, 199),
            ],
            ..InFlight::default()
        }
    }

    fn assert_every_flipped_bit_is_noticed<T: std::fmt::Debug>(
        bytes: &[u8],
        decode: fn(&[u8]) -> Result<T, Damage>,
    ) {
        assert!(decode(bytes).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);

            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let head = Head { counter: 1, generation: 2, factor: 3, is_windowed: false };
        let hint = Position { segment: 1, offset: 8 };
        let checkpoint = Checkpoint {
            counter: 1,
            generation: 2,
            lease_epoch: 3,
            next_seq: 4,
            hint,
            written: 6,
            shard_epoch: 7,
        };
        let record = MappingRecord {
            counter: 1,
            wanted_factor: 2,
            wants_windows: false,
            is_paused: true,
            start: Start::AtTimestamp(3),
            begun: vec!["orders".into(), "shop.total.redrive".into()],
            replays: 4,
            on_failure: OnFailure::Stream("bad".into()),
        };

        assert_every_flipped_bit_is_noticed(&head.encode(), Head::decode);
        assert_every_flipped_bit_is_noticed(&checkpoint.encode(), Checkpoint::decode);
        assert_every_flipped_bit_is_noticed(&in_flight().encode(), InFlight::decode);
        assert_every_flipped_bit_is_noticed(&record.encode(), MappingRecord::decode);
    }

    #[test]
    fn a_slot_cut_anywhere_is_noticed() {
        let bytes = in_flight().encode();
        for length in 0..bytes.len() {
            assert!(InFlight::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_mapping_of_a_stream_with_a_name_that_leads_elsewhere_is_damage() {
        for name in ["", "../secrets", "a/b", "a b", "a.b.c.d", "\0"] {
            let record = MappingRecord {
                counter: 1,
                wanted_factor: 1,
                wants_windows: false,
                is_paused: false,
                start: Start::Latest,
                begun: vec![name.to_owned()],
                replays: 0,
                on_failure: OnFailure::DeadLetters,
            };
            let on_failure = OnFailure::Stream(name.to_owned());
            let elsewhere = MappingRecord { begun: Vec::new(), on_failure, ..record.clone() };

            assert!(MappingRecord::decode(&record.encode()).is_err(), "{name}");
            assert!(MappingRecord::decode(&elsewhere.encode()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_mapping_of_a_version_that_notes_no_failures_goes_by_the_default() {
        let on_failure = OnFailure::Stream("bad".into());
        let record = MappingRecord { on_failure, ..a_mapping() };
        let mut bytes = record.encode();
        let noted = bytes.windows(3).rposition(|part| part == b"bad").expect("the name") - 6;
        bytes.truncate(noted);
        bytes.resize(MAPPING_BYTES - CRC_BYTES, 0);

        assert_eq!(Ok(a_mapping()), MappingRecord::decode(&seal(bytes)));
    }

    fn a_mapping() -> MappingRecord {
        MappingRecord {
            counter: 1,
            wanted_factor: 1,
            wants_windows: false,
            is_paused: false,
            start: Start::Latest,
            begun: vec!["orders".into()],
            replays: 3,
            on_failure: OnFailure::DeadLetters,
        }
    }

    #[test]
    fn zeros_are_no_slot() {
        let zeros = [0; MAPPING_BYTES];
        assert!(Head::decode(&zeros).is_err());
        assert!(Checkpoint::decode(&zeros).is_err());
        assert!(InFlight::decode(&zeros).is_err());
        assert!(MappingRecord::decode(&zeros).is_err());
    }

    #[test]
    fn a_slot_of_another_boot_or_head_or_formed_above_the_checkpoint_is_void() {
        assert_eq!(None, in_flight().still_open([9; 16], 4, 100));
        assert_eq!(None, in_flight().still_open([1; 16], 5, 100));
        assert_eq!(None, in_flight().still_open([1; 16], 4, 99));
        assert_eq!(Some(in_flight()), in_flight().still_open([1; 16], 4, 100));
    }

    #[test]
    fn entries_below_the_checkpoint_are_dropped_and_one_across_it_is_cut() {
        let open = in_flight().still_open([1; 16], 4, 130).unwrap();

        assert_eq!(vec![Entry::fresh(130, 149), Entry::fresh(150, 199)], open.entries);
    }

    #[test]
    fn nothing_of_a_settled_batch_is_open() {
        let open = in_flight().still_open([1; 16], 4, 200).unwrap();

        assert_eq!((Vec::new(), 5), (open.entries, open.exponent));
    }

    #[test]
    fn the_first_call_ends_where_an_entry_is_not_joined() {
        let mut slot = in_flight();
        assert_eq!(2, slot.first_call().len());
        slot.entries.remove(0);
        assert_eq!(1, slot.first_call().len(), "the first entry begins a call, joined or not");
        slot.entries.clear();
        assert!(slot.first_call().is_empty());
    }

    #[test]
    fn a_list_too_long_for_a_slot_becomes_the_range_from_the_lowest_open_record() {
        let mut list: Vec<Entry> =
            (0..21).map(|i| Entry::fresh(100 + 2 * i, 100 + 2 * i)).rev().collect();
        list[3].first_failed = 77;

        assert_eq!(vec![Entry { first_failed: 77, ..Entry::fresh(100, 199) }], shorten(&list, 200));
        assert_eq!(list[..20], shorten(&list[..20], 200));
    }
}
