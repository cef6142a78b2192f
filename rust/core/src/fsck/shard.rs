//! One shard: its state, its segment files one after another, every record batch in them.
//!
//! ```text
//! segment 0: header │ batch ─▶ batch ─▶ ██████ ─▶ batch │ segment 1: header │ batch ─▶ …
//!                     each follows the one before: chain, numbers      end: zeros, torn, or rot
//! ```
//! What was found out on the way is kept for a repair.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Kind};
use super::segment_bytes::{Found, SegmentBytes};
use super::Examination;
use crate::control::PageView;
use crate::error::{Error, IoContext, Result};
use crate::format::record_batch::{HeaderRead, HEADER_BYTES};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::state::{STATE_SLOT_BYTES, STATE_SLOT_STRIDE};
use crate::format::{compression, Access, BatchHeader, Hole, SegmentHeader, ShardState};
use crate::fs;
use crate::log::{holes, Beyond, Segments, StateFile, SEGMENT_START};
use crate::types::{Micros, Position, SequenceNumber, ShardId};

/// Of a whole batch that is not the next one.
const NUMBERS_MISSING: &str = "numbers are missing before it";

/// Where a shard is, and what its manifest says of it.
pub(super) struct ShardPlace<'a> {
    pub(super) stream: &'a str,
    pub(super) id: ShardId,
    pub(super) folder: PathBuf,
    /// Its page, if it is written for this shard in this boot.
    pub(super) page: Option<PageView>,
}

impl ShardPlace<'_> {
    fn finding(&self, kind: Kind, path: &Path, detail: impl Into<String>) -> Finding {
        Finding::new(kind, path, detail).of(self.stream, Some(self.id))
    }
}

/// One segment file.
#[derive(Clone, Debug)]
pub(super) struct SegmentFacts {
    pub(super) ordinal: u32,
    pub(super) base_seq: SequenceNumber,
    pub(super) path: PathBuf,
    /// `None` if it is damaged.
    pub(super) header: Option<SegmentHeader>,
    /// The checksum its first batch chains to, as far as known.
    pub(super) prev_crc: Option<u32>,
    /// The first batch in it, if it is whole.
    pub(super) first: Option<BatchHeader>,
}

/// A place between two batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Boundary {
    pub(super) at: Position,
    pub(super) next_seq: SequenceNumber,
    /// Header checksum of the batch before; `None` behind damage.
    pub(super) prev_crc: Option<u32>,
    pub(super) max_ts: Micros,
}

/// What is known of a shard after it was looked through.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ShardFacts {
    pub(super) segments: Vec<SegmentFacts>,
    /// The slot that counts.
    pub(super) state: Option<ShardState>,
    pub(super) is_state_whole: bool,
    /// Whether the recovery point is a place between two batches, as it says.
    pub(super) fits_state: bool,
    /// Holes that were found now, and holes known before.
    pub(super) holes: Vec<Hole>,
    pub(super) known_holes: Vec<Hole>,
    pub(super) is_list_whole: bool,
    pub(super) end: Boundary,
    /// The first number that nobody says was durable: the page, or a whole batch.
    pub(super) durable_end: SequenceNumber,
    /// All boundaries of a failed shard.
    pub(super) boundaries: Vec<Boundary>,
    pub(super) epoch: u32,
    pub(super) has_zstd: bool,
    /// Where its last batch begins, if that is CLOSE.
    pub(super) close: Option<Boundary>,
    pub(super) is_failed: bool,
    /// Whether its page is of this boot, and the shard was recovered in it: it knows what was acknowledged.
    pub(super) has_page: bool,
    pub(super) batches: u64,
}

impl ShardFacts {
    /// Whether its last batch is CLOSE.
    pub(super) fn is_closed(&self) -> bool {
        self.close.is_some()
    }
}

/// Looks through a shard.
pub(super) fn examine(
    examination: &mut Examination<'_>,
    place: &ShardPlace<'_>,
) -> Result<ShardFacts> {
    let mut walk =
        ShardWalk { examination, place, facts: ShardFacts::default(), at: Boundary::default() };
    walk.state()?;
    walk.holes()?;
    walk.failed_marker()?;
    walk.segments()?;
    walk.recovery_point();
    walk.unseen_holes();
    Ok(walk.facts)
}

struct ShardWalk<'e, 'x, 'p> {
    examination: &'e mut Examination<'x>,
    place: &'p ShardPlace<'p>,
    facts: ShardFacts,
    /// How far the walk has come.
    at: Boundary,
}

