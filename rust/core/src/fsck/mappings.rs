//! The mappings: records, lanes files, and what in them others cannot do without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Kind};
use super::repair::Repair;
use super::Examination;
use crate::checkpoint::lanes::{LANES_START, LANE_BYTES, STRIDE};
use crate::checkpoint::mapping::{folder_of, stream_of, RECORD, REMOVED, STRETCHES_START};
use crate::checkpoint::slot::{
    replayed, Checkpoint, Head, InFlight, MappingRecord, OnFailure, Stretch, CHECKPOINT_BYTES,
    HEAD_BYTES, IN_FLIGHT_BYTES_MAX, MAPPING_BYTES,
};
use crate::checkpoint::window::Pair;
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open};
use crate::log::wait_for;
use crate::stream::ShardMeta;
use crate::types::{SequenceNumber, ShardId, Start, FACTOR_MAX};

/// A lanes file is locked for microseconds; whoever holds it longer is stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LANES_SUFFIX: &str = ".lanes";
const WINDOW_EXTENSIONS: [&str; 2] = ["window.a", "window.b"];

/// A lanes file being examined.
struct Lanes<'a> {
    path: &'a Path,
    stream: &'a str,
    shard: ShardId,
    bytes: Vec<u8>,
    /// The window files beside it.
    windows: [(Slot, Option<Pair>); 2],
}

/// Looks through all mappings.
pub(super) fn examine(examination: &mut Examination<'_>) -> Result<()> {
    let folder = examination.root.join("mappings");
    for name in examination.folders(&folder)? {
        let folder = folder.join(name);
        match mapping(examination, &folder) {
            // Others may remove a function while it is looked at.
            Err(Error::Io { source, .. })
                if !examination.is_exclusive
                    && source.kind() == std::io::ErrorKind::NotFound
                    && !examination.fs().exists(&folder.join("mapping")).at(&folder)? => {}
            other => other?,
        }
    }
    Ok(())
}

fn mapping(examination: &mut Examination<'_>, folder: &Path) -> Result<()> {
    examination.checked.mappings += 1;
    if !record(examination, folder)? {
        return Ok(());
    }
    for name in examination.names(folder)? {
        let path = folder.join(&name);
        if examination.is_folder(&path)? {
            stream(examination, stream_of(&name), &path)?;
        } else if name != RECORD && name != REMOVED {
            examination.foreign(&path);
        }
    }
    missing_lanes(examination, folder)
}

/// Tells of lanes files that must be there and are not.
fn missing_lanes(examination: &mut Examination<'_>, folder: &Path) -> Result<()> {
    let lock = examination.root.join("mappings").join("lock");
    let lock = examination.fs().open(&lock, Open::Read).ok().map(|file| (file, lock));
    // WHY: a stream is forgotten, or begun, in several steps, under this lock. While somebody holds it
    // nothing is judged.
    let is_locked = match &lock {
        Some((file, path)) => {
            wait_for(file, path, Lock::Shared, &Patience::of(LOCK_PATIENCE)).is_ok()
        }
        None => false,
    };
    if is_locked || examination.is_exclusive {
        missing_under_lock(examination, folder)?;
    }
    if let Some((file, path)) = lock.filter(|_| is_locked) {
        file.unlock().at(&path)?;
    }
    Ok(())
}

