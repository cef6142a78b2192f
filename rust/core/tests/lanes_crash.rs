//! The machine stops after every single change of a lanes file, in many states of what was not
//! synced, and again while the lanes are taken over: no lane goes beyond what was written, none falls
//! behind what was synced, and a change of the factor leaves the old lanes or the new ones.
//!
//! `STREAMFN_CRASH_TORN` sets how many torn states are tried at each point.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod simulation;

use std::path::Path;
use std::sync::Arc;

use simulation::{Change, Crasher, Disk, Fate, SimFs};
use streamfn_core::checkpoint::{LanesFile, Place};
use streamfn_core::fs::Fs;

const PATH: &str = "/log/shardId-000000000000.lanes";
const BOOT: [u8; 16] = [1; 16];
const START: u64 = 100;

fn torn() -> u64 {
    std::env::var("STREAMFN_CRASH_TORN").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

fn at(next_seq: u64) -> Place {
    Place { next_seq, ..Place::default() }
}

fn open(fs: &SimFs) -> LanesFile {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    LanesFile::open(&fs, Path::new(PATH), "m s shardId-000000000000".into()).unwrap()
}

/// What one generation of lanes was told: for each lane the positions written, with the number of
/// changes after which each was written, and after which it was synced.
#[derive(Clone, Default)]
struct Generation {
    /// Changes after which it was in force for good.
    since: usize,
    lanes: Vec<Vec<(u64, usize, Option<usize>)>>,
}

/// A lanes file and the story of what was done with it.
struct Story {
    fs: SimFs,
    file: LanesFile,
    created: usize,
    generations: Vec<Generation>,
}

impl Story {
    fn begin(factor: u32) -> Self {
        let fs = SimFs::new();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        LanesFile::create(&shared, Path::new(PATH), factor, at(START), 1).unwrap();
        let (created, file) = (fs.point(), open(&fs));
        let mut story = Self { fs, file, created, generations: Vec::new() };
        story.add_generation(factor, START);
        story
    }

    fn add_generation(&mut self, factor: u32, start: u64) {
        let point = Some(self.fs.point());
        // The slots of a generation count from the write of its head, which is synced before the
        // change returns; so they are never seen unsynced.
        let lanes = vec![vec![(start, 0, point)]; factor as usize];
        self.generations.push(Generation { since: self.fs.point(), lanes });
    }

    fn lanes(&mut self) -> &mut Vec<Vec<(u64, usize, Option<usize>)>> {
        &mut self.generations.last_mut().unwrap().lanes
    }

    fn note_synced(&mut self) {
        let point = self.fs.point();
        for (.., synced) in self.lanes().iter_mut().flatten() {
            synced.get_or_insert(point);
        }
    }

    fn take(&mut self, slot: u32) {
        self.file.take(slot).unwrap().unwrap();
        self.note_synced();
    }

    fn write(&mut self, slot: u32, next_seq: u64) {
        self.file.checkpoint(slot, at(next_seq), 1).unwrap();
        let point = self.fs.point();
        self.lanes()[slot as usize].push((next_seq, point, None));
    }

    fn sync(&mut self) {
        self.file.sync().unwrap();
        self.note_synced();
    }

    /// The process dies, with all that it has not synced, and another goes on.
    fn die(&mut self) {
        self.file = open(&self.fs);
    }

    fn change_factor(&mut self, factor: u32) {
        let lowest = self.lanes().iter().map(|lane| lane.last().unwrap().0).min().unwrap();
        self.die();
        assert!(self.file.change_factor(factor, BOOT, 1).unwrap());
        self.note_synced();
        self.add_generation(factor, lowest);
    }

    /// All lanes begin anew at a place that may lie before or behind where they are.
    fn restart(&mut self, next_seq: u64) {
        self.die();
        self.file.restart(at(next_seq), 1).unwrap();
        self.note_synced();
        let factor = self.lanes().len();
        self.add_generation(u32::try_from(factor).unwrap(), next_seq);
    }

    /// Looks at a disk that a crash after `point` changes left; returns the lanes' positions.
    fn check(&self, disk: Disk, point: usize) -> Option<(SimFs, Vec<u64>)> {
        let fs = SimFs::on(disk);
        if !fs.exists(Path::new(PATH)).unwrap() {
            assert!(point < self.created, "a file that was made is there, point {point}");
            return None;
        }
        let lanes = open(&fs).lanes().unwrap_or_else(|error| panic!("point {point}: {error}"));
        let generation = usize::try_from(lanes[0].head.generation).unwrap() - 1;
        let told = &self.generations[generation];
        let newer = self.generations.get(generation + 1);
        assert!(newer.is_none_or(|newer| point < newer.since), "point {point}");
        assert_eq!(told.lanes.len(), lanes.len(), "point {point}");
        for (lane, told) in lanes.iter().zip(&told.lanes) {
            let found = lane.checkpoint.next_seq;
            let synced = |write: &&(u64, usize, Option<usize>)| write.2.is_some_and(|p| p <= point);
            let least = told.iter().rev().find(synced).map_or(START, |write| write.0);
            let most = told.iter().rev().find(|write| write.1 <= point).unwrap().0;
            assert!((least..=most).contains(&found), "point {point}: {least} {found} {most}");
        }
        Some((fs, lanes.iter().map(|lane| lane.checkpoint.next_seq).collect()))
    }
}

/// What may be left at a crash point: slots are smaller than what a device writes as a whole, but
/// nothing here relies on it; so the last write, or every one, may also have left garbage.
fn states(crasher: &Crasher, seed: u64, torn: u64) -> Vec<Disk> {
    let garbage = |_: usize, _: usize, change: &Change| match change {
        Change::Write(..) => Fate::Garbage,
        _ => Fate::Kept,
    };
    let mut states = crasher.states(seed, torn);
    states.push(crasher.disk(garbage));
    states.push(crasher.disk(|index, count, change| {
        if index + 1 == count {
            garbage(index, count, change)
        } else {
            Fate::Kept
        }
    }));
    states
}

/// Takes over, writes and syncs the lanes that a crash left, with another crash after each change.
fn go_on(fs: &SimFs, found: &[u64], point: usize) {
    let before = fs.disk();
    let file = open(fs);
    for (slot, next_seq) in (0..).zip(found) {
        let epoch = file.lane(slot).unwrap().unwrap().checkpoint.lease_epoch;
        let view = file.take(slot).unwrap().unwrap();
        assert_eq!(*next_seq, view.checkpoint.next_seq);
        assert!(view.checkpoint.lease_epoch > epoch);
        file.checkpoint(slot, at(next_seq + 1), 1).unwrap();
    }
    file.sync().unwrap();
    let mut crasher = Crasher::on(before);
    for (number, change) in fs.changes().iter().enumerate() {
        crasher.step(change);
        for disk in states(&crasher, number as u64, 2) {
            let lanes = open(&SimFs::on(disk)).lanes();
            let lanes = lanes.unwrap_or_else(|error| panic!("points {point}, {number}: {error}"));
            for (lane, found) in lanes.iter().zip(found) {
                assert!((*found..=found + 1).contains(&lane.checkpoint.next_seq));
            }
        }
    }
}

fn crash_everywhere(story: &Story) -> usize {
    let mut tried = 0;
    let mut crasher = Crasher::on(SimFs::new().disk());
    for (number, change) in story.fs.changes().iter().enumerate() {
        crasher.step(change);
        for disk in states(&crasher, number as u64, torn()) {
            tried += 1;
            if let Some((fs, found)) = story.check(disk, number + 1) {
                go_on(&fs, &found, number + 1);
            }
        }
    }
    tried
}

#[test]
fn a_power_cut_takes_at_most_what_was_not_synced() {
    let mut story = Story::begin(2);
    story.take(0);
    story.take(1);
    for round in 0..6 {
        story.write(0, 101 + 3 * round);
        story.write(0, 102 + 3 * round);
        story.write(1, 110 + round);
        if round % 2 == 1 {
            story.sync();
        }
    }
    story.write(0, 190);
    story.die();
    story.take(0);
    story.write(0, 200);

    assert!(crash_everywhere(&story) > 100);
}

#[test]
fn a_change_of_the_factor_leaves_the_old_lanes_or_the_new_ones() {
    let mut story = Story::begin(2);
    story.take(0);
    story.take(1);
    story.write(0, 150);
    story.write(1, 170);
    story.sync();
    story.change_factor(3);
    for slot in 0..3 {
        story.take(slot);
        story.write(slot, 180 + u64::from(slot));
    }
    story.change_factor(1);
    story.take(0);
    story.write(0, 190);
    story.change_factor(4);
    story.take(3);
    story.write(3, 195);

    assert!(crash_everywhere(&story) > 300);
}

#[test]
fn a_seek_leaves_all_lanes_where_they_were_or_all_at_the_new_place() {
    let mut story = Story::begin(3);
    for slot in 0..3 {
        story.take(slot);
        story.write(slot, 150 + u64::from(slot));
    }
    story.sync();
    story.write(1, 170);
    story.restart(110);
    story.take(2);
    story.write(2, 130);
    story.restart(400);
    story.take(0);
    story.write(0, 410);

    assert!(crash_everywhere(&story) > 300);
}

#[test]
fn a_change_that_was_cut_off_can_be_made_again_to_another_factor() {
    let mut story = Story::begin(2);
    story.take(0);
    story.take(1);
    story.write(0, 150);
    story.write(1, 170);
    let before = story.fs.point();
    story.change_factor(4);

    let mut crasher = Crasher::on(SimFs::new().disk());
    for (number, change) in story.fs.changes().iter().enumerate() {
        crasher.step(change);
        if number < before {
            continue;
        }
        for disk in states(&crasher, number as u64, torn()) {
            let (fs, found) = story.check(disk, number + 1).unwrap();
            let file = open(&fs);
            // The old lanes move on, for a while, over what the change had begun to write.
            for (slot, next_seq) in (0..).zip(&found) {
                file.take(slot).unwrap().unwrap();
                file.checkpoint(slot, at(next_seq + 20), 1).unwrap();
                file.give_back(slot).unwrap();
            }
            let lowest = found.iter().min().unwrap() + 20;
            assert!(file.change_factor(3, BOOT, 1).unwrap());
            let lanes = open(&fs).lanes().unwrap();
            assert_eq!(3, lanes.len());
            assert!(lanes.iter().all(|lane| lane.checkpoint.next_seq == lowest));
        }
    }
}

#[test]
fn a_sync_that_failed_is_never_tried_again() {
    const EIO: i32 = 5;
    let mut story = Story::begin(1);
    story.take(0);
    story.write(0, 150);
    story.fs.fail(0, EIO, false);
    assert!(story.file.sync().is_err());

    let point = story.fs.point();
    let poisoned = |result: streamfn_core::Result<()>| {
        matches!(result, Err(streamfn_core::Error::StoragePoisoned { errno: EIO, .. }))
    };
    assert!(poisoned(story.file.sync()));
    assert!(poisoned(story.file.checkpoint(0, at(160), 1)));
    assert!(poisoned(story.file.give_back(0)));
    assert_eq!(point, story.fs.point(), "nothing was written");
    assert_eq!(150, story.file.lane(0).unwrap().unwrap().checkpoint.next_seq, "reading goes on");
}

#[test]
fn a_full_disk_stops_new_lanes_but_no_checkpoint() {
    const ENOSPC: i32 = 28;
    let mut story = Story::begin(1);
    story.take(0);
    story.write(0, 150);
    story.sync();
    story.file.give_back(0).unwrap();
    story.fs.fail(1, ENOSPC, false);
    let refused = story.file.change_factor(2, BOOT, 1);
    assert!(matches!(refused, Err(streamfn_core::Error::LogFull { .. })));

    assert_eq!(1, open(&story.fs).head().unwrap().factor);
    story.file.take(0).unwrap();
    story.file.checkpoint(0, at(160), 1).unwrap();
}
