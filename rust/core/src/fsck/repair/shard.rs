//! Repairs one shard: segment headers, the list of holes, `state`, and a log whose flush failed.

use std::path::PathBuf;
use std::sync::Arc;

use super::Repair;
use crate::error::{Error, IoContext, Result};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{Hole, SegmentHeader, ShardState};
use crate::fs::{self, Fs, Open};
use crate::fsck::finding::{Finding, Kind};
use crate::fsck::shard::{Boundary, SegmentFacts, ShardFacts};
use crate::fsck::PAGE_BYTES;
use crate::log::{holes, Segments, StateFile, SEGMENT_START};
use crate::stream::ShardMeta;
use crate::types::{Position, SequenceNumber};

/// Numbers that are given up if it is unknown which were used: far more than any process can have
/// reserved, and very few of 2⁶⁴.
const NUMBERS_GIVEN_UP: SequenceNumber = 1 << 26;
/// What is written again at once: a bad sector costs no more than this.
const PIECE_BYTES: usize = 4096;

/// One shard being repaired.
pub(super) struct ShardRepair<'a, 'r> {
    pub(super) repair: &'a mut Repair<'r>,
    pub(super) stream: &'a str,
    pub(super) folder: PathBuf,
    pub(super) meta: &'a ShardMeta,
    pub(super) facts: &'a ShardFacts,
    pub(super) uuid: [u8; 16],
}

impl ShardRepair<'_, '_> {
    fn fs(&self) -> Arc<dyn Fs> {
        Arc::clone(self.repair.fs())
    }

    fn mark(&mut self, kinds: &[Kind], done: &str) {
        let (stream, shard) = (self.stream, self.meta.id);
        self.repair.mark(
            |finding| {
                kinds.contains(&finding.kind)
                    && finding.stream.as_deref() == Some(stream)
                    && finding.shard == Some(shard)
            },
            done,
        );
    }

    pub(super) fn run(&mut self) -> Result<()> {
        let fs = self.fs();
        if !fs.exists(&self.folder).at(&self.folder)? {
            fs.create_dir(&self.folder).at(&self.folder)?;
            let stream = fs::parent(&self.folder);
            fs.sync_dir(stream).at(stream)?;
            self.mark(&[Kind::ShardMissing], "an empty shard was made in its place");
        }
        self.segment_headers()?;
        self.holes()?;
        if self.facts.segments.is_empty() {
            return self.begin_anew();
        }
        if self.facts.is_failed {
            return self.leave_failed();
        }
        self.state()
    }

    fn segment_headers(&mut self) -> Result<()> {
        for segment in &self.facts.segments {
            if segment.header.is_some() {
                continue;
            }
            let header = self.header_of(segment);
            let file = self.fs().open(&segment.path, Open::Write).at(&segment.path)?;
            let mut old = vec![0; SEGMENT_HEADER_BYTES];
            let got = file.read_at(&mut old, 0).at(&segment.path)?;
            old.truncate(got);
            let copy = self.repair.quarantine_name(&segment.path)?;
            fs::replace(&*self.fs(), &copy, &old).at(&copy)?;
            file.write_at(&[&header.encode()], 0).at(&segment.path)?;
            file.sync_data().at(&segment.path)?;
            let path = segment.path.clone();
            let is_it = |f: &Finding| f.kind == Kind::SegmentHeaderDamaged && f.path == path;
            self.repair.mark(is_it, "written anew");
        }
        Ok(())
    }

    fn header_of(&self, segment: &SegmentFacts) -> SegmentHeader {
        let first = segment.first;
        SegmentHeader {
            log_uuid: self.uuid,
            shard: self.meta.id,
            epoch: first.map_or(self.facts.epoch, |batch| batch.shard_epoch),
            base_seq: segment.base_seq,
            created: first.map_or(0, |batch| batch.base_ts),
            prev_header_crc: first.map_or(segment.prev_crc.unwrap_or(0), |b| b.prev_header_crc),
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: self.meta.hash_range,
            parents: self.meta.parents.clone(),
        }
    }

    /// Records the holes that were found, and those that recovery had found before.
    fn holes(&mut self) -> Result<()> {
        let accepted = |hole: &Hole| Hole { is_accepted: true, ..*hole };
        let mut list: Vec<Hole> = self.facts.known_holes.iter().map(accepted).collect();
        for hole in &self.facts.holes {
            let is_covered = |known: &Hole| known.first <= hole.first && hole.last <= known.last;
            if !list.iter().any(is_covered) {
                list.retain(|known| !known.overlaps(hole));
                list.push(accepted(hole));
            }
        }
        list.sort_unstable();
        if list != self.facts.known_holes || !self.facts.is_list_whole {
            self.repair.keep(&self.folder.join(holes::FILE_NAME), 0)?;
            holes::store(&self.fs(), &self.folder, &list)?;
        }
        let lost = [Kind::BatchDamaged, Kind::EndMissing, Kind::SegmentMissing, Kind::HoleKnown];
        if !list.is_empty() {
            self.mark(&lost, "the loss is noted in the shard's `holes` file; nothing was cut");
        }
        self.mark(&[Kind::HolesDamaged], "written anew");
        Ok(())
    }

