//! The position of a reader, and which batch may come next there.

use crate::format::{BatchHeader, Control, DecodedBatch};
use crate::types::{Position, SequenceNumber};

use super::SEGMENT_START;

/// The position of a reader. A reader remembers a place by copying it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where the next batch begins.
    pub position: Position,
    /// The next sequence number wanted; it may lie inside that batch.
    pub next_seq: SequenceNumber,
    /// What the next batch has to follow; `None` where the reader started.
    chain: Option<Chain>,
}

/// The end of the batch before a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    /// Its header checksum.
    crc: u32,
    /// The number after its last.
    next_seq: SequenceNumber,
}

impl Cursor {
    pub(super) fn at(position: Position, next_seq: SequenceNumber) -> Self {
        Self { position, next_seq, chain: None }
    }

    pub(super) fn after(self, header: &BatchHeader, crc: u32) -> Self {
        let offset = self.position.offset + header.stored_bytes();
        Self {
            position: Position { offset, ..self.position },
            next_seq: header.next_seq().max(self.next_seq),
            chain: Some(Chain { crc: header.chain_crc(crc), next_seq: header.next_seq() }),
        }
    }

    pub(super) fn in_next_segment(self) -> Self {
        let position = Position { segment: self.position.segment + 1, offset: SEGMENT_START };
        Self { position, ..self }
    }

    /// The same place, with no condition on the chain of the next batch.
    pub(super) fn unchained(self) -> Self {
        Self { chain: None, ..self }
    }

    /// The lowest number the next batch may begin with, as far as is known here.
    pub(super) fn expected(&self) -> SequenceNumber {
        self.chain.map_or(self.next_seq, |chain| chain.next_seq)
    }

    pub(super) fn is_chained_by(&self, header: &BatchHeader) -> bool {
        self.chain.is_none_or(|chain| chain.crc == header.prev_header_crc)
    }

    /// Whether a batch may come next: it continues the chain and has the next number. Only an EPOCH
    /// may jump; whether a control batch is an EPOCH shows when its body is read.
    pub(super) fn is_followed_by(&self, header: &BatchHeader) -> bool {
        let is_in_order = match self.chain {
            Some(chain) => header.base_seq >= chain.next_seq,
            None => true,
        };
        let is_jump = header.base_seq > self.expected();
        self.is_chained_by(header) && is_in_order && (!is_jump || header.is_control)
    }

    /// Header checksum of the batch before, if the reader has seen it.
    pub(super) fn chain_crc(&self) -> Option<u32> {
        self.chain.map(|chain| chain.crc)
    }

    /// Whether it was put at a number that has yet to be found, and that may lie inside a batch.
    pub(super) fn is_searching(&self) -> bool {
        self.chain.is_none_or(|chain| chain.next_seq < self.next_seq)
    }

    /// Whether a batch comes next in the chain, but numbers before it are missing.
    pub(super) fn is_before_gap(&self, header: &BatchHeader) -> bool {
        self.is_chained_by(header) && header.base_seq > self.expected()
    }

    /// Whether a batch comes next, but numbers before it are missing without a mark.
    pub(super) fn is_behind_loss(&self, batch: &DecodedBatch) -> bool {
        numbers_before(batch) > self.expected()
    }
}

/// The end of the numbers that were in the log before a batch. An EPOCH jumps, and says which
/// number was expected when it was written. How far an unknown kind jumps is not known here.
pub(super) fn numbers_before(batch: &DecodedBatch) -> SequenceNumber {
    match batch.control() {
        Some(Control::Epoch { .. }) => batch.header().durable_end,
        Some(Control::Unknown { .. }) => 0,
        _ => batch.base_seq(),
    }
}

/// What is at a cursor.
pub(super) enum Next {
    /// A valid batch header.
    Batch(BatchHeader, u32),
    /// Nothing yet.
    End,
    /// The end of this segment; reading continues here, in the next one.
    Segment(Cursor),
}
