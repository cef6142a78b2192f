//! One segment file: its header, and batch after batch.

use std::path::Path;

use super::{Boundary, SegmentFacts, ShardWalk, NUMBERS_MISSING};
use crate::error::{Error, Result};
use crate::format::record_batch::HeaderRead;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{compression, Access, BatchHeader, SegmentHeader};
use crate::fsck::finding::Kind;
use crate::fsck::segment_bytes::SegmentBytes;
use crate::log::SEGMENT_START;
use crate::types::{Position, SequenceNumber};

impl ShardWalk<'_, '_, '_> {
    /// Examines one segment; false if what comes after it must not be judged.
    pub(super) fn segment(
        &mut self,
        ordinal: u32,
        base: SequenceNumber,
        path: &Path,
        next: Option<(u32, SequenceNumber)>,
    ) -> Result<bool> {
        let visible = self.examination.limit_of(self.place.page.as_ref());
        let limit = match visible {
            Some(end) if end < (Position { segment: ordinal, offset: SEGMENT_START }) => {
                return Ok(false);
            }
            Some(end) if ordinal == end.segment => end.offset,
            _ => u64::MAX,
        };
        let mut bytes = match SegmentBytes::open(self.examination.fs(), path, limit) {
            // Retention of others may be faster; a file that is missing shows at the next one.
            Err(Error::Io { source, .. })
                if !self.examination.is_exclusive
                    && source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(true);
            }
            other => other?,
        };
        if !self.begin(ordinal, base, path, next, &mut bytes)? {
            return Ok(true);
        }
        let header = self.segment_header(ordinal, base, &mut bytes)?;
        self.facts.epoch = self.facts.epoch.max(header.as_ref().map_or(0, |header| header.epoch));
        self.facts.segments.push(SegmentFacts {
            ordinal,
            base_seq: base,
            path: path.to_owned(),
            header,
            prev_crc: self.at.prev_crc,
            first: None,
        });
        self.examination.checked.segments += 1;
        self.batches(&mut bytes, next)?;
        let length = bytes.length;
        self.examination.advance(length)?;
        Ok(true)
    }

    /// Checks whether a segment follows; false if it is to be skipped.
    fn begin(
        &mut self,
        ordinal: u32,
        base: SequenceNumber,
        path: &Path,
        next: Option<(u32, SequenceNumber)>,
        bytes: &mut SegmentBytes,
    ) -> Result<bool> {
        let start = Position { segment: ordinal, offset: SEGMENT_START };
        let is_first = self.facts.segments.is_empty();
        let expected = self.facts.segments.last().map_or(ordinal, |last| last.ordinal + 1);
        if ordinal != expected {
            self.lost_segments(ordinal, base);
        } else if base > self.at.next_seq {
            let from = self.at.next_seq;
            self.hole(base, start);
            let path = self.facts.segments.last().map_or(path, |last| &last.path).to_owned();
            let detail = format!("segment {ordinal:08x} goes on at {base}");
            let finding = self.place.finding(Kind::EndMissing, &path, detail);
            self.tell_hole(finding.at(self.at.at.offset).numbers(from, base));
            self.at.prev_crc = None;
            self.at.next_seq = base;
        } else if base < self.at.next_seq && !is_first {
            if next.is_none() && bytes.next_used(SEGMENT_START)?.is_none() {
                let detail = "an empty segment whose first number is taken already";
                let finding = self.place.finding(Kind::SegmentLeft, path, detail);
                self.tell(finding);
                return Ok(false);
            }
            let detail =
                format!("it begins at {base}, the one before it ends at {}", self.at.next_seq);
            let finding = self.place.finding(Kind::SegmentOverlaps, path, detail);
            self.tell(finding.at(0).numbers(base, self.at.next_seq));
            self.at.prev_crc = None;
        }
        self.at.at = start;
        self.note_boundary();
        Ok(true)
    }

    fn segment_header(
        &mut self,
        ordinal: u32,
        base: SequenceNumber,
        bytes: &mut SegmentBytes,
    ) -> Result<Option<SegmentHeader>> {
        let path = bytes.path.clone();
        let head = bytes.at(0, SEGMENT_HEADER_BYTES)?;
        let refused = match SegmentHeader::access(head) {
            Some(Access::Refused(found)) => Some(found),
            // A repair writes beside it.
            Some(Access::ReadOnly(features)) if self.examination.is_exclusive => {
                Some(format!("a segment with features {features:#x} needed for writing"))
            }
            _ => None,
        };
        if let Some(found) = refused {
            let supported = "format 1 without features".into();
            return Err(Error::UnsupportedFormat { path, found, supported });
        }
        let header = match SegmentHeader::decode(head) {
            Ok(header) => header,
            Err(damage) => {
                let finding =
                    self.place.finding(Kind::SegmentHeaderDamaged, &path, damage.to_string());
                self.tell(finding.at(0));
                return Ok(None);
            }
        };
        let is_chained = self.at.prev_crc.is_none_or(|crc| crc == header.prev_header_crc);
        let says = [
            (self.examination.uuid.is_some_and(|uuid| uuid != header.log_uuid), "another log"),
            (header.shard != self.place.id, "another shard"),
            (header.base_seq != base, "another first number than its name"),
            (!is_chained, "another batch before it"),
        ];
        if let Some((_, other)) = says.iter().find(|(is_wrong, _)| *is_wrong) {
            let detail = format!("the header of segment {ordinal:08x} names {other}");
            let finding = self.place.finding(Kind::SegmentForeign, &path, detail);
            self.tell(finding.at(0));
        }
        Ok(Some(header))
    }

    fn batches(
        &mut self,
        bytes: &mut SegmentBytes,
        next: Option<(u32, SequenceNumber)>,
    ) -> Result<()> {
        loop {
            self.examination.pause()?;
            let offset = self.at.at.offset;
            if offset >= bytes.length {
                self.end_of(bytes, next);
                return Ok(());
            }
            let damage = match bytes.header(offset)? {
                HeaderRead::Empty if bytes.next_used(offset)?.is_none() => {
                    self.end_of(bytes, next);
                    return Ok(());
                }
                HeaderRead::Empty => "zeros where a batch should begin",
                HeaderRead::Damaged(damage) => damage.0,
                HeaderRead::Unsupported(unknown) => return Err(bytes.unsupported(unknown)),
                HeaderRead::Valid(header, crc) => {
                    let Some(damage) = self.does_not_follow(&header) else {
                        self.batch(bytes, &header, crc)?;
                        continue;
                    };
                    damage
                }
            };
            // A closed segment ends where the numbers of the next one begin; behind that is its index.
            if next.is_some_and(|(_, base)| self.at.next_seq >= base) {
                let finding = self.place.finding(Kind::IndexDamaged, &bytes.path, damage);
                self.tell(finding.at(offset));
                return Ok(());
            }
            if !self.go_on_behind(bytes, damage, next)? {
                return Ok(());
            }
        }
    }

    pub(super) fn does_not_follow(&self, header: &BatchHeader) -> Option<&'static str> {
        if self.at.prev_crc.is_some_and(|crc| crc != header.prev_header_crc) {
            return Some("it does not follow the batch before it");
        }
        if header.base_seq < self.at.next_seq {
            return Some("its numbers were used before");
        }
        // Numbers jump only where EPOCH says so, and from the number that it says.
        let is_missing = !header.is_control || header.durable_end > self.at.next_seq;
        (header.base_seq > self.at.next_seq && is_missing).then_some(NUMBERS_MISSING)
    }

    /// A batch that follows; its body may be damaged.
    pub(super) fn batch(
        &mut self,
        bytes: &mut SegmentBytes,
        header: &BatchHeader,
        crc: u32,
    ) -> Result<()> {
        let offset = self.at.at.offset;
        let damage = if self.examination.is_deep {
            bytes.deep_damage(offset, header)?
        } else {
            // Padding may be missing at the very end.
            let is_cut = offset + header.stored_bytes() > bytes.length + 7;
            is_cut.then_some("the body is cut off")
        };
        let end = Position { offset: offset + header.stored_bytes(), ..self.at.at };
        if let (Some(damage), 0) = (damage, header.record_count) {
            let finding = self.place.finding(Kind::IndexDamaged, &bytes.path, damage);
            self.tell(finding.at(offset));
        } else if let Some(damage) = damage {
            if self.is_torn(bytes)? {
                self.tell_torn(bytes);
                // Nothing behind it: the walk ends at the next look.
                bytes.length = offset;
                return Ok(());
            }
            self.hole(header.next_seq(), end);
            let finding = self.place.finding(Kind::BatchDamaged, &bytes.path, damage);
            self.tell_hole(finding.at(offset).numbers(header.base_seq, header.next_seq()));
        } else if let Some(facts) = self.facts.segments.last_mut() {
            facts.first =
                facts.first.or(Some(*header)).filter(|first| first.base_seq >= facts.base_seq);
        }
        self.facts.batches += 1;
        self.examination.checked.batches += 1;
        self.facts.epoch = self.facts.epoch.max(header.shard_epoch);
        self.facts.has_zstd |= header.codec != compression::NONE;
        self.facts.durable_end = self.facts.durable_end.max(header.durable_end);
        let is_close = damage.is_none() && header.is_control && bytes.is_close(offset, header)?;
        self.facts.close = is_close.then_some(Boundary {
            next_seq: header.base_seq,
            prev_crc: Some(header.prev_header_crc),
            ..self.at
        });
        // INVARIANT: a batch that takes no number stands outside the chain.
        let is_numbered = header.record_count > 0;
        self.at = Boundary {
            at: end,
            next_seq: header.next_seq().max(self.at.next_seq),
            prev_crc: if is_numbered { Some(crc) } else { self.at.prev_crc },
            max_ts: self.at.max_ts.max(header.max_ts),
        };
        self.note_boundary();
        Ok(())
    }

    pub(super) fn note_boundary(&mut self) {
        let state = self.facts.state.unwrap_or_default();
        if self.at.at == state.recovery_point {
            let fits = self.at.prev_crc.is_none_or(|crc| crc == state.recovery_crc);
            self.facts.fits_state |= self.at.next_seq == state.recovery_seq && fits;
        }
        if self.facts.is_failed {
            self.facts.boundaries.push(self.at);
        }
    }
}
