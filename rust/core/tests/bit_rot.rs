//! Every single bit of a cleanly closed segment flipped, every length cut, batches swapped, repeated
//! and moved, a stale tail, a zeroed sector: no wrong record is delivered, nothing is lost outside the
//! batch that was hit, and nothing without a word.
//!
//! `STREAMFN_CRASH_FULL` (`make crash`) leaves out none; without it a sample is tried.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "`make crash` prints its figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::simulation::{open, Disk, SimFs};
use streamfn_core::format::checksum::crc32c;
use streamfn_core::{
    Compression, Durability, Error, Patience, ReadBuffer, ShardId, ShardLog, Start, StreamConfig,
};

const SEGMENT: &str = "/log/streams/s/shardId-000000000000/00000000-00000000000000000000.seg";
const BATCHES: usize = 16;
const RECORDS: usize = 10;
const HEADER: usize = 4096;

/// A cleanly closed log with one segment of about 64 KiB, and its bytes.
fn closed_log(compression: Compression) -> (Disk, Vec<u8>, BTreeMap<u64, Vec<u8>>) {
    let fs = SimFs::new();
    let log = open(&fs);
    let config =
        StreamConfig { compression, durability: Durability::Process, ..StreamConfig::default() };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    let mut written = BTreeMap::new();
    for batch in 0..BATCHES {
        let mut put = stream.begin_put().unwrap();
        let values: Vec<Vec<u8>> = (0..RECORDS)
            .map(|n| format!("{batch:02} {n} {}", "ab".repeat(180)).into_bytes())
            .collect();
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
    let mut disk = disk.clone();
    disk.put(Path::new(SEGMENT), bytes);
    SimFs::on(disk)
}

/// All records that can still be read, skipping damage; and the number of places reported.
fn salvage(fs: &SimFs) -> (BTreeMap<u64, Vec<u8>>, usize) {
    let log = open(fs);
    salvage_from(&log.stream("s").unwrap().shard(ShardId(0)).unwrap())
}

fn salvage_from(shard: &ShardLog) -> (BTreeMap<u64, Vec<u8>>, usize) {
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

/// What a test of many damages has seen.
#[derive(Default)]
struct Figures {
    damages: AtomicUsize,
    reports: AtomicUsize,
}

impl Figures {
    /// Checks what was salvaged after one damage.
    fn note(
        &self,
        (found, reports): &(BTreeMap<u64, Vec<u8>>, usize),
        written: &BTreeMap<u64, Vec<u8>>,
        lost_batches: usize,
        what: &dyn Fn() -> String,
    ) {
        for (seq, value) in found {
            assert!(written.get(seq) == Some(value), "{}: record {seq} is wrong", what());
        }
        let lost = written.len() - found.len();
        assert!(lost <= RECORDS * lost_batches, "{}: lost {lost} records", what());
        assert!(lost == 0 || *reports > 0, "{}: lost without a word", what());
        self.damages.fetch_add(1, Ordering::Relaxed);
        self.reports.fetch_add(*reports, Ordering::Relaxed);
    }

    fn print(&self, what: &str) {
        let (damages, reports) =
            (self.damages.load(Ordering::Relaxed), self.reports.load(Ordering::Relaxed));
        println!(
            "{what:<35} {damages:>9}   wrong records 0, lost outside the batch 0, lost without a word 0 ({reports} reports)"
        );
    }
}

/// Of so many damages one is tried.
fn stride(usual: usize) -> usize {
    if std::env::var_os("STREAMFN_CRASH_FULL").is_some() {
        1
    } else {
        usual
    }
}

#[test]
fn a_flipped_bit_loses_at_most_its_batch_and_is_reported() {
    for compression in [Compression::None, Compression::Zstd] {
        let (disk, bytes, written) = closed_log(compression);
        let figures = Figures::default();
        let next = AtomicUsize::new(0);
        let (bits, stride) = (bytes.len() * 8, stride(11));
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    // Opened once: the damage comes while the log is in use.
                    let fs = SimFs::on(disk.clone());
                    let log = open(&fs);
                    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
                    loop {
                        let bit = next.fetch_add(stride, Ordering::Relaxed);
                        let Some(byte) = bytes.get(bit / 8) else { return };
                        let at = (bit / 8) as u64;
                        fs.patch(Path::new(SEGMENT), at, &[byte ^ (1 << (bit % 8))]);
                        let found = salvage_from(&shard);
                        fs.patch(Path::new(SEGMENT), at, &[*byte]);
                        // Bits of the segment header carry no record: reading does not need it.
                        let lost_batches = usize::from(bit / 8 >= HEADER);
                        let what = || format!("{compression:?} bit {bit}");
                        figures.note(&found, &written, lost_batches, &what);
                    }
                });
            }
        });
        figures.print(&format!("bits flipped, {compression:?}"));
        assert!(figures.damages.into_inner() == bits.div_ceil(stride));
    }
}

