//! Old records go in whole segments, by age, bytes or consumption; a reader is told what it missed,
//! and of nothing that it did not miss.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamfn_core::clock::ManualClock;
use streamfn_core::log::Keep;
use streamfn_core::{
    Compression, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId, ShardLog, Start,
    StreamConfig,
};

const HOUR: u64 = 3_600_000_000;
const START: u64 = 1_700_000_000_000_000;

struct Shard {
    log: Arc<Log>,
    clock: Arc<ManualClock>,
    one: Arc<ShardLog>,
}

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// Without the housekeeper: a pass over a shard leaves it out while another thread writes to it, and
/// the housekeeper does for a moment, every 100 ms.
fn quiet() -> OpenOptions {
    OpenOptions { housekeeping: false, ..OpenOptions::default() }
}

impl Shard {
    fn open(path: &Path) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let options = OpenOptions { clock: clock.clone(), ..quiet() };
        let log = Log::open(path, &options).unwrap();
        let config = StreamConfig {
            segment_bytes: 1 << 20,
            compression: Compression::None,
            ..StreamConfig::default()
        };
        let stream =
            log.create_stream("s", &config, &patience()).or_else(|_| log.stream("s")).unwrap();
        Self { one: stream.shard(ShardId(0)).unwrap(), log, clock }
    }

    /// Puts records of 300 kB, three of which fill a segment.
    fn put(&self, count: usize) -> Vec<u64> {
        let stream = self.log.stream("s").unwrap();
        let data = vec![b'x'; 300_000];
        (0..count)
            .map(|_| {
                let mut put = stream.begin_put().unwrap();
                put.push(&data, None, std::iter::empty()).unwrap();
                put.commit(&patience()).unwrap().places()[0].1
            })
            .collect()
    }

    fn numbers(&self, start: Start) -> Result<Vec<u64>, Error> {
        let mut cursor = self.one.cursor(start)?;
        let mut buffer = ReadBuffer::default();
        let mut found = Vec::new();
        while let Some((batch, after)) = self.one.read(&cursor, &mut buffer)? {
            let numbers = batch.base_seq()..batch.next_seq();
            found.extend(numbers.filter(|seq| *seq >= cursor.next_seq));
            cursor = after;
        }
        Ok(found)
    }

    fn all(&self) -> Vec<u64> {
        self.numbers(Start::TrimHorizon).unwrap()
    }
}

#[test]
fn bytes_keep_the_newest_segments() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(12);

    let trimmed = shard.one.retain(&Keep { bytes: Some(2_000_000), ..Keep::default() }).unwrap();

    assert_eq!(2, trimmed.segments);
    assert_eq!((6..12).collect::<Vec<_>>(), shard.all());
    assert_eq!(6, shard.one.trim_horizon().unwrap());
    assert_eq!(vec![12], shard.put(1));
}

#[test]
fn age_takes_segments_whose_records_are_all_older_and_a_quiet_stream_rolls() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(4);
    let keep = |shard: &Shard, now: u64| {
        shard.clock.set(now);
        shard.one.retain(&Keep { since: Some(now - HOUR), ..Keep::default() }).unwrap();
    };
    keep(&shard, START + HOUR / 2);
    assert_eq!(4, shard.all().len(), "nothing is an hour old");

    shard.put(1);
    keep(&shard, START + HOUR + HOUR / 4);
    assert_eq!(vec![4], shard.all(), "the others were closed before 4 came, and are older");

    keep(&shard, START + 3 * HOUR);
    shard.put(1);
    keep(&shard, START + 3 * HOUR + 1);
    assert_eq!(vec![5], shard.all());
}

#[test]
fn a_segment_is_closed_by_age_whatever_rotted_in_its_headers() {
    for rotten in [4096 + 20..4096 + 21, 4096..4200, 0..4200] {
        let folder = tempfile::tempdir().unwrap();
        let shard = Shard::open(folder.path());
        shard.put(1);
        let path =
            folder.path().join("streams/s/shardId-000000000000/00000000-00000000000000000000.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[rotten.clone()].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
        let retain = |now: u64| {
            shard.clock.set(now);
            shard.one.retain(&Keep { since: Some(now - HOUR), ..Keep::default() }).unwrap()
        };

        retain(START + HOUR / 2);
        shard.put(1);
        let trimmed = retain(START + 2 * HOUR);

        assert_eq!(1, trimmed.segments, "{rotten:?}");
        assert_eq!(vec![1], shard.all(), "{rotten:?}");
    }
}

#[test]
fn consumption_keeps_what_is_not_consumed() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(9);

    shard.one.retain(&Keep { from: Some(5), ..Keep::default() }).unwrap();

    assert_eq!((3..9).collect::<Vec<_>>(), shard.all());
}

