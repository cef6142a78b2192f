//! Putting right what can be derived. Alone with the log; every original is in `quarantine/` before
//! anything in its place changes, and each step leaves a log that the next run can go on from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finding::{Finding, Kind};
use super::shard::{Boundary, SegmentFacts, ShardFacts};
use super::{
    examine, mappings, Examination, Options, Progress, Report, StreamFacts, TopLock, PAGE_BYTES,
};
use crate::error::{Error, IoContext, Result};
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{Hole, SegmentHeader, ShardState};
use crate::fs::{self, Fs, Open};
use crate::log::{holes, Segments, StateFile, SEGMENT_START};
use crate::stream::{
    encode_format, Log, Manifest, OpenOptions, Retention, ShardMeta, StreamConfig,
};
use crate::sys;
use crate::types::{Compression, Durability, Position, SequenceNumber, ShardId, SHARDS_MAX};

/// Numbers that are given up where nobody knows which were used: far more than any process can have
/// had reserved, and nothing of 2⁶⁴.
const NUMBERS_GIVEN_UP: SequenceNumber = 1 << 26;
const COPY_BYTES: usize = 1024 * 1024;
/// What is written again at once: a bad sector costs no more than this.
const PIECE_BYTES: usize = 4096;

/// Puts right what can be derived from the rest of a log, has recovery do what it does at every
/// opening, and examines the log again.
///
/// Findings that were put right say so. Records that are lost stay lost: a repair takes note of
/// them, so that the next examination tells of them as known.
///
/// # Errors
/// As [`examine`]; [`Error::LockTimeout`] naming who has the log open.
///
/// # Durability
/// Durable when it returns; a crash at any step leaves a log that the next run goes on from.
pub fn repair(root: &Path, options: &Options, progress: Progress<'_>) -> Result<Report> {
    let root = std::path::absolute(root).at(root)?;
    let lock = TopLock::take(&options.fs, &root)?;
    let mut examination = Examination::new(&root, options, true, &mut *progress);
    examination.run()?;
    let Examination { findings, streams, uuid, checked, .. } = examination;
    let mut repair =
        Repair { root: &root, options, findings, uuid, lanes: BTreeMap::new(), has_changed: false };
    repair.lanes = mappings::furthest(&options.fs, &root)?;
    repair.run(&streams)?;
    let mut findings = repair.findings;
    drop(lock);
    let opening = OpenOptions {
        create: false,
        fs: Arc::clone(&options.fs),
        clock: Arc::clone(&options.clock),
        housekeeping: false,
        ..OpenOptions::default()
    };
    // What keeps it from opening is among the findings of the second examination.
    if let Ok(log) = Log::open(&root, &opening) {
        log.close()?;
    }
    let again = examine(&root, options, progress)?;
    for finding in again.findings {
        if !findings.iter().any(|known| known.is_same(&finding)) {
            findings.push(finding);
        }
    }
    Ok(Report { findings, checked, is_exclusive: true })
}

pub(super) struct Repair<'r> {
    pub(super) root: &'r Path,
    options: &'r Options,
    findings: Vec<Finding>,
    uuid: Option<[u8; 16]>,
    /// By stream and shard: the highest checkpoint and the highest segment any lane names.
    lanes: BTreeMap<(String, ShardId), (SequenceNumber, u32)>,
    has_changed: bool,
}

