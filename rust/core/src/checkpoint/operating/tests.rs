//! Pausing and seeking on a real log.

use std::sync::Arc;

use super::*;
use crate::checkpoint::removal::remove_mapping;
use crate::checkpoint::{Entry, InFlight, ResumePoint};
use crate::stream::{Log, OpenOptions, StreamConfig};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(50);
const STREAM: &str = "orders";
const RECORDS: u64 = 40;

struct World {
    _folder: tempfile::TempDir,
    log: Arc<Log>,
    mapping: Mapping,
}

impl World {
    /// One shard of records, read by a mapping of two lanes.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        log.create_stream(STREAM, &StreamConfig::default(), &Patience::of(LONG)).unwrap();
        let stream = log.stream(STREAM).unwrap();
        let mut put = stream.begin_put().unwrap();
        for _ in 0..RECORDS {
            put.push(b"x", None, std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
        let mapping = Mapping::register(&log, "shop.total", 2, Start::TrimHorizon).unwrap();
        mapping.prepare(STREAM).unwrap();
        Self { _folder: folder, log, mapping }
    }

    fn seek(&self, start: Start) -> Result<Vec<(ShardId, SequenceNumber)>> {
        self.mapping.seek(STREAM, start, None, &Patience::of(SHORT))
    }

    fn checkpoints(&self) -> Vec<SequenceNumber> {
        self.mapping.lanes(None).unwrap().iter().map(|lane| lane.checkpoint).collect()
    }

    /// Has lane 1 be at `seq` with a batch in flight, and gives its lease back.
    fn leave_in_flight(&self, seq: SequenceNumber) {
        let file = self.mapping.lanes_file(STREAM, ShardId(0)).unwrap();
        let lease = Lease::try_take(self.log.fs(), &file.lease_path(1), "a runner").unwrap();
        let view = file.take(1).unwrap().unwrap();
        file.checkpoint(1, ResumePoint { next_seq: seq, ..ResumePoint::default() }, 1).unwrap();
        let open = Entry::fresh(seq, seq + 3);
        let in_flight = InFlight {
            boot_id: self.log.boot_id(),
            generation: view.head.generation,
            formed_at: seq,
            end: seq + 4,
            entries: vec![open],
            ..InFlight::default()
        };
        file.put_in_flight(1, &in_flight).unwrap();
        file.give_back(1).unwrap();
        drop(lease);
    }
}

#[test]
fn a_pause_is_seen_by_others_until_it_ends() {
    let world = World::new();
    let other = Mapping::open(&world.log, "shop.total").unwrap().unwrap();

    world.mapping.set_paused(true).unwrap();
    assert!(other.is_paused().unwrap());
    other.set_paused(false).unwrap();
    assert!(!world.mapping.is_paused().unwrap());
}

#[test]
fn all_lanes_begin_where_they_are_told_to() {
    let world = World::new();
    for (start, expected) in [
        (Start::Latest, RECORDS),
        (Start::AtSequence(17), 17),
        (Start::TrimHorizon, 0),
        (Start::AtTimestamp(u64::MAX), RECORDS),
        (Start::AtSequence(RECORDS + 1000), RECORDS),
        (Start::AtTimestamp(0), 0),
    ] {
        assert_eq!(vec![(ShardId(0), expected)], world.seek(start).unwrap());
        assert_eq!(vec![expected; 2], world.checkpoints(), "{start:?}");
    }
    assert!(!world.mapping.is_paused().unwrap());
}

#[test]
fn what_was_in_flight_is_forgotten() {
    let world = World::new();
    world.leave_in_flight(10);
    assert!(world.mapping.lanes(None).unwrap()[1].in_flight.is_some());

    world.seek(Start::AtSequence(5)).unwrap();

    assert!(world.mapping.lanes(None).unwrap().iter().all(|lane| lane.in_flight.is_none()));
    assert_eq!(vec![5, 5], world.checkpoints());
}

#[test]
fn a_lane_that_is_not_given_back_is_left_alone() {
    let world = World::new();
    let file = world.mapping.lanes_file(STREAM, ShardId(0)).unwrap();
    let lease = Lease::try_take(world.log.fs(), &file.lease_path(1), "runner 7").unwrap().unwrap();

    let refused = world.seek(Start::Latest);

    assert!(matches!(refused, Err(Error::LockTimeout { holder, .. }) if holder == "runner 7"));
    assert_eq!(vec![0, 0], world.checkpoints());
    assert!(!world.mapping.is_paused().unwrap(), "as before");
    drop(lease);
    assert!(world.seek(Start::Latest).is_ok());
}

#[test]
fn one_that_was_paused_stays_so() {
    let world = World::new();
    world.mapping.set_paused(true).unwrap();

    world.seek(Start::Latest).unwrap();

    assert!(world.mapping.is_paused().unwrap());
}

#[test]
fn who_held_a_lane_before_a_seek_can_write_nothing_after_it() {
    let world = World::new();
    let file = world.mapping.lanes_file(STREAM, ShardId(0)).unwrap();
    file.take(0).unwrap();

    world.seek(Start::AtSequence(30)).unwrap();

    let late = file.checkpoint(0, ResumePoint { next_seq: 1, ..ResumePoint::default() }, 1);
    assert!(matches!(late, Err(Error::LeaseLost { .. })));
    assert_eq!(vec![30, 30], world.checkpoints());
}

#[test]
fn a_number_that_is_no_longer_kept_is_refused() {
    let world = World::new();
    let shard = world.log.stream(STREAM).unwrap().shard(ShardId(0)).unwrap();
    shard.trim(20, &Patience::of(LONG)).unwrap();

    let refused = world.seek(Start::AtSequence(3));

    assert!(matches!(refused, Err(Error::SequenceTrimmed { lost_from: 3, lost_to: 19 })));
    assert_eq!(vec![(ShardId(0), 20)], world.seek(Start::TrimHorizon).unwrap());
}

#[test]
fn one_whose_lane_is_leased_is_not_removed() {
    let world = World::new();
    let remove = || remove_mapping(&world.log, "shop.total", &Patience::of(LONG));
    let file = world.mapping.lanes_file(STREAM, ShardId(0)).unwrap();
    let lease = Lease::try_take(world.log.fs(), &file.lease_path(1), "runner 7").unwrap().unwrap();

    let refused = remove();

    assert!(matches!(refused, Err(Error::LockTimeout { holder, .. }) if holder == "runner 7"));
    assert_eq!(vec![0, 0], world.checkpoints());
    drop(lease);
    assert!(remove().unwrap());
}
