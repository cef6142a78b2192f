//! The window files of a lane with tumbling windows: position and state, written as one.
//!
//! ```text
//! <shard>.window.a .b    one pair each; of the valid ones of the head's generation the one with the
//!                        higher counter counts
//! pair   "SFWINDW\x01" | counter u64 | generation u64 | lease epoch u64 | next seq u64
//!        | position hint u64 | written µs u64 | closed to µs u64 | start µs u64 | end µs u64
//!        | shard epoch u32 | flags u8 | state kind u8 | 0 u16 | state length u32 | state | crc
//!                                                                                    96 + n bytes
//! ```
//! A pair is written whole. Between two syncs all writes go to the same file, never to the one that
//! was synced last (`lanes.rs` chooses it). So a kill in the middle of a write or a power cut takes
//! only what came after the last whole pair. A file may be longer than its pair.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sync::Mutex;

use super::resume_point::ResumePoint;
use super::slot::{seal, unseal, CRC_BYTES, OTHER_FORMAT};
use crate::error::{Error, IoContext, Result};
use crate::format::{Bytes, Damage};
use crate::fs::{self, File, Fs, Open};
use crate::types::{Micros, Position};

/// Most bytes of a state.
pub const STATE_BYTES_MAX: usize = 1 << 30;
/// Length of a pair without its state.
pub const PAIR_BYTES: usize = PAIR_HEAD_BYTES + CRC_BYTES;

const PAIR_HEAD_BYTES: usize = 92;
const STATE_LENGTH_AT: usize = PAIR_HEAD_BYTES - 4;
const PAIR_MAGIC: [u8; 8] = *b"SFWINDW\x01";
const FLAG_OPEN: u8 = 1;
const FLAG_ENDED_EARLY: u8 = 2;
/// Space that each file has from the beginning, so that a full disk stops no lane with a small
/// state.
const ALLOCATED_BYTES: u64 = 4096;

/// The kind of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateKind {
    /// There is none yet.
    #[default]
    None,
    /// JSON text.
    Json,
    /// Bytes as they are.
    Bytes,
}

impl StateKind {
    /// Reads the number in a pair.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Json),
            2 => Some(Self::Bytes),
            _ => None,
        }
    }

    /// The number in a pair.
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Json => 1,
            Self::Bytes => 2,
        }
    }
}

/// What a function carries from call to call of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowState {
    /// What it is made of.
    pub kind: StateKind,
    /// Its bytes; none of kind [`StateKind::None`].
    pub bytes: Arc<[u8]>,
}

/// A window that has counted a record and was not closed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// Its first moment.
    pub start: Micros,
    /// The first moment after it.
    pub end: Micros,
    /// Of the last call that succeeded.
    pub state: WindowState,
    /// The state grew too large: the window is to be closed before its end.
    pub is_ended_early: bool,
}

/// The windows of a lane, as its pair has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// The window that is open.
    pub open: Option<OpenWindow>,
    /// End of the last window that was closed; 0 before. A record of a time before it counts as one
    /// of this time.
    pub closed_to: Micros,
}

/// One window file: a position, and the windows as they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// Rises with every write of the lane; of the head's generation, the higher one counts.
    pub counter: u64,
    /// Generation of the head it was written under.
    pub generation: u64,
    /// Of the lease it was written under.
    pub lease_epoch: u64,
    /// The position: everything below is done.
    pub place: ResumePoint,
    /// Wall time of the write.
    pub written: Micros,
    /// The windows at that position.
    pub windows: Windows,
}

