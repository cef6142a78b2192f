//! Reading a shard: batch after batch, each verified by its checksums and its chain.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::compression::decompress;
use crate::format::record_batch::{HeaderRead, HEADER_BYTES};
use crate::format::{BatchHeader, Damage, DecodedBatch, SharedBytes};
use crate::fs::File;
use crate::types::{Position, SequenceNumber, Start};

use super::segment::Segment;
use super::{ShardLog, SEGMENT_START};

/// Bytes read ahead at once.
const READ_AHEAD: usize = 512 * 1024;

/// Where a reader is. Copying it is how a reader remembers a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next batch begins.
    pub position: Position,
    /// The next sequence number wanted; it may lie inside that batch.
    pub next_seq: SequenceNumber,
    /// The checksum the next batch must chain to; `None` where the reader started.
    prev_crc: Option<u32>,
}

impl Cursor {
    pub(super) fn at(position: Position, next_seq: SequenceNumber) -> Self {
        Self { position, next_seq, prev_crc: None }
    }

    pub(super) fn after(self, header: &BatchHeader, crc: u32) -> Self {
        let offset = self.position.offset + header.stored_bytes();
        Self {
            position: Position { offset, ..self.position },
            next_seq: header.next_seq().max(self.next_seq),
            prev_crc: Some(crc),
        }
    }

    fn in_next_segment(self) -> Self {
        let position = Position { segment: self.position.segment + 1, offset: SEGMENT_START };
        Self { position, ..self }
    }
}

/// The read-ahead of one reader of one shard.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    file: Option<(u32, Arc<Segment>, Arc<dyn File>)>,
    start: u64,
    bytes: Arc<Vec<u8>>,
}

impl ReadBuffer {
    /// `length` bytes at `offset`, fewer where the file or `limit` ends.
    pub(super) fn fetch(&mut self, offset: u64, length: usize, limit: u64) -> Result<Range<usize>> {
        let Some((_, segment, file)) = &self.file else { return Ok(0..0) };
        let in_buffer = |start: u64, bytes: &Vec<u8>| {
            let from = usize::try_from(offset.checked_sub(start)?).ok()?;
            (from + length <= bytes.len()).then_some(from..from + length)
        };
        if let Some(range) = in_buffer(self.start, &self.bytes) {
            return Ok(range);
        }
        let most = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = length.max(READ_AHEAD).min(most);
        let mut bytes = match Arc::get_mut(&mut self.bytes) {
            Some(own) => std::mem::take(own),
            None => Vec::new(),
        };
        bytes.resize(want, 0);
        let got = file.read_at(&mut bytes, offset).at(segment.path())?;
        bytes.truncate(got);
        self.start = offset;
        self.bytes = Arc::new(bytes);
        Ok(0..length.min(got))
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }
}

/// What is at a cursor.
pub(super) enum Next {
    /// A valid batch header.
    Batch(BatchHeader, u32),
    /// Nothing yet.
    End,
    /// This segment is read; the next one goes on.
    Segment,
}

impl ShardLog {
    /// Where reading from `start` begins. May read the headers of one segment.
    ///
    /// # Errors
    /// [`Error::SequenceTrimmed`] if that is no longer kept; errors of reading.
    pub fn cursor(&self, start: Start) -> Result<Cursor> {
        self.directory.check()?;
        match start {
            Start::TrimHorizon => self.first_cursor(),
            Start::Latest => self.cursor_at(self.visible_end()),
            Start::AtSequence(seq) => self.cursor_at(seq),
            Start::AtTimestamp(time) => {
                let cursor = self.first_cursor()?;
                self.skip_headers(cursor, |header| header.max_ts < time)
            }
        }
    }

