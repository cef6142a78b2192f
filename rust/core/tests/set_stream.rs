//! Settings of a stream change as a whole, wherever the machine stops, and other processes see them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::time::Duration;

use crate::simulation::{open, Bound, Crasher, SimFs};
use streamfn_core::checkpoint::retention::{removable, retain_all};
use streamfn_core::stream::Manifest;
use streamfn_core::{
    Compression, Patience, ReadBuffer, Retention, SettingsChange, ShardId, Start, Stream,
    StreamConfig,
};

const CHANGE: SettingsChange = SettingsChange {
    retention: Some(Retention { age_us: Some(5_000_000), bytes: None, is_consumed: true }),
    compression: Some(Compression::None),
};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(stream: &Stream, value: &[u8]) {
    let mut put = stream.begin_put().unwrap();
    put.push(value, Some("k"), std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap();
}

fn values(stream: &Stream) -> Vec<Vec<u8>> {
    let shard = stream.shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        cursor = after;
        if batch.control().is_none() {
            found.extend((0..batch.count()).map(|index| batch.value(index).to_vec()));
        }
    }
    found
}

fn changed() -> StreamConfig {
    StreamConfig {
        retention: CHANGE.retention.unwrap(),
        compression: Compression::None,
        ..StreamConfig::default()
    }
}

#[test]
fn the_settings_are_the_old_or_the_new_ones_wherever_the_machine_stops() {
    let fs = SimFs::new();
    let log = open(&fs);
    let stream = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&stream, b"1");
    let before = fs.point();
    stream.set(&CHANGE, &patience()).unwrap();
    std::mem::forget(log);

    let mut crasher = Crasher::on(SimFs::new().disk());
    let (mut old, mut new) = (0, 0);
    let changes = fs.changes();
    for (point, change) in changes.iter().enumerate() {
        crasher.step(change);
        if point + 1 < before {
            continue;
        }
        for disk in crasher.states(point as u64, &Bound::few(4)) {
            let log = open(&SimFs::on(disk));
            let stream = log.stream("s").unwrap();
            let config = stream.config();
            assert_eq!(vec![b"1".to_vec()], values(&stream), "point {point}");
            put(&stream, b"more");
            let is_new = config == changed();
            assert!(is_new || config == StreamConfig::default(), "{config:?} at point {point}");
            assert!(is_new || point + 1 < changes.len(), "it returned before it was durable");
            *(if is_new { &mut new } else { &mut old }) += 1;
        }
    }
    assert!(old > 1 && new > 1, "{old} {new}");
}

#[test]
fn a_split_keeps_the_settings_and_a_change_keeps_the_shards() {
    let log = open(&SimFs::new());
    let stream = log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    stream.split(ShardId(0), None, &patience()).unwrap();

    stream.set(&CHANGE, &patience()).unwrap();
    assert_eq!(3, stream.shards().unwrap().len());

    stream.split(ShardId(1), None, &patience()).unwrap();
    assert_eq!(CHANGE.retention.unwrap(), stream.config().retention);
}

#[test]
fn a_process_that_has_the_stream_open_uses_the_new_settings_after_a_pass_of_retention() {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    let text = b"x".repeat(100_000);
    let size = |stream: &Stream| stream.shard(ShardId(0)).unwrap().size().unwrap().1;
    put(&stream, &text);
    assert!(size(&stream) > 100_000);

    // As another process does it: it replaces the file.
    let path = Path::new("/log/streams/s/manifest.json");
    let mut manifest = Manifest::load(log.fs(), path).unwrap();
    manifest.config.compression = Compression::Zstd;
    manifest.store(log.fs(), path).unwrap();
    assert_eq!(Compression::None, stream.config().compression);
    retain_all(&log).unwrap();

    assert_eq!(Compression::Zstd, stream.config().compression);
    let before = size(&stream);
    put(&stream, &text);
    assert!(size(&stream) - before < 10_000, "it is compressed");
    assert_eq!(vec![text.clone(), text], values(&stream), "both kinds are read");
}

#[test]
fn what_would_be_removed_is_what_is_removed() {
    let log = open(&SimFs::new());
    let config = StreamConfig {
        segment_bytes: 1024 * 1024,
        compression: Compression::None,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    for number in 0..6 {
        put(&stream, &[number].repeat(600_000));
    }
    let limits = Retention { bytes: Some(1_500_000), ..Retention::default() };
    let id = ShardId(0);

    let planned = removable(&log, &stream, id, &limits, &patience()).unwrap();
    let shard = stream.shard(id).unwrap();
    assert_eq!(0, shard.trim_horizon().unwrap(), "a plan removes nothing");
    stream
        .set(&SettingsChange { retention: Some(limits), compression: None }, &patience())
        .unwrap();
    let removed = retain_all(&log).unwrap();

    assert!(planned.segments > 1, "{planned:?}");
    assert_eq!((planned.segments, planned.bytes), (removed.segments, removed.bytes));
    assert_eq!(planned.horizon, shard.trim_horizon().unwrap());

    let planned = shard.trimmable(planned.horizon + 1, &patience()).unwrap();
    let removed = shard.trim(planned.horizon, &patience()).unwrap();
    assert_eq!((planned.segments, planned.bytes), (removed.segments, removed.bytes));
    assert_eq!(planned.horizon, shard.trim_horizon().unwrap());
}
