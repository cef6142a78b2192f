//! A writer that died between any two of its stores: the next one finds the batch, whole or not.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Patience;
use crate::control::WriterState;
use crate::stream::{Log, OpenOptions, StreamConfig};
use crate::types::{Compression, ShardId};

use super::ShardLog;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(log: &Arc<Log>, value: &str) -> u64 {
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(value.as_bytes(), Some("k"), std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap().places()[0].1
}

/// A log with so many records whose last batch is written, but announced only by its first
/// `stores` stores, as `Page::commit` makes them.
fn died_inside_commit(folder: &std::path::Path, records: usize, stores: usize) -> Arc<Log> {
    let log = Log::open(folder, &OpenOptions::default()).unwrap();
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    log.create_stream("s", &config, &patience()).unwrap();
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    for n in 1..records {
        put(&log, &n.to_string());
    }
    let before = values(&shard);
    put(&log, "last");
    let after = values(&shard);
    for (place, value) in before.iter().enumerate().skip(stores) {
        set(&shard, place, *value);
    }
    assert_ne!(before, after);
    shard.page().set_state(WriterState::Writing);
    log
}

/// The stores of `Page::commit`, in their order.
fn values(shard: &ShardLog) -> [u64; 5] {
    let page = shard.page();
    let (committed, last) = (page.committed().to_word(), page.last_position().to_word());
    [committed, page.next_seq(), u64::from(page.last_crc()), page.max_ts(), last]
}

fn set(shard: &ShardLog, place: usize, value: u64) {
    shard.page().set_raw_for_tests(place, value);
}

#[test]
fn a_batch_announced_in_part_is_adopted_and_no_number_is_issued_twice() {
    for records in 1..4 {
        for stores in 0..=5 {
            let folder = tempfile::tempdir().unwrap();
            let log = died_inside_commit(folder.path(), records, stores);

            let next = put(&log, "next");

            assert_eq!(records as u64, next, "{records} records, {stores} stores");
        }
    }
}

#[test]
fn a_failure_is_not_taken_back_by_a_writer_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
    log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&log, "a");
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    let page = shard.page();

    page.set_state(WriterState::Writing);
    page.set_state(WriterState::Failed(5));
    page.set_state(WriterState::Clean);

    assert_eq!(WriterState::Failed(5), page.state());
    assert!(shard.sync_now().is_err());
}
