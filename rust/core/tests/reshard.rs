//! Splitting and merging shards: every key keeps its order, nothing is lost or written twice, and a
//! machine that stops in the middle leaves either the old shards or the new ones.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, Disk, SimFs};
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::fs::{Fs, Lock, Open, RealFs};
use streamfn_core::{
    Compression, Control, Durability, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId,
    Start, Stream, StreamConfig,
};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// A log in a folder of its own, and its stream `s`.
fn stream(shards: u32) -> (tempfile::TempDir, Arc<Log>, Arc<Stream>) {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
    let config = StreamConfig { shards, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    (folder, log, stream)
}

fn put(stream: &Stream, records: &[(&str, &str)]) -> Vec<(ShardId, u64)> {
    let mut put = stream.begin_put().unwrap();
    for (key, value) in records {
        put.push(value.as_bytes(), Some(key), std::iter::empty()).unwrap();
    }
    put.commit(&patience()).unwrap().places()
}

/// Number, key and value of each record of a shard, and the shards its CLOSE names.
type Content = (Vec<(u64, String, String)>, Option<Vec<u32>>);

fn read(stream: &Stream, shard: ShardId) -> Content {
    let shard = stream.shard(shard).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let (mut records, mut close) = (Vec::new(), None);
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        cursor = after;
        assert!(close.is_none(), "nothing follows CLOSE");
        match batch.control() {
            Some(Control::Close { children }) => close = Some(children.clone()),
            Some(_) => {}
            None => records.extend((0..batch.count()).map(|index| {
                let value = String::from_utf8(batch.value(index).to_vec()).unwrap();
                let key = batch.key(index).unwrap_or_default().to_owned();
                (batch.base_seq() + u64::from(index), key, value)
            })),
        }
    }
    (records, close)
}

/// The values of each key, parents before children.
fn by_key(stream: &Stream) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for meta in stream.shards().unwrap() {
        for (_, key, value) in read(stream, meta.id).0 {
            found.entry(key).or_default().push(value);
        }
    }
    found
}

/// Numbers of the shards that take records; their ranges must cover all hash keys once.
fn open_shards(stream: &Stream) -> Vec<u32> {
    let mut open: Vec<_> = stream.shards().unwrap().into_iter().filter(|s| s.is_open).collect();
    open.sort_unstable_by_key(|shard| shard.hash_range);
    assert_eq!(0, open[0].hash_range.0);
    assert_eq!(u128::MAX, open.last().unwrap().hash_range.1);
    assert!(open.windows(2).all(|pair| pair[0].hash_range.1 + 1 == pair[1].hash_range.0));
    open.iter().map(|shard| shard.id.0).collect()
}

#[test]
fn the_children_of_a_split_share_its_hash_keys_and_come_after_its_close() {
    let (_folder, _log, stream) = stream(1);
    put(&stream, &[("a", "1"), ("b", "1")]);

    let (low, high) = stream.split(ShardId(0), None, &patience()).unwrap();
    put(&stream, &[("a", "2"), ("b", "2"), ("c", "1")]);

    assert_eq!((ShardId(1), ShardId(2)), (low, high));
    let shards = stream.shards().unwrap();
    assert_eq!((0, (1 << 127) - 1), shards[1].hash_range);
    assert_eq!((1 << 127, u128::MAX), shards[2].hash_range);
    assert!(shards[1..].iter().all(|child| child.parents == [ShardId(0)]));
    assert_eq!(vec![1, 2], open_shards(&stream));
    assert_eq!(Some(vec![1, 2]), read(&stream, ShardId(0)).1);
    let found = by_key(&stream);
    assert_eq!(vec!["1", "2"], found["a"]);
    assert_eq!(vec!["1", "2"], found["b"]);
    assert_eq!(vec!["1"], found["c"]);
}

