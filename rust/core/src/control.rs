//! The control file: one mapped page per shard, through which processes see each other's progress
//! and wake each other. No other module maps a file.
//!
//! The file is a hint: it can be rebuilt from the segments. Only its atomics are shared, never
//! slices.
//! A page, each group on its own 64-byte line (offsets in bytes):
//!
//! ```text
//! 0    magic u64 · owner u64 · device u64 · inode u64 (of the active segment)
//! 64   committed u64         position after the last batch written
//! 128  durable u64 · durable_end u64      the same, synced; and the first number not known synced
//! 192  visible u64 · visible_end u64      the same, as readers may see it
//! 256  next_seq u64 · last_crc u32 · epoch u32 · max_ts u64 · reserved u64 · last_position u64
//! 320  state u32 · errno u32 · end u32 (0 open, 1 closed by CLOSE, 2 removed with its stream) · unrecovered u32
//! ```
//! Page 0 is the log's: magic, uuid, boot id; the wake word at 64, the number of sleepers at 128.
//! From 512 on it has one bit for each page whose shard was removed since a process last opened the
//! log alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use crate::error::{Error, IoContext, Result};
use crate::fs::File;
use crate::sys::next_data;
use crate::types::{Position, SequenceNumber, SHARDS_MAX};

mod protocol;
mod words {
    pub(super) use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

    pub(super) use crate::sys::{futex_wait, futex_wake_all};
}

pub(crate) use protocol::Lead;
use protocol::{Election, Progress, Reach, Wake, WriterWords};
use words::{AtomicU32, AtomicU64, Ordering};

const PAGE: usize = 4096;
/// Where page 0 has its bits of retired pages.
const RETIRED: usize = 512;
const _: () = assert!(RETIRED + SHARDS_MAX as usize / 8 <= PAGE && SHARDS_MAX.is_multiple_of(64));
/// Length of the control file: the log's page and one for each shard.
pub const CONTROL_BYTES: u64 = (SHARDS_MAX as u64 + 1) * PAGE as u64;
const LOG_MAGIC: u64 = u64::from_le_bytes(*b"STRMCTL\x01");
const SHARD_MAGIC: u64 = u64::from_le_bytes(*b"SFSHARD\x01");

/// What a writer was doing; read after its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterState {
    /// No batch is being written.
    Clean,
    /// Bytes after `committed` may be half of a batch.
    Writing,
    /// The log was opened on a full disk: it can be read, and the first append has to finish its
    /// recovery.
    Unrecovered,
    /// A sync failed with this `errno`; nothing is acknowledged any more.
    Failed(i32),
}

/// The mapped control file.
#[derive(Debug)]
pub struct ControlFile {
    map: MmapRaw,
}

impl ControlFile {
    /// Maps the file, which has [`CONTROL_BYTES`] bytes. Without a descriptor (a simulated file
    /// system) the pages are anonymous memory.
    pub(crate) fn map(file: &dyn File, path: &Path) -> Result<Self> {
        let length = usize::try_from(CONTROL_BYTES).expect("16 MiB fit");
        let map = match file.descriptor() {
            Some(fd) => {
                use std::os::fd::AsRawFd;
                MmapOptions::new().len(length).map_raw(fd.as_raw_fd()).at(path)?
            }
            None => MmapOptions::new().len(length).map_anon().at(path)?.into(),
        };
        assert!(map.len() == length && map.as_mut_ptr().addr() % PAGE == 0, "whole pages");
        Ok(Self { map })
    }

