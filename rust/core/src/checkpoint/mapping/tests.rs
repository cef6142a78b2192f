//! Mappings on a real log.

use super::*;
use crate::checkpoint::slot::MAPPING_BYTES;
use crate::fs::Open;
use crate::stream::{OpenOptions, StreamConfig};
use crate::types::SequenceNumber;

const LONG: Duration = Duration::from_secs(20);
const SHARD: ShardId = ShardId(0);

struct World {
    _folder: tempfile::TempDir,
    log: Arc<Log>,
}

impl World {
    /// A log with the stream `orders` of two shards, and some records in both.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let world = Self { _folder: folder, log };
        world.make_stream("orders", 2);
        world.put("orders", 40);
        world
    }

    fn make_stream(&self, name: &str, shards: u32) {
        let is_internal = name.contains('.');
        let config = StreamConfig { shards, is_internal, ..StreamConfig::default() };
        self.log.create_stream(name, &config, &Patience::of(LONG)).unwrap();
    }

    fn put(&self, stream: &str, count: usize) {
        let stream = self.log.stream(stream).unwrap();
        let mut put = stream.begin_put().unwrap();
        for number in 0..count {
            put.push(b"x", Some(&format!("key {number}")), std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
    }

    fn end(&self, shard: ShardId) -> SequenceNumber {
        self.log.stream("orders").unwrap().shard(shard).unwrap().visible_end()
    }

    fn register(&self, factor: u32, start: Start) -> Mapping {
        Mapping::register(&self.log, "shop.total", factor, start).unwrap()
    }
}

fn checkpoints(mapping: &Mapping, stream: &str) -> Vec<SequenceNumber> {
    mapping.lanes(Some(stream)).unwrap().iter().map(|lane| lane.checkpoint).collect()
}

#[test]
fn a_mapping_is_there_once_it_is_registered() {
    let world = World::new();
    assert!(Mapping::open(&world.log, "shop.total").unwrap().is_none());
    assert!(Mapping::names(&world.log).unwrap().is_empty());
    world.register(4, Start::TrimHorizon);

    assert_eq!(vec!["shop.total"], Mapping::names(&world.log).unwrap());
    let mapping = Mapping::open(&world.log, "shop.total").unwrap().unwrap();
    assert_eq!((4, false), (mapping.wanted_factor().unwrap(), mapping.is_paused().unwrap()));
    assert!(mapping.lanes(None).unwrap().is_empty());
}

#[test]
fn whoever_registers_last_sets_the_wanted_factor() {
    let world = World::new();
    let first = world.register(4, Start::TrimHorizon);
    for factor in [1, 8, 8, 3] {
        world.register(factor, Start::TrimHorizon);
        assert_eq!(factor, first.wanted_factor().unwrap());
    }
}

#[test]
fn impossible_names_and_factors_are_refused() {
    let world = World::new();
    let register = |name, factor| Mapping::register(&world.log, name, factor, Start::Latest);
    assert!(matches!(register("a/b", 1), Err(Error::Config { field: "name", .. })));
    assert!(matches!(register("..", 1), Err(Error::Config { field: "name", .. })));
    for factor in [0, FACTOR_MAX + 1] {
        let refused = register("shop.total", factor);
        assert!(matches!(refused, Err(Error::Config { field: "parallelization_factor", .. })));
    }
    assert!(Mapping::open(&world.log, "../shop").unwrap().is_none());
}

#[test]
fn a_new_mapping_begins_where_its_start_says() {
    let ends = |world: &World| vec![world.end(SHARD), world.end(ShardId(1))];
    let world = World::new();
    let mapping = world.register(1, Start::Latest);
    assert_eq!(vec![SHARD, ShardId(1)], mapping.prepare("orders").unwrap());
    let starts = ends(&world);
    world.put("orders", 20);
    mapping.prepare("orders").unwrap();

    assert_eq!(starts, checkpoints(&mapping, "orders"), "resolved once");
    let ends = ends(&world);
    let behind: Vec<_> = mapping.lanes(None).unwrap().iter().map(|lane| lane.end).collect();
    assert_eq!(ends, behind);

    let other = Mapping::register(&world.log, "shop.other", 1, Start::AtSequence(5)).unwrap();
    other.prepare("orders").unwrap();
    assert_eq!(vec![5, 5], checkpoints(&other, "orders"));
}

#[test]
fn its_start_counts_until_its_first_stream_has_begun() {
    let world = World::new();
    world.register(1, Start::Latest);
    let mapping = world.register(1, Start::TrimHorizon);
    mapping.prepare("orders").unwrap();
    assert_eq!(vec![0, 0], checkpoints(&mapping, "orders"));

    let mapping = world.register(1, Start::Latest);
    mapping.prepare("orders").unwrap();
    assert_eq!(vec![0, 0], checkpoints(&mapping, "orders"));
}

#[test]
fn a_start_that_counts_is_not_in_the_future() {
    let world = World::new();
    let now = || world.log.clock().now();
    let register = |start| Mapping::register(&world.log, "shop.total", 1, start);
    for ahead in [Start::AtTimestamp(now() + 60_000_000), Start::AtTimestamp(u64::MAX)] {
        assert!(matches!(register(ahead), Err(Error::Config { field: "start", .. })));
        assert!(Mapping::names(&world.log).unwrap().is_empty(), "nothing was made");
    }

    // It counts until the first stream has begun.
    let mapping = register(Start::AtTimestamp(now())).unwrap();
    assert!(register(Start::AtTimestamp(u64::MAX)).is_err());
    mapping.prepare("orders").unwrap();
    assert_eq!(world.end(SHARD), checkpoints(&mapping, "orders")[0]);
    register(Start::AtTimestamp(u64::MAX)).unwrap();
}

#[test]
fn a_start_that_was_resolved_for_some_shards_goes_on_for_the_others() {
    let world = World::new();
    let mapping = world.register(1, Start::Latest);
    mapping.prepare("orders").unwrap();
    let path = mapping.lanes_path("orders", ShardId(1));

    // As a crash leaves it before the stream was noted as begun.
    world.log.fs().remove(&path).unwrap();
    let record = mapping.record().unwrap();
    mapping.store(MappingRecord { begun: Vec::new(), ..record }).unwrap();
    let mapping = world.register(1, Start::Latest);
    mapping.prepare("orders").unwrap();
    assert_eq!(world.end(ShardId(1)), checkpoints(&mapping, "orders")[1]);

    // A shard that comes when the stream has begun is read from its first record.
    world.log.fs().remove(&path).unwrap();
    let mapping = world.register(1, Start::Latest);
    mapping.prepare("orders").unwrap();
    assert_eq!(0, checkpoints(&mapping, "orders")[1]);
}

/// `latest`, and a shard that is split.
mod latest_over_a_split {
    use super::*;

    fn split(world: &World) {
        let stream = world.log.stream("orders").unwrap();
        stream.split(SHARD, None, &Patience::of(LONG)).unwrap();
    }

    fn ends(world: &World) -> Vec<SequenceNumber> {
        (0..4).map(|shard| world.end(ShardId(shard))).collect()
    }

    #[test]
    fn the_children_of_one_that_was_begun_are_read_from_their_first_record() {
        let world = World::new();
        let mapping = world.register(1, Start::Latest);
        mapping.prepare("orders").unwrap();
        let begun = checkpoints(&mapping, "orders");
        split(&world);
        world.put("orders", 40);
        mapping.prepare("orders").unwrap();

        assert_eq!([begun.as_slice(), &[0, 0]].concat(), checkpoints(&mapping, "orders"));
        assert!(!mapping.lanes(None).unwrap()[0].is_finished, "its CLOSE is not read");
    }

    #[test]
    fn the_close_is_no_record_to_be_behind_by() {
        let world = World::new();
        let mapping = world.register(1, Start::TrimHorizon);
        mapping.prepare("orders").unwrap();
        let open = mapping.lanes(None).unwrap();
        split(&world);
        let closed = mapping.lanes(None).unwrap();

        assert_eq!(open[0].behind, closed[0].behind);
        assert_eq!(open[0].end + 1, closed[0].end);
    }

    #[test]
    fn one_that_was_split_before_is_at_its_end_and_so_are_its_children() {
        let world = World::new();
        split(&world);
        world.put("orders", 40);
        let mapping = world.register(1, Start::Latest);
        mapping.prepare("orders").unwrap();

        assert_eq!(ends(&world), checkpoints(&mapping, "orders"));
        let finished: Vec<_> = mapping.lanes(None).unwrap().iter().map(|l| l.is_finished).collect();
        assert_eq!(vec![true, false, false, false], finished);
        let stream = world.log.stream("orders").unwrap();
        let child = &stream.shards().unwrap()[2];
        assert!(mapping.is_past_parents(&stream, child).unwrap(), "they can be read at once");
    }

    #[test]
    fn one_that_is_split_between_two_tries_to_begin_leaves_no_gap_to_its_children() {
        let world = World::new();
        let mapping = world.register(1, Start::Latest);
        mapping.prepare("orders").unwrap();
        let begun = checkpoints(&mapping, "orders");
        // As a crash leaves it before the stream was noted as begun.
        let record = mapping.record().unwrap();
        mapping.store(MappingRecord { begun: Vec::new(), ..record }).unwrap();
        world.put("orders", 40);
        split(&world);
        world.put("orders", 40);
        mapping.prepare("orders").unwrap();

        assert_eq!([begun.as_slice(), &[0, 0]].concat(), checkpoints(&mapping, "orders"));
    }
}

#[test]
fn nothing_that_is_redriven_is_skipped() {
    let world = World::new();
    let mapping = world.register(1, Start::Latest);
    mapping.prepare("orders").unwrap();
    world.make_stream("shop.total.redrive", 1);
    world.put("shop.total.redrive", 3);
    mapping.prepare("shop.total.redrive").unwrap();

    assert_eq!(vec![0], checkpoints(&mapping, "shop.total.redrive"));
    assert_eq!(3, mapping.lanes(None).unwrap().len());
}

#[test]
fn a_stream_that_is_not_there_is_said_so() {
    let world = World::new();
    let mapping = world.register(1, Start::Latest);
    assert!(matches!(mapping.prepare("nothing"), Err(Error::StreamNotFound { .. })));
    let refused = mapping.factor("orders", SHARD);
    assert!(matches!(refused, Err(Error::Config { field: "shard_id", .. })), "not prepared");
}

#[test]
fn a_factor_changes_when_nobody_has_a_lease_of_the_shard() {
    let world = World::new();
    let mapping = world.register(2, Start::TrimHorizon);
    mapping.prepare("orders").unwrap();
    assert!(mapping.change_factor("orders", SHARD).unwrap(), "nothing to do");
    let mapping = world.register(4, Start::TrimHorizon);
    let file = mapping.lanes_file("orders", SHARD).unwrap();
    let lease = Lease::try_take(world.log.fs(), &file.lease_path(1), "").unwrap();

    assert!(!mapping.change_factor("orders", SHARD).unwrap());
    assert!(mapping.change_factor("orders", ShardId(1)).unwrap());
    assert_eq!(2, mapping.factor("orders", SHARD).unwrap());
    drop(lease);
    assert!(mapping.change_factor("orders", SHARD).unwrap());
    assert_eq!(4, mapping.factor("orders", SHARD).unwrap());
    assert_eq!(8, mapping.lanes(Some("orders")).unwrap().len());
}

#[test]
fn a_record_with_one_damaged_slot_is_read_and_with_two_refused() {
    let world = World::new();
    let mapping = world.register(2, Start::TrimHorizon);
    world.register(3, Start::TrimHorizon);
    let file = world.log.fs().open(&mapping.record_path(), Open::Write).unwrap();
    file.write_at(&[&[0xff; 8]], MAPPING_BYTES as u64).unwrap();
    assert_eq!(2, mapping.wanted_factor().unwrap());
    file.write_at(&[&[0xff; 8]], 0).unwrap();

    let refused = Mapping::open(&world.log, "shop.total").unwrap_err();
    assert!(matches!(refused, Error::CheckpointConflict { .. }));
}

#[test]
fn several_processes_register_and_prepare_at_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for factor in 1..10 {
                    let mapping = world.register(factor, Start::TrimHorizon);
                    assert_eq!(2, mapping.prepare("orders").unwrap().len());
                }
            });
        }
    });
    let mapping = Mapping::open(&world.log, "shop.total").unwrap().unwrap();
    assert_eq!(vec!["orders"], mapping.record().unwrap().begun);
}