impl ShardWalk<'_, '_, '_> {
    fn tell(&mut self, finding: Finding) {
        self.examination.tell(finding);
    }

    fn state(&mut self) -> Result<()> {
        let path = self.place.folder.join("state");
        let slots = self.examination.read_slots(&path, |bytes| {
            let slot = |at: u64| {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let bytes = bytes.get(at..at + STATE_SLOT_BYTES);
                bytes.and_then(|bytes| ShardState::decode(bytes).ok())
            };
            [slot(0), slot(STATE_SLOT_STRIDE)]
        })?;
        self.facts.is_state_whole = slots.iter().all(Option::is_some);
        self.facts.state = slots.into_iter().flatten().max_by_key(|state| state.counter);
        let finding = match (self.facts.state, slots) {
            (None, _) => {
                self.place.finding(Kind::StateDamaged, &path, "both slots are damaged or missing")
            }
            (Some(_), [None, _]) => {
                self.place.finding(Kind::StateSlotDamaged, &path, "slot 0 is damaged").at(0)
            }
            (Some(_), [_, None]) => self
                .place
                .finding(Kind::StateSlotDamaged, &path, "slot 1 is damaged")
                .at(STATE_SLOT_STRIDE),
            _ => return Ok(()),
        };
        self.tell(finding);
        Ok(())
    }

    fn holes(&mut self) -> Result<()> {
        self.facts.is_list_whole = true;
        match holes::load(self.examination.fs(), &self.place.folder) {
            Ok(known) => self.facts.known_holes = known,
            Err(Error::Corruption { path, reason, .. }) => {
                self.facts.is_list_whole = false;
                let finding = self.place.finding(Kind::HolesDamaged, &path, reason);
                self.tell(finding);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn failed_marker(&mut self) -> Result<()> {
        let path = self.place.folder.join("failed");
        let fs = self.examination.fs();
        let says = if fs.exists(&path).at(&path)? {
            let text = fs::read(&**fs, &path).at(&path)?;
            Some(String::from_utf8_lossy(&text).trim().to_owned())
        } else {
            let errno = self.place.page.map_or(0, |page| page.errno);
            (errno != 0).then(|| format!("errno {errno}, as the control file says"))
        };
        self.facts.has_page = self.place.page.is_some_and(|page| !page.is_unrecovered);
        self.facts.durable_end = self.place.page.map_or(0, |page| page.durable_end);
        if let Some(says) = says {
            self.facts.is_failed = true;
            let finding =
                self.place.finding(Kind::ShardFailed, &path, format!("a flush failed: {says}"));
            self.tell(finding);
        }
        Ok(())
    }

    fn segments(&mut self) -> Result<()> {
        let fs = self.examination.fs();
        let list = Segments::new(fs.clone(), self.place.folder.clone()).list()?;
        let list: Vec<(u32, SequenceNumber, PathBuf)> =
            list.iter().map(|s| (s.ordinal, s.base_seq, s.path().to_owned())).collect();
        let horizon = self.facts.state.map_or(0, |state| state.trim_horizon);
        self.at.next_seq = horizon;
        match list.first() {
            // Retention may have stopped in mid-segment: what it keeps begins below its horizon.
            Some((ordinal, base, _)) if *base <= horizon || self.facts.state.is_none() => {
                self.at.at = Position { segment: *ordinal, offset: SEGMENT_START };
                self.at.next_seq = *base;
                self.at.prev_crc = (*ordinal == 0).then_some(0);
            }
            Some((ordinal, base, _)) => {
                self.at.at = Position { segment: ordinal.saturating_sub(1), offset: SEGMENT_START };
                self.lost_segments(*ordinal, *base);
            }
            None => {
                self.no_segment();
                return Ok(());
            }
        }
        for (index, (ordinal, base, path)) in list.iter().enumerate() {
            let next = list.get(index + 1).map(|(ordinal, base, _)| (*ordinal, *base));
            if !self.segment(*ordinal, *base, path, next)? {
                break;
            }
        }
        self.facts.end = self.at;
        Ok(())
    }

    fn no_segment(&mut self) {
        let end = self.known_end();
        let finding = self
            .place
            .finding(Kind::SegmentMissing, &self.place.folder, "the shard has no segment file")
            .numbers(self.at.next_seq, end);
        if end > self.at.next_seq {
            self.facts.holes.push(Hole {
                first: self.at.next_seq,
                last: end - 1,
                at: Position { segment: 0, offset: SEGMENT_START },
                end: Position { segment: 0, offset: SEGMENT_START },
                found: self.examination.now(),
                is_accepted: false,
            });
        }
        self.at.next_seq = end;
        self.facts.end = self.at;
        self.tell(finding);
    }

    /// The first number above those that `state` and the page know of.
    fn known_end(&self) -> SequenceNumber {
        let state = self.facts.state.map_or(0, |state| state.recovery_seq);
        state.max(self.place.page.map_or(0, |page| page.next_seq))
    }

    fn lost_segments(&mut self, next_ordinal: u32, next_base: SequenceNumber) {
        let from = self.at.next_seq;
        let position = Position { segment: next_ordinal, offset: SEGMENT_START };
        self.hole(next_base, position);
        let before = format!("segment {next_ordinal:08x} is there, the one before it is not");
        let finding = self.place.finding(Kind::SegmentMissing, &self.place.folder, before);
        self.tell_hole(finding.numbers(from, next_base));
        self.at = Boundary { at: position, next_seq: next_base, prev_crc: None, ..self.at };
    }

    /// Notes a hole from the place where the walk is.
    fn hole(&mut self, next_seq: SequenceNumber, end: Position) {
        if next_seq > self.at.next_seq {
            self.facts.holes.push(Hole {
                first: self.at.next_seq,
                last: next_seq - 1,
                at: self.at.at,
                end,
                found: self.examination.now(),
                is_accepted: false,
            });
        }
    }

    /// The trim horizon; others may have raised it since the state was read.
    fn horizon_now(&self) -> SequenceNumber {
        let known = self.facts.state.map_or(0, |state| state.trim_horizon);
        if self.examination.is_exclusive {
            return known;
        }
        let state = StateFile::open(self.examination.fs(), &self.place.folder.join("state"));
        state.and_then(|state| state.load()).map_or(known, |state| state.trim_horizon)
    }

    /// Tells of damage, unless retention has taken its records anyway; what a person took note of
    /// is no news.
    fn tell_hole(&mut self, finding: Finding) {
        let horizon = self.horizon_now();
        let (first, last) = finding.sequences.unwrap_or((SequenceNumber::MAX, SequenceNumber::MAX));
        if last < horizon {
            return;
        }
        let is_known = |hole: &&Hole| hole.is_accepted && hole.first <= first && last <= hole.last;
        let is_accepted = self.facts.known_holes.iter().any(|hole| is_known(&hole));
        let kind = if is_accepted { Kind::HoleAccepted } else { finding.kind };
        self.tell(Finding { kind, ..finding });
    }

    /// One segment; false if what comes after it is not to be judged.
    fn segment(
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

    /// Judges whether a segment follows; false if it is to be passed over.
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

    fn does_not_follow(&self, header: &BatchHeader) -> Option<&'static str> {
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
    fn batch(&mut self, bytes: &mut SegmentBytes, header: &BatchHeader, crc: u32) -> Result<()> {
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

    fn note_boundary(&mut self) {
        let state = self.facts.state.unwrap_or_default();
        if self.at.at == state.recovery_point {
            let fits = self.at.prev_crc.is_none_or(|crc| crc == state.recovery_crc);
            self.facts.fits_state |= self.at.next_seq == state.recovery_seq && fits;
        }
        if self.facts.is_failed {
            self.facts.boundaries.push(self.at);
        }
    }

    /// Whether a damaged place at the end is what an unclean stop leaves: nothing says that it was
    /// ever on disk.
    fn is_torn(&mut self, bytes: &mut SegmentBytes) -> Result<bool> {
        let state = self.facts.state.unwrap_or_default();
        let committed = self.place.page.map_or(Position::default(), |page| page.committed);
        if self.at.at < state.recovery_point || self.at.at < committed {
            return Ok(false);
        }
        let (mut beyond, from) = self.search(bytes)?;
        Ok(Self::next_proof(bytes, from, &mut beyond, self.at.next_seq)?.is_none())
    }

    /// Of the batches behind the place of the walk, the one that says most of what was on disk there.
    fn last_proof(&self, bytes: &mut SegmentBytes) -> Result<Option<Found>> {
        let (mut beyond, mut from) = self.search(bytes)?;
        let (mut synced, mut last) = (self.at.next_seq, None);
        while let Some(found) = Self::next_proof(bytes, from, &mut beyond, synced)? {
            (from, synced, last) = (found.end(), found.header.durable_end, Some(found));
        }
        Ok(last)
    }

    /// The next batch that says that more than the numbers below `synced` were on disk.
    fn next_proof(
        bytes: &mut SegmentBytes,
        mut from: u64,
        beyond: &mut Beyond,
        synced: SequenceNumber,
    ) -> Result<Option<Found>> {
        while let Some(found) = bytes.next_standing(from, beyond, SequenceNumber::MAX)? {
            if found.header.durable_end > synced {
                return Ok(Some(found));
            }
            from = found.end();
        }
        Ok(None)
    }

    /// What is looked for behind the place of the walk, and the byte where the search begins.
    fn search(&self, bytes: &mut SegmentBytes) -> Result<(Beyond, u64)> {
        let beyond = self.beyond();
        let from = beyond.search_from(bytes.at(self.at.at.offset, HEADER_BYTES)?);
        Ok((beyond, from))
    }

    /// What is known of the batches behind the place of the walk.
    fn beyond(&self) -> Beyond {
        // Others may have raised what the state says since it was read.
        let state = self.facts.state.filter(|_| self.examination.is_exclusive);
        Beyond {
            at: self.at.at,
            next_seq: self.at.next_seq,
            prev_crc: self.at.prev_crc,
            max_ts: self.at.max_ts,
            reserved: state.map_or(SequenceNumber::MAX, |state| state.reserved),
            epoch: state.map_or(u32::MAX, |state| state.epoch),
            copy: None,
        }
    }

    fn tell_torn(&mut self, bytes: &SegmentBytes) {
        let rest = bytes.length - self.at.at.offset;
        let finding = self.place.finding(
            Kind::TornTail,
            &bytes.path,
            format!("{rest} bytes behind the last batch that do not make one"),
        );
        self.tell(finding.at(self.at.at.offset));
    }

    /// Tells of the damage at the place of the walk and finds the next whole batch; false if there
    /// is none in this segment.
    fn go_on_behind(
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
        let mut found = bytes.next_whole(search, &mut self.beyond(), bound)?;
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

    /// At the end of a segment. Of the last one everything that was known to be on disk must be there.
    fn end_of(&mut self, bytes: &SegmentBytes, next: Option<(u32, SequenceNumber)>) {
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

    /// Tells of the holes that were known before and that this look did not meet.
    fn unseen_holes(&mut self) {
        let unseen: Vec<Hole> = self
            .facts
            .known_holes
            .iter()
            .filter(|known| !self.facts.holes.iter().any(|hole| hole.overlaps(known)))
            .copied()
            .collect();
        for hole in unseen {
            let path = self.facts.segments.iter().find(|s| s.ordinal == hole.at.segment);
            let path = path.map_or(&self.place.folder, |segment| &segment.path).clone();
            let finding = self.place.finding(Kind::HoleKnown, &path, "recovery found it damaged");
            self.tell_hole(finding.at(hole.at.offset).numbers(hole.first, hole.last + 1));
        }
    }

    /// Judges the state by the segments, unless the place it names lies in damage.
    fn recovery_point(&mut self) {
        let Some(state) = self.facts.state.filter(|_| !self.facts.segments.is_empty()) else {
            return;
        };
        let in_hole =
            |hole: &Hole| hole.at <= state.recovery_point && state.recovery_point <= hole.end;
        let first = self
            .facts
            .segments
            .first()
            .map(|s| Position { segment: s.ordinal, offset: SEGMENT_START });
        let is_below = first.is_some_and(|first| state.recovery_point < first);
        let is_behind = !self.examination.is_exclusive && state.recovery_point > self.facts.end.at;
        self.facts.fits_state |= is_behind || self.facts.holes.iter().any(in_hole) && !is_below;
        let is_reserved =
            state.reserved >= self.facts.end.next_seq || !self.examination.is_exclusive;
        let detail = match (self.facts.fits_state, is_reserved) {
            (false, _) => "the recovery point is no place between two batches".to_owned(),
            (_, false) => format!(
                "numbers up to {} are used, those from {} on count as free",
                self.facts.end.next_seq - 1,
                state.reserved
            ),
            _ => return,
        };
        self.facts.fits_state = false;
        let path = self.place.folder.join("state");
        let finding = self.place.finding(Kind::StateMisplaced, &path, detail);
        self.tell(finding);
    }
}
