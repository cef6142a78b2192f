//! What is found when a log is opened that nobody else has open.
//!
//! ```text
//! same boot, CLEAN, last batch verifies ─────────────────────────────▶ trust the page cache
//! same boot, WRITING ── walk from the last batch ── adopt whole, cut rest ▶ go on
//! otherwise ── walk from the recovery point ─┬─ end ─────────────────▶ epoch + 1 if numbers may be lost
//!                                            ├─ torn tail ── quarantine, cut, epoch + 1
//!                                            └─ damage before synced data ── never cut; reading it fails
//! ```
//! A shard that its manifest says is closed ends with CLOSE: one that is not there is written again.
//! [`examine`] only reads, so that a log of a newer version is refused before anything is touched. What
//! is found can be read at once; cutting and beginning an epoch may need room that a full disk does not
//! have, and is then left to the first who appends.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{Committed, End, Page, PageValues, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::record_batch::{HeaderRead, Unknown, HEADER_BYTES, SUPPORTED};
use crate::format::{align8, BatchHeader, Control, Hole, ShardState};
use crate::fs::{File, Fs, Open};
use crate::sys;
use crate::types::{Durability, Micros, Position, SequenceNumber};

use super::beyond::{Beyond, Candidate};
use super::failure::Failure;
use super::segment::Segment;
use super::sync::fail_stop;
use super::{holes, Directory, Segments, ShardConfig, StateFile, SEGMENT_START};

/// Bytes looked at in one read.
const CHUNK: usize = 1024 * 1024;

/// Where a walk over batches has got to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    /// After the last valid batch.
    pub(crate) position: Position,
    /// The number after its last.
    pub(crate) next_seq: SequenceNumber,
    /// Its header checksum.
    pub(crate) prev_crc: u32,
    /// Its append time.
    pub(crate) max_ts: Micros,
    /// Where it begins; offset 0 if there is none.
    pub(crate) last_position: Position,
    /// Whether a CLOSE was met: nothing follows it.
    pub(crate) is_closed: bool,
}

impl Tail {
    fn end(&self) -> End {
        (self.position, self.next_seq)
    }

    /// What the page says of it.
    pub(crate) fn committed(&self) -> Committed {
        Committed {
            at: self.last_position,
            end: self.position,
            next_seq: self.next_seq,
            header_crc: self.prev_crc,
            max_ts: self.max_ts,
        }
    }
}

enum Stop {
    /// Zeros or the end of the last segment.
    End,
    /// Something that is not a batch that follows.
    Invalid,
}

/// A file being walked over.
struct Scan<'a> {
    segments: &'a Segments,
    fs: &'a Arc<dyn Fs>,
    file: Option<(Arc<Segment>, Arc<dyn File>, u64)>,
    start: u64,
    bytes: Vec<u8>,
    synced: Synced,
}

/// Up to where the batches that were walked over say that they were on disk.
#[derive(Debug, Default)]
struct Synced {
    end: End,
    /// Places between batches behind it.
    later: VecDeque<End>,
}

impl Synced {
    /// Notes a place between two batches.
    fn pass(&mut self, tail: &Tail) {
        self.later.push_back(tail.end());
    }

    /// Notes that all numbers below one were on disk.
    fn raise(&mut self, durable_end: SequenceNumber) {
        while self.later.front().is_some_and(|(_, next_seq)| *next_seq <= durable_end) {
            self.end = self.later.pop_front().unwrap_or(self.end);
        }
    }
}

impl<'a> Scan<'a> {
    fn new(segments: &'a Segments, fs: &'a Arc<dyn Fs>) -> Self {
        let synced = Synced::default();
        Self { segments, fs, file: None, start: 0, bytes: Vec::new(), synced }
    }

    /// Opens a segment; false if there is none of that ordinal.
    fn open(&mut self, ordinal: u32) -> Result<bool> {
        if self.file.as_ref().is_some_and(|(open, ..)| open.ordinal == ordinal) {
            return Ok(true);
        }
        let Some(segment) = self.segments.get(ordinal)? else { return Ok(false) };
        let file = segment.open(self.fs)?;
        let length = file.length().at(segment.path())?;
        self.file = Some((segment, file, length));
        self.bytes.clear();
        Ok(true)
    }

    fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, |(.., length)| *length)
    }

    fn at(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let Some((segment, file, end)) = &self.file else { return Ok(&[]) };
        let inside =
            offset >= self.start && offset + length as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let left = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.bytes.resize(length.max(CHUNK).min(left), 0);
            let got = file.read_at(&mut self.bytes, offset).at(segment.path())?;
            self.bytes.truncate(got);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let end = from.saturating_add(length).min(self.bytes.len());
        Ok(self.bytes.get(from..end).unwrap_or_default())
    }

    fn path(&self) -> PathBuf {
        self.file.as_ref().map(|(segment, ..)| segment.path().to_owned()).unwrap_or_default()
    }

    /// The batch at `offset`, if header and body are whole.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`]: what a newer version wrote is no damage.
    fn batch(
        &mut self,
        offset: u64,
    ) -> Result<std::result::Result<Option<(BatchHeader, u32)>, &'static str>> {
        let (header, crc) = match BatchHeader::decode(self.at(offset, HEADER_BYTES)?) {
            HeaderRead::Valid(header, crc) => (header, crc),
            HeaderRead::Empty => return Ok(Ok(None)),
            HeaderRead::Damaged(damage) => return Ok(Err(damage.0)),
            HeaderRead::Unsupported(unknown) => return Err(self.unsupported(unknown)),
        };
        if !self.is_whole(offset, &header)? {
            return Ok(Err("the body's checksum does not match"));
        }
        Ok(Ok(Some((header, crc))))
    }

    /// Whether the body behind a header is the one that was written.
    fn is_whole(&mut self, offset: u64, header: &BatchHeader) -> Result<bool> {
        let body = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        Ok(body.len() == header.body_len as usize && crc32c(body) == header.body_crc)
    }

    fn unsupported(&self, unknown: Unknown) -> Error {
        let (found, supported) = (unknown.to_string(), SUPPORTED.into());
        Error::UnsupportedFormat { path: self.path(), found, supported }
    }
}

impl Scan<'_> {
    /// Whether a batch that is whole is a CLOSE.
    fn is_close(&mut self, offset: u64, header: &BatchHeader) -> Result<bool> {
        if !header.is_control {
            return Ok(false);
        }
        let body = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        Ok(matches!(Control::decode(body), Ok(Control::Close { .. })))
    }
}

/// Steps over valid batches, segment after segment. `chained` is false where the walk begins after
/// damage, so that the first batch has nothing to follow.
fn walk(scan: &mut Scan<'_>, mut tail: Tail, mut chained: bool) -> Result<(Tail, Stop)> {
    loop {
        if !scan.open(tail.position.segment)? {
            return Ok((tail, Stop::End));
        }
        let found = scan.batch(tail.position.offset)?;
        if let Ok(Some((header, crc))) = found {
            if !chained || follows(&tail, &header) {
                scan.synced.pass(&tail);
                scan.synced.raise(header.durable_end);
                tail.is_closed |= scan.is_close(tail.position.offset, &header)?;
                tail = after(&tail, &header, crc);
                chained = true;
                continue;
            }
        }
        let next = tail.position.segment + 1;
        let is_empty = matches!(found, Ok(None));
        let order = scan.segments.get(next)?.map(|next| next.base_seq.cmp(&tail.next_seq));
        match order {
            // A segment is begun after all before its first number was synced. What still lies behind
            // that in the one before is its index, whole or not; unless a writer left the new one behind,
            // empty, and went on in the old one.
            Some(Ordering::Equal) if chained && (is_empty || is_begun(scan, next, &tail)?) => {}
            Some(_) if !chained && is_empty => {}
            // One that begins lower was left behind, empty, by a writer that could not finish it.
            Some(Ordering::Less) if is_empty => return Ok((tail, Stop::End)),
            None if is_empty && scan.segments.after(next)?.is_none() => {
                return Ok((tail, Stop::End));
            }
            _ => return Ok((tail, Stop::Invalid)),
        }
        tail.position = Position { segment: next, offset: SEGMENT_START };
        // INVARIANT: a segment is synced before the next one is made.
        scan.synced.pass(&tail);
        scan.synced.raise(tail.next_seq);
    }
}