impl Pair {
    /// Writes the file.
    ///
    /// # Panics
    /// If the state is longer than [`STATE_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let Windows { open, closed_to } = &self.windows;
        let state = open.as_ref().map(|open| open.state.clone()).unwrap_or_default();
        assert!(state.bytes.len() <= STATE_BYTES_MAX, "a larger state was refused before");
        let mut flags = if open.is_some() { FLAG_OPEN } else { 0 };
        if open.as_ref().is_some_and(|open| open.is_ended_early) {
            flags |= FLAG_ENDED_EARLY;
        }
        let (start, end) = open.as_ref().map_or((0, 0), |open| (open.start, open.end));
        let mut bytes = Vec::with_capacity(PAIR_BYTES + state.bytes.len());
        bytes.extend(PAIR_MAGIC);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.lease_epoch.to_le_bytes());
        bytes.extend(self.place.next_seq.to_le_bytes());
        bytes.extend(self.place.hint.to_word().to_le_bytes());
        bytes.extend(self.written.to_le_bytes());
        bytes.extend(closed_to.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend(end.to_le_bytes());
        bytes.extend(self.place.shard_epoch.to_le_bytes());
        bytes.extend([flags, state.kind.number(), 0, 0]);
        bytes.extend(u32::try_from(state.bytes.len()).expect("<= 2^30").to_le_bytes());
        assert_eq!(bytes.len(), PAIR_HEAD_BYTES, "docs/format.md draws 92 bytes before the state");
        bytes.extend(state.bytes.iter());
        seal(bytes)
    }

    /// Reads a file; what stands behind the pair is not looked at.
    ///
    /// # Errors
    /// [`Damage`] if it was never written, or not wholly.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, Damage> {
        let length = bytes
            .get(STATE_LENGTH_AT..PAIR_HEAD_BYTES)
            .and_then(|length| length.try_into().ok())
            .map_or(0, u32::from_le_bytes) as usize;
        if length > STATE_BYTES_MAX {
            return Err(OTHER_FORMAT);
        }
        let from = unseal(bytes.get(..PAIR_BYTES + length))?;
        Self::decode_fields(from).ok_or(OTHER_FORMAT)
    }

    fn decode_fields(mut from: Bytes<'_>) -> Option<Self> {
        if from.array::<8>()? != PAIR_MAGIC {
            return None;
        }
        let (counter, generation, lease_epoch) = (from.u64()?, from.u64()?, from.u64()?);
        let (next_seq, hint) = (from.u64()?, Position::from_word(from.u64()?));
        let (written, closed_to, start, end) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let place = ResumePoint { next_seq, hint, shard_epoch: from.u32()? };
        let (flags, kind) = (from.u8()?, StateKind::from_number(from.u8()?)?);
        from.take(2)?;
        let length = from.u32()? as usize;
        let state = WindowState { kind, bytes: from.take(length)?.into() };
        if flags & !(FLAG_OPEN | FLAG_ENDED_EARLY) != 0 {
            return None;
        }
        let is_ended_early = flags & FLAG_ENDED_EARLY != 0;
        let open =
            (flags & FLAG_OPEN != 0).then_some(OpenWindow { start, end, state, is_ended_early });
        let windows = Windows { open, closed_to };
        Some(Self { counter, generation, lease_epoch, place, written, windows })
    }
}

/// The two window files of a shard; each is opened when it is first needed.
#[derive(Debug)]
pub(super) struct WindowFiles {
    fs: Arc<dyn Fs>,
    paths: [PathBuf; 2],
    files: Mutex<[Option<Arc<dyn File>>; 2]>,
}

impl WindowFiles {
    /// Those beside a lanes file.
    pub(super) fn beside(fs: &Arc<dyn Fs>, lanes: &Path) -> Self {
        let paths = ["window.a", "window.b"].map(|suffix| lanes.with_extension(suffix));
        Self { fs: Arc::clone(fs), paths, files: Mutex::default() }
    }

    /// The file in front, for messages.
    pub(super) fn path(&self) -> &Path {
        let [path, _] = &self.paths;
        path
    }

    /// The pair that counts under this generation, and its file.
    pub(super) fn newest(&self, generation: u64) -> Result<Option<(u64, Pair)>> {
        let found = self.pairs()?.into_iter().flatten();
        let valid = found.filter(|(_, pair)| pair.generation == generation);
        Ok(valid.max_by_key(|(_, pair)| pair.counter))
    }

    fn pairs(&self) -> Result<[Option<(u64, Pair)>; 2]> {
        let read = |which| Ok::<_, Error>(self.read(which)?.map(|pair| (which, pair)));
        Ok([read(0)?, read(1)?])
    }

    /// Makes `first` the pair that counts once its generation does.
    ///
    /// # Durability
    /// Durable when it returns.
    pub(super) fn begin(&self, first: &Pair) -> Result<()> {
        for which in 0..2 {
            let (path, file) = self.file(which, Open::Create)?;
            file.truncate(0).at(path)?;
            file.allocate(ALLOCATED_BYTES).at(path)?;
        }
        self.write(0, first)?;
        self.sync(0)?;
        self.sync(1)?;
        self.fs.sync_dir(fs::parent(self.path())).at(self.path())
    }

