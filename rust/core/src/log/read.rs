//! Reading a shard: batch after batch, each verified by its checksums and its chain.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::body::UNKNOWN_SECTION;
use crate::format::checksum::crc32c;
use crate::format::compression::{self, decompress};
use crate::format::record_batch::{HeaderRead, HEADER_BYTES, SUPPORTED};
use crate::format::{BatchHeader, Damage, DecodedBatch, SharedBytes};
use crate::types::{Micros, Position, SequenceNumber, Start};

use super::cursor::{numbers_before, Cursor, Next};
use super::damage::Skipped;
use super::read_buffer::ReadBuffer;
use super::segment::Segment;
use super::{ShardLog, SEGMENT_START};

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
                let mut cursor = self.cursor_before(time)?;
                let is_before =
                    |next: Option<&BatchHeader>| next.is_some_and(|next| next.base_ts < time);
                self.skip_headers(&mut cursor, |header| header.max_ts < time, is_before)?;
                Ok(cursor)
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
        // Between the horizon and the first segment there is nothing, or a file is missing.
        Ok(Cursor::at(position, horizon))
    }

    /// A place before the first record appended at or after `time`, and not far from it.
    fn cursor_before(&self, time: Micros) -> Result<Cursor> {
        let first = self.first_cursor()?;
        let visible = self.page().visible();
        let mut segments = self.segments.list()?;
        segments.retain(|segment| {
            (first.position.segment..=visible.segment).contains(&segment.ordinal)
        });
        // Times rise: all records before a batch that is older are older. A segment whose first batch
        // cannot be read does not count as older, which only costs reading.
        let is_older = |segment: &Arc<Segment>| matches!(self.first_batch_time(segment), Ok(Some(begun)) if begun < time);
        let older = segments.partition_point(is_older);
        let Some(segment) = older.checked_sub(1).and_then(|last| segments.get(last)) else {
            return Ok(first);
        };
        let start = Position { segment: segment.ordinal, offset: SEGMENT_START };
        let (position, base_seq) = self
            .indexed_place(segment, |entry| entry.max_ts < time)
            .unwrap_or((start, segment.base_seq));
        Ok(Cursor::at(position, base_seq.max(first.next_seq)))
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
        let start = Position { segment: segment.ordinal, offset: SEGMENT_START };
        let indexed = self.indexed_place(segment, |entry| entry.base_seq <= seq);
        let mut cursor = Cursor::at(indexed.map_or(start, |(position, _)| position), seq);
        let end = self.visible_end();
        let is_before = |next: Option<&BatchHeader>| next.map_or(end, |next| next.base_seq) <= seq;
        self.skip_headers(&mut cursor, |header| header.next_seq() <= seq, is_before)?;
        Ok(cursor)
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

    /// Moves a cursor to the first batch that must not be skipped. Damage is stepped over too, if
    /// what follows it (`None`: the visible end) `is_before` the wanted place. Otherwise the cursor
    /// stays in front of the damage, so that reading reports the loss.
    fn skip_headers(
        &self,
        cursor: &mut Cursor,
        skip: impl Fn(&BatchHeader) -> bool,
        is_before: impl Fn(Option<&BatchHeader>) -> bool,
    ) -> Result<()> {
        let mut buffer = ReadBuffer::default();
        loop {
            match self.next_header(cursor, &mut buffer) {
                Ok(Next::Batch(header, crc)) if skip(&header) => {
                    *cursor = cursor.after(&header, crc);
                }
                Ok(Next::Batch(..) | Next::End) => return Ok(()),
                Ok(Next::Segment(start)) => *cursor = start,
                Err(Error::Corruption { .. }) => {
                    let behind = self.skip_damage(cursor)?.cursor;
                    let next = match self.next_header(&behind, &mut ReadBuffer::default())? {
                        Next::Batch(header, _) => Some(header),
                        Next::End | Next::Segment(_) => None,
                    };
                    if !is_before(next.as_ref()) {
                        return Ok(());
                    }
                    *cursor = behind;
                }
                Err(error) => return Err(error),
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
        self.read_batch(*cursor, buffer).map_err(|error| self.with_numbers(error, cursor))
    }

    fn read_batch(
        &self,
        mut cursor: Cursor,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<(Arc<DecodedBatch>, Cursor)>> {
        loop {
            match self.next_header(&cursor, buffer)? {
                Next::End => return Ok(None),
                Next::Segment(start) => cursor = start,
                Next::Batch(header, crc) => {
                    let after = cursor.after(&header, crc);
                    if header.record_count == 0 || header.next_seq() <= cursor.next_seq {
                        cursor = after;
                        continue;
                    }
                    let batch = self.read_body(&cursor, &header, buffer)?;
                    if cursor.is_behind_loss(&batch) {
                        return Err(self.gap(&cursor, numbers_before(&batch)));
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
        let range = loop {
            if !self.open_segment(cursor, buffer)? {
                return self.pass_missing(cursor);
            }
            if let Some(range) = buffer.fetch(position.offset, HEADER_BYTES, limit)? {
                break range;
            }
            // The segment was removed since it was opened: whether anything is lost is seen by opening it.
        };
        let found = BatchHeader::decode(buffer.slice(range));
        if let HeaderRead::Valid(header, crc) = found {
            if cursor.is_followed_by(&header) {
                return Ok(Next::Batch(header, crc));
            }
        }
        if is_last {
            return Err(self.misfit(cursor, found, self.visible_end()));
        }
        // INVARIANT: a closed segment ends where the numbers of the next one begin. What lies behind
        // is its index, whole or not, or nothing; before that, nothing may be missing.
        match self.segments.open(position.segment + 1)? {
            None => Ok(Next::Segment(cursor.in_next_segment())),
            Some((next, _)) if cursor.expected() >= next.base_seq => {
                Ok(Next::Segment(cursor.in_next_segment()))
            }
            Some((next, _)) => Err(self.misfit(cursor, found, next.base_seq)),
        }
    }

    /// The error for a place where the next batch belongs; numbers below `end` lie behind it.
    fn misfit(&self, cursor: &Cursor, found: HeaderRead, end: SequenceNumber) -> Error {
        match found {
            HeaderRead::Valid(header, _) if cursor.is_before_gap(&header) => {
                self.gap(cursor, header.base_seq)
            }
            HeaderRead::Valid(header, _) => {
                self.damaged(cursor, &header, "it does not follow the batch before it".into())
            }
            HeaderRead::Empty => self.lost(cursor, end, "zeros where a batch belongs".into()),
            HeaderRead::Damaged(damage) => {
                self.damaged(cursor, &BatchHeader::default(), damage.to_string())
            }
            HeaderRead::Unsupported(unknown) => Error::UnsupportedFormat {
                path: self.path_of(cursor.position.segment),
                found: unknown.to_string(),
                supported: SUPPORTED.into(),
            },
        }
    }

    /// Steps over a missing segment, if the cursor wants nothing that was in it.
    fn pass_missing(&self, cursor: &Cursor) -> Result<Next> {
        let ordinal = cursor.position.segment;
        let segments = self.segments.list()?;
        let next = segments.iter().find(|segment| segment.ordinal > ordinal);
        let end = next.map_or(self.visible_end(), |next| next.base_seq);
        if end > cursor.next_seq {
            let reason = format!("segment {ordinal:08x} is missing");
            return Err(self.lost(cursor, end, reason));
        }
        // What comes next may follow a batch that the cursor has not seen.
        Ok(Next::Segment(cursor.in_next_segment().unchained()))
    }

    /// Opens the segment of a cursor; false if it is gone and retention took nothing that the
    /// cursor wants.
    pub(super) fn open_segment(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Result<bool> {
        let ordinal = cursor.position.segment;
        if buffer.segment() == Some(ordinal) {
            return Ok(true);
        }
        let opened = self.segments.open(ordinal)?;
        let Some(opened) = opened else { return self.check_kept(cursor).map(|()| false) };
        buffer.turn_to(self.kept_files.keep(opened));
        Ok(true)
    }

    /// `Ok` if retention has taken nothing that a cursor has yet to read.
    fn check_kept(&self, cursor: &Cursor) -> Result<()> {
        let horizon = self.trim_horizon()?;
        match cursor.next_seq {
            seen if seen >= horizon => Ok(()),
            lost_from => Err(Error::SequenceTrimmed { lost_from, lost_to: horizon - 1 }),
        }
    }

    pub(super) fn read_body(
        &self,
        cursor: &Cursor,
        header: &BatchHeader,
        buffer: &mut ReadBuffer,
    ) -> Result<DecodedBatch> {
        let length = header.body_len as usize;
        // WHY: bytes behind the visible end may be half of a batch that is cut and written again.
        let visible = self.page().visible();
        let is_last = cursor.position.segment == visible.segment;
        let limit = if is_last { visible.offset } else { u64::MAX };
        // WHY with its header: a buffer begins with a batch.
        let range = buffer.fetch(cursor.position.offset, HEADER_BYTES + length, limit)?;
        let Some(range) = range else { return Err(self.removed(cursor, header)) };
        let range = (range.start + HEADER_BYTES).min(range.end)..range.end;
        let stored = buffer.slice(range.clone());
        if stored.len() < length || crc32c(stored) != header.body_crc {
            return Err(self.damaged(cursor, header, "the body's checksum does not match".into()));
        }
        let body = match header.codec {
            compression::NONE => {
                SharedBytes::new(buffer.shared(), range).expect("it was just read")
            }
            codec => decompress(codec, stored, header.raw_len)
                .map(SharedBytes::whole)
                .map_err(|Damage(reason)| self.damaged(cursor, header, reason.into()))?,
        };
        DecodedBatch::new(*header, cursor.position, Arc::clone(self.stream()), self.id(), body)
            .map_err(|damage| match damage {
                UNKNOWN_SECTION => Error::UnsupportedFormat {
                    path: self.path_of(cursor.position.segment),
                    found: "a section that only a newer version knows".into(),
                    supported: SUPPORTED.into(),
                },
                Damage(reason) => self.damaged(cursor, header, reason.into()),
            })
    }

    /// The error for a batch whose segment was removed before its body was read.
    fn removed(&self, cursor: &Cursor, header: &BatchHeader) -> Error {
        let exists = self.page().check_exists(&self.folder);
        match exists.and_then(|()| self.check_kept(cursor)) {
            Err(error) => error,
            Ok(()) => self.damaged(cursor, header, "its segment was removed".into()),
        }
    }

    fn path_of(&self, ordinal: u32) -> std::path::PathBuf {
        match self.segments.get(ordinal) {
            Ok(Some(segment)) => segment.path().to_owned(),
            _ => self.folder.clone(),
        }
    }

    /// Adds to an error about damage which numbers a reader at `cursor` cannot get.
    fn with_numbers(&self, error: Error, cursor: &Cursor) -> Error {
        let Error::Corruption { path, position, reason, .. } = error else { return error };
        let lost = self.skip_damage(cursor).ok().filter(Skipped::is_loss);
        let (first, end) = lost.map_or((cursor.next_seq, 0), |s| (s.lost_from, s.lost_to));
        Error::Corruption { path, position, first, last: end.saturating_sub(1).max(first), reason }
    }

    fn damaged(&self, cursor: &Cursor, header: &BatchHeader, reason: String) -> Error {
        self.lost(cursor, header.next_seq(), reason)
    }

    /// Numbers are missing before a batch that begins with `base_seq`.
    fn gap(&self, cursor: &Cursor, base_seq: SequenceNumber) -> Error {
        let reason = format!("number {base_seq} follows {} without a mark", cursor.expected());
        self.lost(cursor, base_seq, reason)
    }

    /// The error for wanted numbers below `end` that cannot be read.
    fn lost(&self, cursor: &Cursor, end: SequenceNumber, reason: String) -> Error {
        let first = cursor.next_seq;
        Error::Corruption {
            path: self.path_of(cursor.position.segment),
            position: cursor.position.offset,
            first,
            last: end.saturating_sub(1).max(first),
            reason,
        }
    }
}