#[test]
fn a_shard_can_be_split_at_any_hash_key_inside_it() {
    let (_folder, _log, stream) = stream(1);

    stream.split(ShardId(0), Some(1), &patience()).unwrap();
    stream.split(ShardId(2), Some(u128::MAX), &patience()).unwrap();

    let ranges: Vec<_> = stream.shards().unwrap().iter().map(|s| s.hash_range).collect();
    assert_eq!((0, 0), ranges[1]);
    assert_eq!((1, u128::MAX - 1), ranges[3]);
    assert_eq!((u128::MAX, u128::MAX), ranges[4]);
    for (shard, at) in [(1, None), (3, Some(1)), (3, Some(u128::MAX)), (4, None)] {
        let refused = stream.split(ShardId(shard), at, &patience());
        assert!(matches!(refused, Err(Error::Config { field: "hash_key", .. })), "{refused:?}");
    }
}

#[test]
fn a_merged_shard_goes_on_where_both_ended() {
    let (_folder, _log, stream) = stream(3);
    let keys: Vec<String> = (0..30).map(|n| format!("k{n}")).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    put(&stream, &records);

    let child = stream.merge(ShardId(2), ShardId(1), &patience()).unwrap();
    put(&stream, &records);

    assert_eq!(ShardId(3), child);
    let meta = stream.shards().unwrap()[3].clone();
    assert_eq!(vec![ShardId(1), ShardId(2)], meta.parents);
    assert_eq!(vec![0, 3], open_shards(&stream));
    assert_eq!(Some(vec![3]), read(&stream, ShardId(1)).1);
    assert_eq!(Some(vec![3]), read(&stream, ShardId(2)).1);
    assert!(by_key(&stream).values().all(|values| values.len() == 2));
}

#[test]
fn only_open_shards_that_lie_side_by_side_can_be_merged() {
    let (_folder, _log, stream) = stream(3);
    let merge = |a, b| stream.merge(ShardId(a), ShardId(b), &patience());

    assert!(matches!(merge(0, 2), Err(Error::Config { field: "shard", .. })));
    assert!(matches!(merge(1, 1), Err(Error::Config { field: "shard", .. })));
    assert!(matches!(merge(0, 9), Err(Error::Config { field: "shard", .. })));
    merge(0, 1).unwrap();
    assert!(matches!(merge(0, 1), Err(Error::StreamClosed { .. })));
    assert!(matches!(stream.split(ShardId(1), None, &patience()), Err(Error::StreamClosed { .. })));
    assert_eq!(vec![3, 2], open_shards(&stream));
}

#[test]
fn records_on_their_way_to_a_closed_shard_go_on_to_its_children_in_order() {
    for compression in [Compression::None, Compression::Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let config = StreamConfig { compression, shards: 2, ..StreamConfig::default() };
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        // Large enough for several batches, compressed before the lock is taken, and a small one.
        let filler = "x".repeat(60_000);
        let mut call = stream.begin_put().unwrap();
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for n in 0..60 {
            let (key, value) = (format!("k{}", n % 7), format!("{n}{filler}"));
            let header = [("n", value.as_bytes().get(..2).unwrap())];
            call.push(value.as_bytes(), Some(&key), header.into_iter()).unwrap();
            expected.entry(key).or_default().push(value);
        }
        stream.split(ShardId(0), None, &patience()).unwrap();
        stream.split(ShardId(2), None, &patience()).unwrap();
        stream.merge(ShardId(3), ShardId(1), &patience()).unwrap();

        let places = call.commit(&patience()).unwrap().places();

        assert_eq!(60, places.len());
        assert_eq!(expected, by_key(&stream));
        let metas = stream.shards().unwrap();
        let mut contents: BTreeMap<(ShardId, u64), String> = BTreeMap::new();
        for meta in &metas {
            for (seq, _, value) in read(&stream, meta.id).0 {
                contents.insert((meta.id, seq), value);
            }
        }
        for (n, place) in places.iter().enumerate() {
            assert!(contents[place].starts_with(&format!("{n}x")), "record {n} is at {place:?}");
            assert!(metas[place.0 .0 as usize].is_open);
        }
    }
}