    /// No process has used numbers from here on.
    fn unused(&self) -> SequenceNumber {
        let lanes = self.repair.lanes.get(&(self.stream.to_owned(), self.meta.id));
        let known = self.facts.end.next_seq.max(lanes.map_or(0, |(next_seq, _)| *next_seq));
        let reserved = self.facts.state.map_or(0, |state| state.reserved);
        match self.facts.state {
            Some(_) if self.facts.is_state_whole && reserved >= known => reserved,
            _ => reserved.max(known.next_multiple_of(1 << 20) + NUMBERS_GIVEN_UP),
        }
    }

    /// Replaces the file, with both slots.
    fn store_state(&mut self, state: ShardState) -> Result<()> {
        let path = self.folder.join("state");
        let counter = self.facts.state.map_or(0, |state| state.counter) + 1;
        let bytes = StateFile::both_slots(&ShardState { counter, ..state });
        self.repair.replace(&path, &bytes)?;
        let kinds = [Kind::StateDamaged, Kind::StateSlotDamaged, Kind::StateMisplaced];
        self.mark(&kinds, "worked out from the segments");
        Ok(())
    }

    fn state(&mut self) -> Result<()> {
        let end = self.facts.end;
        let reserved = self.unused();
        let first_base = self.facts.segments.first().map_or(0, |segment| segment.base_seq);
        match self.facts.state {
            Some(state) if self.facts.fits_state && state.recovery_point <= end.at => {
                if !self.facts.is_state_whole || reserved > state.reserved {
                    self.store_state(ShardState { reserved, ..state })?;
                }
                Ok(())
            }
            state => {
                if let Some(last) = self.facts.segments.last() {
                    let file = self.fs().open(&last.path, Open::Write).at(&last.path)?;
                    file.sync_data().at(&last.path)?;
                }
                // INVARIANT: everything before the recovery point stays: what could be read now is
                // never cut as a torn end. That of a closed shard stays before its CLOSE, see
                // `ShardLog::close`.
                let begin = self.facts.close.unwrap_or(end);
                self.store_state(ShardState {
                    counter: 0,
                    epoch: self.facts.epoch.max(state.map_or(0, |state| state.epoch)),
                    reserved,
                    trim_horizon: state.map_or(first_base, |state| state.trim_horizon),
                    recovery_point: begin.at,
                    recovery_seq: begin.next_seq,
                    recovery_crc: begin.prev_crc.unwrap_or(0),
                    recovery_ts: begin.max_ts,
                })
            }
        }
    }

    /// A shard without a segment continues in a new one, above every number known.
    fn begin_anew(&mut self) -> Result<()> {
        let old = self.facts.state.unwrap_or_default();
        let lanes = self.repair.lanes.get(&(self.stream.to_owned(), self.meta.id)).copied();
        let (checkpoint, segment) = lanes.unwrap_or((0, 0));
        let next_seq = self.facts.end.next_seq.max(checkpoint);
        let ordinal = segment.max(old.recovery_point.segment) + u32::from(next_seq > 0);
        let start = Boundary {
            at: Position { segment: ordinal, offset: SEGMENT_START },
            next_seq,
            prev_crc: None,
            max_ts: old.recovery_ts,
        };
        self.go_on_in(start, old)?;
        self.put_marker_aside()
    }

    /// Makes the segment that begins at a boundary, and moves the recovery point there.
    fn go_on_in(&mut self, start: Boundary, old: ShardState) -> Result<()> {
        let header = SegmentHeader {
            log_uuid: self.uuid,
            shard: self.meta.id,
            epoch: self.facts.epoch.max(old.epoch),
            base_seq: start.next_seq,
            created: self.repair.options.clock.now(),
            prev_header_crc: start.prev_crc.unwrap_or(0),
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: self.meta.hash_range,
            parents: self.meta.parents.clone(),
        };
        let segments = Segments::new(self.fs(), self.folder.clone());
        segments.create(start.at.segment, start.next_seq, &header, |error| error)?;
        // WHY above the next number: so that recovery begins a new epoch.
        let reserved = self.unused().max(start.next_seq + 1);
        self.store_state(ShardState {
            counter: 0,
            epoch: header.epoch,
            reserved,
            trim_horizon: old.trim_horizon,
            recovery_point: start.at,
            recovery_seq: start.next_seq,
            recovery_crc: start.prev_crc.unwrap_or(0),
            recovery_ts: start.max_ts,
        })
    }

