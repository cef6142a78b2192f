//! Every single bit of a cleanly closed segment flipped, every length cut, batches swapped, a stale
//! tail, a zeroed sector: no wrong record is delivered, nothing is lost outside the batch that was
//! hit, and everything is reported.
//!
//! `STREAMFN_BIT_ROT_STRIDE` sets how many bits are left out between two that are flipped (1: none).

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

use simulation::{Disk, SimFs};
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{
    Compression, Durability, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId, Start,
    StreamConfig,
};

const SEGMENT: &str = "/log/streams/s/shardId-000000000000/00000000-00000000000000000000.seg";
const BATCHES: usize = 16;
const HEADER: usize = 4096;

fn open(fs: &SimFs) -> streamfn_core::Result<Arc<Log>> {
    let options =
        OpenOptions { fs: Arc::new(fs.clone()), housekeeping: false, ..OpenOptions::default() };
    Log::open(Path::new("/log"), &options)
}

/// A cleanly closed log with one segment of about 64 KiB, and its bytes.
fn closed_log(compression: Compression) -> (Disk, Vec<u8>, BTreeMap<u64, Vec<u8>>) {
    let fs = SimFs::new();
    let log = open(&fs).unwrap();
    let config =
        StreamConfig { compression, durability: Durability::Process, ..StreamConfig::default() };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    let mut written = BTreeMap::new();
    for batch in 0..BATCHES {
        let mut put = stream.begin_put().unwrap();
        let values: Vec<Vec<u8>> =
            (0..10).map(|n| format!("{batch:02} {n} {}", "ab".repeat(180)).into_bytes()).collect();
        for value in &values {
            put.push(value, Some("key"), std::iter::empty()).unwrap();
        }
        let places = put.commit(&patience).unwrap().places();
        written.extend(places.into_iter().map(|(_, seq)| seq).zip(values));
    }
    log.close().unwrap();
    let bytes = streamfn_core::fs::read(&fs, Path::new(SEGMENT)).unwrap();
    (fs.disk(), bytes, written)
}

/// The log with other bytes in its segment.
fn with_segment(disk: &Disk, bytes: &[u8]) -> SimFs {
    let fs = SimFs::on(disk.clone());
    let file = fs.open(Path::new(SEGMENT), Open::Write).unwrap();
    file.truncate(0).unwrap();
    file.write_at(&[bytes], 0).unwrap();
    fs
}

/// All records that can still be read, skipping damage; and the number of places reported.
fn salvage(fs: &SimFs) -> (BTreeMap<u64, Vec<u8>>, usize) {
    let log = open(fs).unwrap();
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = BTreeMap::new();
    let mut reported = 0;
    loop {
        match shard.read(&cursor, &mut buffer) {
            Ok(None) => return (found, reported),
            Ok(Some((batch, after))) => {
                if batch.control().is_none() {
                    for index in 0..batch.count() {
                        found.insert(
                            batch.base_seq() + u64::from(index),
                            batch.value(index).to_vec(),
                        );
                    }
                }
                cursor = after;
            }
            Err(Error::Corruption { .. } | Error::UnsupportedFormat { .. }) => {
                reported += 1;
                cursor = shard.skip_damage(&cursor).unwrap().cursor;
                buffer = ReadBuffer::default();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Checks what was salvaged: all but the records of at most `lost_batches` batches, none of it wrong.
fn check(
    found: &BTreeMap<u64, Vec<u8>>,
    written: &BTreeMap<u64, Vec<u8>>,
    lost_batches: usize,
    what: &str,
) {
    for (seq, value) in found {
        assert!(written.get(seq) == Some(value), "{what}: record {seq} is wrong");
    }
    let lost: Vec<u64> = written.keys().filter(|seq| !found.contains_key(seq)).copied().collect();
    assert!(lost.len() <= 10 * lost_batches, "{what}: lost {lost:?}");
}

#[test]
fn a_flipped_bit_loses_at_most_its_batch_and_is_reported() {
    let stride =
        std::env::var("STREAMFN_BIT_ROT_STRIDE").ok().and_then(|n| n.parse().ok()).unwrap_or(61);
    let (mut flips, mut reports) = (0, 0);
    for compression in [Compression::None, Compression::Zstd] {
        let (disk, bytes, written) = closed_log(compression);
        let mut bit = 0;
        while bit < bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{compression:?} bit {bit}");
            let (found, reported) = salvage(&with_segment(&disk, &damaged));
            // Bits of the segment header and of padding carry no record: reading needs neither.
            let lost_batches = usize::from(bit / 8 >= HEADER);
            check(&found, &written, lost_batches, &what);
            let is_whole = found.len() == written.len();
            assert!(is_whole || reported > 0, "{what}: lost without a word");
            flips += 1;
            reports += reported;
            bit += stride;
        }
    }
    println!("bits flipped {flips}, damage reported {reports} times");
    assert!(flips > 1_000 && reports > flips / 2);
}

#[test]
fn a_cut_at_any_byte_keeps_the_whole_batches_before_it() {
    let (disk, bytes, written) = closed_log(Compression::None);
    let batch = (bytes.len() - HEADER) / BATCHES;
    for length in (HEADER..=bytes.len()).step_by(37) {
        let (found, _) = salvage(&with_segment(&disk, &bytes[..length]));
        let whole = (length - HEADER) / batch;
        // A batch that only misses padding, up to 7 bytes, is whole.
        let is_nearly_whole = (length - HEADER) % batch > batch - 8;
        let expected = [10 * whole, 10 * (whole + usize::from(is_nearly_whole))];
        check(&found, &written, BATCHES - whole, &format!("cut at {length}"));
        assert!(expected.contains(&found.len()), "cut at {length}: {}", found.len());
    }
}

#[test]
fn swapped_batches_a_stale_tail_and_a_zeroed_sector_deliver_nothing_wrong() {
    let (disk, bytes, written) = closed_log(Compression::None);
    let size = (bytes.len() - HEADER) / BATCHES;
    let place = |n: usize| HEADER + n * size..HEADER + (n + 1) * size;

    let mut swapped = bytes.clone();
    swapped[place(3)].copy_from_slice(&bytes[place(7)]);
    swapped[place(7)].copy_from_slice(&bytes[place(3)]);
    let (found, reported) = salvage(&with_segment(&disk, &swapped));
    check(&found, &written, 5, "swapped");
    assert!(reported > 0);

    let mut stale = bytes.clone();
    stale.extend_from_slice(&bytes[place(2)]);
    let (found, _) = salvage(&with_segment(&disk, &stale));
    check(&found, &written, 0, "stale tail");

    for sector in (HEADER..bytes.len() - 512).step_by(512) {
        let mut zeroed = bytes.clone();
        zeroed[sector..sector + 512].fill(0);
        let (found, reported) = salvage(&with_segment(&disk, &zeroed));
        check(&found, &written, 2, &format!("sector at {sector} zeroed"));
        assert!(reported > 0, "sector at {sector}");
    }
}
