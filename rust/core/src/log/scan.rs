//! Walks over the batches of a shard, checking everything, to find where they end.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::control::{Committed, End, Page};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::record_batch::{HeaderRead, Unknown, HEADER_BYTES, SUPPORTED};
use crate::format::{BatchHeader, Control, ShardState};
use crate::fs::{File, Fs};
use crate::types::{Micros, Position, SequenceNumber};

use super::segment::{Segment, Segments};
use super::SEGMENT_START;

/// Bytes looked at in one read.
pub(super) const CHUNK: usize = 1024 * 1024;

/// How far a walk over batches has come.
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
    pub(super) fn end(&self) -> End {
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

/// Why a walk has ended.
pub(super) enum Stop {
    /// Zeros or the end of the last segment.
    End,
    /// Bytes that are not the batch that follows.
    Invalid,
}

/// A file being walked over.
pub(super) struct Scan<'a> {
    segments: &'a Segments,
    fs: &'a Arc<dyn Fs>,
    file: Option<(Arc<Segment>, Arc<dyn File>, u64)>,
    start: u64,
    bytes: Vec<u8>,
    pub(super) synced: Synced,
    /// The segment of the recovery point. One behind it that is empty may be half made.
    pub(super) begun: u32,
}

/// Up to where the batches passed so far say that they were on disk.
#[derive(Debug, Default)]
pub(super) struct Synced {
    pub(super) end: End,
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
    pub(super) fn new(segments: &'a Segments, fs: &'a Arc<dyn Fs>) -> Self {
        let synced = Synced::default();
        Self { segments, fs, file: None, start: 0, bytes: Vec::new(), synced, begun: 0 }
    }

    /// Opens a segment; false if there is none of that ordinal.
    pub(super) fn open(&mut self, ordinal: u32) -> Result<bool> {
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

    pub(super) fn length(&self) -> u64 {
        self.file.as_ref().map_or(0, |(.., length)| *length)
    }

    pub(super) fn at(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
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

    /// Whether the place of a segment's first batch is empty.
    fn is_empty(&mut self, ordinal: u32) -> Result<bool> {
        self.open(ordinal)?;
        let head = self.at(SEGMENT_START, HEADER_BYTES)?;
        Ok(matches!(BatchHeader::decode(head), HeaderRead::Empty))
    }

    fn path(&self) -> PathBuf {
        self.file.as_ref().map(|(segment, ..)| segment.path().to_owned()).unwrap_or_default()
    }

    /// The batch at `offset`, if header and body are whole.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`]: what a newer version wrote is no damage.
    pub(super) fn batch(
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
    pub(super) fn is_whole(&mut self, offset: u64, header: &BatchHeader) -> Result<bool> {
        let body = self.at(offset + HEADER_BYTES as u64, header.body_len as usize)?;
        Ok(body.len() == header.body_len as usize && crc32c(body) == header.body_crc)
    }

    pub(super) fn unsupported(&self, unknown: Unknown) -> Error {
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
pub(super) fn walk(scan: &mut Scan<'_>, mut tail: Tail, mut chained: bool) -> Result<(Tail, Stop)> {
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
        // INVARIANT: a segment is synced before the next one is made.
        let is_followed = chained && is_empty && matches!(order, Some(Ordering::Equal));
        if is_followed && next > scan.begun && scan.is_empty(next)? {
            // Its maker died before the recovery point moved there: perhaps it has no header yet. The
            // next writer makes it anew.
            scan.synced.pass(&tail);
            scan.synced.raise(tail.next_seq);
            scan.open(tail.position.segment)?;
            return Ok((tail, Stop::End));
        }
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

/// The tail behind a batch that follows another one.
pub(super) fn after(tail: &Tail, header: &BatchHeader, crc: u32) -> Tail {
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

/// Where the log really ends: walks from the last batch that the page announces, or from the
/// recovery point if none was announced since the page was written.
pub(crate) fn walk_from_page(
    page: &Page<'_>,
    state: &ShardState,
    segments: &Segments,
    fs: &Arc<dyn Fs>,
) -> Result<Tail> {
    let mut scan = Scan::new(segments, fs);
    scan.begun = state.recovery_point.segment;
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

/// The recovery point as a tail.
pub(super) fn recovery_tail(state: &ShardState) -> Tail {
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