#[test]
fn a_closed_shard_refuses_records_for_good() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let stream = log.stream("s").or_else(|_| {
            let stream = log.create_stream("s", &StreamConfig::default(), &patience())?;
            stream.split(ShardId(0), None, &patience()).map(|_| stream)
        });
        let stream = stream.unwrap();
        let shard = stream.shard(ShardId(0)).unwrap();
        let mut record = streamfn_core::RecordBuilder::default();
        record.push(b"late", None, &[]);
        let end = shard.visible_end();

        let refused = shard.append(vec![record], &patience());

        assert!(matches!(refused, Err(Error::StreamClosed { .. })), "{refused:?}");
        assert_eq!(end, shard.visible_end());
        log.close().unwrap();
    }
}

#[test]
fn every_key_keeps_its_order_while_threads_put_and_shards_are_split_and_merged() {
    let (_folder, _log, stream) = stream(2);
    let is_over = AtomicBool::new(false);
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let writer = |thread: usize| {
            let (stream, is_over) = (&stream, &is_over);
            move || {
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let value = count.to_string();
                    let keys: Vec<String> = (0..5).map(|key| format!("{thread}-{key}")).collect();
                    let records: Vec<_> =
                        keys.iter().map(|k| (k.as_str(), value.as_str())).collect();
                    put(stream, &records);
                    count += 1;
                }
                count
            }
        };
        let writers: Vec<_> = (0..4).map(|thread| scope.spawn(writer(thread))).collect();
        for round in 0..6 {
            let open = open_shards(&stream);
            if round % 3 == 2 {
                stream.merge(ShardId(open[0]), ShardId(open[1]), &patience()).unwrap();
            } else {
                let chosen = open[round % open.len()];
                stream.split(ShardId(chosen), None, &patience()).unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });

    let found = by_key(&stream);
    for (thread, count) in counts.iter().enumerate() {
        let expected: Vec<String> = (0..*count).map(|n| n.to_string()).collect();
        for key in 0..5 {
            assert!(expected == found[&format!("{thread}-{key}")], "thread {thread} key {key}");
        }
    }
}

#[test]
fn what_remains_of_a_trimmed_closed_shard_is_its_close() {
    let (_folder, _log, stream) = stream(1);
    put(&stream, &[("a", "1"), ("a", "2")]);
    stream.split(ShardId(0), None, &patience()).unwrap();
    let shard = stream.shard(ShardId(0)).unwrap();

    shard.trim(u64::MAX, &patience()).unwrap();

    assert_eq!((3, 3), (shard.trim_horizon().unwrap(), shard.visible_end()));
    let (segments, bytes) = shard.size().unwrap();
    assert!(segments == 1 && bytes < 4300, "{segments} {bytes}");
    assert_eq!(vec![1, 2], open_shards(&stream));
}

#[test]
fn a_log_has_at_most_4096_shards_closed_ones_counted() {
    let log = open(&SimFs::new());
    let config = StreamConfig { shards: 4092, ..StreamConfig::default() };
    log.create_stream("wide", &config, &patience()).unwrap();
    let stream = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    stream.split(ShardId(0), None, &patience()).unwrap();

    let refused = stream.split(ShardId(1), None, &patience());

    assert!(matches!(refused, Err(Error::Config { field: "shards", .. })), "{refused:?}");
    assert_eq!(vec![1, 2], open_shards(&stream));
    stream.merge(ShardId(1), ShardId(2), &patience()).unwrap();
    let refused = log.create_stream("t", &StreamConfig::default(), &patience());
    assert!(matches!(refused, Err(Error::Config { field: "shards", .. })), "{refused:?}");
}

