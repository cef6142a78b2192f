//! Continues behind a damaged place: nothing is cut, and the lost numbers are reported.

use crate::error::{Error, Result};
use crate::format::record_batch::{HeaderRead, HEADER_BYTES, MAGIC};
use crate::format::{BatchHeader, DecodedBatch};
use crate::types::{Position, SequenceNumber};

use super::cursor::{numbers_before, Cursor, Next};
use super::read_buffer::ReadBuffer;
use super::resync::{Candidate, Resync};
use super::{ShardLog, SEGMENT_START};

/// A place behind damage, and the numbers that are given up to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where reading continues.
    pub cursor: Cursor,
    /// First sequence number lost.
    pub lost_from: SequenceNumber,
    /// The first number after the lost ones; equal to `lost_from` if none was.
    pub lost_to: SequenceNumber,
}

impl Skipped {
    /// Whether any number was given up.
    pub fn is_loss(&self) -> bool {
        self.lost_from < self.lost_to
    }
}

impl ShardLog {
    /// Finds the next whole record batch behind the damage that [`ShardLog::read`] meets at a cursor;
    /// the visible end if there is none. Where nothing is damaged the cursor stays as it is.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn skip_damage(&self, cursor: &Cursor) -> Result<Skipped> {
        self.directory.check()?;
        let mut buffer = ReadBuffer::default();
        let visible = self.page().visible();
        let Some((damaged, mut position)) = self.search_from(cursor, &mut buffer)? else {
            return Ok(Self::skipped(cursor, *cursor));
        };
        let mut resync = self.resync(&damaged);
        while position < visible {
            let limit = if position.segment == visible.segment { visible.offset } else { u64::MAX };
            match self.next_magic(position, limit, &mut buffer)? {
                None if position.segment == visible.segment => break,
                None => {
                    position = Position { segment: position.segment + 1, offset: SEGMENT_START }
                }
                Some(offset) => {
                    position.offset = offset;
                    let found = Cursor::at(position, cursor.next_seq);
                    let Some(header) = Self::header_of(position, &mut resync, &mut buffer) else {
                        position.offset += 8;
                        continue;
                    };
                    let whole = self.read_body(&found, &header, &mut buffer).ok();
                    if whole.is_none() && header.place != position {
                        position.offset += 8;
                        continue;
                    }
                    if let Some(batch) = whole {
                        let is_known = batch.next_seq() <= self.visible_end();
                        let holds = cursor.is_searching() && batch.next_seq() > cursor.next_seq;
                        if is_known && (batch.base_seq() >= cursor.next_seq || holds) {
                            // Numbers that EPOCH jumps over were never in the log.
                            let next_seq = numbers_before(&batch).max(cursor.next_seq);
                            return Ok(Self::skipped(cursor, Cursor::at(position, next_seq)));
                        }
                    }
                    // What looks like a batch inside of it is part of a record.
                    position.offset += header.stored_bytes();
                }
            }
        }
        Ok(Self::skipped(cursor, Cursor::at(visible, self.visible_end().max(cursor.next_seq))))
    }

    /// What is known of the batches behind the damage that a cursor has met.
    fn resync(&self, damaged: &Cursor) -> Resync {
        let (page, is_searching) = (self.page(), damaged.is_searching());
        Resync {
            at: damaged.position,
            next_seq: if is_searching { 0 } else { damaged.next_seq },
            prev_crc: damaged.chain_crc(),
            max_ts: 0,
            reserved: page.reserved(),
            epoch: page.epoch(),
            copy: None,
        }
    }

    /// The cursor in front of the damage, and where the search for a whole batch begins; `None` if
    /// reading at the cursor meets no damage.
    fn search_from(
        &self,
        cursor: &Cursor,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<(Cursor, Position)>> {
        let mut cursor = *cursor;
        loop {
            match self.next_header(&cursor, buffer) {
                Ok(Next::End) => return Ok(None),
                Ok(Next::Segment(start)) => cursor = start,
                Ok(Next::Batch(header, crc)) => {
                    let after = cursor.after(&header, crc);
                    if header.record_count == 0 || header.next_seq() <= cursor.next_seq {
                        cursor = after;
                        continue;
                    }
                    return match self.read_body(&cursor, &header, buffer) {
                        Ok(batch) => {
                            Ok(cursor.is_behind_loss(&batch).then_some((cursor, cursor.position)))
                        }
                        // The header is whole: it says where the next batch begins.
                        Err(Error::Corruption { .. }) => Ok(Some((cursor, after.position))),
                        Err(error) => Err(error),
                    };
                }
                Err(Error::Corruption { .. }) => {
                    let from = self.search_behind(&cursor, buffer)?;
                    return Ok(Some((cursor, from)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Self::search_from`], where no header could come next: a whole batch may lie there, with
    /// only the numbers before it missing.
    fn search_behind(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Result<Position> {
        let position = cursor.position;
        let is_whole = self.open_segment(&Cursor::at(position, SequenceNumber::MAX), buffer)?
            && self
                .whole_batch(cursor, buffer)
                .is_some_and(|batch| cursor.is_before_gap(batch.header()));
        Ok(if is_whole { position } else { Position { offset: position.offset + 8, ..position } })
    }

    fn skipped(from: &Cursor, cursor: Cursor) -> Skipped {
        Skipped { cursor, lost_from: from.next_seq, lost_to: cursor.next_seq }
    }

    /// The next place in the segment that begins as a batch does.
    fn next_magic(
        &self,
        from: Position,
        limit: u64,
        buffer: &mut ReadBuffer,
    ) -> Result<Option<u64>> {
        if !self.open_segment(&Cursor::at(from, SequenceNumber::MAX), buffer)? {
            return Ok(None);
        }
        let mut offset = from.offset;
        while offset < limit {
            let Some(range) = buffer.fetch(offset, HEADER_BYTES, limit)? else { return Ok(None) };
            match buffer.slice(range).get(..MAGIC.len()) {
                None => return Ok(None),
                Some(start) if start == MAGIC => return Ok(Some(offset)),
                Some(_) => offset += 8,
            }
        }
        Ok(None)
    }

    /// The header at a place, if it is that of a batch of the shard.
    fn header_of(
        place: Position,
        resync: &mut Resync,
        buffer: &mut ReadBuffer,
    ) -> Option<BatchHeader> {
        let range = buffer.fetch(place.offset, HEADER_BYTES, u64::MAX).ok()??;
        match resync.look(place, buffer.slice(range)) {
            Candidate::Ours(header) => Some(header),
            Candidate::Newer(_) | Candidate::Other => None,
        }
    }

    /// The batch at a cursor, if all of it can be read.
    fn whole_batch(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Option<DecodedBatch> {
        let range = buffer.fetch(cursor.position.offset, HEADER_BYTES, u64::MAX).ok()??;
        match BatchHeader::decode(buffer.slice(range)) {
            HeaderRead::Valid(header, _) => self.read_body(cursor, &header, buffer).ok(),
            _ => None,
        }
    }
}