fn missing_under_lock(examination: &mut Examination<'_>, folder: &Path) -> Result<()> {
    let path = folder.join(RECORD);
    let bytes = read_if_there(examination.fs(), &path)?;
    let slots = bytes.chunks(MAPPING_BYTES).take(2);
    let slots = slots.filter_map(|slot| MappingRecord::decode(slot).ok());
    let Some(record) = slots.max_by_key(|record| record.counter) else { return Ok(()) };
    let stretches = Stretch::decode_all(bytes.get(STRETCHES_START..).unwrap_or_default()).ok();
    for stream in record.begun {
        let lanes = folder.join(&*folder_of(&stream));
        let names = examination.names(&lanes)?;
        let is_there =
            |shard: &ShardId| names.iter().any(|name| *name == format!("{shard}{LANES_SUFFIX}"));
        let due = due_shards(examination, &stream, stretches.as_deref(), &is_there);
        let missing: Vec<_> = due.iter().filter(|shard| !is_there(shard)).collect();
        if !missing.is_empty() && !examination.fs().exists(&lanes).at(&lanes)? {
            let detail = "the folder of its positions in a stream is missing";
            let finding = Finding::new(Kind::LanesMissing, lanes, detail);
            examination.tell(finding.of(&stream, None));
            continue;
        }
        for shard in missing {
            let path = lanes.join(format!("{shard}{LANES_SUFFIX}"));
            let finding = Finding::new(Kind::LanesMissing, path, "the file is missing");
            examination.tell(finding.of(&stream, Some(*shard)));
        }
    }
    Ok(())
}

/// The shards of a stream that must have lanes in a mapping that has begun with it.
fn due_shards(
    examination: &Examination<'_>,
    stream: &str,
    stretches: Option<&[Stretch]>,
    is_there: &impl Fn(&ShardId) -> bool,
) -> Vec<ShardId> {
    if let Some(stretches) = stretches {
        return stretches.iter().map(|stretch| stretch.shard).collect();
    }
    let found = examination.streams.iter().find(|facts| facts.name == stream);
    let Some(manifest) = found.and_then(|facts| facts.manifest.as_ref()) else {
        return Vec::new();
    };
    // Shards that came from others have lanes when a worker has seen them: all that are there get
    // theirs at once.
    let seen = manifest.shards.iter().map(|meta| meta.id).filter(is_there).max();
    let is_due = |meta: &&ShardMeta| meta.parents.is_empty() || Some(meta.id) < seen;
    let due = manifest.shards.iter().filter(|meta| !meta.is_pending).filter(is_due);
    due.map(|meta| meta.id).collect()
}

/// Examines the record of a mapping; false if there is none.
fn record(examination: &mut Examination<'_>, folder: &Path) -> Result<bool> {
    let path = folder.join(RECORD);
    if !examination.fs().exists(&path).at(&path)? {
        // Its folder is made before it; without lanes it is a registration that did not finish.
        let names = examination.names(folder)?;
        let mut has_lanes = false;
        for name in &names {
            has_lanes |= examination.is_folder(&folder.join(name))?;
        }
        let is_replay =
            folder.file_name().is_some_and(|name| replayed(&name.to_string_lossy()).is_some());
        if is_replay || names.iter().any(|name| name == REMOVED) {
            examination.tell(Finding::new(Kind::MappingRemoved, path, "the record is gone"));
        } else if has_lanes {
            examination.tell(Finding::new(Kind::MappingDamaged, path, "the file is missing"));
        }
        return Ok(false);
    }
    let slots = examination.read_slots(&path, |bytes| {
        let slot = |at: usize| {
            let bytes = bytes.get(at..at + MAPPING_BYTES).unwrap_or_default();
            state_of(bytes, |bytes| MappingRecord::decode(bytes).is_ok())
        };
        [Some(slot(0)), Some(slot(MAPPING_BYTES))]
    })?;
    let slots = slots.map(|slot| slot.unwrap_or(Slot::Damaged));
    let kinds = (Kind::MappingDamaged, Kind::MappingSlotDamaged);
    if let Some((kind, position, detail)) = judge(slots, kinds, MAPPING_BYTES as u64) {
        examination.tell(Finding::new(kind, &path, detail).at(position));
    }
    let name = folder.file_name().and_then(|name| name.to_str());
    if name.and_then(replayed).is_some() {
        // It is written once, with the file: nobody can be in the middle of it.
        let bytes = read_file(examination.fs(), &path)?;
        if let Err(damage) = Stretch::decode_all(bytes.get(STRETCHES_START..).unwrap_or_default()) {
            let detail = format!("what it reads is damaged: {}", damage.0);
            let position = STRETCHES_START as u64;
            examination.tell(Finding::new(Kind::ReplayDamaged, path, detail).at(position));
        }
    }
    Ok(true)
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Valid,
    /// All zeros: it has not been written yet.
    Unused,
    Damaged,
}