#[test]
fn a_flipped_bit_is_found_at_the_next_opening_too() {
    let figures = Figures::default();
    for compression in [Compression::None, Compression::Zstd] {
        let (disk, bytes, written) = closed_log(compression);
        for bit in (0..bytes.len() * 8).step_by(if stride(2) == 1 { 13 } else { 127 }) {
            let mut disk = disk.clone();
            disk.patch(Path::new(SEGMENT), (bit / 8) as u64, &[bytes[bit / 8] ^ (1 << (bit % 8))]);
            let lost_batches = usize::from(bit / 8 >= HEADER);
            let what = || format!("{compression:?} bit {bit}");
            figures.note(&salvage(&SimFs::on(disk)), &written, lost_batches, &what);
        }
    }
    figures.print("bits flipped before opening");
}

#[test]
fn a_cut_at_any_byte_keeps_the_whole_batches_before_it() {
    let (disk, bytes, written) = closed_log(Compression::None);
    let size = (bytes.len() - HEADER) / BATCHES;
    let figures = Figures::default();
    for length in (0..=bytes.len()).step_by(stride(37)) {
        let mut disk = disk.clone();
        disk.cut(Path::new(SEGMENT), length as u64);
        let (found, reports) = salvage(&SimFs::on(disk));
        let whole = length.saturating_sub(HEADER) / size;
        // A batch that only misses padding, up to 7 bytes, is whole.
        let is_nearly_whole = length > HEADER && (length - HEADER) % size > size - 8;
        let expected = [RECORDS * whole, RECORDS * (whole + usize::from(is_nearly_whole))];
        assert!(expected.contains(&found.len()), "cut at {length}: {}", found.len());
        let what = || format!("cut at {length}");
        figures.note(&(found, reports), &written, BATCHES - whole, &what);
    }
    figures.print("files cut");
}

#[test]
fn batches_swapped_repeated_or_moved_deliver_nothing_wrong() {
    let (disk, bytes, written) = closed_log(Compression::None);
    let size = (bytes.len() - HEADER) / BATCHES;
    let place = |n: usize| HEADER + n * size..HEADER + (n + 1) * size;
    let figures = Figures::default();
    let check = |damaged: &[u8], lost_batches: usize, what: &dyn Fn() -> String| {
        figures.note(&salvage(&with_segment(&disk, damaged)), &written, lost_batches, what);
    };
    for a in 0..BATCHES {
        for b in 0..BATCHES {
            let what = || format!("batches {a} and {b}");
            let mut damaged = bytes.clone();
            damaged[place(a)].copy_from_slice(&bytes[place(b)]);
            // What stands in the place of another breaks the chain there, so only that one is lost;
            // at the very beginning there is no chain yet, and reading goes on behind the original.
            let lost = if a == b { 0 } else { b.max(1).min(if a == 0 { BATCHES } else { 1 }) };
            check(&damaged, lost, &what);
            damaged[place(b)].copy_from_slice(&bytes[place(a)]);
            // Between the two, records are passed over for the one that comes too early.
            check(&damaged, if a == b { 0 } else { 1 + a.abs_diff(b) }, &what);
            let repeated =
                [&bytes[..place(a).end], &bytes[place(b)], &bytes[place(a).end..]].concat();
            check(&repeated, 1 + BATCHES - a, &what);
        }
        let stale = [&bytes[..], &bytes[place(a)]].concat();
        check(&stale, 0, &|| format!("batch {a} behind the end"));
    }
    for by in [512, 4096] {
        for at in (HEADER..bytes.len()).step_by(stride(64).max(8) * 8) {
            let what = || format!("moved by {by} at {at}");
            let batch = (at - HEADER) / size;
            let later = [&bytes[..at], &vec![0; by], &bytes[at..]].concat();
            check(&later, BATCHES - batch, &what);
            let sooner = [&bytes[..at], &bytes[(at + by).min(bytes.len())..]].concat();
            check(&sooner, BATCHES - batch, &what);
        }
    }
    figures.print("batches swapped, repeated, moved");
}

