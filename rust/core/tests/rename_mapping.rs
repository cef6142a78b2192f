//! A mapping is under exactly one of its names, with its positions, wherever the machine stops.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, Disk, SimFs};
use streamfn_core::checkpoint::removal::remove_mapping;
use streamfn_core::checkpoint::rename::rename_mapping;
use streamfn_core::checkpoint::retention::consumed;
use streamfn_core::checkpoint::{Lease, Mapping, RecordRange, ResumePoint};
use streamfn_core::fs::Fs;
use streamfn_core::{Error, Log, Patience, Result, ShardId, Start, StreamConfig};

const OLD: &str = "shop.total";
const NEW: &str = "shop.sum";
const RECORDS: u64 = 10;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// A log with `orders`, and dead letters and redrives of the old name.
fn world(fs: &SimFs) -> Arc<Log> {
    let log = open(fs);
    for name in ["orders".to_owned(), format!("{OLD}.dlq"), format!("{OLD}.redrive")] {
        let is_internal = name.contains('.');
        let config = StreamConfig { is_internal, ..StreamConfig::default() };
        log.create_stream(&name, &config, &patience()).unwrap();
        let stream = log.stream(&name).unwrap();
        let mut put = stream.begin_put().unwrap();
        for number in 0..RECORDS {
            put.push(b"x", Some(&format!("k{number}")), std::iter::empty()).unwrap();
        }
        put.commit(&patience()).unwrap();
    }
    log
}

fn register(log: &Arc<Log>, name: &str) -> Mapping {
    let mapping = Mapping::register(log, name, 2, Start::TrimHorizon).unwrap();
    mapping.prepare("orders").unwrap();
    mapping
}

fn move_to(mapping: &Mapping, stream: &str, slot: u32, seq: u64) {
    let file = mapping.lanes_file(stream, ShardId(0)).unwrap();
    let lease = Lease::try_take(mapping.log().fs(), &file.lease_path(slot), "a runner").unwrap();
    file.take(slot).unwrap().unwrap();
    file.checkpoint(slot, ResumePoint { next_seq: seq, ..ResumePoint::default() }, 1).unwrap();
    file.give_back(slot).unwrap();
    drop(lease.unwrap());
}

/// The mapping of the old name, paused, at 3 and 4, and at 5 in its redrives; with a replay.
fn prepared(log: &Arc<Log>) -> Mapping {
    let mapping = register(log, OLD);
    let redrives = format!("{OLD}.redrive");
    mapping.prepare(&redrives).unwrap();
    move_to(&mapping, "orders", 0, 3);
    move_to(&mapping, "orders", 1, 4);
    move_to(&mapping, &redrives, 0, 5);
    mapping.set_paused(true).unwrap();
    let range = RecordRange { shard: ShardId(0), first: 2, until: 6 };
    mapping.replay("orders", &[range], &patience()).unwrap();
    mapping
}

fn rename(log: &Arc<Log>) -> Result<()> {
    rename_mapping(log, OLD, NEW, &patience())
}

fn checkpoints(mapping: &Mapping, stream: &str) -> Vec<u64> {
    mapping.lanes(Some(stream)).unwrap().iter().map(|lane| lane.checkpoint).collect()
}

/// All that belongs to the mapping has this name, and nothing has the other.
fn check_all(log: &Arc<Log>, name: &str) {
    let mapping = Mapping::open(log, name).unwrap().unwrap();
    assert_eq!(vec![3, 4], checkpoints(&mapping, "orders"));
    assert_eq!(vec![5, 0], checkpoints(&mapping, &format!("{name}.redrive")));
    assert!(mapping.is_paused().unwrap());
    let replay = Mapping::open(log, &format!("{name}@replay-1")).unwrap().unwrap();
    assert_eq!(vec![2, 2], checkpoints(&replay, "orders"));
    let streams = vec!["orders".to_owned(), format!("{name}.dlq"), format!("{name}.redrive")];
    assert_eq!(streams, log.streams().unwrap());
    let letters = log.stream(&format!("{name}.dlq")).unwrap();
    assert!(letters.shard(ShardId(0)).unwrap().visible_end() >= RECORDS);
    let other = if name == OLD { NEW } else { OLD };
    assert!(Mapping::open(log, other).unwrap().is_none());
}

