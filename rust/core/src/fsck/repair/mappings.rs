//! Repairs mappings and lanes files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Repair;
use crate::checkpoint::lanes::{LANES_START, LANE_BYTES, STRIDE};
use crate::checkpoint::mapping::{stream_of, RANGES_START};
use crate::checkpoint::slot::{
    Checkpoint, Head, MappingRecord, OnFailure, CHECKPOINT_BYTES, MAPPING_BYTES,
};
use crate::error::{IoContext, Result};
use crate::fs::{self, Fs};
use crate::fsck::finding::{Finding, Kind};
use crate::fsck::lanes_bytes::{
    lanes_files, names_in, read_file, read_if_there, state_of, Lanes, Slot, LANES_SUFFIX,
};
use crate::types::{Start, FACTOR_MAX};

/// Repairs what can be derived of the mappings: one slot from the other, a record and a head from
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
            bytes.extend(old.get(RANGES_START..).unwrap_or_default());
            repair.replace(&path, &bytes)?;
            let is_it = |finding: &Finding| finding.kind == kind && finding.path == path;
            repair.mark(is_it, "worked out from the other slot and the lanes files");
        }
    }
    Ok(())
}

/// The record from its valid slot. Otherwise it is derived from the lanes files: their factor, not
/// paused; a stream without lanes begins at its first record.
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

impl Lanes<'_> {
    /// The head that the checkpoints imply: the highest generation, and how many lanes have it. An
    /// unfinished change of the factor may be taken for a finished one. Its lanes begin at the
    /// lowest checkpoint of all, so that nothing is passed over.
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

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        if let Some(place) = self.bytes.get_mut(from..from.saturating_add(bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    /// Writes both heads; false if their content cannot be derived.
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
