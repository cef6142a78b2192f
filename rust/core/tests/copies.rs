//! A record that holds a piece of a log, of this very segment even: whatever is damaged or torn around
//! it, no batch inside of it is ever taken for one of the shard.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Call, Disk, SimFs};
use streamfn_core::format::record_batch::{HeaderRead, HEADER_BYTES};
use streamfn_core::format::BatchHeader;
use streamfn_core::fs::Fs;
use streamfn_core::fsck::{examine, Kind, Options};
use streamfn_core::{
    Compression, Error, Log, Patience, Position, ReadBuffer, ShardId, Start, StreamConfig,
};

const SEGMENT: &str = "/log/streams/s/shardId-000000000000/00000000-00000000000000000000.seg";
const FIRST: usize = 4096;
/// The number of the record that holds the copies, and how many are before it.
const OUTER: u64 = 2;
/// Batches that are copied: some have numbers below, some above those of the record they are in.
const COPIED: usize = 6;

fn put(log: &Log, value: &[u8]) -> u64 {
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(value, None, std::iter::empty()).unwrap();
    put.commit(&Patience::of(Duration::from_secs(30))).unwrap().places()[0].1
}

/// A log with these records, one batch each, as a machine that stops leaves it.
fn crashed(values: &[Vec<u8>]) -> Disk {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    log.create_stream("s", &config, &Patience::of(Duration::from_secs(30))).unwrap();
    for value in values {
        put(&log, value);
    }
    std::mem::forget(log);
    fs.disk()
}

fn header(bytes: &[u8]) -> BatchHeader {
    let HeaderRead::Valid(header, _) = BatchHeader::decode(bytes) else { panic!("no batch") };
    header
}

/// The batches as a version wrote them that did not say where they stand.
fn unmarked(mut batches: Vec<u8>) -> Vec<u8> {
    let (mut at, mut prev_header_crc) = (0, 0);
    while at < batches.len() {
        let old = header(&batches[at..]);
        let new = BatchHeader { prev_header_crc, place: Position::default(), ..old };
        let (head, crc) = new.encode();
        batches[at..at + HEADER_BYTES].copy_from_slice(&head);
        (at, prev_header_crc) = (at + usize::try_from(old.stored_bytes()).unwrap(), crc);
    }
    batches
}

/// What was damaged of the record with the copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damaged {
    /// One bit of its header.
    Header,
    /// Its first sector was never written.
    Start,
    /// One bit of its body, behind the copies.
    Body,
}

struct Case {
    disk: Disk,
    /// Where the batch with the copies begins.
    outer: usize,
}

/// `value 0`, `value 1`, a record that holds the first batches of another life of this segment, then
/// `later` more; and the damage.
fn case(damaged: Damaged, is_marked: bool, later: usize) -> Case {
    let marked = |batches: Vec<u8>| if is_marked { batches } else { unmarked(batches) };
    let value = |n: u64| format!("value {n}").into_bytes();
    let path = Path::new(SEGMENT);
    let others: Vec<_> = (0..COPIED as u64).map(value).collect();
    let copies = marked(crashed(&others).bytes(path)[FIRST..].to_vec());
    let mut values: Vec<_> = (0..OUTER).map(value).collect();
    values.push([&copies[..], b"and then"].concat());
    values.extend((0..later).map(|n| format!("later {n}").into_bytes()));
    let mut disk = crashed(&values);
    let batches = marked(disk.bytes(path)[FIRST..].to_vec());
    let outer = (0..OUTER).fold(0, |at, _| at + stored(&batches[at..]));
    let inside = batches.windows(copies.len()).position(|window| window == copies).unwrap();
    assert!(inside > outer && inside.is_multiple_of(8), "the copies lie as batches do");
    disk.patch(path, FIRST as u64, &batches);
    let place = FIRST + outer;
    let flip = |at: usize| (at as u64, vec![disk.bytes(path)[at] ^ 1]);
    let (at, bytes) = match damaged {
        Damaged::Header => flip(place + 20),
        Damaged::Start => (place as u64, vec![0; 128]),
        Damaged::Body => flip(place + stored(&batches[outer..]) - 1),
    };
    disk.patch(path, at, &bytes);
    Case { disk, outer: place }
}

fn stored(bytes: &[u8]) -> usize {
    usize::try_from(header(bytes).stored_bytes()).unwrap()
}