#[test]
fn a_zeroed_sector_loses_no_other_batch() {
    let (disk, bytes, written) = closed_log(Compression::None);
    let size = (bytes.len() - HEADER) / BATCHES;
    let figures = Figures::default();
    for sector in (0..bytes.len()).step_by(512) {
        let mut damaged = bytes.clone();
        let end = (sector + 512).min(bytes.len());
        damaged[sector..end].fill(0);
        // A sector may have the end of one batch and the beginning of the next.
        let hit = match sector.checked_sub(HEADER) {
            Some(at) => (end - 1 - HEADER) / size - at / size + 1,
            None => 0,
        };
        let found = salvage(&with_segment(&disk, &damaged));
        figures.note(&found, &written, hit, &|| format!("sector at {sector} zeroed"));
    }
    figures.print("sectors zeroed");
}

/// Makes every checksum right again, and the chain.
fn fix(segment: &mut [u8]) {
    let mut at = HEADER;
    let mut previous = [0; 4];
    while at < segment.len() {
        let batch = &mut segment[at..];
        let length = u32::from_le_bytes(batch[8..12].try_into().unwrap()) as usize;
        let body = crc32c(&batch[96..96 + length]);
        batch[28..32].copy_from_slice(&body.to_le_bytes());
        batch[80..84].copy_from_slice(&previous);
        previous = crc32c(&batch[..92]).to_le_bytes();
        batch[92..96].copy_from_slice(&previous);
        at += 96 + length.next_multiple_of(8);
    }
}

#[test]
fn a_list_of_headers_that_is_not_whole_is_reported_though_all_checksums_match() {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig {
        compression: Compression::None,
        durability: Durability::Process,
        ..StreamConfig::default()
    };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for n in 0..3_u8 {
        let mut put = stream.begin_put().unwrap();
        let headers = [("name-of-a-header", &b"its value"[..]), ("other", b"")];
        put.push(&[n], None, headers.into_iter()).unwrap();
        put.commit(&patience).unwrap();
    }
    let whole = streamfn_core::fs::read(&fs, Path::new(SEGMENT)).unwrap();
    let name = b"name-of-a-header";
    let size = (whole.len() - HEADER) / 3;
    let second = &whole[HEADER + size..];
    let list = HEADER + size + second.windows(name.len()).position(|text| text == name).unwrap();
    let shard = stream.shard(ShardId(0)).unwrap();
    // The count of headers, the length of the name, the name, the length of the value.
    for (place, byte) in [(list - 4, 3), (list - 2, 99), (list, 0xff), (list + name.len(), 200)] {
        let mut damaged = whole.clone();
        damaged[place] = byte;
        fix(&mut damaged);
        fs.patch(Path::new(SEGMENT), 0, &damaged);

        let first = shard.cursor(Start::AtSequence(1)).unwrap();
        match shard.read(&first, &mut ReadBuffer::default()) {
            Err(Error::Corruption { first: 1, last: 1, reason, .. }) => {
                assert!(reason.contains("headers"), "{reason}");
            }
            other => panic!("{place}: {other:?}"),
        }
        let (found, reports) = salvage_from(&shard);
        assert_eq!((vec![0, 2], 1), (found.into_keys().collect(), reports), "{place}");
    }
}
