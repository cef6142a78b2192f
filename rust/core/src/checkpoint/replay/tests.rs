//! Replays on a real log; what a runner makes of them is in `lane/tests.rs`.

use std::sync::Arc;

use super::*;
use crate::checkpoint::removal::{remove_mapping, remove_stream};
use crate::checkpoint::retention::consumed;
use crate::checkpoint::{Lease, ResumePoint};
use crate::clock::ManualClock;
use crate::fs::{File, Open};
use crate::stream::{Log, OpenOptions, StreamConfig};

const LONG: Duration = Duration::from_secs(20);
const STREAM: &str = "orders";
const BEGUN: Micros = 1_700_000_000_000_000;
const MINUTE: Micros = 60_000_000;

struct World {
    _folder: tempfile::TempDir,
    log: Arc<Log>,
    mapping: Mapping,
}

impl World {
    /// Ten records a minute for four minutes in shard 0, nothing in shard 1.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(BEGUN));
        let options =
            OpenOptions { clock: Arc::<ManualClock>::clone(&clock), ..OpenOptions::default() };
        let log = Log::open(folder.path(), &options).unwrap();
        let two = StreamConfig { shards: 2, ..StreamConfig::default() };
        let stream = log.create_stream(STREAM, &two, &Patience::of(LONG)).unwrap();
        let mut keys = (0..).map(|i| format!("k{i}"));
        let key = keys.find(|key| stream.shard_of(key).unwrap() == ShardId(0)).unwrap();
        for minute in 0..4 {
            clock.set(BEGUN + minute * MINUTE);
            let mut put = stream.begin_put().unwrap();
            for _ in 0..10 {
                put.push(b"x", Some(&key), std::iter::empty()).unwrap();
            }
            put.commit(&Patience::of(LONG)).unwrap();
        }
        let mapping = Mapping::register(&log, "shop.total", 2, Start::TrimHorizon).unwrap();
        mapping.prepare(STREAM).unwrap();
        Self { _folder: folder, log, mapping }
    }

    fn plan(&self, from: Start, to: Start) -> Result<Vec<RecordRange>> {
        self.mapping.plan_replay(STREAM, from, to, None)
    }

    /// First and until of shard 0.
    fn planned(&self, from: Start, to: Start) -> (u64, u64) {
        let range = self.plan(from, to).unwrap()[0];
        (range.first, range.until)
    }

    fn replay(&self, first: u64, until: u64) -> Mapping {
        let shards = [ShardId(0), ShardId(1)];
        let until_of = |shard| if shard == ShardId(0) { (first, until) } else { (0, 0) };
        let ranges = shards.map(|shard| {
            let (first, until) = until_of(shard);
            RecordRange { shard, first, until }
        });
        self.mapping.replay(STREAM, &ranges, &Patience::of(LONG)).unwrap()
    }

    fn consumed(&self) -> Option<u64> {
        consumed(&self.log, &self.log.stream(STREAM).unwrap(), ShardId(0)).unwrap()
    }
}

/// Has a lane of shard 0 be at `seq`.
fn move_to(mapping: &Mapping, slot: u32, seq: u64) {
    let file = mapping.lanes_file(STREAM, ShardId(0)).unwrap();
    file.take(slot).unwrap().unwrap();
    file.checkpoint(slot, ResumePoint { next_seq: seq, ..ResumePoint::default() }, 1).unwrap();
    file.give_back(slot).unwrap();
}

mod plans {
    use super::*;

    #[test]
    fn places_become_numbers() {
        let world = World::new();
        let at = |minutes: u64| Start::AtTimestamp(BEGUN + minutes * MINUTE);
        assert_eq!((0, 40), world.planned(Start::TrimHorizon, Start::Latest));
        assert_eq!((7, 12), world.planned(Start::AtSequence(7), Start::AtSequence(12)));
        assert_eq!((10, 30), world.planned(at(1), at(3)));
        assert_eq!((20, 40), world.planned(Start::AtTimestamp(BEGUN + MINUTE + 1), at(60)));
        assert_eq!((0, 0), world.planned(at(0), at(0)), "what was put then is not in it");
    }

