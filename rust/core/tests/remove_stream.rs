//! A stream is removed as a whole, wherever the machine stops, and nothing of it comes back.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, Disk, SimFs};
use streamfn_core::checkpoint::removal::remove_stream;
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::fs::Fs;
use streamfn_core::{Error, Patience, ReadBuffer, ShardId, Start, Stream, StreamConfig};

const RECORDS: usize = 3;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(stream: &Stream, value: &str) {
    let mut put = stream.begin_put().unwrap();
    put.push(value.as_bytes(), Some("k"), std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap();
}

fn values(stream: &Stream) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for meta in stream.shards().unwrap() {
        let shard = stream.shard(meta.id).unwrap();
        let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
        let mut buffer = ReadBuffer::default();
        while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
            cursor = after;
            if batch.control().is_none() {
                found.extend((0..batch.count()).map(|index| batch.value(index).to_vec()));
            }
        }
    }
    found
}

/// Whether the stream is there; all of it, or nothing, and the other one always.
fn check(point: usize, disk: Disk) -> (bool, SimFs) {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    assert_eq!(1, values(&log.stream("other").unwrap()).len(), "point {point}");
    let is_there = match log.stream("s") {
        Ok(stream) => {
            assert_eq!(RECORDS, values(&stream).len(), "point {point}");
            put(&stream, "more");
            true
        }
        Err(Error::StreamNotFound { .. }) => {
            let left = fs.list(Path::new("/log/streams/s")).unwrap_or_default();
            assert!(left.is_empty(), "{left:?} at point {point}");
            let fresh = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
            assert!(values(&fresh).is_empty(), "point {point}");
            false
        }
        Err(error) => panic!("point {point}: {error}"),
    };
    (is_there, fs)
}

#[test]
fn it_is_there_or_gone_as_a_whole_wherever_the_machine_stops() {
    let fs = SimFs::new();
    let log = open(&fs);
    put(&log.create_stream("other", &StreamConfig::default(), &patience()).unwrap(), "kept");
    let stream = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&stream, "1");
    stream.split(ShardId(0), None, &patience()).unwrap();
    put(&stream, "2");
    put(&stream, "3");
    let before = fs.point();
    log.remove_stream("s", &patience()).unwrap();
    std::mem::forget(log);

    let mut crasher = Crasher::on(SimFs::new().disk());
    let (mut inside, changes) = (0, fs.changes());
    for (point, change) in changes.iter().enumerate() {
        crasher.step(change);
        if point + 1 < before {
            continue;
        }
        for (variant, disk) in crasher.states(point as u64, &Bound::few(4)).into_iter().enumerate()
        {
            let (is_there, opened) = check(point, disk.clone());
            assert!(!is_there || point + 1 < changes.len(), "it came back");
            if (point + variant) % 4 > 0 {
                continue;
            }
            let mut again = Crasher::on(disk);
            for change in opened.changes() {
                again.step(&change);
                for disk in again.states(inside, &Bound::few(0)) {
                    inside += 1;
                    let (comes_back, _) = try_check(point, disk);
                    assert!(is_there || !comes_back, "it came back after {point}");
                }
            }
        }
    }
    assert!(changes.len() - before > 20 && inside > 100, "{} {inside}", changes.len() - before);
}

/// As [`check`], of a disk on which a check was cut off: it may have put or created before.
fn try_check(point: usize, disk: Disk) -> (bool, SimFs) {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    assert_eq!(1, values(&log.stream("other").unwrap()).len(), "point {point}");
    let is_there = log.stream("s").is_ok_and(|stream| values(&stream).len() >= RECORDS);
    (is_there, fs)
}

/// A worker with the function holds no lane of it while it is paused, but it has its lanes files open.
#[test]
fn who_had_its_positions_open_finds_those_of_the_next_stream_of_its_name() {
    let fs = SimFs::new();
    let worker = open(&fs);
    let stream = worker.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    (0..5).for_each(|_| put(&stream, "old"));
    let mapping = Mapping::register(&worker, "app.f", 1, Start::TrimHorizon).unwrap();
    mapping.prepare("s").unwrap();
    let file = mapping.lanes_file("s", ShardId(0)).unwrap();
    file.take(0).unwrap();
    file.checkpoint(0, ResumePoint { next_seq: 5, ..ResumePoint::default() }, 1).unwrap();
    file.sync().unwrap();
    mapping.set_paused(true).unwrap();
    let operator = open(&fs.for_another_process());

    remove_stream(&operator, "s", true, &patience()).unwrap();
    let none = mapping.lanes_file("s", ShardId(0));
    assert!(matches!(none, Err(Error::Config { .. })), "{none:?}");
    let again = operator.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&again, "new");
    Mapping::open(&operator, "app.f").unwrap().unwrap().prepare("s").unwrap();
    mapping.set_paused(false).unwrap();

    let file = mapping.lanes_file("s", ShardId(0)).unwrap();
    let view = file.take(0).unwrap().unwrap();
    assert_eq!(0, view.checkpoint.next_seq, "none of the new records was done");
    file.checkpoint(0, ResumePoint { next_seq: 1, ..ResumePoint::default() }, 2).unwrap();
    file.sync().unwrap();
    let seen = Mapping::open(&operator, "app.f").unwrap().unwrap();
    let seen = seen.lanes_file("s", ShardId(0)).unwrap().lane(0).unwrap().unwrap();
    assert_eq!(1, seen.checkpoint.next_seq, "the others see where it is");
}
