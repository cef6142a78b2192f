//! Going on behind a damaged place: nothing is cut, and what was lost is said.

use crate::error::Result;
use crate::format::record_batch::{HeaderRead, HEADER_BYTES, MAGIC};
use crate::format::BatchHeader;
use crate::types::{Position, SequenceNumber};

use super::read::{Cursor, ReadBuffer};
use super::{ShardLog, SEGMENT_START};

/// A place behind damage, and the numbers that were given up to get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where reading goes on.
    pub cursor: Cursor,
    /// First sequence number lost.
    pub lost_from: SequenceNumber,
    /// The first number after the lost ones; equal to `lost_from` if none was.
    pub lost_to: SequenceNumber,
}

impl ShardLog {
    /// Finds the next whole record batch behind a cursor that [`ShardLog::read`] reports as damaged;
    /// the visible end if there is none.
    ///
    /// # Errors
    /// Errors of reading.
    pub fn skip_damage(&self, cursor: &Cursor) -> Result<Skipped> {
        self.directory.check()?;
        let mut buffer = ReadBuffer::default();
        let visible = self.page().visible();
        let mut position = cursor.position;
        if !self.is_before_gap(cursor, &mut buffer)? {
            position.offset += 8;
        }
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
                    if let Some(header) = self.whole_batch(&found, &mut buffer) {
                        let holds = cursor.is_searching() && header.next_seq() > cursor.next_seq;
                        if header.base_seq >= cursor.next_seq || holds {
                            let next_seq = header.base_seq.max(cursor.next_seq);
                            let found = Cursor::at(position, next_seq);
                            return Ok(Self::skipped(cursor, found));
                        }
                    }
                    position.offset += 8;
                }
            }
        }
        Ok(Self::skipped(cursor, Cursor::at(visible, self.visible_end().max(cursor.next_seq))))
    }

    /// Whether a whole batch lies at the cursor, and only numbers before it are missing.
    fn is_before_gap(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Result<bool> {
        Ok(self.open_segment(&Cursor::at(cursor.position, SequenceNumber::MAX), buffer)?
            && self.whole_batch(cursor, buffer).is_some_and(|found| cursor.is_before_gap(&found)))
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
            let range = buffer.fetch(offset, HEADER_BYTES, limit)?;
            match buffer.slice(range).get(..MAGIC.len()) {
                None => return Ok(None),
                Some(start) if start == MAGIC => return Ok(Some(offset)),
                Some(_) => offset += 8,
            }
        }
        Ok(None)
    }

    /// The header at a cursor, if the whole batch can be read.
    fn whole_batch(&self, cursor: &Cursor, buffer: &mut ReadBuffer) -> Option<BatchHeader> {
        let range = buffer.fetch(cursor.position.offset, HEADER_BYTES, u64::MAX).ok()?;
        match BatchHeader::decode(buffer.slice(range)) {
            HeaderRead::Valid(header, _) => {
                self.read_body(cursor, &header, buffer).ok().map(|_| header)
            }
            _ => None,
        }
    }
}