    #[test]
    fn nothing_is_beyond_the_end_or_ends_before_it_begins() {
        let world = World::new();
        let range = world.planned(Start::AtSequence(90), Start::AtSequence(99));
        assert_eq!((40, 40), range);
        assert_eq!((5, 5), world.planned(Start::AtSequence(9), Start::AtSequence(5)));
    }

    #[test]
    fn they_are_of_one_shard_or_of_all() {
        let world = World::new();
        let plan = |shard| {
            world.mapping.plan_replay(STREAM, Start::TrimHorizon, Start::Latest, Some(shard))
        };
        assert_eq!(2, world.plan(Start::TrimHorizon, Start::Latest).unwrap().len());
        assert_eq!(
            vec![RecordRange { shard: ShardId(1), first: 0, until: 0 }],
            plan(ShardId(1)).unwrap()
        );
        assert!(matches!(plan(ShardId(2)), Err(Error::Config { field: "shard_id", .. })));
    }

    #[test]
    fn records_that_are_no_longer_kept_are_named() {
        let world = World::new();
        let shard = world.log.stream(STREAM).unwrap().shard(ShardId(0)).unwrap();
        shard.trim(20, &Patience::of(LONG)).unwrap();

        let refused = world.plan(Start::AtSequence(3), Start::Latest);
        assert!(matches!(refused, Err(Error::SequenceTrimmed { lost_from: 3, lost_to: 19 })));
        assert_eq!((20, 40), world.planned(Start::TrimHorizon, Start::Latest));
        let stale = [RecordRange { shard: ShardId(0), first: 10, until: 30 }];
        let refused = world.mapping.replay(STREAM, &stale, &Patience::of(LONG));
        assert!(matches!(refused, Err(Error::SequenceTrimmed { lost_from: 10, lost_to: 19 })));
        assert_eq!(vec!["shop.total"], Mapping::names(&world.log).unwrap(), "there is none then");
    }

    #[test]
    fn a_stream_that_it_does_not_read_is_refused() {
        let world = World::new();
        let config = StreamConfig::default();
        world.log.create_stream("clicks", &config, &Patience::of(LONG)).unwrap();

        let refused = world.mapping.plan_replay("clicks", Start::TrimHorizon, Start::Latest, None);

        assert!(matches!(refused, Err(Error::Config { field: "stream", .. })));
    }
}

mod lives {
    use super::*;

    #[test]
    fn it_begins_where_it_is_told_and_is_at_its_end_there() {
        let world = World::new();
        world.replay(10, 25);
        let found = Mapping::open(&world.log, "shop.total@replay-1").unwrap().unwrap();

        let lanes = found.lanes(None).unwrap();
        let places: Vec<_> = lanes.iter().map(|lane| (lane.checkpoint, lane.end)).collect();
        assert_eq!(vec![(10, 25), (10, 25), (0, 0), (0, 0)], places);
        assert_eq!(2, lanes[0].factor, "as its function's");
        assert!(world.mapping.lanes(None).unwrap().iter().all(|lane| lane.checkpoint == 0));
    }

    #[test]
    fn its_end_stays_where_it_was_when_more_is_put() {
        let world = World::new();
        let replay = world.replay(30, 40);
        world.log.stream(STREAM).unwrap().split(ShardId(0), None, &Patience::of(LONG)).unwrap();

        assert_eq!(vec![ShardId(0), ShardId(1)], replay.prepare(STREAM).unwrap());
        let ends: Vec<_> = replay.lanes(None).unwrap().iter().map(|lane| lane.end).collect();
        assert_eq!(vec![40, 40, 0, 0], ends);
    }