    #[expect(unsafe_code, reason = "this room turns mapped bytes into atomics")]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.map.len());
        // SAFETY: in bounds and aligned (asserted); the mapping lives as long as `self`; the bytes
        // are only ever reached through atomics, in every process; the file is never truncated.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    #[expect(unsafe_code, reason = "this room turns mapped bytes into atomics")]
    fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.map.len());
        // SAFETY: as in `word`.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }

    fn bytes16(&self, offset: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (a, b) = bytes.split_at_mut(8);
        a.copy_from_slice(&self.word(offset).load(Ordering::Acquire).to_le_bytes());
        b.copy_from_slice(&self.word(offset + 8).load(Ordering::Acquire).to_le_bytes());
        bytes
    }

    fn set_bytes16(&self, offset: usize, bytes: [u8; 16]) {
        let (a, b) = bytes.split_at(8);
        let word = |half: &[u8]| u64::from_le_bytes(half.try_into().expect("8 bytes"));
        self.word(offset).store(word(a), Ordering::Release);
        self.word(offset + 8).store(word(b), Ordering::Release);
    }

    /// Whether page 0 is that of this log.
    pub(crate) fn is_of(&self, uuid: [u8; 16]) -> bool {
        self.word(0).load(Ordering::Acquire) == LOG_MAGIC && self.bytes16(16) == uuid
    }

    /// The boot in which the pages were last written.
    pub(crate) fn boot_id(&self) -> [u8; 16] {
        self.bytes16(32)
    }

    /// Writes page 0. Only under the exclusive lock of the log.
    pub(crate) fn initialise(&self, uuid: [u8; 16], boot_id: [u8; 16]) {
        if !self.is_of(uuid) {
            self.half(128).store(0, Ordering::Release);
        }
        self.word(0).store(0, Ordering::Release);
        self.set_bytes16(16, uuid);
        self.set_bytes16(32, boot_id);
        self.word(0).store(LOG_MAGIC, Ordering::Release);
    }

    fn sleepers(&self) -> Wake<'_> {
        Wake { word: self.half(64), sleepers: self.half(128) }
    }

    /// The wake word: changes whenever something became visible or was handed over.
    pub fn wake_word(&self) -> u32 {
        self.sleepers().word()
    }

    /// Changes the wake word and wakes every sleeper of the log.
    pub fn wake(&self) {
        self.sleepers().wake();
    }

    /// Sleeps until the wake word is not `seen` or `most` has passed; returns the word.
    pub fn wait(&self, seen: u32, most: Duration) -> u32 {
        self.sleepers().wait(seen, most)
    }

    fn retired(&self, page: u32) -> (&AtomicU64, u64) {
        assert!((1..=SHARDS_MAX).contains(&page), "page {page}");
        let bit = page as usize - 1;
        (self.word(RETIRED + bit / 64 * 8), 1 << (bit % 64))
    }

    /// Whether a process may still have open the removed shard that had this page.
    pub(crate) fn is_retired(&self, page: u32) -> bool {
        let (word, bit) = self.retired(page);
        word.load(Ordering::Acquire) & bit != 0
    }

    /// Keeps a page from new shards until a process opens the log alone.
    pub(crate) fn retire(&self, page: u32) {
        let (word, bit) = self.retired(page);
        word.fetch_or(bit, Ordering::AcqRel);
    }

    /// Allows all retired pages for new shards again. Only under the exclusive lock of the log.
    pub(crate) fn reuse_retired(&self) {
        for place in 0..SHARDS_MAX as usize / 64 {
            self.word(RETIRED + place * 8).store(0, Ordering::Release);
        }
    }

    /// Takes every page that is not in `kept` from its shard; `file` is the mapped file. Only under
    /// the exclusive lock of the log.
    pub(crate) fn disown_all_but(&self, kept: &BTreeSet<u32>, file: &dyn File) {
        // Without a descriptor all pages are new.
        let Some(file) = file.descriptor() else { return };
        let mut number = 1;
        while number <= SHARDS_MAX {
            // WHY not each of them: to look at one that was never written takes memory for it. A file
            // system that does not know gets all of them looked at.
            match next_data(file, u64::from(number) * PAGE as u64) {
                Ok(None) => return,
                Ok(Some(data)) => {
                    number = u32::try_from(data / PAGE as u64).map_or(number, |n| n.max(number));
                }
                Err(_) => {}
            }
            // WHY not without asking: a store to a page that has no place on a full disk would kill
            // the process. One that has an owner has its place.
            if number <= SHARDS_MAX && !kept.contains(&number) && self.page(number).is_owned() {
                self.page(number).disown();
            }
            number += 1;
        }
    }

    /// The page of a shard, by its number in the manifest (1 … 4096).
    pub(crate) fn page(&self, number: u32) -> Page<'_> {
        assert!((1..=SHARDS_MAX).contains(&number), "page {number}");
        Page { control: self, base: number as usize * PAGE }
    }
}

/// The threads of one process that wait for the same: one of them leads.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    word: AtomicU32,
    sleepers: AtomicU32,
    is_led: AtomicU32,
}

