//! Every change of the file system fails once, and from then on: the engine says so, goes on where
//! it can, and what it acknowledged is there after the machine stopped.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod simulation;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use simulation::{Crasher, SimFs};
use streamfn_core::{
    Compression, Durability, Error, Log, OpenOptions, Patience, ReadBuffer, Result, ShardId, Start,
    Stream, StreamConfig,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(fs: &SimFs) -> Result<Arc<Log>> {
    let options =
        OpenOptions { fs: Arc::new(fs.clone()), housekeeping: false, ..OpenOptions::default() };
    Log::open(Path::new("/log"), &options)
}

fn put(stream: &Stream, value: &[u8]) -> Result<u64> {
    let mut put = stream.begin_put()?;
    put.push(value, Some("k"), std::iter::empty())?;
    Ok(put.commit(&patience())?.places()[0].1)
}

fn read(stream: &Stream) -> Result<BTreeMap<u64, Vec<u8>>> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(Start::TrimHorizon)?;
    let mut buffer = ReadBuffer::default();
    let mut found = BTreeMap::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            for index in 0..batch.count() {
                found.insert(batch.base_seq() + u64::from(index), batch.value(index).to_vec());
            }
        }
        cursor = after;
    }
    Ok(found)
}

/// Opens a log and puts records until nothing is left to put; returns what was acknowledged, and
/// whether anything was acknowledged after the shard said that a sync had failed.
fn work(fs: &SimFs, durability: Durability, is_closed: bool) -> (BTreeMap<u64, Vec<u8>>, bool) {
    let mut acknowledged = BTreeMap::new();
    let mut is_poisoned = false;
    let mut is_late = false;
    for round in 0..2 {
        let Ok(log) = open(fs) else { continue };
        let config = StreamConfig {
            durability,
            compression: Compression::None,
            segment_bytes: 1 << 20,
            ..StreamConfig::default()
        };
        let stream = log.create_stream("s", &config, &patience()).or_else(|_| log.stream("s"));
        let Ok(stream) = stream else { continue };
        for (number, size) in [20, 600_000, 600_000, 20, 3_000].into_iter().enumerate() {
            let value = format!("{round} {number} {}", "x".repeat(size)).into_bytes();
            match put(&stream, &value) {
                Ok(seq) => {
                    is_late |= is_poisoned;
                    assert!(acknowledged.insert(seq, value).is_none(), "number {seq} twice");
                }
                Err(Error::StoragePoisoned { .. }) => is_poisoned = true,
                Err(_) => {}
            }
        }
        if is_closed {
            let _ = log.sync();
            let _ = log.close();
        } else {
            std::mem::forget(log); // killed
        }
    }
    (acknowledged, is_late)
}

/// What the machine finds when it stops after all this, with nothing unsynced kept, or all of it.
fn check(fs: &SimFs, acknowledged: &BTreeMap<u64, Vec<u8>>, durability: Durability, what: &str) {
    let mut crasher = Crasher::on(SimFs::new().disk());
    for change in fs.changes() {
        crasher.step(&change);
    }
    let states = crasher.states(1, 0);
    for (index, disk) in states.iter().enumerate() {
        let fs = SimFs::on(disk.clone());
        let log = open(&fs).unwrap_or_else(|error| panic!("{what}, state {index}: {error}"));
        let Ok(stream) = log.stream("s") else {
            assert!(
                durability == Durability::Process || acknowledged.is_empty(),
                "{what}: no stream"
            );
            continue;
        };
        let found = read(&stream).unwrap_or_else(|error| panic!("{what}, state {index}: {error}"));
        for (seq, value) in acknowledged {
            let is_allowed = match found.get(seq) {
                Some(other) => value == other,
                None => durability == Durability::Process,
            };
            assert!(is_allowed, "{what}, state {index}: record {seq} is lost or another");
            if found.contains_key(seq) {
                let shard = stream.shard(ShardId(0)).unwrap();
                let cursor = shard.cursor(Start::AtSequence(*seq)).unwrap();
                let (batch, _) = shard.read(&cursor, &mut ReadBuffer::default()).unwrap().unwrap();
                let is_in = batch.base_seq() <= *seq && *seq < batch.next_seq();
                assert!(is_in, "{what}, state {index}: record {seq} is skipped");
            }
        }
    }
}

#[test]
fn every_change_fails_once_and_for_good() {
    let mut tried = 0;
    for durability in [Durability::Group, Durability::Process] {
        let whole = {
            let fs = SimFs::new();
            work(&fs, durability, true);
            fs.point()
        };
        for errno in [EIO, ENOSPC] {
            for (is_sticky, is_closed) in [(false, true), (true, true), (false, false)] {
                for nth in 0..whole {
                    let what = format!("{durability:?} errno {errno} at {nth} sticky {is_sticky}");
                    let fs = SimFs::new();
                    fs.fail(nth, errno, is_sticky);
                    let (acknowledged, is_late) = work(&fs, durability, is_closed);
                    assert!(!is_late, "{what}: acknowledged after a failed sync");
                    fs.heal();
                    check(&fs, &acknowledged, durability, &what);
                    tried += 1;
                }
            }
        }
    }
    println!("failures tried: {tried}");
    assert!(tried > 100);
}
