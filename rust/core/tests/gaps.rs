//! Numbers that are missing without a mark are reported, with place and range, wherever a reader
//! begins; nothing is stepped over in silence.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, SimFs};
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{
    Compression, Error, Log, Patience, ReadBuffer, Result, ShardId, Start, Stream, StreamConfig,
};

const FOLDER: &str = "/log/streams/s/shardId-000000000000";
/// Two records of this size fit a segment; each is a batch.
const VALUE_BYTES: usize = 400_000;
/// Header, record and padding of one of them.
const BATCHES_A_SEGMENT: u64 = 2;

/// Five batches of one record in three segments.
fn log() -> (SimFs, Arc<Log>, Arc<Stream>) {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for n in 0..5 {
        let mut put = stream.begin_put().unwrap();
        put.push(&vec![n; VALUE_BYTES], Some("k"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    }
    (fs, log, stream)
}

fn path_of(segment: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("{segment:08x}-{:020}.seg", segment * BATCHES_A_SEGMENT))
}

fn change(fs: &SimFs, segment: u64, change: impl Fn(&mut Vec<u8>)) {
    let path = path_of(segment);
    let mut bytes = streamfn_core::fs::read(fs, &path).unwrap();
    change(&mut bytes);
    let file = fs.open(&path, Open::Write).unwrap();
    file.truncate(bytes.len() as u64).unwrap();
    file.write_at(&[&bytes], 0).unwrap();
}

/// The numbers read from `start` on, and the damage that ends it: place, first and last number.
fn read(stream: &Stream, start: Start) -> (Vec<u64>, Option<(u64, u64, u64)>) {
    let shard = stream.shard(ShardId(0)).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    let mut read_all = || -> Result<()> {
        let mut cursor = shard.cursor(start)?;
        while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
            found.extend(batch.base_seq()..batch.next_seq());
            cursor = after;
        }
        Ok(())
    };
    let damage = match read_all() {
        Ok(()) => None,
        Err(Error::Corruption { position, first, last, .. }) => Some((position, first, last)),
        Err(error) => panic!("{error}"),
    };
    (found, damage)
}

#[test]
fn zeros_at_the_start_of_a_closed_segment_are_reported() {
    let (fs, _log, stream) = log();
    change(&fs, 1, |bytes| bytes[4096..].fill(0));

    assert_eq!((vec![0, 1], Some((4096, 2, 3))), read(&stream, Start::TrimHorizon));
    assert_eq!((vec![], Some((4096, 2, 3))), read(&stream, Start::AtSequence(2)));
    assert_eq!((vec![4], None), read(&stream, Start::AtSequence(4)));
}

#[test]
fn zeros_in_the_middle_of_a_closed_segment_are_reported() {
    let (fs, _log, stream) = log();
    change(&fs, 1, |bytes| {
        let middle = 4096 + (bytes.len() - 4096) / 2;
        bytes[middle..].fill(0);
    });

    let (found, damage) = read(&stream, Start::TrimHorizon);
    assert_eq!(vec![0, 1, 2], found);
    assert_eq!(Some((3, 3)), damage.map(|(_, first, last)| (first, last)));
}

#[test]
fn a_jump_without_a_mark_is_reported_where_the_reader_begins() {
    let (fs, _log, stream) = log();
    change(&fs, 1, |bytes| {
        let batch = (bytes.len() - 4096) / 2;
        bytes.drain(4096..4096 + batch);
    });

    assert_eq!((vec![], Some((4096, 2, 2))), read(&stream, Start::AtSequence(2)));
    assert_eq!((vec![3, 4], None), read(&stream, Start::AtSequence(3)));
}

#[test]
fn behind_a_jump_reading_goes_on_with_the_batch_that_is_there() {
    let (fs, _log, stream) = log();
    change(&fs, 1, |bytes| {
        let batch = (bytes.len() - 4096) / 2;
        bytes.drain(4096..4096 + batch);
    });
    let shard = stream.shard(ShardId(0)).unwrap();
    let cursor = shard.cursor(Start::AtSequence(2)).unwrap();
    assert!(shard.read(&cursor, &mut ReadBuffer::default()).is_err());

    let skipped = shard.skip_damage(&cursor).unwrap();

    assert_eq!((2, 3), (skipped.lost_from, skipped.lost_to));
    let (batch, _) = shard.read(&skipped.cursor, &mut ReadBuffer::default()).unwrap().unwrap();
    assert_eq!(3, batch.base_seq());
}

#[test]
fn a_segment_that_is_missing_is_reported() {
    for (segment, expected) in
        [(1, (vec![0, 1], Some((4096, 2, 3)))), (2, (vec![0, 1, 2, 3], Some((4096, 4, 4))))]
    {
        let (fs, _log, stream) = log();
        fs.remove(&path_of(segment)).unwrap();

        // SimFs keeps what is open readable, as the kernel does: only a new handle finds it gone.
        assert_eq!(expected, read(&stream, Start::TrimHorizon), "segment {segment}");
    }
}

#[test]
fn a_number_in_the_gap_that_an_epoch_announces_is_no_damage() {
    let (fs, log, _stream) = log();
    std::mem::forget(log);
    let log = open(&SimFs::on(fs.disk()));
    let stream = log.stream("s").unwrap();

    for start in [Start::AtSequence(5), Start::AtSequence(1_000), Start::TrimHorizon] {
        let (found, damage) = read(&stream, start);
        assert_eq!(None, damage, "{start:?}");
        assert_eq!(Some(&(1 << 21)), found.last(), "the EPOCH itself: {start:?} {found:?}");
    }
}