impl Repair<'_> {
    pub(super) fn fs(&self) -> &Arc<dyn Fs> {
        &self.options.fs
    }

    fn run(&mut self, streams: &[StreamFacts]) -> Result<()> {
        let uuid = self.format(streams)?;
        let mut pages: BTreeSet<u32> = streams
            .iter()
            .filter_map(|stream| stream.manifest.as_ref())
            .flat_map(|manifest| manifest.shards.iter().map(|shard| shard.page))
            .collect();
        for stream in streams {
            let changed = match &stream.manifest {
                Some(manifest) => self.own_pages(stream, manifest, &mut pages)?,
                None => self.manifest(stream, &mut pages)?,
            };
            let Some(manifest) = changed.as_ref().or(stream.manifest.as_ref()) else { continue };
            for meta in &manifest.shards {
                let none = ShardFacts::default();
                let facts = stream.shards.get(&meta.id).unwrap_or(&none);
                let folder = stream.folder.join(meta.id.to_string());
                ShardRepair { repair: self, stream: &stream.name, folder, meta, facts, uuid }
                    .run()?;
            }
        }
        mappings::repair(self)?;
        self.control()
    }

    /// Notes what was done about findings.
    pub(super) fn mark(&mut self, is_it: impl Fn(&Finding) -> bool, done: &str) {
        for finding in self.findings.iter_mut().filter(|finding| is_it(finding)) {
            finding.repaired = Some(done.to_owned());
            self.has_changed = true;
        }
    }

    pub(super) fn has(&self, kind: Kind, path: &Path) -> bool {
        self.findings.iter().any(|finding| finding.kind == kind && finding.path == path)
    }

    /// The files that findings of a kind are about.
    pub(super) fn paths_of(&self, kind: Kind) -> Vec<PathBuf> {
        let found = self.findings.iter().filter(|finding| finding.kind == kind);
        found.map(|finding| finding.path.clone()).collect()
    }

    /// A name in `quarantine/` that is not taken; the folder is there when it returns.
    fn quarantine_name(&self, path: &Path) -> Result<PathBuf> {
        let folder = self.root.join("quarantine");
        self.fs().create_dir(&folder).at(&folder)?;
        self.fs().sync_dir(self.root).at(self.root)?;
        let place = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        let token = sys::hex(&sys::random_uuid().at(&folder)?);
        let token = token.get(..8).unwrap_or_default();
        Ok(folder.join(format!("{}.{token}.fsck", place.replace('/', "."))))
    }

    /// Copies a file, from a byte on, to `quarantine/`; does nothing if there is nothing to copy.
    pub(super) fn keep(&self, path: &Path, from: u64) -> Result<()> {
        let file = match self.fs().open(path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at(path)?,
        };
        let length = file.length().at(path)?;
        if length <= from {
            return Ok(());
        }
        let copy_path = self.quarantine_name(path)?;
        let copy = self.fs().open(&copy_path, Open::CreateNew).at(&copy_path)?;
        let mut bytes = vec![0; COPY_BYTES];
        let mut at = from;
        loop {
            let got = file.read_at(&mut bytes, at).at(path)?;
            let Some(piece) = bytes.get(..got).filter(|piece| !piece.is_empty()) else { break };
            // Zeros need no place: the control file is nearly nothing else.
            if piece.iter().any(|byte| *byte != 0) {
                copy.write_at(&[piece], at - from).at(&copy_path)?;
            }
            at += got as u64;
        }
        copy.sync_data().at(&copy_path)?;
        let folder = fs::parent(&copy_path);
        self.fs().sync_dir(folder).at(folder)
    }

    /// Moves a file to `quarantine/`.
    fn put_aside(&self, path: &Path) -> Result<()> {
        let to = self.quarantine_name(path)?;
        self.fs().rename(path, &to).at(path)?;
        for folder in [fs::parent(&to), fs::parent(path)] {
            self.fs().sync_dir(folder).at(folder)?;
        }
        Ok(())
    }

    /// Keeps the original of a small file and replaces it.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.keep(path, 0)?;
        fs::replace(&**self.fs(), path, bytes).at(path)
    }

    /// The identity of the log: from `FORMAT`, else what most segments say, else a new one.
    fn format(&mut self, streams: &[StreamFacts]) -> Result<[u8; 16]> {
        if let Some(uuid) = self.uuid {
            return Ok(uuid);
        }
        let mut votes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
        let segments = streams.iter().flat_map(|stream| stream.shards.values());
        let segments = segments.flat_map(|facts| &facts.segments);
        for header in segments.filter_map(|segment| segment.header.as_ref()) {
            *votes.entry(header.log_uuid).or_default() += 1;
        }
        let path = self.root.join("FORMAT");
        let uuid = match votes.into_iter().max_by_key(|(_, count)| *count) {
            Some((uuid, _)) => uuid,
            None => sys::random_uuid().at(&path)?,
        };
        self.replace(&path, &encode_format(uuid))?;
        self.mark(|finding| finding.kind == Kind::FormatDamaged, "written anew");
        Ok(uuid)
    }

    /// Gives the shards of a stream that have the page of another shard one of their own; `None` if there
    /// are none.
    ///
    /// What the old page says is about one of them, and the pages are made anew in the end.
    fn own_pages(
        &mut self,
        stream: &StreamFacts,
        manifest: &Manifest,
        pages: &mut BTreeSet<u32>,
    ) -> Result<Option<Manifest>> {
        let is_it = |finding: &Finding| {
            finding.kind == Kind::PageShared && finding.stream.as_deref() == Some(&stream.name)
        };
        let found = self.findings.iter().filter(|finding| is_it(finding));
        let shared: BTreeSet<ShardId> = found.filter_map(|finding| finding.shard).collect();
        if shared.is_empty() {
            return Ok(None);
        }
        let mut manifest = manifest.clone();
        for meta in manifest.shards.iter_mut().filter(|meta| shared.contains(&meta.id)) {
            let Some(page) = take_page(pages) else { return Ok(None) };
            meta.page = page;
        }
        let path = stream.folder.join("manifest.json");
        self.keep(&path, 0)?;
        manifest.store(self.fs(), &path)?;
        self.mark(is_it, "the shard has a page of its own");
        Ok(Some(manifest))
    }

    /// Writes a manifest from what the segment headers say; `None` if they do not say enough.
    fn manifest(
        &mut self,
        stream: &StreamFacts,
        pages: &mut BTreeSet<u32>,
    ) -> Result<Option<Manifest>> {
        let path = stream.folder.join("manifest.json");
        let is_it = |finding: &Finding| {
            matches!(finding.kind, Kind::ManifestDamaged | Kind::ManifestMissing)
                && finding.stream.as_deref() == Some(&stream.name)
        };
        if !self.findings.iter().any(is_it) {
            return Ok(None);
        }
        let mut shards = Vec::new();
        for (id, facts) in &stream.shards {
            let header = facts.segments.iter().find_map(|segment| segment.header.as_ref());
            let Some(header) = header else { return Ok(None) };
            // A child whose parents all go on belongs to a split or merge that was given up; if one
            // of them is closed, the next opening finishes it.
            let parents: Vec<bool> = header
                .parents
                .iter()
                .filter_map(|id| Some(stream.shards.get(id)?.is_closed()))
                .collect();
            if !parents.is_empty() && !parents.contains(&true) {
                continue;
            }
            let Some(page) = take_page(pages) else { return Ok(None) };
            shards.push(ShardMeta {
                id: *id,
                page,
                hash_range: header.hash_range,
                parents: header.parents.clone(),
                is_open: !facts.is_closed(),
                is_pending: parents.contains(&false),
            });
        }
        if shards.is_empty() {
            return Ok(None);
        }
        let has_zstd = stream.shards.values().any(|facts| facts.has_zstd);
        let created = stream.shards.values().flat_map(|facts| &facts.segments);
        let created = created.filter_map(|segment| Some(segment.header.as_ref()?.created)).min();
        let manifest = Manifest {
            config: StreamConfig {
                shards: u32::try_from(shards.len()).unwrap_or(u32::MAX),
                durability: Durability::Group,
                retention: Retention::default(),
                is_internal: stream.name.contains('.'),
                compression: if has_zstd { Compression::Zstd } else { Compression::None },
                ..StreamConfig::default()
            },
            created: created.unwrap_or(0),
            shards,
        };
        self.keep(&path, 0)?;
        manifest.store(self.fs(), &path)?;
        let folder = fs::parent(&stream.folder);
        self.fs().sync_dir(folder).at(folder)?;
        self.mark(is_it, "written anew from the segment headers; durability `group`, no retention");
        Ok(Some(manifest))
    }

    /// After any change the pages are made anew: what they say may be about what was there before.
    fn control(&mut self) -> Result<()> {
        let path = self.root.join("control");
        let is_it = |finding: &Finding| finding.kind == Kind::ControlDamaged;
        let is_damaged = self.findings.iter().any(is_it);
        if !self.has_changed && !is_damaged || !self.fs().exists(&path).at(&path)? {
            return Ok(());
        }
        if is_damaged {
            self.keep(&path, 0)?;
        }
        let file = self.fs().open(&path, Open::Write).at(&path)?;
        file.truncate(0).at(&path)?;
        file.sync_data().at(&path)?;
        self.mark(is_it, "made anew");
        Ok(())
    }
}

