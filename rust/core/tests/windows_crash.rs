//! The machine stops after every single change of a lanes file and its window files, in many states
//! of what was not synced: position and state are those of one moment, not older than what was
//! synced, and the lane goes on from there.
//!
//! The state is the position as text. `STREAMFN_CRASH_FULL` has more states tried at each point.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "`make crash` prints its figures")]

use std::path::Path;
use std::sync::Arc;

use crate::simulation::{Bound, Change, Crasher, Disk, Garbage, SimFs};
use streamfn_core::checkpoint::{
    LaneLayout, LanesFile, OpenWindow, ResumePoint, StateKind, WindowState, Windows,
};
use streamfn_core::fs::Fs;

const PATH: &str = "/log/shardId-000000000000.lanes";
const BOOT: [u8; 16] = [1; 16];
const START: u64 = 100;

/// An unsynced sector may also hold garbage, as on a device that writes none as a whole.
fn bound() -> Bound {
    let exhaustive = if std::env::var_os("STREAMFN_CRASH_FULL").is_some() { 2_048 } else { 64 };
    Bound { exhaustive, drawn: 16, garbage: Garbage::Any }
}

fn at(next_seq: u64) -> ResumePoint {
    ResumePoint { next_seq, ..ResumePoint::default() }
}

/// A state of a length of its own for each position, so that a mixture of two would show.
fn text_of(position: u64) -> String {
    format!("{position};").repeat(1 + usize::try_from(position * 7919 % 900).unwrap())
}

fn windows_at(position: u64) -> Windows {
    let state =
        WindowState { kind: StateKind::Bytes, bytes: text_of(position).into_bytes().into() };
    let open = OpenWindow { start: 60, end: 120, state, is_ended_early: false };
    Windows { open: Some(open), closed_to: 60 }
}

fn open(fs: &SimFs) -> LanesFile {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    LanesFile::open(&fs, Path::new(PATH), "m s shardId-000000000000".into()).unwrap()
}

/// What was written: position, the changes after which it was, and after which it was synced.
struct Written {
    position: u64,
    at: usize,
    synced: Option<usize>,
}

struct Story {
    fs: SimFs,
    file: LanesFile,
    created: usize,
    written: Vec<Written>,
}

impl Story {
    fn begin() -> Self {
        let fs = SimFs::new();
        let shared: Arc<dyn Fs> = Arc::new(fs.clone());
        LanesFile::create(&shared, Path::new(PATH), LaneLayout::WINDOWED, at(START), 1).unwrap();
        let (created, file) = (fs.point(), open(&fs));
        let first = Written { position: START, at: 0, synced: Some(created) };
        Self { fs, file, created, written: vec![first] }
    }

    fn note_synced(&mut self) {
        let point = self.fs.point();
        for written in &mut self.written {
            written.synced.get_or_insert(point);
        }
    }

    fn take(&mut self) {
        self.file.take(0).unwrap().unwrap();
        self.note_synced();
    }

    fn write(&mut self, position: u64) {
        self.file.checkpoint_windows(0, at(position), &windows_at(position), 1).unwrap();
        self.written.push(Written { position, at: self.fs.point(), synced: None });
    }

    fn sync(&mut self) {
        self.file.sync().unwrap();
        self.note_synced();
    }

    /// Looks at a disk that a crash after `point` changes left.
    fn check(&self, disk: Disk, point: usize) {
        let fs = SimFs::on(disk);
        if !fs.exists(Path::new(PATH)).unwrap() {
            assert!(point < self.created, "a file that was made is there, point {point}");
            return;
        }
        let file = open(&fs);
        let view = file.take(0).unwrap_or_else(|error| panic!("point {point}: {error}")).unwrap();
        let found = view.checkpoint.next_seq;
        let synced = |w: &&Written| w.synced.is_some_and(|synced| synced <= point);
        let least = self.written.iter().rev().find(synced).map_or(START, |w| w.position);
        let most = self.written.iter().rev().find(|w| w.at <= point).unwrap().position;
        assert!((least..=most).contains(&found), "point {point}: {least} {found} {most}");
        let expected = if found > START { windows_at(found) } else { Windows::default() };
        assert_eq!(Some(&expected), view.windows.as_ref(), "point {point}");
        file.checkpoint_windows(0, at(found + 1), &windows_at(found + 1), 1).unwrap();
        assert_eq!(found + 1, open(&fs).lane(0).unwrap().unwrap().checkpoint.next_seq);
    }
}

