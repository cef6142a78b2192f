//! Distinguishes a batch behind damage from a copy of a batch inside a record.
//!
//! A record may hold any bytes, even a piece of this very log. A reader that goes from batch to
//! batch never looks inside a batch. A search for the next whole batch meets everything that looks
//! like one. It accepts a batch only at the place where the batch was written.

use crate::format::record_batch::{HeaderRead, Unknown};
use crate::format::BatchHeader;
use crate::types::{Micros, Position, SequenceNumber};

/// What is known of the batches behind a damaged place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resync {
    /// The damaged place: where the batch after the last whole one belongs.
    pub(crate) at: Position,
    /// The first number that a batch may have.
    pub(crate) next_seq: SequenceNumber,
    /// Header checksum of the last whole batch; `None` if that is not known.
    pub(crate) prev_crc: Option<u32>,
    /// Its append time.
    pub(crate) max_ts: Micros,
    /// No number from here on was ever issued.
    pub(crate) reserved: SequenceNumber,
    /// The shard's.
    pub(crate) epoch: u32,
    /// The previous checksum of a batch that follows a copy.
    pub(crate) copy: Option<u32>,
}

/// What a search makes of the bytes at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Candidate {
    /// The header of a batch of the shard; its body was not checked.
    Ours(BatchHeader),
    /// The header of a batch that a newer version wrote there.
    Newer(Unknown),
    /// Nothing of the shard.
    Other,
}

impl Resync {
    /// The byte where the search begins, given the bytes at the damaged place: a header that is whole
    /// says where its batch ends, and what lies before is in its body.
    pub(crate) fn search_from(&self, head: &[u8]) -> u64 {
        match BatchHeader::decode(head) {
            HeaderRead::Valid(header, _)
                if header.record_count > 0
                    && header.is_at(self.at)
                    && self.prev_crc.is_none_or(|crc| crc == header.prev_header_crc) =>
            {
                self.at.offset + header.stored_bytes()
            }
            _ => self.at.offset + 8,
        }
    }

    /// What begins at a place, given the bytes there. The places must be asked in order.
    ///
    /// WHY the header alone decides: a record may be a list of headers, each of which claims all
    /// the rest.
    pub(crate) fn look(&mut self, place: Position, head: &[u8]) -> Candidate {
        match BatchHeader::decode(head) {
            HeaderRead::Valid(header, crc) if self.holds(place, &header, crc) => {
                Candidate::Ours(header)
            }
            // One that stands elsewhere is part of a record.
            HeaderRead::Unsupported(unknown) if BatchHeader::place_in(head) == Some(place) => {
                Candidate::Newer(unknown)
            }
            _ => Candidate::Other,
        }
    }

    /// Whether a header found at a place is of a batch of the shard there; `crc` is the header's.
    /// The places must be asked in order.
    pub(crate) fn holds(&mut self, place: Position, header: &BatchHeader, crc: u32) -> bool {
        let is_known = header.place != Position::default();
        // No record's body lies at the damaged place itself: there a batch ended.
        let stands =
            place == self.at || header.is_at(place) && (is_known || self.is_plausible(header));
        let is_ours = stands && header.base_seq >= self.next_seq;
        if !is_ours {
            self.copy = Some(header.chain_crc(crc));
        }
        is_ours
    }

    /// For a batch of a version that did not store its place: whether nothing contradicts it.
    fn is_plausible(&self, header: &BatchHeader) -> bool {
        let follows = |crc: Option<u32>| crc == Some(header.prev_header_crc);
        // What follows the last whole batch belongs at the damaged place and nowhere else.
        let is_moved = follows(self.prev_crc) && header.record_count > 0;
        let is_possible = header.next_seq() <= self.reserved
            && header.shard_epoch <= self.epoch
            && header.base_ts >= self.max_ts;
        is_possible && !is_moved && !follows(self.copy)
    }
}
