//! A replay is there as a whole or not at all, wherever the machine stops while it is made, run and
//! removed, and its function is where it was.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, Disk, SimFs};
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::fs::Fs;
use streamfn_core::{Log, Patience, ShardId, Start, StreamConfig};

const REPLAY: &str = "shop.total@replay-1";
const SHARDS: u32 = 2;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// Two shards with some records each, and a function that is in the middle of the first.
fn world(fs: &SimFs) -> (Arc<Log>, Mapping) {
    let log = open(fs);
    let two = StreamConfig { shards: SHARDS, ..StreamConfig::default() };
    let stream = log.create_stream("orders", &two, &patience()).unwrap();
    let mut put = stream.begin_put().unwrap();
    for number in 0..20 {
        put.push(b"x", Some(&format!("k{number}")), std::iter::empty()).unwrap();
    }
    put.commit(&patience()).unwrap();
    let mapping = Mapping::register(&log, "shop.total", 1, Start::TrimHorizon).unwrap();
    mapping.prepare("orders").unwrap();
    move_to(&mapping, ShardId(0), 3);
    (log, mapping)
}

fn move_to(mapping: &Mapping, shard: ShardId, seq: u64) {
    let file = mapping.lanes_file("orders", shard).unwrap();
    file.take(0).unwrap().unwrap();
    file.checkpoint(0, ResumePoint { next_seq: seq, ..ResumePoint::default() }, 1).unwrap();
    file.give_back(0).unwrap();
}

fn replay(mapping: &Mapping) -> Mapping {
    let plan = mapping.plan_replay("orders", Start::AtSequence(1), Start::Latest, None).unwrap();
    mapping.replay("orders", &plan, &patience()).unwrap()
}

fn checkpoints(mapping: &Mapping) -> Vec<u64> {
    mapping.lanes(None).unwrap().iter().map(|lane| lane.checkpoint).collect()
}

/// The positions of the replay's lanes, if it is there; its name is not given out again once it
/// `was_made`.
fn check(point: usize, disk: Disk, ends: &[u64], was_made: bool) -> Option<Vec<u64>> {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    let mapping = Mapping::open(&log, "shop.total").unwrap().unwrap();
    assert_eq!(vec![3, 0], checkpoints(&mapping), "point {point}");
    let found = Mapping::open(&log, REPLAY).unwrap().map(|found| {
        let lanes = found.lanes(None).unwrap();
        let found_ends: Vec<u64> = lanes.iter().map(|lane| lane.end).collect();
        assert_eq!(ends, found_ends, "point {point}");
        lanes.iter().map(|lane| lane.checkpoint).collect()
    });
    // The next one is whole, and nothing of one that was left in the middle is in it.
    let next = replay(&mapping);
    assert!(next.name() != REPLAY || !(was_made || found.is_some()), "point {point}");
    assert_eq!(vec![1; ends.len()], checkpoints(&next), "point {point}");
    let folders = fs.list(Path::new("/log/mappings")).unwrap();
    assert_eq!(1 + Mapping::names(&log).unwrap().len(), folders.len(), "and the lock");
    found
}

#[test]
fn it_is_there_or_not_as_a_whole_wherever_the_machine_stops() {
    let fs = SimFs::new();
    let (log, mapping) = world(&fs);
    let before = fs.point();
    let made = replay(&mapping);
    let begun = fs.point();
    let ends: Vec<u64> = made.lanes(None).unwrap().iter().map(|lane| lane.end).collect();
    assert!(ends.iter().all(|end| *end > 3), "{ends:?}");
    for (shard, end) in (0..SHARDS).zip(&ends) {
        move_to(&made, ShardId(shard), *end);
    }
    let done = fs.point();
    assert!(made.finish_replay().unwrap());
    std::mem::forget((log, mapping, made));

    let mut crasher = Crasher::on(SimFs::new().disk());
    let (mut there, mut gone, changes) = (0, 0, fs.changes());
    for (number, change) in changes.iter().enumerate() {
        crasher.step(change);
        let point = number + 1;
        if point < before {
            continue;
        }
        for disk in crasher.states(number as u64, &Bound::few(8)) {
            let Some(found) = check(point, disk, &ends, point >= begun) else {
                gone += 1;
                assert!(point < begun || point > done, "lost at point {point}");
                continue;
            };
            there += 1;
            assert!(point > before && point < changes.len(), "point {point}");
            let is_in = |(at, end): (&u64, &u64)| *at == 1 || at == end;
            assert!(found.iter().zip(&ends).all(is_in), "{found:?} at point {point}");
            assert!(point < done || found == ends, "{found:?} at point {point}");
        }
    }
    assert!(there > 50 && gone > 50, "{there} {gone}");
}