/// Whether a segment has a batch that follows a tail in the one before.
fn is_begun(scan: &mut Scan<'_>, ordinal: u32, tail: &Tail) -> Result<bool> {
    let is_there = scan.open(ordinal)?;
    let first = scan.batch(SEGMENT_START)?;
    Ok(is_there && matches!(first, Ok(Some((header, _))) if follows(tail, &header)))
}

fn follows(tail: &Tail, header: &BatchHeader) -> bool {
    let jumps = header.base_seq > tail.next_seq && !header.is_control;
    header.prev_header_crc == tail.prev_crc && header.base_seq >= tail.next_seq && !jumps
}

fn after(tail: &Tail, header: &BatchHeader, crc: u32) -> Tail {
    Tail {
        position: Position {
            offset: tail.position.offset + header.stored_bytes(),
            ..tail.position
        },
        next_seq: header.next_seq(),
        prev_crc: header.chain_crc(crc),
        max_ts: header.max_ts,
        last_position: if header.record_count == 0 { tail.last_position } else { tail.position },
        is_closed: tail.is_closed,
    }
}

/// Where the log really ends, walking from the last batch the page announces, or from the recovery
/// point if there was none since the page was written.
pub(crate) fn walk_from_page(
    page: &Page<'_>,
    state: &ShardState,
    segments: &Segments,
    fs: &Arc<dyn Fs>,
) -> Result<Tail> {
    let mut scan = Scan::new(segments, fs);
    let last = page.last_position();
    // WHY not from `committed`: a writer that died inside `Page::commit` left it newer than the
    // numbers beside it.
    let mut tail = recovery_tail(state);
    if last.offset != 0 {
        scan.open(last.segment)?;
        if let Ok(Some((header, crc))) = scan.batch(last.offset)? {
            tail.is_closed = scan.is_close(last.offset, &header)?;
            tail = after(&Tail { position: last, ..tail }, &header, crc);
        }
    }
    walk(&mut scan, tail, true).map(|(tail, _)| tail)
}

fn recovery_tail(state: &ShardState) -> Tail {
    Tail {
        position: state.recovery_point,
        next_seq: state.recovery_seq,
        prev_crc: state.recovery_crc,
        max_ts: state.recovery_ts,
        last_position: Position::default(),
        is_closed: false,
    }
}

/// Removes what lies behind the tail in its segment.
pub(crate) fn cut(tail: &Tail, segments: &Segments, fs: &Arc<dyn Fs>) -> Result<()> {
    if let Some(segment) = segments.get(tail.position.segment)? {
        let file = segment.open(fs)?;
        if file.length().at(segment.path())? > tail.position.offset {
            file.truncate(tail.position.offset).at(segment.path())?;
        }
    }
    Ok(())
}

/// What was found of a shard.
pub(crate) struct Found {
    folder: PathBuf,
    config: ShardConfig,
    segments: Segments,
    state_file: StateFile,
    state: ShardState,
    /// A sync that failed, for good.
    failure: Option<Failure>,
    /// Where the log ends; `None` if the page says the truth.
    end: Option<LogEnd>,
}

/// Where a log ends.
struct LogEnd {
    tail: Tail,
    /// Up to where what was found says that it was on disk.
    synced: End,
    /// Whether a torn tail lies behind it.
    is_torn: bool,
    /// Damage before it, not in the list yet.
    holes: Vec<Hole>,
}

/// Finds out how a shard was left; changes nothing. Only under the exclusive lock of the log.
///
/// # Errors
/// [`Error::UnsupportedFormat`] if a newer version wrote what has to be looked at;
/// [`Error::Corruption`] if the state is damaged; errors of reading.
pub(crate) fn examine(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
    same_boot: bool,
) -> Result<Found> {
    let fs = directory.fs();
    let page = directory.control().page(config.page);
    let segments = Segments::new(Arc::clone(fs), folder.to_owned());
    let state_file = StateFile::open(fs, &folder.join("state"))?;
    let state = state_file.load()?;
    let failure = Failure::load(fs, folder)?;
    let end = if same_boot && page.is_of(config.owner()) && trust(&page, &segments, fs)? {
        None
    } else {
        let shard =
            Recovering { directory, folder, config, segments: &segments, state_file: &state_file };
        Some(shard.find_end(&state)?)
    };
    Ok(Found {
        folder: folder.to_owned(),
        config: config.clone(),
        segments,
        state_file,
        state,
        failure,
        end,
    })
}

