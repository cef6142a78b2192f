//! A mapping is removed as a whole, wherever the machine stops, and nothing of it comes back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, Disk, SimFs};
use streamfn_core::checkpoint::removal::{remove_mapping, remove_stream};
use streamfn_core::checkpoint::retention::consumed;
use streamfn_core::checkpoint::{Lease, Mapping, ResumePoint};
use streamfn_core::fs::Fs;
use streamfn_core::{Error, Log, Patience, Result, ShardId, Start, StreamConfig};

const MAPPING: &str = "shop.total";
const REDRIVES: &str = "shop.total.redrive";
const RECORDS: u64 = 10;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// A log with two shards of `orders`, and what is redriven.
fn world(fs: &SimFs) -> Arc<Log> {
    let log = open(fs);
    let two = StreamConfig { shards: 2, ..StreamConfig::default() };
    log.create_stream("orders", &two, &patience()).unwrap();
    let internal = StreamConfig { is_internal: true, ..StreamConfig::default() };
    log.create_stream(REDRIVES, &internal, &patience()).unwrap();
    for name in ["orders", REDRIVES] {
        let stream = log.stream(name).unwrap();
        let mut put = stream.begin_put().unwrap();
        for number in 0..RECORDS {
            put.push(b"x", Some(&format!("k{number}")), std::iter::empty()).unwrap();
        }
        put.commit(&patience()).unwrap();
    }
    log
}

fn register(log: &Arc<Log>, name: &str, start: Start) -> Mapping {
    let mapping = Mapping::register(log, name, 2, start).unwrap();
    mapping.prepare("orders").unwrap();
    mapping
}

fn remove(log: &Arc<Log>) -> Result<bool> {
    remove_mapping(log, MAPPING, &patience())
}

/// Has a lane be at `seq`.
fn move_to(mapping: &Mapping, stream: &str, slot: u32, seq: u64) {
    let file = mapping.lanes_file(stream, ShardId(0)).unwrap();
    let lease = Lease::try_take(mapping.log().fs(), &file.lease_path(slot), "a runner").unwrap();
    file.take(slot).unwrap().unwrap();
    file.checkpoint(slot, ResumePoint { next_seq: seq, ..ResumePoint::default() }, 1).unwrap();
    file.give_back(slot).unwrap();
    drop(lease.unwrap());
}

fn checkpoints(mapping: &Mapping, stream: &str) -> Vec<u64> {
    mapping.lanes(Some(stream)).unwrap().iter().map(|lane| lane.checkpoint).collect()
}

fn is_removed<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Config { field: "mapping", .. }))
}

#[test]
fn it_holds_nothing_back_any_more() {
    let fs = SimFs::new();
    let log = world(&fs);
    register(&log, MAPPING, Start::TrimHorizon);
    let other = register(&log, "shop.other", Start::TrimHorizon);
    move_to(&other, "orders", 0, 2);
    move_to(&other, "orders", 1, 3);
    let stream = log.stream("orders").unwrap();
    assert_eq!(Some(0), consumed(&log, &stream, ShardId(0)).unwrap());

    assert!(remove(&log).unwrap());

    assert_eq!(Some(2), consumed(&log, &stream, ShardId(0)).unwrap());
    assert_eq!(vec!["shop.other"], Mapping::names(&log).unwrap());
    assert_eq!(vec!["lock", "shop.other"], fs.list(Path::new("/log/mappings")).unwrap());
    assert!(!remove(&log).unwrap(), "it is gone");
}

/// Positions without a record wait for a repair: nothing that they need may go meanwhile.
#[test]
fn one_whose_record_is_lost_holds_back_what_it_has_not_read() {
    let fs = SimFs::new();
    let log = world(&fs);
    let lost = register(&log, MAPPING, Start::TrimHorizon);
    move_to(&lost, "orders", 0, 1);
    move_to(&lost, "orders", 1, 2);
    let other = register(&log, "shop.other", Start::Latest);
    assert!(consumed(&log, &log.stream("orders").unwrap(), ShardId(0)).unwrap() == Some(1));
    drop(lost);

    fs.remove(&Path::new("/log/mappings").join(MAPPING).join("mapping")).unwrap();

    let orders = log.stream("orders").unwrap();
    assert_eq!(Some(1), consumed(&log, &orders, ShardId(0)).unwrap());
    fs.remove(Path::new("/log/mappings/shop.total/orders/shardId-000000000000.lanes")).unwrap();
    assert_eq!(Some(0), consumed(&log, &orders, ShardId(0)).unwrap(), "all of it is to come");
    let refused = remove_stream(&log, "orders", false, &patience());
    assert!(refused.unwrap_err().to_string().contains(MAPPING));
    drop(other);
    remove_stream(&log, "orders", true, &patience()).unwrap();
    let left = fs.list(&Path::new("/log/mappings").join(MAPPING)).unwrap();
    assert!(!left.contains(&"orders".to_owned()), "{left:?}");
}

