//! Examines one shard: its state, its segment files in order, every record batch in them.
//!
//! ```text
//! segment 0: header │ batch ─▶ batch ─▶ ██████ ─▶ batch │ segment 1: header │ batch ─▶ …
//!                     each follows the one before: chain, numbers      end: zeros, torn, or rot
//! ```
//! What the examination learns is kept for a repair.

mod rest;
mod segment;

use std::path::{Path, PathBuf};

use super::finding::{Finding, Kind};
use super::Examination;
use crate::control::PageView;
use crate::error::{Error, IoContext, Result};
use crate::format::state::{STATE_SLOT_BYTES, STATE_SLOT_STRIDE};
use crate::format::{BatchHeader, Hole, SegmentHeader, ShardState};
use crate::fs;
use crate::log::{holes, Segments, StateFile, SEGMENT_START};
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

/// What is known about a shard after its examination.
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
    /// The first number that neither the page nor a whole batch calls durable.
    pub(super) durable_end: SequenceNumber,
    /// All boundaries of a failed shard.
    pub(super) boundaries: Vec<Boundary>,
    pub(super) epoch: u32,
    pub(super) has_zstd: bool,
    /// Where its last batch begins, if that is CLOSE.
    pub(super) close: Option<Boundary>,
    pub(super) is_failed: bool,
    /// Whether its page is of this boot, and the shard was recovered in it: then the page knows
    /// what was acknowledged.
    pub(super) has_page: bool,
    pub(super) batches: u64,
}

impl ShardFacts {
    /// Whether its last batch is CLOSE.
    pub(super) fn is_closed(&self) -> bool {
        self.close.is_some()
    }
}

/// Examines a shard.
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
    /// The progress of the walk.
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

    /// Reports damage, unless retention has taken its records anyway, or a person has taken note of
    /// it.
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

    /// Reports the holes that were known before and that this examination did not meet.
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

    /// Checks the state against the segments, unless the place that it names lies in damage.
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