fn state_of(bytes: &[u8], is_valid: impl Fn(&[u8]) -> bool) -> Slot {
    match bytes {
        _ if is_valid(bytes) => Slot::Valid,
        [_, ..] if bytes.iter().all(|byte| *byte == 0) => Slot::Unused,
        _ => Slot::Damaged,
    }
}

/// Which of the two kinds a pair of slots is, where, and in words; `None` if it is whole.
fn judge(
    slots: [Slot; 2],
    (both, one): (Kind, Kind),
    stride: u64,
) -> Option<(Kind, u64, &'static str)> {
    match slots {
        [Slot::Valid, Slot::Valid | Slot::Unused] | [Slot::Unused, Slot::Valid] => None,
        [Slot::Valid, Slot::Damaged] => Some((one, stride, "slot 1 is damaged")),
        [Slot::Damaged, Slot::Valid] => Some((one, 0, "slot 0 is damaged")),
        _ => Some((both, 0, "both slots are damaged")),
    }
}

fn stream(examination: &mut Examination<'_>, stream: &str, folder: &Path) -> Result<()> {
    for name in examination.names(folder)? {
        let path = folder.join(&name);
        let shard = name.strip_suffix(LANES_SUFFIX).and_then(ShardId::parse);
        match shard {
            Some(shard) => {
                let found = read_locked(examination, &path, stream, shard)?;
                lanes(examination, &found);
            }
            None if path.extension().is_some_and(|extension| extension == "lease") => {}
            // They are looked at together with the lanes file.
            None if is_window(&name) => {}
            None => examination.foreign(&path),
        }
    }
    Ok(())
}

fn is_window(name: &str) -> bool {
    name.split_once('.').is_some_and(|(shard, extension)| {
        ShardId::parse(shard).is_some() && WINDOW_EXTENSIONS.contains(&extension)
    })
}

/// A lanes file and its window files as they stand at one moment.
fn read_locked<'a>(
    examination: &Examination<'_>,
    path: &'a Path,
    stream: &'a str,
    shard: ShardId,
) -> Result<Lanes<'a>> {
    let file: Arc<dyn File> = examination.fs().open(path, Open::Read).at(path)?;
    // WHY not an error: a stopped process must not end an examination; a slot that is being written
    // at this moment is looked at all the same.
    let is_locked = wait_for(&file, path, Lock::Shared, &Patience::of(LOCK_PATIENCE)).is_ok();
    let lanes = Lanes::read(examination.fs(), path, stream, shard);
    if is_locked {
        file.unlock().at(path)?;
    }
    lanes
}

/// The two window files beside a lanes file; a lane without windows has none.
fn read_windows(fs: &Arc<dyn Fs>, lanes: &Path) -> Result<[(Slot, Option<Pair>); 2]> {
    let read = |extension: &str| {
        let path = lanes.with_extension(extension);
        if !fs.exists(&path).at(&path)? {
            return Ok((Slot::Unused, None));
        }
        let bytes = read_file(fs, &path)?;
        Ok(match Pair::decode(&bytes) {
            Ok(pair) => (Slot::Valid, Some(pair)),
            Err(_) if bytes.iter().all(|byte| *byte == 0) => (Slot::Unused, None),
            Err(_) => (Slot::Damaged, None),
        })
    };
    let [a, b] = WINDOW_EXTENSIONS;
    Ok([read(a)?, read(b)?])
}

