//! Examines the mappings: records and lanes files, and whether the files that they need are there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::finding::{Finding, Kind};
use super::lanes_bytes::{
    read_file, read_if_there, state_of, Lanes, Slot, LANES_SUFFIX, WINDOW_EXTENSIONS,
};
use super::Examination;
use crate::checkpoint::lanes::{LANES_START, LANE_BYTES, STRIDE};
use crate::checkpoint::mapping::{folder_of, stream_of, RANGES_START, RECORD, REMOVED};
use crate::checkpoint::slot::{
    replayed, Checkpoint, Head, InFlight, MappingRecord, RecordRange, CHECKPOINT_BYTES, HEAD_BYTES,
    IN_FLIGHT_BYTES_MAX, MAPPING_BYTES,
};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{File, Lock, Open};
use crate::log::wait_for;
use crate::stream::ShardMeta;
use crate::types::{SequenceNumber, ShardId};

/// A lanes file is locked for microseconds; a process that holds it for longer is stopped.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

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

/// Reports lanes files that must exist and do not.
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
    let ranges = RecordRange::decode_all(bytes.get(RANGES_START..).unwrap_or_default()).ok();
    for stream in record.begun {
        let lanes = folder.join(&*folder_of(&stream));
        let names = examination.names(&lanes)?;
        let is_there =
            |shard: &ShardId| names.iter().any(|name| *name == format!("{shard}{LANES_SUFFIX}"));
        let due = due_shards(examination, &stream, ranges.as_deref(), &is_there);
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
    ranges: Option<&[RecordRange]>,
    is_there: &impl Fn(&ShardId) -> bool,
) -> Vec<ShardId> {
    if let Some(ranges) = ranges {
        return ranges.iter().map(|range| range.shard).collect();
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
        if let Err(damage) = RecordRange::decode_all(bytes.get(RANGES_START..).unwrap_or_default())
        {
            let detail = format!("what it reads is damaged: {}", damage.0);
            let position = RANGES_START as u64;
            examination.tell(Finding::new(Kind::ReplayDamaged, path, detail).at(position));
        }
    }
    Ok(true)
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

/// The window files of a lane with windows: they hold its position.
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

/// Checks a position above the end of its shard, found in a file at a byte: that of a lane.
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