    /// As [`ShardLog::cursor`] for a sequence number, trying `hint` first: the place where the batch
    /// with that number, or the one after it, was seen to begin.
    ///
    /// # Errors
    /// As [`ShardLog::cursor`].
    pub fn cursor_hint(&self, seq: SequenceNumber, hint: Position) -> Result<Cursor> {
        self.directory.check()?;
        let visible = self.page().visible();
        if hint.offset >= SEGMENT_START && hint <= visible {
            let cursor = Cursor::at(hint, seq);
            let mut buffer = ReadBuffer::default();
            // An index is a cache: what it points to has to prove itself.
            match self.next_header(&cursor, &mut buffer) {
                Ok(Next::Batch(header, _)) if header.base_seq <= seq && seq < header.next_seq() => {
                    return Ok(cursor);
                }
                // The usual place of a lane: it has read everything.
                Ok(Next::End) if hint == visible && seq >= self.visible_end() => return Ok(cursor),
                _ => {}
            }
        }
        self.cursor_at(seq)
    }

    fn first_cursor(&self) -> Result<Cursor> {
        let segments = self.segments.list()?;
        let horizon = self.trim_horizon()?;
        // WHY not the first file: retention that was cut off may have left some below the horizon,
        // with gaps between them.
        let holds = |segment: &&Arc<Segment>| segment.base_seq <= horizon;
        let first = segments.iter().rev().find(holds).or(segments.first());
        let first = first.ok_or_else(|| self.no_segments())?;
        let position = Position { segment: first.ordinal, offset: SEGMENT_START };
        Ok(Cursor::at(position, first.base_seq.max(horizon)))
    }

    fn cursor_at(&self, seq: SequenceNumber) -> Result<Cursor> {
        let segments = self.segments.list()?;
        let horizon = self.trim_horizon()?;
        if seq < horizon {
            return Err(Error::SequenceTrimmed { lost_from: seq, lost_to: horizon - 1 });
        }
        let visible = self.page().visible();
        let holds =
            |segment: &&Arc<Segment>| segment.base_seq <= seq && segment.ordinal <= visible.segment;
        let segment = segments.iter().rev().find(holds).or(segments.first());
        let segment = segment.ok_or_else(|| self.no_segments())?;
        let position = Position { segment: segment.ordinal, offset: SEGMENT_START };
        let cursor = Cursor::at(position, segment.base_seq);
        let found = self.skip_headers(cursor, |header| header.next_seq() <= seq)?;
        Ok(Cursor { next_seq: seq, ..found })
    }

    fn no_segments(&self) -> Error {
        Error::Corruption {
            path: self.folder.clone(),
            position: 0,
            first: 0,
            last: 0,
            reason: "the shard has no segment file".into(),
        }
    }