impl Waiters {
    fn election(&self) -> Election<'_> {
        let news = Wake { word: &self.word, sleepers: &self.sleepers };
        Election { is_led: &self.is_led, news }
    }

    /// Changes whenever there is something to look at.
    pub(crate) fn word(&self) -> u32 {
        self.election().news.word()
    }

    /// Leads, if no other thread does. All threads are woken when the returned lead is dropped.
    pub(crate) fn try_lead(&self) -> Option<Lead<'_>> {
        self.election().try_lead()
    }

    /// Wakes all sleepers.
    pub(crate) fn wake(&self) {
        self.election().news.wake();
    }

    /// Sleeps until the word is not `seen` or `most` has passed.
    pub(crate) fn wait(&self, seen: u32, most: Duration) {
        self.election().news.wait(seen, most);
    }
}

/// What page 0 says, for processes that only read: uuid and boot id.
pub(crate) fn view_log(page: &[u8]) -> Option<([u8; 16], [u8; 16])> {
    (u64_at(page, 0)? == LOG_MAGIC).then_some(())?;
    Some((array_at(page, 16)?, array_at(page, 32)?))
}

fn array_at<const N: usize>(page: &[u8], at: usize) -> Option<[u8; N]> {
    page.get(at..at + N)?.try_into().ok()
}

fn u64_at(page: &[u8], at: usize) -> Option<u64> {
    array_at(page, at).map(u64::from_le_bytes)
}

/// What a shard's page says, for processes that only read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageView {
    pub(crate) owner: u64,
    pub(crate) committed: Position,
    pub(crate) durable: Position,
    pub(crate) durable_end: SequenceNumber,
    pub(crate) visible: Position,
    pub(crate) visible_end: SequenceNumber,
    pub(crate) next_seq: SequenceNumber,
    pub(crate) is_writing: bool,
    /// Whether the last opening could not recover the shard: then the page does not know what was
    /// acknowledged before it.
    pub(crate) is_unrecovered: bool,
    /// Whether its stream is being removed, or was.
    pub(crate) is_removed: bool,
    /// The `errno` of a failed sync; 0: none.
    pub(crate) errno: u32,
}

impl PageView {
    /// Reads the bytes of a page; `None` if they are none.
    pub(crate) fn decode(page: &[u8]) -> Option<Self> {
        let word = |at: usize| u64_at(page, at);
        let half = |at: usize| array_at(page, at).map(u32::from_le_bytes);
        (word(0)? == SHARD_MAGIC).then_some(())?;
        Some(Self {
            owner: word(8)?,
            committed: Position::from_word(word(64)?),
            durable: Position::from_word(word(128)?),
            durable_end: word(136)?,
            visible: Position::from_word(word(192)?),
            visible_end: word(200)?,
            next_seq: word(256)?,
            is_writing: half(320)? != 0,
            errno: half(324)?,
            is_removed: half(328)? == 2,
            is_unrecovered: half(332)? != 0,
        })
    }
}

/// One shard's page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    control: &'a ControlFile,
    base: usize,
}

/// A place between two batches, and the first number behind it.
pub(crate) type End = (Position, SequenceNumber);

/// All of a page's values, for rewriting it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageValues {
    pub(crate) owner: u64,
    pub(crate) segment_identity: (u64, u64),
    pub(crate) committed: End,
    /// What is known to be on disk.
    pub(crate) durable: End,
    /// What readers may see.
    pub(crate) visible: End,
    pub(crate) last_crc: u32,
    pub(crate) last_position: Position,
    pub(crate) epoch: u32,
    pub(crate) max_ts: u64,
    pub(crate) reserved: SequenceNumber,
    pub(crate) is_closed: bool,
}