/// One run: puts, a split, puts, a merge, puts. Each record with the point at which it was
/// acknowledged, and the points at which the shards had changed.
struct Run {
    fs: SimFs,
    acknowledged: Vec<(String, String, usize)>,
    changed: Vec<(Vec<u32>, usize)>,
}

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn run(durability: Durability) -> Run {
    let fs = SimFs::new();
    let log = open(&fs);
    let config =
        StreamConfig { durability, compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    let mut acknowledged = Vec::new();
    let mut changed = vec![(open_shards(&stream), fs.point())];
    for round in 0..3 {
        for n in 0..2 {
            let value = format!("{round}{n}");
            let records: Vec<_> = KEYS.iter().map(|key| (*key, value.as_str())).collect();
            put(&stream, &records);
            let point = fs.point();
            acknowledged.extend(KEYS.iter().map(|k| ((*k).to_owned(), value.clone(), point)));
        }
        match round {
            0 => drop(stream.split(ShardId(0), None, &patience()).unwrap()),
            1 => drop(stream.merge(ShardId(1), ShardId(2), &patience()).unwrap()),
            _ => {}
        }
        changed.push((open_shards(&stream), fs.point()));
    }
    std::mem::forget(log);
    Run { fs, acknowledged, changed }
}

fn check(run: &Run, durability: Durability, point: usize, disk: Disk) -> SimFs {
    let fs = SimFs::on(disk);
    let log = open(&fs);
    let Ok(stream) = log.stream("s") else {
        assert!(run.changed[0].1 > point, "the stream is gone at point {point}");
        return fs;
    };
    // What a call that returned has changed stays changed; one that did not is all or nothing.
    let halves = open_shards(&stream);
    let done = run.changed.iter().rposition(|(_, at)| *at <= point).unwrap_or(0);
    let possible: BTreeSet<_> = run.changed[done..].iter().take(2).map(|(open, _)| open).collect();
    assert!(possible.contains(&halves), "{halves:?} at point {point}");
    for meta in stream.shards().unwrap() {
        assert_eq!(!meta.is_open, read(&stream, meta.id).1.is_some(), "point {point}");
    }
    let found = by_key(&stream);
    for key in KEYS {
        let values = found.get(key).cloned().unwrap_or_default();
        let mut sorted = values.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted, values, "order of {key} at point {point}");
        for (_, value, at) in run.acknowledged.iter().filter(|(k, ..)| k == key) {
            let is_promised = durability == Durability::Group && *at <= point;
            assert!(!is_promised || values.contains(value), "{key} {value} lost at point {point}");
        }
    }
    let again = open(&SimFs::on(fs.disk()));
    let reopened = again.stream("s").unwrap();
    assert_eq!((halves, &found), (open_shards(&reopened), &by_key(&reopened)), "point {point}");
    let places = put(&reopened, &KEYS.map(|key| (key, "after")));
    assert_eq!(KEYS.len(), places.len());
    fs
}

#[test]
fn a_split_and_a_merge_are_all_or_nothing_wherever_the_machine_stops() {
    let torn = if std::env::var_os("STREAMFN_CRASH_FULL").is_some() { 16 } else { 2 };
    let (mut points, mut states, mut inside) = (0, 0, 0);
    for durability in [Durability::Group, Durability::Process] {
        let run = run(durability);
        let mut crasher = Crasher::on(SimFs::new().disk());
        for (point, change) in run.fs.changes().iter().enumerate() {
            crasher.step(change);
            points += 1;
            for disk in crasher.states(point as u64, &Bound::few(torn)) {
                states += 1;
                let recovered = check(&run, durability, point + 1, disk.clone());
                if durability == Durability::Process || states % 9 > 0 {
                    continue;
                }
                // The machine stops again, inside the recovery.
                let mut again = Crasher::on(disk);
                for change in recovered.changes() {
                    again.step(&change);
                    for disk in again.states(inside, &Bound::few(0)) {
                        inside += 1;
                        check(&run, durability, point + 1, disk);
                    }
                }
            }
        }
    }
    println!("reshard: {points} crash points, {states} states, {inside} inside recovery");
    assert!(points > 200 && inside > 500, "{points} {inside}");
}

/// The segment with the CLOSE of shard 0 of [`split_log`], which has records 0 and 1 before it.
const CLOSE_SEGMENT: &str = "/log/streams/s/shardId-000000000000/00000001-00000000000000000002.seg";