#[test]
fn it_keeps_what_belongs_to_it() {
    let fs = SimFs::new();
    let log = world(&fs);
    let old = prepared(&log);
    let orders = log.stream("orders").unwrap();

    rename(&log).unwrap();

    check_all(&log, NEW);
    assert_eq!(Some(2), consumed(&log, &orders, ShardId(0)).unwrap(), "the replay's");
    assert_eq!(
        vec!["lock", NEW, "shop.sum@replay-1"],
        fs.list(Path::new("/log/mappings")).unwrap()
    );
    let told = old.lanes(None).unwrap_err();
    assert!(matches!(told, Error::Config { field: "mapping", .. }), "{told}");
    let new = register(&log, NEW);
    assert_eq!(vec![3, 4], checkpoints(&new, "orders"), "it goes on at its position");
}

#[test]
fn it_is_refused_if_the_new_name_is_taken() {
    let log = world(&SimFs::new());
    prepared(&log);
    let field = |result: Result<()>| match result {
        Err(Error::Config { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!("mapping", field(rename_mapping(&log, "shop.none", NEW, &patience())));
    for name in ["sum", "shop.sum.dlq", "shop.sum@replay-1", ".", "shop."] {
        assert_eq!("name", field(rename_mapping(&log, OLD, name, &patience())), "{name}");
    }
    register(&log, NEW);
    assert_eq!("mapping", field(rename(&log)));
    remove_mapping(&log, NEW, &patience()).unwrap();
    let internal = StreamConfig { is_internal: true, ..StreamConfig::default() };
    log.create_stream(&format!("{NEW}.dlq"), &internal, &patience()).unwrap();
    assert_eq!("stream", field(rename(&log)));
    log.remove_stream(&format!("{NEW}.dlq"), &patience()).unwrap();

    check_all(&log, OLD);
    rename(&log).unwrap();
    check_all(&log, NEW);
}

/// Names of the mappings, without replays.
fn functions(log: &Log) -> Vec<String> {
    let mut names = Mapping::names(log).unwrap();
    names.retain(|name| !name.contains('@'));
    names
}

/// Returns whether it has the new name.
fn check(point: usize, disk: Disk) -> bool {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    let orders = log.stream("orders").unwrap();
    let names = functions(&log);
    assert_eq!(1, names.len(), "point {point}: {names:?}");
    let mapping = Mapping::open(&log, &names[0]).unwrap().unwrap();
    assert_eq!(vec![3, 4], checkpoints(&mapping, "orders"), "point {point}");
    assert_eq!(Some(2), consumed(&log, &orders, ShardId(0)).unwrap(), "point {point}");
    // The next change of any mapping finishes it.
    register(&log, "shop.other");
    remove_mapping(&log, "shop.other", &patience()).unwrap();
    let names = functions(&log);
    check_all(&log, &names[0]);
    let left = vec!["lock".to_owned(), names[0].clone(), format!("{}@replay-1", names[0])];
    assert_eq!(left, fs.list(Path::new("/log/mappings")).unwrap(), "point {point}");
    names[0] == NEW
}

#[test]
fn it_has_one_of_the_two_names_wherever_the_machine_stops() {
    let fs = SimFs::new();
    let log = world(&fs);
    prepared(&log);
    let before = fs.point();
    rename(&log).unwrap();
    std::mem::forget(log);

    let mut crasher = Crasher::on(SimFs::new().disk());
    let (mut old, mut new, changes) = (0, 0, fs.changes());
    for (point, change) in changes.iter().enumerate() {
        crasher.step(change);
        if point + 1 < before {
            continue;
        }
        for disk in crasher.states(point as u64, &Bound::few(8)) {
            let is_new = check(point, disk);
            assert!(is_new || point + 1 < changes.len(), "it came back");
            old += usize::from(!is_new);
            new += usize::from(is_new);
        }
    }
    assert!(old > 2 && new > 10, "{old} {new}");
}