    /// Cuts a shard whose flush failed where it was last durable, and continues in a new segment,
    /// because the cached pages of the old file may differ from the disk.
    fn leave_failed(&mut self) -> Result<()> {
        let facts = self.facts;
        let old = facts.state.unwrap_or_default();
        let durable = facts.durable_end.max(old.recovery_seq);
        let proven = facts.boundaries.iter().find(|boundary| boundary.next_seq >= durable);
        // WHY all of it after another boot: only the page of that boot knew what was acknowledged, and
        // what is read now comes from the disk.
        let kept = proven.filter(|_| facts.has_page).copied().unwrap_or(facts.end);
        // Nothing may follow CLOSE: recovery writes it again, with its number, in the new segment.
        let cut = facts.close.filter(|_| kept == facts.end).unwrap_or(kept);
        self.write_again(proven.unwrap_or(&kept).at, cut.at)?;
        let lowered = ShardState {
            recovery_point: cut.at,
            recovery_seq: cut.next_seq,
            recovery_crc: cut.prev_crc.unwrap_or(0),
            recovery_ts: cut.max_ts,
            reserved: self.unused(),
            ..old
        };
        // `state` first, then the cut: a run after a crash in between begins at the cut.
        self.store_state(lowered)?;
        self.empty_page()?;
        for segment in facts.segments.iter().rev() {
            match segment.ordinal.cmp(&cut.at.segment) {
                std::cmp::Ordering::Greater => self.repair.put_aside(&segment.path)?,
                std::cmp::Ordering::Equal => {
                    self.repair.keep(&segment.path, cut.at.offset)?;
                    let file = self.fs().open(&segment.path, Open::Write).at(&segment.path)?;
                    // Also if a run before this one cut it: that may have been killed before the flush.
                    if file.length().at(&segment.path)? >= cut.at.offset {
                        file.truncate(cut.at.offset).at(&segment.path)?;
                    }
                    file.sync_data().at(&segment.path)?;
                }
                std::cmp::Ordering::Less => {}
            }
        }
        let segment = cut.at.segment + 1;
        let start = Boundary { at: Position { segment, offset: SEGMENT_START }, ..cut };
        self.go_on_in(start, lowered)?;
        self.put_marker_aside()?;
        let (stream, shard) = (self.stream, self.meta.id);
        for finding in &mut self.repair.findings {
            let is_here = finding.stream.as_deref() == Some(stream) && finding.shard == Some(shard);
            if is_here && finding.kind == Kind::ShardFailed {
                finding.sequences = (kept.next_seq < facts.end.next_seq)
                    .then(|| (kept.next_seq, facts.end.next_seq - 1));
            }
        }
        self.mark(
            &[Kind::ShardFailed],
            "cut where it was last durable, the rest is in quarantine/; it takes records again",
        );
        Ok(())
    }

    /// Writes the kept data once more, except what is known to be on disk, and flushes it.
    ///
    /// WHY not only a flush: after a failed one, the kernel may consider its pages clean, and
    /// report success without writing anything.
    fn write_again(&self, from: Position, to: Position) -> Result<()> {
        // INVARIANT: a segment is synced before the next one is made.
        let begin = if from.segment < to.segment { SEGMENT_START } else { from.offset };
        let segment = self.facts.segments.iter().find(|segment| segment.ordinal == to.segment);
        let Some(segment) = segment.filter(|_| begin < to.offset) else { return Ok(()) };
        let path = &segment.path;
        let file = self.fs().open(path, Open::Write).at(path)?;
        let mut piece = [0; PIECE_BYTES];
        for at in (begin..to.offset).step_by(PIECE_BYTES) {
            let length = usize::try_from(to.offset - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let piece = piece.get_mut(..length).unwrap_or_default();
            match file.read_at(piece, at) {
                Ok(got) => {
                    file.write_at(&[piece.get(..got).unwrap_or_default()], at).at(path)?;
                }
                // What cannot be read is damage, and stays it.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {}
                Err(error) => return Err(Error::io(path, error)),
            }
        }
        file.sync_data().at(path)
    }

    /// Forgets the shard's page: it is about what was there before the cut.
    fn empty_page(&self) -> Result<()> {
        let path = self.repair.root.join("control");
        let file = match self.fs().open(&path, Open::Write) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at(&path)?,
        };
        let at = u64::from(self.meta.page) * PAGE_BYTES as u64;
        if file.length().at(&path)? > at {
            file.write_at(&[&[0; PAGE_BYTES]], at).at(&path)?;
        }
        Ok(())
    }

    fn put_marker_aside(&mut self) -> Result<()> {
        let marker = self.folder.join("failed");
        if self.fs().exists(&marker).at(&marker)? {
            self.repair.put_aside(&marker)?;
        }
        Ok(())
    }
}