/// The disk of a log with a shard that was split, closed cleanly or not, and a mapping that is done
/// with the parent.
fn split_log(is_closed: bool) -> Disk {
    let fs = SimFs::new();
    let log = open(&fs);
    let stream = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&stream, &[("a", "1")]);
    put(&stream, &[("a", "2")]);
    stream.split(ShardId(0), None, &patience()).unwrap();
    put(&stream, &[("a", "3")]);
    let mapping = Mapping::register(&log, "app.f", 1, Start::TrimHorizon).unwrap();
    mapping.prepare("s").unwrap();
    let file = mapping.lanes_file("s", ShardId(0)).unwrap();
    file.take(0).unwrap().unwrap();
    file.checkpoint(
        0,
        ResumePoint { next_seq: 3, ..ResumePoint::default() },
        1_700_000_000_000_000,
    )
    .unwrap();
    file.sync().unwrap();
    if is_closed {
        log.close().unwrap();
    } else {
        std::mem::forget(log);
    }
    fs.disk()
}

/// A log whose CLOSE has rotted is opened, twice.
fn check_close(disk: Disk, what: &str) {
    let fs = SimFs::on(disk);
    for _ in 0..2 {
        let log = open(&fs);
        let stream = log.stream("s").unwrap();
        let (records, close) = read(&stream, ShardId(0));
        assert_eq!(vec![0, 1], records.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), "{what}");
        assert_eq!(Some(vec![1, 2]), close, "{what}");
        let parent = stream.shard(ShardId(0)).unwrap();
        assert_eq!(3, parent.visible_end(), "{what}");
        assert!(parent.is_finished(3) && !parent.is_finished(2), "{what}");
        let mut late = streamfn_core::RecordBuilder::default();
        late.push(b"late", None, &[]);
        let refused = parent.append(vec![late], &patience());
        assert!(matches!(refused, Err(Error::StreamClosed { .. })), "{what}: {refused:?}");
        assert_eq!(vec![1, 2], open_shards(&stream), "{what}");
        assert_ne!(ShardId(0), put(&stream, &[("a", "more")])[0].0, "{what}");
        let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
        let child = &stream.shards().unwrap()[1];
        assert!(mapping.is_past_parents(&stream, child).unwrap(), "{what}");
        std::mem::forget(log);
    }
}

#[test]
fn a_close_that_rotted_is_written_again_from_the_manifest() {
    let path = Path::new(CLOSE_SEGMENT);
    for is_closed in [true, false] {
        let disk = split_log(is_closed);
        let whole = disk.bytes(path);
        assert!(whole.len() > 4096 + 96, "{}", whole.len());
        for bit in 4096 * 8..whole.len() * 8 {
            let mut rotted = disk.clone();
            rotted.patch(path, bit as u64 / 8, &[whole[bit / 8] ^ (1 << (bit % 8))]);
            check_close(rotted, &format!("closed {is_closed}, bit {bit}"));
        }
        for length in (0..4096).step_by(512).chain(4096..whole.len()) {
            let mut cut = disk.clone();
            cut.cut(path, length as u64);
            check_close(cut, &format!("closed {is_closed}, cut to {length}"));
        }
    }
}

#[test]
fn the_pages_of_children_that_are_dropped_go_to_the_next_ones() {
    let (folder, _log, stream) = stream(1);
    let lock = folder.path().join("streams/s/shardId-000000000000/append.lock");
    let held = RealFs.open(&lock, Open::Write).unwrap();
    assert!(held.try_lock(Lock::Exclusive).unwrap());
    let brief = Patience::of(Duration::from_millis(20));
    let refused = stream.split(ShardId(0), None, &brief);
    assert!(matches!(refused, Err(Error::LockTimeout { .. })), "{refused:?}");
    held.unlock().unwrap();

    stream.split(ShardId(0), None, &patience()).unwrap();

    let pages: Vec<u32> = stream.shards().unwrap().iter().map(|shard| shard.page).collect();
    assert_eq!(vec![1, 2, 3], pages);
}