    fn skip_headers(
        &self,
        mut cursor: Cursor,
        skip: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Cursor> {
        let mut buffer = ReadBuffer::default();
        loop {
            match self.next_header(&cursor, &mut buffer)? {
                Next::Batch(header, crc) if skip(&header) => cursor = cursor.after(&header, crc),
                Next::Batch(..) | Next::End => return Ok(cursor),
                Next::Segment => cursor = cursor.in_next_segment(),
            }
        }
    }

    /// The batch at a cursor, verified and decompressed, and the cursor after it. `None` at the
    /// visible end. Batches that lie wholly before `next_seq` are stepped over.
    ///
    /// # Errors
    /// [`Error::SequenceTrimmed`] if retention was faster than the reader; [`Error::Corruption`];
    /// [`Error::UnsupportedFormat`]; errors of reading.
    pub fn read(
        &self,
        cursor: &Cursor,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<(Arc<DecodedBatch>, Cursor)>> {
        self.directory.check()?;
        let mut cursor = *cursor;
        loop {
            match self.next_header(&cursor, buffer)? {
                Next::End => return Ok(None),
                Next::Segment => cursor = cursor.in_next_segment(),
                Next::Batch(header, crc) => {
                    let after = cursor.after(&header, crc);
                    if header.record_count == 0 || header.next_seq() <= cursor.next_seq {
                        cursor = after;
                        continue;
                    }
                    let batch = self.read_body(&cursor, &header, buffer)?;
                    let is_jump = header.base_seq > cursor.next_seq;
                    if is_jump && cursor.prev_crc.is_some() && batch.control().is_none() {
                        let reason =
                            format!("number {} follows {}", header.base_seq, cursor.next_seq);
                        return Err(self.damaged(&cursor, &header, reason));
                    }
                    return Ok(Some((Arc::new(batch), after)));
                }
            }
        }
    }

    pub(super) fn next_header(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Result<Next> {
        self.page().check_exists(&self.folder)?;
        let visible = self.page().visible();
        let position = cursor.position;
        if position >= visible {
            return Ok(Next::End);
        }
        let is_last = position.segment == visible.segment;
        let limit = if is_last { visible.offset } else { u64::MAX };
        if !self.open_segment(cursor, buffer)? {
            return Ok(Next::Segment);
        }
        let range = buffer.fetch(position.offset, HEADER_BYTES, limit)?;
        match BatchHeader::decode(buffer.slice(range)) {
            HeaderRead::Valid(header, crc) => {
                // SEAL stands outside the chain of the next segment; it has no records.
                if cursor.prev_crc.is_some_and(|prev| prev != header.prev_header_crc) {
                    let reason = "it does not follow the batch before it".to_owned();
                    return Err(self.damaged(cursor, &header, reason));
                }
                Ok(Next::Batch(header, crc))
            }
            HeaderRead::Empty if !is_last => Ok(Next::Segment),
            HeaderRead::Empty => Err(self.damaged(
                cursor,
                &BatchHeader::default(),
                "zeros in the visible part".into(),
            )),
            HeaderRead::Damaged(damage) => {
                Err(self.damaged(cursor, &BatchHeader::default(), damage.to_string()))
            }
            HeaderRead::Unsupported(flags) => Err(Error::UnsupportedFormat {
                path: self.path_of(position.segment),
                found: format!("a record batch with flags {flags:#06x}"),
                supported: "codecs none and zstd, no encryption".into(),
            }),
        }
    }

    /// Opens the segment a cursor is in; false if it is gone and the cursor had read all of it.
    pub(super) fn open_segment(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Result<bool> {
        let ordinal = cursor.position.segment;
        if buffer.file.as_ref().is_some_and(|(open, ..)| *open == ordinal) {
            return Ok(true);
        }
        let opened = self.segments.open(ordinal)?;
        let Some((segment, file)) = opened else {
            let horizon = self.trim_horizon()?;
            return match cursor.next_seq {
                seen if seen >= horizon => Ok(false),
                lost_from => Err(Error::SequenceTrimmed { lost_from, lost_to: horizon - 1 }),
            };
        };
        *buffer = ReadBuffer { file: Some((ordinal, segment, file)), ..ReadBuffer::default() };
        Ok(true)
    }

    pub(super) fn read_body(
        &self,
        cursor: &Cursor,
        header: &BatchHeader,
        buffer: &mut ReadBuffer,
    ) -> Result<DecodedBatch> {
        let at = cursor.position.offset + HEADER_BYTES as u64;
        let length = header.body_len as usize;
        // WHY: bytes behind the visible end may be half of a batch that is cut and written again.
        let visible = self.page().visible();
        let is_last = cursor.position.segment == visible.segment;
        let limit = if is_last { visible.offset } else { u64::MAX };
        let range = buffer.fetch(at, length, limit)?;
        let stored = buffer.slice(range.clone());
        if stored.len() < length || crc32c(stored) != header.body_crc {
            return Err(self.damaged(cursor, header, "the body's checksum does not match".into()));
        }
        let body = match header.codec {
            0 => SharedBytes::new(Arc::clone(&buffer.bytes), range).expect("it was just read"),
            _ => decompress(stored, header.raw_len)
                .map(SharedBytes::whole)
                .map_err(|Damage(reason)| self.damaged(cursor, header, reason.into()))?,
        };
        DecodedBatch::new(*header, cursor.position, Arc::clone(self.stream()), self.id(), body)
            .map_err(|Damage(reason)| self.damaged(cursor, header, reason.into()))
    }

    fn path_of(&self, ordinal: u32) -> std::path::PathBuf {
        match self.segments.get(ordinal) {
            Ok(Some(segment)) => segment.path().to_owned(),
            _ => self.folder.clone(),
        }
    }

    fn damaged(&self, cursor: &Cursor, header: &BatchHeader, reason: String) -> Error {
        let first = cursor.next_seq;
        Error::Corruption {
            path: self.path_of(cursor.position.segment),
            position: cursor.position.offset,
            first,
            last: header.next_seq().saturating_sub(1).max(first),
            reason,
        }
    }
}
