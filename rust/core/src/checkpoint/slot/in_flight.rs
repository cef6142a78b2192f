//! The in-flight slot of a lane: which records of its batch are still open.

use super::sealed::{seal, unseal, CRC_BYTES, OTHER_FORMAT};
use crate::format::{Bytes, Damage};
use crate::types::{Micros, SequenceNumber};

/// Most entries an in-flight slot holds; a longer work list becomes one range.
pub const SLOT_ENTRIES_MAX: usize = 20;
/// Length of the longest in-flight slot.
pub const IN_FLIGHT_BYTES_MAX: usize =
    IN_FLIGHT_HEAD_BYTES + SLOT_ENTRIES_MAX * ENTRY_BYTES + CRC_BYTES;

const IN_FLIGHT_HEAD_BYTES: usize = 80;
const ENTRY_BYTES: usize = 40;
const NOT_BEFORE_BYTES: usize = 6;
const NOT_BEFORE_MAX: u64 = (1 << (8 * NOT_BEFORE_BYTES)) - 1;
const IN_FLIGHT_MAGIC: [u8; 8] = *b"SFFLGHT\x01";
const FLAG_CALLING: u8 = 1;
const FLAG_ALONE: u8 = 2;
const FLAG_EXCLUSIVE: u8 = 4;
const FLAG_FINAL: u8 = 8;
const FLAG_JOINED: u8 = 1;

const _: () = assert!(IN_FLIGHT_BYTES_MAX <= 4096, "the in-flight slot has one page of a lane");

/// Why records failed, if no runner lived to report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cause {
    /// Nothing, or a failure that a runner can report itself.
    #[default]
    None,
    /// The process died.
    Crashed,
    /// The process was killed at the deadline of the call.
    TimedOut,
    /// The process was killed because it exceeded its memory limit.
    OutOfMemory,
}

impl Cause {
    /// Reads the number in an entry.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Crashed),
            2 => Some(Self::TimedOut),
            3 => Some(Self::OutOfMemory),
            _ => None,
        }
    }

    /// The number in an entry.
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Crashed => 1,
            Self::TimedOut => 2,
            Self::OutOfMemory => 3,
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
    /// Of the last failure, if no runner could report it.
    pub cause: Cause,
    /// For [`Cause::Crashed`]: the signal's number, or minus the exit code. For
    /// [`Cause::OutOfMemory`]: the limit in KiB.
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

    /// The part of the slot that counts in this boot, under this head and at this checkpoint.
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
