//! SEAL, the index of a closed segment, makes finding a place faster and nothing else: whole, damaged,
//! cut, missing or from elsewhere, every start finds the same records.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open_at, Disk, SimFs};
use streamfn_core::clock::ManualClock;
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{
    Compression, Durability, Error, Log, Patience, ReadBuffer, ShardId, Start, Stream, StreamConfig,
};

const FOLDER: &str = "/log/streams/s/shardId-000000000000";
const EPOCH: u64 = 1_700_000_000_000_000;
/// Records; one a batch, a second apart, sixteen or so in a segment.
const RECORDS: u64 = 40;
const VALUE_BYTES: usize = 60_000;

fn open(fs: &SimFs) -> (Arc<Log>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(EPOCH));
    (open_at(fs, &clock).unwrap(), clock)
}

/// A log of three segments that nobody has sealed yet.
fn log() -> (SimFs, Arc<Log>, Arc<Stream>) {
    let fs = SimFs::new();
    let (log, clock) = open(&fs);
    let config = StreamConfig {
        durability: Durability::Process,
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for n in 0..RECORDS {
        clock.set(EPOCH + n * 1_000_000);
        let mut put = stream.begin_put().unwrap();
        put.push(&vec![n.to_le_bytes()[0]; VALUE_BYTES], Some("k"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    }
    assert_eq!(3, segments(&fs).len());
    (fs, log, stream)
}

/// Does what the housekeeper does while nobody writes.
fn seal(log: &Log) {
    (0..5).for_each(|_| log.tick());
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    let names = fs.list(Path::new(FOLDER)).unwrap();
    let paths = names.iter().map(|name| Path::new(FOLDER).join(name));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).collect()
}

fn bytes_of(fs: &SimFs, path: &Path) -> Vec<u8> {
    streamfn_core::fs::read(fs, path).unwrap()
}

fn store(fs: &SimFs, path: &Path, bytes: &[u8]) {
    let file = fs.open(path, Open::Write).unwrap();
    file.truncate(bytes.len() as u64).unwrap();
    file.write_at(&[bytes], 0).unwrap();
}

/// The first record found from each start, by number and by time, and how many there are in all.
fn found(stream: &Stream) -> Vec<Option<u64>> {
    let shard = stream.shard(ShardId(0)).unwrap();
    let numbers = (0..=RECORDS).map(Start::AtSequence);
    let times = (0..=2 * RECORDS).map(|n| Start::AtTimestamp(EPOCH + n * 500_000));
    let first = |start| {
        let cursor = shard.cursor(start).unwrap();
        let read = shard.read(&cursor, &mut ReadBuffer::default()).unwrap();
        read.map(|(batch, _)| batch.base_seq())
    };
    let mut found: Vec<Option<u64>> = numbers.chain(times).map(first).collect();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let (mut buffer, mut count) = (ReadBuffer::default(), 0);
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        count += u64::from(batch.count());
        cursor = after;
    }
    found.push(Some(count));
    found
}

fn expected() -> Vec<Option<u64>> {
    let number = |n: u64| (n < RECORDS).then_some(n);
    let numbers = (0..=RECORDS).map(number);
    let times = (0..=2 * RECORDS).map(|n| number(n.div_ceil(2)));
    numbers.chain(times).chain([Some(RECORDS)]).collect()
}

fn length_of_seal(sealed: &[u8]) -> usize {
    let (length, magic) = sealed[sealed.len() - 8..].split_at(4);
    assert_eq!(b"SEAL", magic);
    u32::from_le_bytes(length.try_into().unwrap()) as usize
}

#[test]
fn a_closed_segment_is_sealed_and_the_one_being_written_is_not() {
    let (fs, log, stream) = log();
    let before: Vec<_> = segments(&fs).iter().map(|path| bytes_of(&fs, path)).collect();

    seal(&log);

    let after: Vec<_> = segments(&fs).iter().map(|path| bytes_of(&fs, path)).collect();
    for number in 0..2 {
        let length = length_of_seal(&after[number]);
        assert_eq!(before[number], after[number][..after[number].len() - length]);
    }
    assert_eq!(before[2], after[2]);
    assert_eq!(expected(), found(&stream));
    seal(&log);
    assert_eq!(after[0], bytes_of(&fs, &segments(&fs)[0]), "once is enough");
}

#[test]
fn every_start_finds_the_same_with_an_index_and_without() {
    let (_fs, log, stream) = log();

    assert_eq!(expected(), found(&stream));
    seal(&log);
    assert_eq!(expected(), found(&stream));
}

#[test]
fn a_flipped_bit_of_the_index_changes_no_result() {
    let (fs, log, stream) = log();
    seal(&log);
    let path = &segments(&fs)[0];
    let sealed = bytes_of(&fs, path);
    let length = length_of_seal(&sealed);
    let file = fs.open(path, Open::Write).unwrap();
    for bit in 0..length * 8 {
        let at = sealed.len() - length + bit / 8;
        file.write_at(&[&[sealed[at] ^ (1 << (bit % 8))]], at as u64).unwrap();

        let shard = stream.shard(ShardId(0)).unwrap();
        for (start, first) in [
            (Start::AtSequence(12), 12),
            (Start::AtTimestamp(EPOCH + 12_500_000), 13),
            (Start::AtSequence(16), 16),
        ] {
            let mut cursor = shard.cursor(start).unwrap();
            let mut buffer = ReadBuffer::default();
            for expected in first..20 {
                let (batch, after) = shard.read(&cursor, &mut buffer).unwrap().unwrap();
                assert_eq!(expected, batch.base_seq(), "bit {bit}, {start:?}");
                cursor = after;
            }
        }
        file.write_at(&[&sealed[at..=at]], at as u64).unwrap();
    }
}

#[test]
fn a_cut_or_foreign_index_changes_no_result() {
    let (fs, log, stream) = log();
    seal(&log);
    let paths = segments(&fs);
    let (one, other) = (bytes_of(&fs, &paths[0]), bytes_of(&fs, &paths[1]));
    let (length, other_length) = (length_of_seal(&one), length_of_seal(&other));
    let end = one.len() - length;
    for cut in (0..=length).step_by(13) {
        store(&fs, &paths[0], &one[..end + cut]);
        assert_eq!(expected(), found(&stream), "cut after {cut} bytes");
    }
    let other_end = other.len() - other_length;
    store(&fs, &paths[0], &[&one[..end], &other[other_end..]].concat());
    assert_eq!(expected(), found(&stream), "the index of a later segment");
    store(&fs, &paths[1], &[&other[..other_end], &one[end..]].concat());
    assert_eq!(expected(), found(&stream), "the index of an earlier segment");
}

#[test]
fn a_time_is_found_beside_damage_and_who_may_have_lost_something_is_told() {
    for is_sealed in [false, true] {
        let (fs, log, stream) = log();
        if is_sealed {
            seal(&log);
        }
        let path = segments(&fs)[0].clone();
        let bytes = bytes_of(&fs, &path);
        let mut batches = (4096..bytes.len()).filter(|at| bytes[*at..].starts_with(b"SFB1"));
        let place = batches.nth(5).unwrap();
        fs.patch(&path, place as u64 + 20, &[bytes[place + 20] ^ 1]);
        let shard = stream.shard(ShardId(0)).unwrap();

        for (time, expected) in [(3, Ok(3)), (5, Err((5, 5))), (6, Err((5, 5))), (7, Ok(7))] {
            let cursor = shard.cursor(Start::AtTimestamp(EPOCH + time * 1_000_000)).unwrap();
            let read = match shard.read(&cursor, &mut ReadBuffer::default()) {
                Ok(found) => Ok(found.unwrap().0.base_seq()),
                Err(Error::Corruption { first, last, .. }) => Err((first, last)),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(expected, read, "second {time}, sealed {is_sealed}");
        }
    }
}

#[test]
fn a_damaged_index_is_made_anew_by_the_next_who_opens_the_log() {
    let (fs, log, _stream) = log();
    seal(&log);
    let path = segments(&fs)[0].clone();
    let sealed = bytes_of(&fs, &path);
    let mut damaged = sealed.clone();
    let place = sealed.len() - length_of_seal(&sealed) + 110;
    damaged[place] ^= 1;
    store(&fs, &path, &damaged);
    log.close().unwrap();

    let (log, _) = open(&fs);
    let stream = log.stream("s").unwrap();
    stream.shard(ShardId(0)).unwrap();
    seal(&log);

    assert!(sealed == bytes_of(&fs, &path));
}

#[test]
fn a_damaged_segment_is_not_sealed() {
    let (fs, log, _stream) = log();
    let path = segments(&fs)[0].clone();
    let mut bytes = bytes_of(&fs, &path);
    bytes[4096 + 50] ^= 1;
    store(&fs, &path, &bytes);

    seal(&log);

    assert!(bytes == bytes_of(&fs, &path));
}

/// The disk after the machine stopped and came up again.
fn stopped(fs: &SimFs) -> Disk {
    fs.disk()
}

#[test]
fn recovery_steps_over_indexes() {
    let (fs, log, _stream) = log();
    seal(&log);
    std::mem::forget(log);
    let fs = SimFs::on(stopped(&fs));
    // The older slot of the state: its recovery point is the beginning of the log.
    let state = Path::new(FOLDER).join("state");
    let mut bytes = bytes_of(&fs, &state);
    let newer = usize::from(bytes[8] < bytes[4096 + 8]);
    bytes[4096 * newer] ^= 1;
    store(&fs, &state, &bytes);

    let (log, _) = open(&fs);

    let stream = log.stream("s").unwrap();
    let records = ..usize::try_from(RECORDS).unwrap();
    assert_eq!(expected()[records], found(&stream)[records]);
    assert!(!fs.exists(Path::new("/log/quarantine")).unwrap());
}

#[test]
fn an_index_proves_that_what_is_before_it_was_synced() {
    let (fs, log, _stream) = log();
    seal(&log);
    std::mem::forget(log);
    let fs = SimFs::on(stopped(&fs));
    let paths = segments(&fs);
    paths[1..].iter().for_each(|path| fs.remove(path).unwrap());
    let mut bytes = bytes_of(&fs, &paths[0]);
    let end = bytes.len() - length_of_seal(&bytes);
    bytes[end - 100] ^= 1; // the last batch
    store(&fs, &paths[0], &bytes);
    let state = Path::new(FOLDER).join("state");
    let fresh = {
        let empty = SimFs::new();
        let (log, _) = open(&empty);
        let patience = Patience::of(Duration::from_secs(30));
        log.create_stream("s", &StreamConfig::default(), &patience).unwrap();
        bytes_of(&empty, &state)
    };
    store(&fs, &state, &fresh);

    let (_log, _) = open(&fs);

    assert!(!fs.exists(Path::new("/log/quarantine")).unwrap(), "rot is not cut");
    assert_eq!(bytes, bytes_of(&fs, &paths[0])[..bytes.len()]);
}
