//! Telling a batch that lies behind damage from a copy of one inside of a record.
//!
//! A record may hold any bytes, even a piece of this very log. A reader that goes from batch to batch
//! never looks inside of a batch. A search for the next whole batch meets all bytes that look like one;
//! it may take only a batch that stands where it was written.

use crate::format::record_batch::{HeaderRead, Unknown};
use crate::format::BatchHeader;
use crate::types::{Micros, Position, SequenceNumber};

/// What is known of the batches behind a damaged place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resync {
    /// The damaged place: where the batch belongs that follows the last whole one.
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
    /// What a batch has as previous checksum that follows a copy.
    pub(crate) copy: Option<u32>,
}

/// What the bytes at a place are to a search.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Candidate {
    /// The header of a batch of the shard; its body was not looked at.
    Ours(BatchHeader),
    /// That of a batch that a newer version wrote there.
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

    /// What begins at a place, given the bytes there. To be asked in the order of the places.
    ///
    /// WHY by the header alone: a record may be nothing but headers of which each claims all the rest.
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

    /// Whether a header found at a place is of a batch of the shard there; `crc` is the header's. To be
    /// asked in the order of the places.
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

    /// Of a batch of a version that did not say where it stands: whether nothing speaks against it.
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