/// Brings one shard to a state in which it can be read and, if there is room, written, and writes its
/// page. Only under the exclusive lock of the log. Running it again, or after a crash inside it, ends
/// the same.
pub(crate) fn recover(directory: &Arc<Directory>, found: &Found) -> Result<()> {
    let page = directory.control().page(found.config.page);
    let shard = Recovering {
        directory,
        folder: &found.folder,
        config: &found.config,
        segments: &found.segments,
        state_file: &found.state_file,
    };
    match &found.end {
        None => {
            // A clean close that did not finish may have lowered what is on disk already.
            page.set_reserved(page.reserved().min(found.state.reserved));
            if found.failure.is_some() {
                page.set_state(WriterState::Failed(libc::EIO));
            }
            Ok(())
        }
        Some(end) => {
            if let Some(failure) = found.failure {
                shard.stay_failed(&found.state, end, failure);
                return Ok(());
            }
            shard.note_holes(&end.holes)?;
            match shard.begin_reading(&found.state, end.tail) {
                Err(Error::StoragePoisoned { .. }) => {
                    // WHY no boot, though it is this one: what was found may have been written before it.
                    shard.stay_failed(&found.state, end, Failure::default());
                    return Ok(());
                }
                begun => begun?,
            }
            match shard.begin_writing(&found.state, end.tail, end.is_torn) {
                // Reading, checkpoints and retention go on; each append tries again, or is told, and
                // says why not.
                Err(
                    Error::LogFull { .. }
                    | Error::UnsupportedFormat { .. }
                    | Error::StoragePoisoned { .. },
                ) => Ok(()),
                begun => begun,
            }
        }
    }
}

/// Why a shard has no page: what an opening meets that tries to recover it now.
pub(crate) fn explain(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
) -> Option<Error> {
    examine(directory, folder, config, false).err()
}

/// Whether the page says the truth: the page cache outlives every process.
fn trust(page: &Page<'_>, segments: &Segments, fs: &Arc<dyn Fs>) -> Result<bool> {
    if page.is_removed() {
        // A removal that did not come to its first lasting step: the stream is still there.
        return Ok(false);
    }
    match page.state() {
        WriterState::Failed(_) => return Ok(true),
        WriterState::Unrecovered => return Ok(false),
        WriterState::Clean | WriterState::Writing => {}
    }
    let Some(segment) = segments.get(page.committed().segment)? else { return Ok(false) };
    let file = segment.open(fs)?;
    if file.identity().at(segment.path())? != page.segment_identity() {
        return Ok(false);
    }
    if page.state() == WriterState::Writing {
        // The next writer looks at the tail under `append.lock`, as it would beside a dead one.
        return Ok(true);
    }
    let last = page.last_position();
    if last.offset == 0 {
        return Ok(true);
    }
    let mut scan = Scan::new(segments, fs);
    scan.open(last.segment)?;
    Ok(match scan.batch(last.offset)? {
        Ok(Some((header, crc))) => crc == page.last_crc() && header.next_seq() == page.next_seq(),
        _ => false,
    })
}

pub(super) struct Recovering<'a> {
    pub(super) directory: &'a Arc<Directory>,
    pub(super) folder: &'a Path,
    pub(super) config: &'a ShardConfig,
    pub(super) segments: &'a Segments,
    pub(super) state_file: &'a StateFile,
}