#[test]
fn nothing_set_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(9);

    assert_eq!(0, shard.one.retain(&Keep::default()).unwrap().segments);
    assert_eq!(9, shard.all().len());
}

#[test]
fn trim_is_exact_and_survives_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(9);

    shard.one.trim(4, &patience()).unwrap();

    assert_eq!((4..9).collect::<Vec<_>>(), shard.all());
    let error = shard.numbers(Start::AtSequence(2)).unwrap_err();
    assert!(matches!(error, Error::SequenceTrimmed { lost_from: 2, lost_to: 3 }), "{error}");
    shard.log.close().unwrap();
    drop(shard);
    let shard = Shard::open(folder.path());
    assert_eq!((4..9).collect::<Vec<_>>(), shard.all());
    shard.one.trim(1_000, &patience()).unwrap();
    assert_eq!(Vec::<u64>::new(), shard.all());
    assert_eq!(vec![9], shard.put(1));
    assert_eq!(vec![9], shard.all());
}

#[test]
fn a_reader_that_was_overtaken_is_told_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(9);
    let cursor = shard.one.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();

    shard.one.trim(7, &patience()).unwrap();

    let error = shard.one.read(&cursor, &mut buffer).unwrap_err();
    assert!(matches!(error, Error::SequenceTrimmed { lost_from: 0, lost_to: 6 }), "{error}");
}

#[test]
fn a_reader_that_had_read_everything_is_told_of_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    shard.put(4);
    let mut cursor = shard.one.cursor(Start::TrimHorizon).unwrap();
    while let Some((_, after)) = shard.one.read(&cursor, &mut ReadBuffer::default()).unwrap() {
        cursor = after;
    }
    shard.clock.set(START + 10 * HOUR);
    let keep = Keep { since: Some(START + 9 * HOUR), ..Keep::default() };
    shard.one.retain(&keep).unwrap();
    shard.put(1);
    shard.one.retain(&keep).unwrap();

    assert_eq!(vec![4], shard.all());
    let (batch, _) = shard.one.read(&cursor, &mut ReadBuffer::default()).unwrap().unwrap();
    assert_eq!(4, batch.base_seq());
}

/// Flips a bit in the header of the second batch of a file.
fn damage_second_batch(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let starts = bytes.windows(4).enumerate().filter(|(_, magic)| magic == b"SFB1");
    let second = starts.map(|(at, _)| at).nth(1).unwrap();
    bytes[second + 20] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_segment_goes_when_the_first_record_behind_it_is_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let shard = Shard::open(folder.path());
    for hour in 0..4 {
        shard.clock.set(START + hour * HOUR);
        shard.put(3);
    }
    damage_second_batch(&shard.one.folder().join("00000001-00000000000000000003.seg"));
    let kept_since = |hours: u64, minutes: u64| {
        let since = Some(START + hours * HOUR + minutes * HOUR / 60);
        shard.one.retain(&Keep { since, ..Keep::default() }).unwrap();
        shard.one.trim_horizon().unwrap()
    };

    assert_eq!(3, kept_since(1, 30), "the damage may hide a record of half past one");
    assert_eq!(9, kept_since(2, 30), "times rise");
}

#[test]
fn damage_in_one_stream_does_not_keep_the_records_of_the_others() {
    use streamfn_core::checkpoint::retention::retain_all;
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &quiet()).unwrap();
    let config = StreamConfig {
        segment_bytes: 1 << 20,
        compression: Compression::None,
        retention: streamfn_core::Retention { bytes: Some(0), ..Default::default() },
        ..StreamConfig::default()
    };
    for name in ["a", "s"] {
        log.create_stream(name, &config, &patience()).unwrap();
    }
    log.close().unwrap();
    std::fs::write(folder.path().join("streams/a/manifest.json"), b"{").unwrap();
    let shard = Shard::open(folder.path());
    shard.put(4);

    let passed = retain_all(&shard.log);

    assert!(matches!(passed, Err(Error::Corruption { .. })), "{passed:?}");
    assert_eq!(vec![3], shard.all());
    let another = shard.log.create_stream("another", &config, &patience());
    assert!(matches!(another, Err(Error::Corruption { .. })), "the pages of `a` are not known");
}