#[test]
fn who_had_it_open_is_told_also_when_there_is_another_of_its_name() {
    let log = world(&SimFs::new());
    let old = register(&log, MAPPING, Start::TrimHorizon);
    old.lanes(None).unwrap();
    remove(&log).unwrap();
    assert!(is_removed(&old.lanes(None)));

    let new = register(&log, MAPPING, Start::Latest);

    assert!(is_removed(&old.lanes(None)));
    assert!(is_removed(&old.set_paused(true)));
    assert!(is_removed(&old.prepare("orders")));
    assert!(!new.is_paused().unwrap());
    let ends = new.lanes(None).unwrap().iter().map(|lane| lane.end).collect::<Vec<_>>();
    assert_eq!(ends, checkpoints(&new, "orders"), "it begins where it is told to");
}

#[test]
fn the_next_one_of_its_name_is_called_with_redrives_that_are_not_done_only() {
    let log = world(&SimFs::new());
    let old = register(&log, MAPPING, Start::TrimHorizon);
    old.prepare(REDRIVES).unwrap();
    move_to(&old, REDRIVES, 0, 9);
    move_to(&old, REDRIVES, 1, 6);

    remove(&log).unwrap();

    let new = register(&log, MAPPING, Start::Latest);
    new.prepare(REDRIVES).unwrap();
    assert_eq!(vec![6, 6], checkpoints(&new, REDRIVES));
}

#[test]
fn one_that_cannot_be_read_any_more_can_be_removed() {
    let fs = SimFs::new();
    let log = world(&fs);
    let mapping = register(&log, MAPPING, Start::TrimHorizon);
    let lanes = mapping.lanes_file("orders", ShardId(0)).unwrap().path().to_owned();
    drop(mapping);
    for path in [lanes, "/log/mappings/shop.total/mapping".into()] {
        let file = fs.open(&path, streamfn_core::fs::Open::Write).unwrap();
        file.write_at(&[&[0xff; 8192]], 0).unwrap();
    }
    assert!(matches!(Mapping::open(&log, MAPPING), Err(Error::CheckpointConflict { .. })));

    assert!(remove(&log).unwrap());

    assert!(Mapping::open(&log, MAPPING).unwrap().is_none());
    register(&log, MAPPING, Start::TrimHorizon);
}

/// Whether it is there; with all its positions, or none, and the other one always. What is left of a
/// removal is gone after the next change of any mapping.
fn check(point: usize, disk: Disk) -> bool {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    let other = Mapping::open(&log, "shop.other").unwrap().unwrap();
    assert_eq!(vec![2, 0, 0, 0], checkpoints(&other, "orders"), "point {point}");
    let found = Mapping::open(&log, MAPPING).unwrap();
    if let Some(mapping) = &found {
        assert_eq!(vec![3, 4, 0, 0], checkpoints(mapping, "orders"), "point {point}");
    } else {
        let new = register(&log, MAPPING, Start::Latest);
        let lanes = new.lanes(None).unwrap();
        assert!(lanes.iter().all(|lane| lane.checkpoint == lane.end), "point {point}");
    }
    remove(&log).unwrap();
    assert_eq!(vec!["lock", "shop.other"], fs.list(Path::new("/log/mappings")).unwrap());
    found.is_some()
}

#[test]
fn it_is_there_or_gone_as_a_whole_wherever_the_machine_stops() {
    let fs = SimFs::new();
    let log = world(&fs);
    move_to(&register(&log, "shop.other", Start::TrimHorizon), "orders", 0, 2);
    let mapping = register(&log, MAPPING, Start::TrimHorizon);
    move_to(&mapping, "orders", 0, 3);
    move_to(&mapping, "orders", 1, 4);
    let before = fs.point();
    remove(&log).unwrap();
    std::mem::forget(log);

    let mut crasher = Crasher::on(SimFs::new().disk());
    let (mut there, mut gone, changes) = (0, 0, fs.changes());
    for (point, change) in changes.iter().enumerate() {
        crasher.step(change);
        if point + 1 < before {
            continue;
        }
        for disk in crasher.states(point as u64, &Bound::few(8)) {
            let is_there = check(point, disk);
            assert!(!is_there || point + 1 < changes.len(), "it came back");
            there += usize::from(is_there);
            gone += usize::from(!is_there);
        }
    }
    assert!(there > 5 && gone > 20, "{there} {gone}");
}