fn lanes(examination: &mut Examination<'_>, lanes: &Lanes<'_>) {
    let heads = [0, STRIDE]
        .map(|at| state_of(lanes.slot(at, HEAD_BYTES), |bytes| Head::decode(bytes).is_ok()));
    let kinds = (Kind::LanesDamaged, Kind::LanesSlotDamaged);
    if let Some((kind, position, detail)) = judge(heads, kinds, STRIDE) {
        examination.tell(lanes.finding(kind, detail).at(position));
    }
    let Some(head) = lanes.head() else { return };
    if let (Some(which), true) = (heads.iter().position(|s| *s == Slot::Unused), head.counter > 1) {
        // Each change writes both.
        let finding = lanes.finding(Kind::LanesSlotDamaged, format!("slot {which} is zeros"));
        examination.tell(finding.at(which as u64 * STRIDE));
    }
    let end = examination.end_of(lanes.stream, lanes.shard);
    if head.is_windowed {
        windows(examination, lanes, head, end);
    }
    for number in 0..head.factor {
        lane(examination, lanes, head, number, end);
    }
}

/// The window files of a lane that has windows: there stands its position.
fn windows(
    examination: &mut Examination<'_>,
    lanes: &Lanes<'_>,
    head: Head,
    end: Option<SequenceNumber>,
) {
    let finding = |kind, extension: &str, detail: String| {
        let path = lanes.path.with_extension(extension);
        Finding::new(kind, path, detail).of(lanes.stream, Some(lanes.shard)).at(0)
    };
    let current = lanes.pairs().filter(|pair| pair.generation == head.generation);
    let Some(pair) = current.max_by_key(|pair| pair.counter) else {
        let [path, _] = WINDOW_EXTENSIONS;
        let detail = "neither window file has a position and a state".to_owned();
        examination.tell(finding(Kind::WindowsDamaged, path, detail));
        return;
    };
    for ((slot, _), extension) in lanes.windows.iter().zip(WINDOW_EXTENSIONS) {
        if *slot == Slot::Damaged {
            let detail = "this one of the two window files is damaged".to_owned();
            examination.tell(finding(Kind::WindowFileDamaged, extension, detail));
        }
    }
    let [path, _] = WINDOW_EXTENSIONS;
    let path = lanes.path.with_extension(path);
    beyond(examination, lanes, pair.place.next_seq, end, (&path, 0, "the lane"));
}

fn lane(
    examination: &mut Examination<'_>,
    lanes: &Lanes<'_>,
    head: Head,
    number: u32,
    end: Option<SequenceNumber>,
) {
    let start = LANES_START + u64::from(number) * LANE_BYTES;
    let found = lanes.pair(number);
    let slots = [start, start + STRIDE].map(|at| {
        state_of(lanes.slot(at, CHECKPOINT_BYTES), |bytes| Checkpoint::decode(bytes).is_ok())
    });
    let current = found.iter().flatten().filter(|slot| slot.generation == head.generation);
    let Some(checkpoint) = current.max_by_key(|slot| slot.counter) else {
        let detail = format!("lane {number} has no valid checkpoint");
        examination.tell(lanes.finding(Kind::CheckpointDamaged, detail).at(start));
        return;
    };
    if let [Slot::Damaged, _] | [_, Slot::Damaged] = slots {
        let at = if slots == [Slot::Damaged, Slot::Valid] { start } else { start + STRIDE };
        let detail = format!("one of the two checkpoints of lane {number} is damaged");
        examination.tell(lanes.finding(Kind::CheckpointSlotDamaged, detail).at(at));
    }
    if !head.is_windowed {
        let who = format!("lane {number}");
        beyond(examination, lanes, checkpoint.next_seq, end, (lanes.path, start, &who));
    }
    let in_flight = start + 2 * STRIDE;
    let bytes = lanes.slot(in_flight, IN_FLIGHT_BYTES_MAX);
    if state_of(bytes, |bytes| InFlight::decode(bytes).is_ok()) == Slot::Damaged {
        let detail = format!("the in-flight slot of lane {number} is damaged");
        examination.tell(lanes.finding(Kind::InFlightDamaged, detail).at(in_flight));
    }
}