impl Page<'_> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.control.word(self.base + offset)
    }

    fn half(&self, offset: usize) -> &AtomicU32 {
        self.control.half(self.base + offset)
    }

    /// Whether the page belongs to this shard (`owner` is a hash of stream and shard).
    pub(crate) fn is_of(&self, owner: u64) -> bool {
        self.is_owned() && self.word(8).load(Ordering::Acquire) == owner
    }

    /// Makes the page that of a shard under another name of its stream.
    pub(crate) fn set_owner(&self, owner: u64) {
        self.word(8).store(owner, Ordering::Release);
    }

    /// Whether it is the page of any shard, even of a removed one.
    pub(crate) fn is_owned(&self) -> bool {
        self.word(0).load(Ordering::Acquire) == SHARD_MAGIC
    }

    /// Writes the whole page. Only under the exclusive lock of the log, or for a shard that no
    /// other process knows yet.
    pub(crate) fn initialise(&self, values: &PageValues) {
        self.word(0).store(0, Ordering::Release);
        self.word(8).store(values.owner, Ordering::Release);
        self.set_segment_identity(values.segment_identity);
        let ends =
            [(64, 256, values.committed), (128, 136, values.durable), (192, 200, values.visible)];
        for (position, number, end) in ends {
            self.word(position).store(end.0.to_word(), Ordering::Release);
            self.word(number).store(end.1, Ordering::Release);
        }
        self.half(264).store(values.last_crc, Ordering::Release);
        self.half(268).store(values.epoch, Ordering::Release);
        self.word(272).store(values.max_ts, Ordering::Release);
        self.set_reserved(values.reserved);
        self.word(288).store(values.last_position.to_word(), Ordering::Release);
        self.half(324).store(0, Ordering::Release);
        self.set_closed(values.is_closed);
        self.set_recovered();
        self.set_state(WriterState::Clean);
        self.word(0).store(SHARD_MAGIC, Ordering::Release);
    }

    /// Takes the page from its shard: a shard that cannot be recovered is refused when it is opened.
    pub(crate) fn disown(&self) {
        self.word(0).store(0, Ordering::Release);
    }

    pub(crate) fn segment_identity(&self) -> (u64, u64) {
        (self.word(16).load(Ordering::Acquire), self.word(24).load(Ordering::Acquire))
    }

    pub(crate) fn set_segment_identity(&self, identity: (u64, u64)) {
        self.word(16).store(identity.0, Ordering::Release);
        self.word(24).store(identity.1, Ordering::Release);
    }

    pub(crate) fn committed(&self) -> Position {
        Position::from_word(self.word(64).load(Ordering::Acquire))
    }

    pub(crate) fn durable_end(&self) -> SequenceNumber {
        self.word(136).load(Ordering::Acquire)
    }

    pub(crate) fn durable(&self) -> Position {
        Position::from_word(self.word(128).load(Ordering::Acquire))
    }

    pub(crate) fn visible(&self) -> Position {
        Position::from_word(self.word(192).load(Ordering::Acquire))
    }

    pub(crate) fn visible_end(&self) -> SequenceNumber {
        self.word(200).load(Ordering::Acquire)
    }

    pub(crate) fn next_seq(&self) -> SequenceNumber {
        self.word(256).load(Ordering::Acquire)
    }

    pub(crate) fn last_crc(&self) -> u32 {
        self.half(264).load(Ordering::Acquire)
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.half(268).load(Ordering::Acquire)
    }

    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.half(268).store(epoch, Ordering::Release);
    }

    pub(crate) fn max_ts(&self) -> u64 {
        self.word(272).load(Ordering::Acquire)
    }

    pub(crate) fn reserved(&self) -> SequenceNumber {
        self.word(280).load(Ordering::Acquire)
    }

    pub(crate) fn set_reserved(&self, reserved: SequenceNumber) {
        self.word(280).store(reserved, Ordering::Release);
    }

    pub(crate) fn last_position(&self) -> Position {
        Position::from_word(self.word(288).load(Ordering::Acquire))
    }

    fn progress(&self) -> Progress<'_> {
        let reach = |position, end| Reach { position: self.word(position), end: self.word(end) };
        Progress { committed: reach(64, 256), durable: reach(128, 136), visible: reach(192, 200) }
    }

    fn writer(&self) -> WriterWords<'_> {
        WriterWords { writing: self.half(320), errno: self.half(324) }
    }

    pub(crate) fn state(&self) -> WriterState {
        match self.writer().get() {
            (_, 0) if self.half(332).load(Ordering::Acquire) != 0 => WriterState::Unrecovered,
            (false, 0) => WriterState::Clean,
            (true, 0) => WriterState::Writing,
            (_, errno) => WriterState::Failed(errno.cast_signed()),
        }
    }

    /// Whether the last batch is a CLOSE: the shard takes no more records, for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.half(328).load(Ordering::Acquire) == 1
    }

    /// Whether the shard was removed with its stream.
    pub(crate) fn is_removed(&self) -> bool {
        self.half(328).load(Ordering::Acquire) == 2
    }

    /// Ends all use of the shard, in every process. Only under `append.lock`.
    pub(crate) fn set_removed(&self) {
        self.half(328).store(2, Ordering::Release);
    }

    /// Notes what the last batch is. Only while the state is WRITING, so that a writer that finds
    /// CLEAN may believe it.
    pub(crate) fn set_closed(&self, is_closed: bool) {
        self.half(328).store(u32::from(is_closed), Ordering::Release);
    }

    /// Lets writers in: the recovery is finished.
    pub(crate) fn set_recovered(&self) {
        self.half(332).store(0, Ordering::Release);
    }

    /// Sets what the writer is doing; a failure stays until the page is rewritten.
    pub(crate) fn set_state(&self, state: WriterState) {
        match state {
            WriterState::Clean => self.writer().set_writing(false),
            WriterState::Writing => self.writer().set_writing(true),
            WriterState::Unrecovered => self.half(332).store(1, Ordering::Release),
            WriterState::Failed(errno) => self.writer().fail(errno.max(1).cast_unsigned()),
        }
    }

    /// Announces a batch that was written, and what the next writer needs.
    pub(crate) fn commit(&self, batch: &Committed) {
        self.progress().commit(batch.end.to_word(), batch.next_seq);
        self.half(264).store(batch.header_crc, Ordering::Release);
        self.word(272).store(batch.max_ts, Ordering::Release);
        // A writer that died before this store left WRITING: the next one walks the batches from
        // here, whichever of the two it finds.
        self.word(288).store(batch.at.to_word(), Ordering::Release);
    }

    /// Moves the end to the start of a new, empty segment; everything before it is synced.
    pub(crate) fn move_end(&self, start: Position) {
        self.word(64).fetch_max(start.to_word(), Ordering::AcqRel);
        self.word(128).fetch_max(start.to_word(), Ordering::AcqRel);
        self.word(192).fetch_max(start.to_word(), Ordering::AcqRel);
    }

    /// One of the five stores of [`Page::commit`], by its place there.
    #[cfg(test)]
    pub(crate) fn set_raw_for_tests(&self, place: usize, value: u64) {
        match place {
            0 => self.word(64).store(value, Ordering::Release),
            1 => self.word(256).store(value, Ordering::Release),
            2 => self.half(264).store(u32::try_from(value).unwrap(), Ordering::Release),
            3 => self.word(272).store(value, Ordering::Release),
            _ => self.word(288).store(value, Ordering::Release),
        }
    }

    /// Lets readers see everything before `end`.
    pub(crate) fn publish(&self, end: Position, end_seq: SequenceNumber) {
        self.progress().visible.raise(end.to_word(), end_seq);
    }

    /// The end that a sync beginning now will make durable, and the first number behind it.
    pub(crate) fn before_sync(&self) -> (Position, SequenceNumber) {
        let (position, end_seq) = self.progress().before_sync();
        (Position::from_word(position), end_seq)
    }

    /// Shows readers everything before `end`, which was synced, and notes that it was.
    pub(crate) fn after_sync(&self, end: Position, end_seq: SequenceNumber) {
        self.progress().after_sync(end.to_word(), end_seq);
    }

    /// `Ok` unless the stream was removed.
    pub(crate) fn check_exists(&self, folder: &Path) -> Result<()> {
        if !self.is_removed() {
            return Ok(());
        }
        let stream = folder.parent().and_then(Path::file_name).unwrap_or_default();
        Err(Error::StreamNotFound { name: stream.to_string_lossy().into_owned() })
    }

    /// `Ok` unless a sync failed, or the stream was removed.
    pub(crate) fn check(&self, folder: &Path) -> Result<()> {
        self.check_exists(folder)?;
        match self.state() {
            WriterState::Failed(errno) => {
                Err(Error::StoragePoisoned { path: folder.to_owned(), errno })
            }
            _ => Ok(()),
        }
    }
}

/// What a writer announces about the batch it wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub(crate) at: Position,
    pub(crate) end: Position,
    pub(crate) next_seq: SequenceNumber,
    pub(crate) header_crc: u32,
    pub(crate) max_ts: u64,
}