    /// Empties both files: the states in them are not used any more.
    pub(super) fn clear(&self) -> Result<()> {
        for which in 0..2 {
            let (path, file) = self.file(which, Open::Write)?;
            file.truncate(0).at(path)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, which: u64, pair: &Pair) -> Result<()> {
        let (path, file) = self.file(which, Open::Write)?;
        file.write_at(&[&pair.encode()], 0).at(path)
    }

    pub(super) fn sync(&self, which: u64) -> Result<()> {
        let (path, file) = self.file(which, Open::Write)?;
        file.sync_data().at(path)
    }

    /// Makes both durable, if they are there.
    pub(super) fn sync_both(&self) -> Result<()> {
        for (which, path) in (0..).zip(&self.paths) {
            if self.fs.exists(path).at(path)? {
                self.sync(which)?;
            }
        }
        Ok(())
    }

    fn read(&self, which: u64) -> Result<Option<Pair>> {
        let (path, file) = match self.file(which, Open::Write) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            found => found?,
        };
        let mut bytes = vec![0; PAIR_BYTES];
        let got = file.read_at(&mut bytes, 0).at(path)?;
        let length = bytes.get(STATE_LENGTH_AT..PAIR_HEAD_BYTES).and_then(|l| l.try_into().ok());
        let length = length.map_or(0, u32::from_le_bytes) as usize;
        if got < PAIR_BYTES || bytes.get(..8) != Some(PAIR_MAGIC.as_slice()) {
            return Ok(None);
        }
        let on_disk = usize::try_from(file.length().at(path)?).unwrap_or(usize::MAX);
        if length > STATE_BYTES_MAX || PAIR_BYTES + length > on_disk {
            return Ok(None);
        }
        bytes.resize(PAIR_BYTES + length, 0);
        file.read_at(&mut bytes, 0).at(path)?;
        Ok(Pair::decode(&bytes).ok())
    }

    fn file(&self, which: u64, how: Open) -> Result<(&Path, Arc<dyn File>)> {
        let which = usize::from(which != 0);
        let (Some(path), mut files) = (self.paths.get(which), self.files.lock()) else {
            unreachable!("there are two")
        };
        let Some(kept) = files.get_mut(which) else { unreachable!("there are two") };
        if let Some(file) = kept {
            return Ok((path, Arc::clone(file)));
        }
        let file = self.fs.open(path, how).at(path)?;
        *kept = Some(Arc::clone(&file));
        Ok((path, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windows() -> impl Strategy<Value = Windows> {
        let state = (0_u8..3, prop::collection::vec(any::<u8>(), 0..300));
        let open = (any::<u64>(), any::<u64>(), state, any::<bool>()).prop_map(
            |(start, end, (kind, bytes), is_ended_early)| {
                let kind = StateKind::from_number(kind).unwrap();
                OpenWindow {
                    start,
                    end,
                    state: WindowState { kind, bytes: bytes.into() },
                    is_ended_early,
                }
            },
        );
        (prop::option::of(open), any::<u64>())
            .prop_map(|(open, closed_to)| Windows { open, closed_to })
    }

    fn pairs() -> impl Strategy<Value = Pair> {
        (any::<[u64; 5]>(), any::<[u32; 2]>(), windows()).prop_map(|(words, small, windows)| {
            let [counter, generation, lease_epoch, next_seq, written] = words;
            let [shard_epoch, offset] = small;
            let hint = Position { segment: shard_epoch, offset: u64::from(offset) * 8 };
            let place = ResumePoint { next_seq, hint, shard_epoch };
            Pair { counter, generation, lease_epoch, place, written, windows }
        })
    }

    proptest! {
        #[test]
        fn a_pair_comes_back_as_it_was_whatever_a_longer_one_left_behind_it(
            pair in pairs(), behind in prop::collection::vec(any::<u8>(), 0..50)
        ) {
            let bytes = [pair.encode(), behind].concat();

            prop_assert_eq!(Ok(pair), Pair::decode(&bytes));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Pair::decode(&bytes);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let state = WindowState { kind: StateKind::Json, bytes: (*b"{\"n\":1}").into() };
        let open = OpenWindow { start: 60, end: 120, state, is_ended_early: false };
        let windows = Windows { open: Some(open), closed_to: 60 };
        let bytes = Pair { counter: 3, generation: 1, windows, ..Pair::default() }.encode();
        assert!(Pair::decode(&bytes).is_ok());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Pair::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Pair::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn zeros_are_no_pair() {
        assert!(Pair::decode(&[0; 4096]).is_err());
    }
}