/// Judges a position above the end of its shard, that stands in a file at a byte: that of a lane.
fn beyond(
    examination: &mut Examination<'_>,
    lanes: &Lanes<'_>,
    next_seq: SequenceNumber,
    end: Option<SequenceNumber>,
    (path, byte, lane): (&Path, u64, &str),
) {
    let Some(end) = end.filter(|end| next_seq > *end) else { return };
    let detail = format!("{lane} is at {next_seq}, the shard ends at {end}");
    let finding = |kind, path: &Path, detail: String| {
        Finding::new(kind, path, detail).of(lanes.stream, Some(lanes.shard))
    };
    let Some(free) = examination.reserved_of(lanes.stream, lanes.shard).filter(|r| next_seq > *r)
    else {
        examination.tell(finding(Kind::CheckpointBeyond, path, detail).at(byte));
        return;
    };
    // The numbers below were given out, or there would be no such position: the shard is older.
    let folder = examination.root.join("streams").join(lanes.stream).join(lanes.shard.to_string());
    let detail = format!("{detail}, and numbers from {free} on count as free");
    let misplaced = finding(Kind::StateMisplaced, &folder.join("state"), detail);
    let is_told = |other: &Finding| other.kind == misplaced.kind && other.path == misplaced.path;
    if !examination.findings.iter().any(is_told) {
        examination.tell(misplaced);
    }
}

impl<'a> Lanes<'a> {
    fn read(fs: &Arc<dyn Fs>, path: &'a Path, stream: &'a str, shard: ShardId) -> Result<Self> {
        Ok(Self {
            path,
            stream,
            shard,
            bytes: read_file(fs, path)?,
            windows: read_windows(fs, path)?,
        })
    }

    fn slot(&self, at: u64, length: usize) -> &[u8] {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(length).min(self.bytes.len());
        self.bytes.get(from..to).unwrap_or_default()
    }

    fn finding(&self, kind: Kind, detail: impl Into<String>) -> Finding {
        Finding::new(kind, self.path, detail).of(self.stream, Some(self.shard))
    }

    /// How many lanes there is room for.
    fn room(&self) -> u32 {
        let bytes = (self.bytes.len() as u64).saturating_sub(LANES_START);
        u32::try_from(bytes / LANE_BYTES).unwrap_or(0)
    }

    fn pair(&self, number: u32) -> [Option<Checkpoint>; 2] {
        let start = LANES_START + u64::from(number) * LANE_BYTES;
        [start, start + STRIDE].map(|at| Checkpoint::decode(self.slot(at, CHECKPOINT_BYTES)).ok())
    }