impl Recovering<'_> {
    /// Walks from the recovery point to the end of the log; says whether a torn tail lies behind it.
    fn find_end(&self, state: &ShardState) -> Result<LogEnd> {
        let fs = self.directory.fs();
        let mut scan = Scan::new(self.segments, fs);
        let start = recovery_tail(state);
        scan.synced.end = start.end();
        let (mut tail, mut stop) = walk(&mut scan, start, true)?;
        let mut found = Vec::new();
        let is_torn = loop {
            match stop {
                Stop::End if !Self::has_rest(&mut scan, &tail)? => break false,
                Stop::End | Stop::Invalid => {}
            }
            let later = self.later_proof(&mut scan, &tail, state)?;
            let Some(resumed) = later else { break true };
            // WHY: something after the damage was written when the damaged part was already synced.
            // That is rot, not a torn write; cutting here would throw good records away.
            if resumed.next_seq > tail.next_seq {
                found.push(Hole {
                    first: tail.next_seq,
                    last: resumed.next_seq - 1,
                    at: tail.position,
                    end: resumed.position,
                    found: self.directory.clock().now(),
                    is_accepted: false,
                });
            }
            (tail, stop) = walk(&mut scan, resumed, false)?;
        };
        let synced = scan.synced.end;
        Ok(LogEnd { tail, synced, is_torn, holes: found })
    }

    /// Whether anything but zeros lies behind a tail in its file.
    fn has_rest(scan: &mut Scan<'_>, tail: &Tail) -> Result<bool> {
        scan.open(tail.position.segment)?;
        let mut offset = tail.position.offset;
        while offset < scan.length() {
            let length = usize::try_from(scan.length() - offset).unwrap_or(CHUNK).min(CHUNK);
            let bytes = scan.at(offset, length)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(!bytes.is_empty());
            }
            offset += bytes.len() as u64;
        }
        Ok(false)
    }

    /// Where a walk goes on behind a damaged place, if something behind the place proves that it was
    /// once synced: at the next whole batch, else at the header that proves it.
    fn later_proof(
        &self,
        scan: &mut Scan<'_>,
        tail: &Tail,
        state: &ShardState,
    ) -> Result<Option<Tail>> {
        // A segment is synced before the next one is made.
        let next = self.segments.after(tail.position.segment)?;
        let next = next.filter(|segment| segment.base_seq > tail.next_seq);
        let mut is_proven = next.is_some();
        let (mut first_whole, mut torn_proof) = (None, None);
        let mut synced = tail.next_seq;
        scan.open(tail.position.segment)?;
        let mut beyond = Beyond {
            at: tail.position,
            next_seq: tail.next_seq,
            prev_crc: Some(tail.prev_crc),
            max_ts: tail.max_ts,
            reserved: state.reserved,
            epoch: state.epoch,
            copy: None,
        };
        let mut offset = beyond.search_from(scan.at(tail.position.offset, HEADER_BYTES)?);
        while offset + HEADER_BYTES as u64 <= scan.length() {
            let place = Position { offset, ..tail.position };
            let header = match beyond.look(place, scan.at(offset, HEADER_BYTES)?) {
                Candidate::Ours(header) => header,
                Candidate::Newer(unknown) => return Err(scan.unsupported(unknown)),
                Candidate::Other => {
                    offset += 8;
                    continue;
                }
            };
            let is_whole = scan.is_whole(offset, &header)?;
            if !is_whole && header.place != place {
                offset += 8;
                continue;
            }
            let resumed = Tail { position: place, next_seq: header.base_seq, ..*tail };
            is_proven |= header.durable_end > tail.next_seq;
            if is_whole {
                first_whole = first_whole.or(Some(resumed));
            } else if header.durable_end > synced {
                synced = header.durable_end;
                // What is written in its place follows what it followed.
                let (prev_crc, last_position) = (header.prev_header_crc, Position::default());
                torn_proof = Some(Tail { prev_crc, last_position, ..resumed });
            }
            if is_proven && first_whole.is_some() {
                return Ok(first_whole);
            }
            // What looks like a batch inside of it is part of a record.
            offset += header.stored_bytes();
        }
        let next = next.map(|segment| Tail {
            position: Position { segment: segment.ordinal, offset: SEGMENT_START },
            next_seq: segment.base_seq,
            ..*tail
        });
        Ok(next.or(torn_proof))
    }

    fn note_holes(&self, found: &[Hole]) -> Result<()> {
        match holes::note(self.directory.fs(), self.folder, found) {
            // Readers and `fsck` meet the damage without the list; a full disk must not stop them.
            Err(Error::LogFull { .. }) => Ok(()),
            noted => noted,
        }
    }

    /// Syncs what is there, and only then shows it to readers. Takes no room on the disk.
    fn begin_reading(&self, state: &ShardState, tail: Tail) -> Result<()> {
        let (segment, file) = self.last_segment(&tail)?;
        // INVARIANT: EPOCH says that everything before it is on disk. After the death of a process, in a
        // boot that goes on, what was found may be in memory only.
        self.sync(&file, &segment)?;
        self.sync_folder()?;
        let identity = file.identity().at(segment.path())?;
        self.begin_page(state, &tail, identity, tail.end(), tail.end());
        self.directory.control().page(self.config.page).set_state(WriterState::Unrecovered);
        Ok(())
    }

    /// As the opening would, but beside readers: under `append.lock`.
    pub(super) fn resume(&self) -> Result<()> {
        let state = self.state_file.load()?;
        let LogEnd { tail, is_torn, holes, .. } = self.find_end(&state)?;
        self.note_holes(&holes)?;
        let visible = self.directory.control().page(self.config.page).visible();
        if tail.position < visible {
            return Err(Error::Corruption {
                path: self.folder.to_owned(),
                position: tail.position.offset,
                first: tail.next_seq,
                last: tail.next_seq,
                reason: "what could be read when the log was opened is no longer whole".into(),
            });
        }
        self.begin_writing(&state, tail, is_torn)
    }

    fn last_segment(&self, tail: &Tail) -> Result<(Arc<Segment>, Arc<dyn File>)> {
        self.segments.open(tail.position.segment)?.ok_or_else(|| Error::Corruption {
            path: self.folder.to_owned(),
            position: tail.position.offset,
            first: tail.next_seq,
            last: tail.next_seq,
            reason: "the segment at the recovery point is missing".into(),
        })
    }

    /// Cuts a torn tail, begins a new epoch if numbers may have been issued that are not in the log,
    /// and lets writers in.
    fn begin_writing(&self, state: &ShardState, mut tail: Tail, is_torn: bool) -> Result<()> {
        let fs = self.directory.fs();
        let (segment, file) = self.last_segment(&tail)?;
        segment.check_writable(fs)?;
        if is_torn {
            self.quarantine(&segment, &file, tail.position.offset)?;
            cut(&tail, self.segments, fs)?;
            self.sync(&file, &segment)?;
        }
        let (mut epoch, mut reserved) = (state.epoch, state.reserved);
        let close = self.lost_close(&tail);
        // CLOSE begins its segment: there it has the number that it had.
        let is_in_place = close.is_some()
            && (tail.position.offset, tail.next_seq) == (SEGMENT_START, segment.base_seq);
        let jumps = !tail.is_closed && !is_in_place && reserved > tail.next_seq;
        let jump = jumps.then_some(Control::Epoch { reason: 1 });
        // WHY first: on a full disk each append tries this again, and would use up epochs.
        let room: u64 = jump.iter().chain(&close).map(stored_bytes).sum();
        file.allocate(tail.position.offset + room).at(segment.path())?;
        if let Some(jump) = &jump {
            epoch += 1;
            // INVARIANT: numbers up to `reserved` may have been issued; none of them is issued again.
            // The ceiling is raised and synced before the EPOCH batch takes the first one above it.
            let base = reserved;
            reserved = base + (1 << 20);
            self.update(|state| {
                state.epoch = epoch;
                state.reserved = reserved;
            })?;
            tail = self.write_mark(&file, &segment, tail, jump, base, epoch)?;
        }
        if let Some(close) = &close {
            tail = self.write_mark(&file, &segment, tail, close, tail.next_seq, epoch)?;
            tail.is_closed = true;
        }
        if tail.is_closed {
            // No number is issued any more; an EPOCH would only hide that.
            reserved = tail.next_seq;
        }
        self.sync(&file, &segment)?;
        self.sync_folder()?;
        self.update(|state| {
            state.reserved = reserved;
            // That of a closed shard stays before its CLOSE: see `ShardLog::close`.
            if !tail.is_closed {
                state.recovery_point = tail.position;
                state.recovery_seq = tail.next_seq;
                state.recovery_crc = tail.prev_crc;
                state.recovery_ts = tail.max_ts;
            }
        })?;
        let page = self.directory.control().page(self.config.page);
        page.set_epoch(epoch);
        page.set_reserved(reserved);
        page.commit(&tail.committed());
        page.after_sync(tail.position, tail.next_seq);
        page.set_closed(tail.is_closed);
        page.set_state(WriterState::Clean);
        page.set_recovered();
        Ok(())
    }

    fn sync(&self, file: &Arc<dyn File>, segment: &Segment) -> Result<()> {
        file.sync_data().at(segment.path()).map_err(|error| self.fail_stop(&error))
    }

    fn sync_folder(&self) -> Result<()> {
        let synced = self.directory.fs().sync_dir(self.folder).at(self.folder);
        synced.map_err(|error| self.fail_stop(&error))
    }

    fn update(&self, change: impl FnOnce(&mut ShardState)) -> Result<()> {
        match self.state_file.update(change) {
            // It was not written, so nothing was synced.
            Err(full @ Error::LogFull { .. }) => Err(full),
            updated => updated.map(drop).map_err(|error| self.fail_stop(&error)),
        }
    }

    /// A sync failed. Who opens the log next would believe a second one of the same pages. A full disk
    /// is no excuse: what the kernel could not place is lost.
    fn fail_stop(&self, error: &Error) -> Error {
        let page = self.directory.control().page(self.config.page);
        fail_stop(self.directory, self.folder, &page, error)
    }

    /// What of a log whose sync failed is on disk all the same.
    ///
    /// What is read in another boot than the one that wrote it comes from the disk, and nothing is written
    /// after a failure. In the same boot, and where nobody knows, it may be in memory only: what counts then
    /// is what the log itself says of how far it was synced.
    fn durable(&self, end: &LogEnd, failure: Failure) -> End {
        let (control, now) = (self.directory.control(), self.directory.boot_id());
        let written_in = || control.is_of(self.directory.uuid()).then(|| control.boot_id());
        match failure.boot_id.or_else(written_in) {
            Some(boot) if boot != now => end.tail.end(),
            _ => end.synced,
        }
    }

    /// A sync failed, now or earlier: what is on disk can be read, but nothing is synced, cut or written,
    /// and nothing counts as durable that is not known to be. `fsck --repair` ends that.
    fn stay_failed(&self, state: &ShardState, end: &LogEnd, failure: Failure) {
        let durable = self.durable(end, failure);
        let visible = match self.config.durability {
            // An acknowledgement was never about the disk.
            Durability::Process => end.tail.end(),
            Durability::Group => durable,
        };
        self.begin_page(state, &end.tail, (0, 0), durable, visible);
        let page = self.directory.control().page(self.config.page);
        page.set_state(WriterState::Unrecovered);
        page.set_state(WriterState::Failed(libc::EIO));
    }

    fn begin_page(
        &self,
        state: &ShardState,
        tail: &Tail,
        segment_identity: (u64, u64),
        durable: End,
        visible: End,
    ) {
        self.directory.control().page(self.config.page).initialise(&PageValues {
            owner: self.config.owner(),
            segment_identity,
            committed: tail.end(),
            durable,
            visible,
            last_crc: tail.prev_crc,
            last_position: tail.last_position,
            epoch: state.epoch,
            max_ts: tail.max_ts,
            reserved: state.reserved,
            is_closed: tail.is_closed,
        });
    }

    /// The CLOSE of a shard that its manifest says is closed, if it is not there: it was synced before
    /// the manifest said so, and has rotted.
    fn lost_close(&self, tail: &Tail) -> Option<Control> {
        let children: Vec<u32> = self.config.successors.iter().map(|child| child.0).collect();
        (!tail.is_closed && !children.is_empty()).then_some(Control::Close { children })
    }

    /// Writes a mark behind a tail.
    fn write_mark(
        &self,
        file: &Arc<dyn File>,
        segment: &Segment,
        tail: Tail,
        mark: &Control,
        base_seq: SequenceNumber,
        epoch: u32,
    ) -> Result<Tail> {
        let body = mark.encode();
        let length = u32::try_from(body.len()).expect("a few bytes");
        let now = self.directory.clock().now().max(tail.max_ts);
        let header = BatchHeader {
            is_control: true,
            body_len: length,
            raw_len: length,
            base_seq,
            record_count: 1,
            body_crc: crc32c(&body),
            base_ts: now,
            max_ts: now,
            shard_epoch: epoch,
            durable_end: tail.next_seq,
            prev_header_crc: tail.prev_crc,
            place: tail.position,
            ..BatchHeader::default()
        };
        let (head, crc) = header.encode();
        let mut bytes = [&head[..], &body].concat();
        bytes.resize(HEADER_BYTES + align8(body.len()), 0);
        if let Err(error) = file.write_at(&[&bytes], tail.position.offset) {
            // Nothing but this was behind the tail.
            let _ = file.truncate(tail.position.offset);
            return Err(Error::io(segment.path(), error));
        }
        Ok(after(&tail, &header, crc))
    }

    /// Keeps the bytes that are about to be cut, under `quarantine/`.
    fn quarantine(&self, segment: &Segment, file: &Arc<dyn File>, from: u64) -> Result<()> {
        let fs = self.directory.fs();
        let length =
            usize::try_from(file.length().at(segment.path())?.saturating_sub(from)).unwrap_or(0);
        let mut bytes = vec![0; length];
        let got = file.read_at(&mut bytes, from).at(segment.path())?;
        bytes.truncate(got);
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        let folder = self.directory.root().join("quarantine");
        fs.create_dir(&folder).at(&folder)?;
        let token = sys::hex(&sys::random_uuid().at(&folder)?);
        let name = format!(
            "{}.{}.{:08x}-{from}.{}.torn",
            self.config.stream,
            self.config.id,
            segment.ordinal,
            token.get(..8).unwrap_or_default(),
        );
        let path = folder.join(name);
        let copy = fs.open(&path, Open::CreateNew).at(&path)?;
        if let Err(error) = copy.write_at(&[&bytes], 0).and_then(|()| copy.sync_data()) {
            // Half a copy keeps nothing, and takes room where there is none.
            let _ = fs.remove(&path);
            return Err(Error::io(&path, error));
        }
        fs.sync_dir(&folder).at(&folder)
    }
}