#[test]
fn a_pass_over_the_log_keeps_what_the_slowest_mapping_has_not_consumed() {
    use streamfn_core::checkpoint::{retention::retain_all, Mapping};
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &quiet()).unwrap();
    let config = StreamConfig {
        segment_bytes: 1 << 20,
        compression: Compression::None,
        retention: streamfn_core::Retention { is_consumed: true, ..Default::default() },
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    let shard = Shard { clock: Arc::default(), one: stream.shard(ShardId(0)).unwrap(), log };
    shard.put(9);
    assert_eq!(0, retain_all(&shard.log).unwrap().segments, "nobody reads it: nothing is consumed");

    let starts = [("a.fast", Start::Latest), ("a.slow", Start::AtSequence(4))];
    for (name, start) in starts {
        Mapping::register(&shard.log, name, 1, start).unwrap().prepare("s").unwrap();
    }
    retain_all(&shard.log).unwrap();

    assert_eq!((3..9).collect::<Vec<_>>(), shard.all());
}

/// Times rise: what follows the damage is old already.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
fn damage_does_not_keep_a_segment_for_ever() {
    for spoilt in [0, 1] {
        let folder = tempfile::tempdir().unwrap();
        let shard = Shard::open(folder.path());
        shard.put(9);
        let batch = 300_000 / 8 * 8 + 80;
        let first =
            std::fs::read_dir(folder.path().join("streams/s/shardId-000000000000")).unwrap();
        let first = first.map(|entry| entry.unwrap().path());
        let first =
            first.filter(|path| path.extension().is_some_and(|e| e == "seg")).min().unwrap();
        let mut bytes = std::fs::read(&first).unwrap();
        let damaged = if spoilt == 0 { 4096 } else { 4096 + batch };
        bytes[damaged..damaged + 1_000].fill(0xff);
        std::fs::write(&first, bytes).unwrap();
        shard.clock.set(START + 2 * HOUR);
        shard.put(3);
        let since = START + HOUR;

        shard.one.retain(&Keep { since: Some(since), ..Keep::default() }).unwrap();

        assert_eq!(9, shard.one.trim_horizon().unwrap(), "batch {spoilt} is damaged");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
fn a_stream_that_cannot_be_trimmed_does_not_keep_the_others_from_it() {
    use streamfn_core::checkpoint::retention::retain_all;
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &quiet()).unwrap();
    let config = StreamConfig {
        segment_bytes: 1 << 20,
        compression: Compression::None,
        retention: streamfn_core::Retention { bytes: Some(1), ..Default::default() },
        ..StreamConfig::default()
    };
    for name in ["a", "b"] {
        let stream = log.create_stream(name, &config, &patience()).unwrap();
        for _ in 0..9 {
            let mut put = stream.begin_put().unwrap();
            put.push(&vec![0; 300_000], None, std::iter::empty()).unwrap();
            put.commit(&patience()).unwrap();
        }
    }
    let state = folder.path().join("streams/a/shardId-000000000000/state");
    let bytes = vec![0xff; usize::try_from(std::fs::metadata(&state).unwrap().len()).unwrap()];
    std::fs::write(&state, bytes).unwrap();

    retain_all(&log).unwrap_err();

    let horizon = |name| log.stream(name).unwrap().shard(ShardId(0)).unwrap().trim_horizon();
    assert!(horizon("b").unwrap() > 0);
    horizon("a").unwrap_err();
}

/// Shards that were split, and their children.
mod split {
    use super::*;
    use streamfn_core::checkpoint::{retention::retain_all, Mapping, ResumePoint};
    use streamfn_core::{Retention, Stream};

    const PARENT: ShardId = ShardId(0);

    struct World {
        _folder: tempfile::TempDir,
        log: Arc<Log>,
        clock: Arc<ManualClock>,
        stream: Arc<Stream>,
    }

    impl World {
        /// A stream with retention: one shard with nine records in three segments, split.
        fn new(retention: Retention, mappings: &[&str]) -> (Self, Vec<Mapping>) {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new(START));
            let options = OpenOptions { clock: clock.clone(), ..quiet() };
            let log = Log::open(folder.path(), &options).unwrap();
            let config = StreamConfig {
                segment_bytes: 1 << 20,
                compression: Compression::None,
                retention,
                ..StreamConfig::default()
            };
            let stream = log.create_stream("s", &config, &patience()).unwrap();
            let world = Self { _folder: folder, log, clock, stream };
            world.put(9);
            let mapping = |name: &&str| {
                let mapping = Mapping::register(&world.log, name, 1, Start::TrimHorizon).unwrap();
                mapping.prepare("s").unwrap();
                mapping
            };
            let mappings = mappings.iter().map(mapping).collect();
            world.stream.split(PARENT, None, &patience()).unwrap();
            (world, mappings)
        }

        fn put(&self, count: usize) {
            for number in 0..count {
                let mut put = self.stream.begin_put().unwrap();
                let (data, key) = (vec![b'x'; 300_000], number.to_string());
                put.push(&data, Some(&key), std::iter::empty()).unwrap();
                put.commit(&patience()).unwrap();
            }
        }

        /// Has a mapping be done with all that a shard has.
        fn finish(&self, mapping: &Mapping, shard: ShardId) {
            let file = mapping.lanes_file("s", shard).unwrap();
            file.take(0).unwrap().unwrap();
            let next_seq = self.stream.shard(shard).unwrap().visible_end();
            file.checkpoint(0, ResumePoint { next_seq, ..ResumePoint::default() }, 1).unwrap();
            file.give_back(0).unwrap();
        }

        fn finish_all(&self, mapping: &Mapping) {
            mapping.prepare("s").unwrap();
            for shard in self.stream.shards().unwrap() {
                self.finish(mapping, shard.id);
            }
        }

        /// The trim horizons of all shards after a pass of retention.
        fn retain(&self) -> Vec<u64> {
            retain_all(&self.log).unwrap();
            let shards = self.stream.shards().unwrap();
            let horizon = |id| self.stream.shard(id).unwrap().trim_horizon().unwrap();
            shards.iter().map(|shard| horizon(shard.id)).collect()
        }
    }

    fn consumed() -> Retention {
        Retention { is_consumed: true, ..Retention::default() }
    }

    #[test]
    fn a_closed_one_is_kept_until_every_mapping_is_past_it() {
        let (world, mappings) = World::new(consumed(), &["a.fast", "a.slow"]);
        world.finish(&mappings[0], PARENT);
        assert_eq!(0, world.retain()[0]);

        world.finish(&mappings[1], PARENT);

        assert_eq!(9, world.retain()[0]);
        let left = world.stream.shard(PARENT).unwrap().size().unwrap().0;
        assert_eq!(1, left, "the segment with its CLOSE");
        mappings[1].prepare("s").unwrap();
        let child = &world.stream.shards().unwrap()[1];
        assert!(mappings[1].is_past_parents(&world.stream, child).unwrap());
    }

    #[test]
    fn a_child_is_kept_for_a_mapping_that_is_not_running() {
        let (world, mappings) = World::new(consumed(), &["a.running", "a.stopped"]);
        world.put(30);
        world.finish_all(&mappings[0]);
        assert_eq!(vec![0, 0, 0], world.retain(), "the other has all of it to come");

        world.finish_all(&mappings[1]);

        assert!(world.retain().iter().all(|horizon| *horizon > 0));
    }

    #[test]
    fn of_a_closed_one_that_is_too_old_its_close_remains() {
        let retention = Retention { age_us: Some(HOUR), ..Retention::default() };
        let (world, _) = World::new(retention, &[]);
        for hours in 1..5 {
            world.clock.set(START + hours * HOUR + 1);
            world.retain();
        }

        assert_eq!(9, world.retain()[0]);
        let left = world.stream.shard(PARENT).unwrap().size().unwrap().0;
        assert_eq!(1, left, "the segment with its CLOSE, and none behind it");
    }
}