    fn checkpoints(&self) -> impl Iterator<Item = Checkpoint> + '_ {
        (0..self.room()).flat_map(|number| self.pair(number)).flatten()
    }

    fn head(&self) -> Option<Head> {
        let heads = [0, STRIDE].map(|at| Head::decode(self.slot(at, HEAD_BYTES)).ok());
        heads.into_iter().flatten().max_by_key(|head| head.counter)
    }

    /// The head as the checkpoints tell it: the highest generation, and how many lanes have it. A
    /// change of the factor that was not finished may be taken for one that was: its lanes begin at
    /// the lowest checkpoint of all, so that nothing is passed over.
    fn derived_head(&self) -> Option<Head> {
        let is_damaged = |number: u32| {
            let start = LANES_START + u64::from(number) * LANE_BYTES;
            [start, start + STRIDE].into_iter().any(|at| {
                let bytes = self.slot(at, CHECKPOINT_BYTES);
                state_of(bytes, |bytes| Checkpoint::decode(bytes).is_ok()) == Slot::Damaged
            })
        };
        // INVARIANT: with a lane too few, keys would go to lanes that are past their records.
        if (0..self.room()).any(is_damaged) {
            return None;
        }
        let generation = self.checkpoints().map(|slot| slot.generation).max()?;
        let has_it = |number: &u32| {
            self.pair(*number).iter().flatten().any(|slot| slot.generation == generation)
        };
        let factor = u32::try_from((0..self.room()).take_while(has_it).count()).ok()?;
        if (factor..self.room()).any(|number| has_it(&number)) {
            return None;
        }
        (1..=FACTOR_MAX).contains(&factor).then_some(Head {
            counter: generation,
            generation,
            factor,
            is_windowed: self.pairs().any(|pair| pair.generation == generation),
        })
    }

    fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.windows.iter().filter_map(|(_, pair)| pair.as_ref())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        if let Some(place) = self.bytes.get_mut(from..from.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    /// Writes both heads; false if nobody knows what they said.
    fn repair_heads(&mut self) -> bool {
        // A slot that rotted may be the newer one.
        let derived = self.derived_head();
        let newest = derived.into_iter().chain(self.head()).max_by_key(|head| head.generation);
        let Some(head) = newest else { return false };
        // INVARIANT: counters rise by one from the 1 in slot 0.
        let place = head.counter.saturating_sub(1) % 2 * STRIDE;
        self.put(place, &head.encode());
        let before = Head { counter: head.counter.saturating_sub(1), ..head };
        self.put(STRIDE - place, &before.encode());
        true
    }

    /// Where one of a lane's two checkpoints is damaged, writes it after the other.
    fn repair_checkpoints(&mut self) {
        let Some(head) = self.head() else { return };
        for number in 0..head.factor.min(self.room()) {
            let start = LANES_START + u64::from(number) * LANE_BYTES;
            let (whole, at) = match self.pair(number) {
                [Some(whole), None] => (whole, start + STRIDE),
                [None, Some(whole)] => (whole, start),
                _ => continue,
            };
            let is_unused = self.slot(at, CHECKPOINT_BYTES).iter().all(|byte| *byte == 0);
            if !is_unused && whole.generation == head.generation {
                let counter = whole.counter.saturating_sub(1);
                self.put(at, &Checkpoint { counter, ..whole }.encode());
            }
        }
    }
}

/// By stream and shard: the highest checkpoint and the highest segment that any lane names.
pub(super) fn furthest(
    fs: &Arc<dyn Fs>,
    root: &Path,
) -> Result<BTreeMap<(String, ShardId), (SequenceNumber, u32)>> {
    let mut found = BTreeMap::new();
    for (path, stream, shard) in lanes_files(fs, root)? {
        let lanes = Lanes::read(fs, &path, &stream, shard)?;
        let most = found.entry((stream.clone(), shard)).or_insert((0, 0));
        let places = lanes.pairs().map(|pair| (pair.place.next_seq, pair.place.hint));
        for (next_seq, hint) in lanes.checkpoints().map(|c| (c.next_seq, c.hint)).chain(places) {
            *most = (most.0.max(next_seq), most.1.max(hint.segment));
        }
    }
    Ok(found)
}

fn read_file(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    fs::read(&**fs, path).at(path)
}

/// Nothing if nothing is there.
fn read_if_there(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    match fs::read(&**fs, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes.at(path),
    }
}