fn stored_bytes(mark: &Control) -> u64 {
    (HEADER_BYTES + align8(mark.encode().len())) as u64
}

/// After everything was synced and nobody else has the log open: notes that no number was issued
/// beyond the log, so that the next opening needs neither a scan nor a new epoch.
pub(crate) fn close_cleanly(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
) -> Result<()> {
    let page = directory.control().page(config.page);
    if !page.is_of(config.owner())
        || page.state() != WriterState::Clean
        || page.is_removed()
        || page.reserved() == page.next_seq()
    {
        return Ok(());
    }
    let fs = directory.fs();
    let segments = Segments::new(Arc::clone(fs), folder.to_owned());
    let end = page.committed();
    let failed = |error: Error| fail_stop(directory, folder, &page, &error);
    if let Some(segment) = segments.get(end.segment)? {
        let synced = segment.open(fs)?.sync_data().at(segment.path());
        synced.map_err(failed)?;
    }
    page.after_sync(end, page.next_seq());
    // INVARIANT: the page never has more reserved than the disk. First down there, then here.
    page.set_reserved(page.next_seq());
    let state_file = StateFile::open(fs, &folder.join("state"))?;
    let noted = state_file.update(|state| {
        state.reserved = page.next_seq();
        // The recovery point of a closed shard stays before its CLOSE: see `ShardLog::close`.
        if !page.is_closed() {
            state.recovery_point = end;
            state.recovery_seq = page.next_seq();
            state.recovery_crc = page.last_crc();
            state.recovery_ts = page.max_ts();
        }
    });
    noted.map_err(failed).map(drop)
}
