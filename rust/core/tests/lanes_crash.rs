//! The machine stops after every single change of a lanes file, in many states of what was not
//! synced, and again while the lanes are taken over: no lane goes beyond what was written, none falls
//! behind what was synced, and a change of the factor leaves the old lanes or the new ones.
//!
//! `STREAMFN_CRASH_FULL` has more states tried at each point.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "`make crash` prints its figures")]

use std::path::Path;
use std::sync::Arc;

use crate::simulation::ledger::Ledger;
use crate::simulation::{Bound, Call, Crasher, Disk, Fault, Garbage, SimFs};
use streamfn_core::checkpoint::{LanesFile, ResumePoint};
use streamfn_core::fs::Fs;

const PATH: &str = "/log/shardId-000000000000.lanes";
const BOOT: [u8; 16] = [1; 16];
const START: u64 = 100;

fn is_full() -> bool {
    std::env::var_os("STREAMFN_CRASH_FULL").is_some()
}

fn at(next_seq: u64) -> ResumePoint {
    ResumePoint { next_seq, ..ResumePoint::default() }
}

fn open(fs: &SimFs) -> LanesFile {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    LanesFile::open(&fs, Path::new(PATH), "m s shardId-000000000000".into()).unwrap()
}

/// A lanes file and the story of what was done with it.
struct Story {
    fs: SimFs,
    file: LanesFile,
    ledger: Ledger,
}

impl Story {
    fn begin(factor: u32) -> Self {
        let fs = SimFs::new();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        LanesFile::create(&shared, Path::new(PATH), factor, at(START), 1).unwrap();
        let ledger = Ledger::begin(factor, START, 0, fs.point());
        Self { file: open(&fs), fs, ledger }
    }

    fn take(&mut self, slot: u32) {
        self.file.take(slot).unwrap().unwrap();
        self.ledger.note_synced(self.fs.point());
    }

    fn write(&mut self, slot: u32, next_seq: u64) {
        self.ledger.write(slot, next_seq, self.fs.point() + 1);
        self.file.checkpoint(slot, at(next_seq), 1).unwrap();
    }

    fn sync(&mut self) {
        self.file.sync().unwrap();
        self.ledger.note_synced(self.fs.point());
    }

    fn give_back(&mut self, slot: u32) {
        self.file.give_back(slot).unwrap();
        self.ledger.note_synced(self.fs.point());
    }

    /// The process dies, with all that it has not synced, and another goes on.
    fn die(&mut self) {
        self.file = open(&self.fs);
    }

    fn change_factor(&mut self, factor: u32) {
        self.die();
        let begun = self.fs.point();
        assert!(self.file.change_factor(factor, BOOT, 1).unwrap());
        self.ledger.change_factor(factor, begun, self.fs.point());
    }

    /// All lanes begin anew at a place that may lie before or behind where they are.
    fn restart(&mut self, next_seq: u64) {
        self.die();
        let begun = self.fs.point();
        self.file.restart(at(next_seq), 1).unwrap();
        self.ledger.restart(next_seq, begun, self.fs.point());
    }

    /// Looks at a disk that a crash after `point` changes left; returns the lanes' positions.
    fn check(&self, disk: Disk, point: usize) -> Option<(SimFs, Vec<u64>)> {
        let fs = SimFs::on(disk);
        if !fs.exists(Path::new(PATH)).unwrap() {
            assert!(point < self.ledger.since(), "a file that was made is there, point {point}");
            return None;
        }
        let lanes = open(&fs).lanes().unwrap_or_else(|error| panic!("point {point}: {error}"));
        let checked = self.ledger.check(&lanes, point);
        checked.unwrap_or_else(|wrong| panic!("point {point}: {wrong}"));
        Some((fs, lanes.iter().map(|lane| lane.checkpoint.next_seq).collect()))
    }
}

/// Slots are smaller than what a device writes as a whole, but nothing here relies on it: so an
/// unsynced one may also hold garbage.
fn bound() -> Bound {
    let exhaustive = if is_full() { 2_048 } else { 128 };
    Bound { exhaustive, drawn: 16, garbage: Garbage::Any }
}

/// Takes over, writes and syncs the lanes that a crash left, with another crash after each change.
fn go_on(fs: &SimFs, found: &[u64], point: usize) -> usize {
    let mut tried = 0;
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
        let few = Bound { exhaustive: 8, drawn: 2, garbage: Garbage::Any };
        for disk in crasher.states(number as u64, &few) {
            tried += 1;
            let lanes = open(&SimFs::on(disk)).lanes();
            let lanes = lanes.unwrap_or_else(|error| panic!("points {point}, {number}: {error}"));
            for (lane, found) in lanes.iter().zip(found) {
                assert!((*found..=found + 1).contains(&lane.checkpoint.next_seq));
            }
        }
    }
    tried
}

fn crash_everywhere(story: &Story) -> usize {
    let mut tried = 0;
    let mut crasher = Crasher::on(SimFs::new().disk());
    for (number, change) in story.fs.changes().iter().enumerate() {
        crasher.step(change);
        for disk in crasher.states(number as u64, &bound()) {
            tried += 1;
            if let Some((fs, found)) = story.check(disk, number + 1) {
                tried += go_on(&fs, &found, number + 1);
            }
        }
    }
    println!("lanes file: crash points tried {tried}, checkpoints lost or gone ahead 0");
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
    story.give_back(0);
    story.take(0);
    story.write(0, 210);

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
        for disk in crasher.states(number as u64, &bound()) {
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
    story.fs.fail_next(Call::Sync, Fault::Errno(EIO));
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
    story.fs.fail_next(Call::Allocate, Fault::Errno(ENOSPC));
    let refused = story.file.change_factor(2, BOOT, 1);
    assert!(matches!(refused, Err(streamfn_core::Error::LogFull { .. })));

    assert_eq!(1, open(&story.fs).head().unwrap().factor);
    story.file.take(0).unwrap();
    story.file.checkpoint(0, at(160), 1).unwrap();
}