    #[test]
    fn several_run_at_once_and_no_number_is_given_out_twice() {
        let world = World::new();
        let names = [(); 3].map(|()| world.replay(0, 40).name().to_owned());
        assert_eq!(["shop.total@replay-1", "shop.total@replay-2", "shop.total@replay-3"], names);
        for name in names {
            remove_mapping(&world.log, &name, &Patience::of(LONG)).unwrap();
        }
        assert_eq!("shop.total@replay-4", world.replay(0, 40).name());
    }

    #[test]
    fn an_empty_one_is_refused() {
        let world = World::new();
        let nothing = world.plan(Start::Latest, Start::Latest).unwrap();
        assert!(world.mapping.replay(STREAM, &nothing, &Patience::of(LONG)).is_err());
    }

    #[test]
    fn it_keeps_its_records_until_it_is_at_its_end() {
        let world = World::new();
        for slot in 0..2 {
            move_to(&world.mapping, slot, 40);
        }
        assert_eq!(Some(40), world.consumed());
        let replay = world.replay(10, 25);
        assert_eq!(Some(10), world.consumed());

        move_to(&replay, 0, 25);
        assert_eq!(Some(10), world.consumed());
        move_to(&replay, 1, 25);
        assert_eq!(Some(40), world.consumed());
    }

    #[test]
    fn it_ends_when_all_of_it_is_done_and_given_back() {
        let world = World::new();
        let replay = world.replay(10, 25);
        move_to(&replay, 0, 25);
        assert!(!replay.finish_replay().unwrap());
        move_to(&replay, 1, 25);
        let file = replay.lanes_file(STREAM, ShardId(0)).unwrap();
        let lease = Lease::try_take(world.log.fs(), &file.lease_path(1), "a runner").unwrap();
        assert!(!replay.finish_replay().unwrap());
        drop(lease);

        assert!(replay.finish_replay().unwrap());

        assert_eq!(vec!["shop.total"], Mapping::names(&world.log).unwrap());
        assert!(replay.finish_replay().is_err(), "it is gone");
    }

    #[test]
    fn a_function_is_no_replay_and_does_not_end() {
        let world = World::new();
        for slot in 0..2 {
            move_to(&world.mapping, slot, 40);
        }
        assert!(!world.mapping.finish_replay().unwrap());
    }

    #[test]
    fn it_goes_with_its_function_and_with_its_stream() {
        let mut world = World::new();
        world.replay(10, 25);
        remove_mapping(&world.log, "shop.total", &Patience::of(LONG)).unwrap();
        assert!(Mapping::names(&world.log).unwrap().is_empty());

        let again = Mapping::register(&world.log, "shop.total", 1, Start::TrimHorizon).unwrap();
        again.prepare(STREAM).unwrap();
        world.mapping = again;
        world.replay(10, 25);
        remove_stream(&world.log, STREAM, true, &Patience::of(LONG)).unwrap();
        assert_eq!(vec!["shop.total"], Mapping::names(&world.log).unwrap());
    }

    #[test]
    fn one_whose_stretches_are_damaged_is_not_run_and_can_be_removed() {
        let world = World::new();
        let name = world.replay(10, 25).name().to_owned();
        let path = world.log.root().join("mappings").join(&name).join("mapping");
        let file: Arc<dyn File> = world.log.fs().open(&path, Open::Write).unwrap();
        file.write_at(&[&[0xff]], 2 * 4096 + 20).unwrap();

        let refused = Mapping::open(&world.log, &name);

        assert!(matches!(refused, Err(Error::CheckpointConflict { .. })));
        assert!(remove_mapping(&world.log, &name, &Patience::of(LONG)).unwrap());
    }

    #[test]
    fn its_lanes_take_the_shape_that_its_function_has_by_now() {
        let world = World::new();
        let replay = world.replay(10, 25);

        replay.set_wanted(3.into()).unwrap();
        assert!(replay.change_factor(STREAM, ShardId(0)).unwrap());

        let lanes = replay.lanes(None).unwrap();
        let places: Vec<_> = lanes.iter().map(|lane| (lane.checkpoint, lane.end)).collect();
        assert_eq!(vec![(10, 25); 3], places[..3]);
    }
}