/// Names in a folder; none if it is a file, or nothing is there.
fn names_in(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<String>> {
    Ok(fs::names_in(&**fs, path).at(path)?.unwrap_or_default())
}

/// All lanes files of a log, with stream and shard.
fn lanes_files(fs: &Arc<dyn Fs>, root: &Path) -> Result<Vec<(PathBuf, String, ShardId)>> {
    let mut found = Vec::new();
    let mappings = root.join("mappings");
    for mapping in names_in(fs, &mappings)? {
        let mapping = mappings.join(mapping);
        for stream in names_in(fs, &mapping)? {
            let folder = mapping.join(&stream);
            for name in names_in(fs, &folder)? {
                if let Some(shard) = name.strip_suffix(LANES_SUFFIX).and_then(ShardId::parse) {
                    found.push((folder.join(name), stream_of(&stream).to_owned(), shard));
                }
            }
        }
    }
    Ok(found)
}

/// Puts right what of the mappings can be derived: one slot from the other, a record and a head from
/// the lanes. A lane whose checkpoints are both damaged stays as it is.
pub(super) fn repair(repair: &mut Repair<'_>) -> Result<()> {
    let fs = Arc::clone(repair.fs());
    for (path, stream, shard) in lanes_files(&fs, repair.root)? {
        let kinds = [Kind::LanesDamaged, Kind::LanesSlotDamaged, Kind::CheckpointSlotDamaged];
        if kinds.iter().any(|kind| repair.has(*kind, &path)) {
            repair.keep(&path, 0)?;
            let mut lanes = Lanes::read(&fs, &path, &stream, shard)?;
            let is_headed = lanes.repair_heads();
            lanes.repair_checkpoints();
            fs::replace(&*fs, &path, &lanes.bytes).at(&path)?;
            let is_it = |finding: &Finding| {
                finding.path == path
                    && kinds.contains(&finding.kind)
                    && (is_headed || finding.kind != Kind::LanesDamaged)
            };
            repair.mark(is_it, "worked out from what is whole in the file");
        }
    }
    for kind in [Kind::MappingDamaged, Kind::MappingSlotDamaged] {
        let paths: Vec<PathBuf> = repair.paths_of(kind);
        for path in paths {
            let record = derived_record(&fs, &path)?;
            let second = MappingRecord { counter: record.counter + 1, ..record.clone() };
            // INVARIANT: counters rise by one from the 1 in slot 0.
            let slots = if record.counter % 2 == 1 { [record, second] } else { [second, record] };
            let mut bytes: Vec<u8> = slots.iter().flat_map(MappingRecord::encode).collect();
            // What a replay reads stands behind the slots, and nowhere else.
            let old = if fs.exists(&path).at(&path)? { read_file(&fs, &path)? } else { Vec::new() };
            bytes.extend(old.get(STRETCHES_START..).unwrap_or_default());
            repair.replace(&path, &bytes)?;
            let is_it = |finding: &Finding| finding.kind == kind && finding.path == path;
            repair.mark(is_it, "worked out from the other slot and the lanes files");
        }
    }
    Ok(())
}

/// The record as its valid slot has it; else as the lanes files tell: their factor, not paused, and
/// nothing of a stream skipped that has no lanes yet.
fn derived_record(fs: &Arc<dyn Fs>, path: &Path) -> Result<MappingRecord> {
    let bytes = read_if_there(fs, path)?;
    let slots = bytes.chunks(MAPPING_BYTES).filter_map(|slot| MappingRecord::decode(slot).ok());
    if let Some(record) = slots.max_by_key(|record| record.counter) {
        return Ok(record);
    }
    let folder = fs::parent(path);
    let mut record = MappingRecord {
        counter: 1,
        wanted_factor: 1,
        is_paused: false,
        wants_windows: false,
        start: Start::TrimHorizon,
        begun: Vec::new(),
        replays: 0,
        on_failure: OnFailure::default(),
    };
    for inner in fs.list(folder).at(folder)? {
        let stream = stream_of(&inner).to_owned();
        for name in names_in(fs, &folder.join(&inner))? {
            if name.strip_suffix(LANES_SUFFIX).is_none() {
                continue;
            }
            if !record.begun.contains(&stream) {
                record.begun.push(stream.clone());
            }
            let bytes = read_file(fs, &folder.join(&inner).join(&name))?;
            let heads = [0, 4096].into_iter().filter_map(|at| Head::decode(bytes.get(at..)?).ok());
            if let Some(head) = heads.max_by_key(|head| head.counter) {
                record.wanted_factor = head.factor;
                record.wants_windows = head.is_windowed;
            }
        }
    }
    Ok(record)
}