/// A page that no shard has, which one has from now on; `None` if there is none left.
fn take_page(pages: &mut BTreeSet<u32>) -> Option<u32> {
    let page = (1..=SHARDS_MAX).find(|page| !pages.contains(page))?;
    pages.insert(page);
    Some(page)
}

/// One shard being repaired.
struct ShardRepair<'a, 'r> {
    repair: &'a mut Repair<'r>,
    stream: &'a str,
    folder: PathBuf,
    meta: &'a ShardMeta,
    facts: &'a ShardFacts,
    uuid: [u8; 16],
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

    fn run(&mut self) -> Result<()> {
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

    /// Takes note of the holes that were found, and of those that recovery had found before.
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

    /// Numbers from here on were used by nobody.
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

    /// A shard without a segment goes on in a new one, above every number known.
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

    /// Makes the segment that begins at a boundary, and has recovery begin there.
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

    /// Cuts a shard whose flush failed where it was last durable, and goes on in a new segment: the
    /// pages of the old file may say one thing and the disk another.
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
        // First what is said, then the deed: whoever comes after a crash in between begins at the cut.
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

    /// Writes what is kept once more, as far as nothing says that it is on disk, and flushes it.
    ///
    /// WHY not the flush alone: after one that failed, the kernel may take its pages for clean, and say
    /// yes without writing anything.
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