fn crash_everywhere(story: &Story) -> usize {
    let mut tried = 0;
    let mut crasher = Crasher::on(SimFs::new().disk());
    for (number, change) in story.fs.changes().iter().enumerate() {
        crasher.step(change);
        for disk in crasher.states(number as u64, &bound()) {
            tried += 1;
            story.check(disk, number + 1);
        }
    }
    println!("window files: crash points tried {tried}, positions without their state 0");
    tried
}

#[test]
fn position_and_state_agree_wherever_the_machine_stops() {
    let mut story = Story::begin();
    story.take();
    for round in 0..12 {
        story.write(101 + 2 * round);
        story.write(102 + 2 * round);
        if round % 3 == 2 {
            story.sync();
        }
    }
    story.file = open(&story.fs);
    story.take();
    story.write(150);
    story.sync();
    story.write(160);

    assert!(crash_everywhere(&story) > 100);
}

/// What a kill in the middle of a write leaves: the first bytes of the pair, at any length.
#[test]
fn a_pair_that_was_cut_off_leaves_the_one_before_it() {
    let mut story = Story::begin();
    story.take();
    story.write(110);
    story.sync();
    story.write(120);
    let before = story.fs.disk();
    story.write(130);
    let after = story.fs.disk();
    let Some(Change::Write(_, 0, pair)) = story.fs.changes().pop() else {
        panic!("a pair is one write")
    };
    let files = ["a", "b"].map(|name| Path::new(PATH).with_extension(format!("window.{name}")));
    let file = files.iter().find(|file| before.bytes(file) != after.bytes(file)).unwrap();
    for length in (0..pair.len()).step_by(7) {
        let mut cut = before.clone();
        cut.patch(file, 0, &pair[..length]);
        let fs = SimFs::on(cut);

        let view = open(&fs).lane(0).unwrap().unwrap();
        let found = view.checkpoint.next_seq;
        assert!([110, 120].contains(&found), "{length} bytes: {found}");
        assert_eq!(Some(windows_at(found)), view.windows, "{length} bytes");
    }
}

#[test]
fn a_lane_that_gets_or_loses_windows_has_its_old_place_or_its_new_one() {
    let fs = SimFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    LanesFile::create(&shared, Path::new(PATH), 2, at(START), 1).unwrap();
    let created = fs.point();
    assert!(open(&fs).change_factor(LaneLayout::WINDOWED, BOOT, 1).unwrap());
    let file = open(&fs);
    file.take(0).unwrap().unwrap();
    file.checkpoint_windows(0, at(120), &windows_at(120), 1).unwrap();
    file.give_back(0).unwrap();
    let grown = fs.point();
    open(&fs).restart(at(110), 1).unwrap();
    let moved = fs.point();
    assert!(open(&fs).change_factor(1, BOOT, 1).unwrap());

    let mut crasher = Crasher::on(SimFs::new().disk());
    for (number, change) in fs.changes().iter().enumerate() {
        crasher.step(change);
        if number < created {
            continue;
        }
        for disk in crasher.states(number as u64, &bound()) {
            let lanes = open(&SimFs::on(disk)).lanes().unwrap_or_else(|e| panic!("{number}: {e}"));
            let place = lanes.iter().map(|lane| lane.checkpoint.next_seq).min().unwrap();
            let allowed: &[u64] = match number {
                n if n < grown => &[START, 120],
                n if n < moved => &[120, 110],
                _ => &[110],
            };
            assert!(allowed.contains(&place), "point {number}: {place}");
        }
    }
}
