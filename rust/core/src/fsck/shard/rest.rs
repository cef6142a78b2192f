//! What lies where the next batch belongs and is not a batch: a torn end, or damage.

use super::{ShardWalk, NUMBERS_MISSING};
use crate::error::Result;
use crate::format::record_batch::HEADER_BYTES;
use crate::fsck::finding::Kind;
use crate::fsck::segment_bytes::{FoundBatch, SegmentBytes};
use crate::log::{Resync, SEGMENT_START};
use crate::types::{Position, SequenceNumber};

impl ShardWalk<'_, '_, '_> {
    /// Whether a damaged place at the end is what an unclean stop leaves: nothing says that it was
    /// ever on disk.
    pub(super) fn is_torn(&mut self, bytes: &mut SegmentBytes) -> Result<bool> {
        let state = self.facts.state.unwrap_or_default();
        let committed = self.place.page.map_or(Position::default(), |page| page.committed);
        if self.at.at < state.recovery_point || self.at.at < committed {
            return Ok(false);
        }
        let (mut resync, from) = self.search(bytes)?;
        Ok(Self::next_proof(bytes, from, &mut resync, self.at.next_seq)?.is_none())
    }

    /// Of the batches behind the place of the walk, the one that says most of what was on disk there.
    fn last_proof(&self, bytes: &mut SegmentBytes) -> Result<Option<FoundBatch>> {
        let (mut resync, mut from) = self.search(bytes)?;
        let (mut synced, mut last) = (self.at.next_seq, None);
        while let Some(found) = Self::next_proof(bytes, from, &mut resync, synced)? {
            (from, synced, last) = (found.end(), found.header.durable_end, Some(found));
        }
        Ok(last)
    }

    /// The next batch that says that more than the numbers below `synced` were on disk.
    fn next_proof(
        bytes: &mut SegmentBytes,
        mut from: u64,
        resync: &mut Resync,
        synced: SequenceNumber,
    ) -> Result<Option<FoundBatch>> {
        while let Some(found) = bytes.next_standing(from, resync, SequenceNumber::MAX)? {
            if found.header.durable_end > synced {
                return Ok(Some(found));
            }
            from = found.end();
        }
        Ok(None)
    }

    /// What is looked for behind the place of the walk, and the byte where the search begins.
    fn search(&self, bytes: &mut SegmentBytes) -> Result<(Resync, u64)> {
        let resync = self.resync();
        let from = resync.search_from(bytes.at(self.at.at.offset, HEADER_BYTES)?);
        Ok((resync, from))
    }

    /// What is known of the batches behind the place of the walk.
    fn resync(&self) -> Resync {
        // Others may have raised what the state says since it was read.
        let state = self.facts.state.filter(|_| self.examination.is_exclusive);
        Resync {
            at: self.at.at,
            next_seq: self.at.next_seq,
            prev_crc: self.at.prev_crc,
            max_ts: self.at.max_ts,
            reserved: state.map_or(SequenceNumber::MAX, |state| state.reserved),
            epoch: state.map_or(u32::MAX, |state| state.epoch),
            copy: None,
        }
    }

    pub(super) fn tell_torn(&mut self, bytes: &SegmentBytes) {
        let rest = bytes.length - self.at.at.offset;
        let finding = self.place.finding(
            Kind::TornTail,
            &bytes.path,
            format!("{rest} bytes behind the last batch that do not make one"),
        );
        self.tell(finding.at(self.at.at.offset));
    }

    /// Reports the damage at the place of the walk and finds the next whole batch; false if there
    /// is none in this segment.
    pub(super) fn go_on_behind(
        &mut self,
        bytes: &mut SegmentBytes,
        damage: &'static str,
        next: Option<(u32, SequenceNumber)>,
    ) -> Result<bool> {
        let offset = self.at.at.offset;
        if next.is_none() && self.is_torn(bytes)? {
            self.tell_torn(bytes);
            return Ok(false);
        }
        let from = self.at.next_seq;
        let is_jump = damage == NUMBERS_MISSING;
        let bound = next.map_or(SequenceNumber::MAX, |(_, base)| base.max(from));
        let search = if is_jump { offset } else { offset + 8 };
        let mut found = bytes.next_whole(search, &mut self.resync(), bound)?;
        let mut prev_crc = None;
        if let (None, None) = (found, next) {
            // Its body is damaged too, or torn: the walk judges that where it stands.
            found = self.last_proof(bytes)?;
            prev_crc = found.map(|found| found.header.prev_header_crc);
        }
        let (next_seq, end) = match (found, next) {
            (Some(found), _) => {
                (bytes.first_number(&found, from)?, Position { offset: found.offset, ..self.at.at })
            }
            (None, Some((segment, base))) => {
                (base.max(from), Position { segment, offset: SEGMENT_START })
            }
            (None, None) => (
                self.known_end().max(from + 1),
                Position { offset: bytes.length.next_multiple_of(8), ..self.at.at },
            ),
        };
        self.hole(next_seq, end);
        let finding = self.place.finding(Kind::BatchDamaged, &bytes.path, damage);
        self.tell_hole(finding.at(offset).numbers(from, next_seq));
        self.at.prev_crc = prev_crc;
        self.at.next_seq = next_seq;
        match found {
            Some(found) => self.at.at.offset = found.offset,
            None => self.at.at.offset = bytes.length.next_multiple_of(8),
        }
        self.note_boundary();
        Ok(found.is_some())
    }

    /// Checks the end of a segment. In the last one everything that was known to be on disk must be
    /// there.
    pub(super) fn end_of(&mut self, bytes: &SegmentBytes, next: Option<(u32, SequenceNumber)>) {
        self.note_boundary();
        if next.is_some() || !self.examination.is_exclusive {
            return;
        }
        let from = self.at.next_seq;
        let end = self.known_end();
        if end > from {
            let place = self.facts.state.map_or(self.at.at, |state| state.recovery_point);
            self.hole(end, place.max(self.at.at));
            let detail = format!("the file ends, but the log was written up to {}", end - 1);
            let finding = self.place.finding(Kind::EndMissing, &bytes.path, detail);
            self.tell_hole(finding.at(self.at.at.offset).numbers(from, end));
            // What comes next follows the last batch that is there.
            self.at.next_seq = end;
        }
    }
}