/// All records by their numbers, damage passed; and the numbers that were passed.
fn read(log: &Log, start: Start) -> (BTreeMap<u64, String>, Vec<(u64, u64)>) {
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(start).unwrap();
    let (mut found, mut lost) = (BTreeMap::new(), Vec::new());
    loop {
        match shard.read(&cursor, &mut ReadBuffer::default()) {
            Ok(None) => return (found, lost),
            Ok(Some((batch, after))) => {
                if batch.control().is_none() {
                    let value = String::from_utf8_lossy(batch.value(0)).into_owned();
                    found.insert(batch.base_seq(), value);
                }
                cursor = after;
            }
            Err(Error::Corruption { .. }) => {
                let skipped = shard.skip_damage(&cursor).unwrap();
                lost.push((skipped.lost_from, skipped.lost_to));
                cursor = skipped.cursor;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Kind, byte, and first and last sequence number.
type Told = (Kind, Option<u64>, Option<(u64, u64)>);

fn findings(fs: &SimFs) -> Vec<Told> {
    let options = Options { is_deep: true, fs: Arc::new(fs.clone()), ..Options::default() };
    let report = examine(Path::new("/log"), &options, &mut |_, _| true).unwrap();
    report.findings.iter().map(|f| (f.kind, f.position, f.sequences)).collect()
}

#[test]
fn behind_damage_the_shard_goes_on_with_its_own_batches() {
    for damaged in [Damaged::Header, Damaged::Start, Damaged::Body] {
        for is_marked in [true, false] {
            let Case { disk, outer } = case(damaged, is_marked, 2);
            let fs = SimFs::on(disk);
            let expected = [(0, "value 0"), (1, "value 1"), (3, "later 0"), (4, "later 1")]
                .map(|(seq, value)| (seq, value.to_owned()));
            let what = format!("{damaged:?}, marked {is_marked}");

            let damage = (Kind::BatchDamaged, Some(outer as u64), Some((OUTER, OUTER)));
            assert_eq!(vec![damage], findings(&fs), "{what}");
            let log = open(&fs);
            let (found, lost) = read(&log, Start::TrimHorizon);
            assert_eq!(BTreeMap::from(expected.clone()), found, "{what}");
            assert_eq!(vec![(OUTER, OUTER + 1)], lost, "{what}");
            let (found, lost) = read(&log, Start::AtSequence(4));
            assert_eq!((BTreeMap::from([expected[3].clone()]), vec![]), (found, lost), "{what}");
            assert!(put(&log, b"goes on") > 4, "{what}");
        }
    }
}

#[test]
fn a_torn_end_is_cut_whatever_its_record_holds() {
    for damaged in [Damaged::Header, Damaged::Start, Damaged::Body] {
        for is_marked in [true, false] {
            let Case { disk, outer } = case(damaged, is_marked, 0);
            let fs = SimFs::on(disk);
            let what = format!("{damaged:?}, marked {is_marked}");

            assert_eq!(vec![(Kind::TornTail, Some(outer as u64), None)], findings(&fs), "{what}");
            let log = open(&fs);
            let (found, lost) = read(&log, Start::TrimHorizon);
            let expected = BTreeMap::from([(0, "value 0".into()), (1, "value 1".into())]);
            assert_eq!((expected, vec![]), (found, lost), "{what}");
            assert!(put(&log, b"goes on") > 4, "{what}");
            let kept: Vec<PathBuf> = fs
                .list(Path::new("/log/quarantine"))
                .unwrap()
                .into_iter()
                .map(Into::into)
                .collect();
            assert_eq!(1, kept.len(), "{what}: {kept:?}");
        }
    }
}

/// Else a record could keep a log from opening for minutes.
#[test]
fn a_body_that_a_header_elsewhere_claims_is_not_read() {
    const LENGTH: usize = 2 << 20;
    let mut value = vec![0; LENGTH];
    for at in (0..100).map(|n| n * HEADER_BYTES) {
        let rest = u32::try_from(LENGTH - at - HEADER_BYTES).unwrap();
        let place = Position { segment: 7, offset: 4096 };
        let (body_len, base_seq) = (rest, 5);
        let claims =
            BatchHeader { body_len, base_seq, record_count: 1, place, ..BatchHeader::default() };
        value[at..at + HEADER_BYTES].copy_from_slice(&claims.encode().0);
    }
    let mut disk = crashed(&[b"first".to_vec(), value]);
    let outer = FIRST + stored(&disk.bytes(Path::new(SEGMENT))[FIRST..]);
    disk.patch(Path::new(SEGMENT), outer as u64, &[0; HEADER_BYTES]);
    let fs = SimFs::on(disk);
    let options = Options { fs: Arc::new(fs.clone()), ..Options::default() };

    examine(Path::new("/log"), &options, &mut |_, _| true).unwrap();
    drop(open(&fs));

    let reads = fs.calls().into_iter().filter(|call| *call == Call::Read).count();
    assert!(reads < 90, "{reads} reads");
}
