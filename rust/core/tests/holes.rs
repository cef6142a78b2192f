//! Recovery writes down what it found damaged in the middle of a shard, and takes nothing away.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::time::Duration;

use crate::simulation::{open, SimFs, NOW};
use streamfn_core::format::holes;
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{Compression, Patience, StreamConfig};

const SHARD: &str = "/log/streams/s/shardId-000000000000";

/// A log that was not closed, of batches with one record of 100 bytes each.
fn unclosed_log(records: usize) -> SimFs {
    let fs = SimFs::new();
    let log = open(&fs);
    let patience = Patience::of(Duration::from_secs(30));
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for _ in 0..records {
        let mut put = stream.begin_put().unwrap();
        put.push(&[b'x'; 100], Some("k"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    }
    std::mem::forget(log);
    fs
}

fn segment(fs: &SimFs) -> String {
    let names = fs.list(Path::new(SHARD)).unwrap();
    let name = names.iter().find(|name| Path::new(name).extension().is_some_and(|e| e == "seg"));
    format!("{SHARD}/{}", name.unwrap())
}

#[test]
fn a_hole_is_written_down_once_with_its_numbers_and_its_place() {
    let fs = unclosed_log(10);
    let path = segment(&fs);
    let file = fs.open(Path::new(&path), Open::Write).unwrap();
    let size = (file.length().unwrap() - 4096) / 10;
    file.write_at(&[b"rot"], 4096 + 3 * size + 120).unwrap();
    file.write_at(&[b"rot"], 4096 + 4 * size + 120).unwrap();

    for _ in 0..2 {
        let again = SimFs::on(fs.disk());
        std::mem::forget(open(&again));
        let bytes = streamfn_core::fs::read(&again, Path::new(&format!("{SHARD}/holes"))).unwrap();
        let found = holes::decode(&bytes).unwrap();

        assert_eq!(1, found.len());
        assert_eq!((3, 4), (found[0].first, found[0].last));
        let places = (found[0].at.offset, found[0].end.offset);
        assert_eq!((4096 + 3 * size, 4096 + 5 * size), places);
        assert_eq!((NOW, false), (found[0].found, found[0].is_accepted));
    }
    assert!(!fs.exists(Path::new("/log/quarantine")).unwrap());
}

#[test]
fn a_torn_end_is_no_hole() {
    let fs = unclosed_log(3);
    let file = fs.open(Path::new(&segment(&fs)), Open::Write).unwrap();
    file.truncate(file.length().unwrap() - 50).unwrap();
    let again = SimFs::on(fs.disk());
    std::mem::forget(open(&again));

    assert!(!again.exists(Path::new(&format!("{SHARD}/holes"))).unwrap());
}
