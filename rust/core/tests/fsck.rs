//! Every kind of damage, seeded one at a time, is found: the file, the byte, the numbers, and nothing
//! else. A repair puts right what can be derived, loses nothing that is whole, and can be stopped at
//! every step.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, Bound, Call, Crasher, Disk, Fault, SimFs};
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::clock::ManualClock;
use streamfn_core::fs::{Fs, Open};
use streamfn_core::fsck::{examine, repair, Kind, Options, Report, Severity};
use streamfn_core::{
    Compression, Control, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId, Start,
    StreamConfig,
};

const SHARD: &str = "/log/streams/s/shardId-000000000000";
const LANES: &str = "/log/mappings/app.f/s/shardId-000000000000.lanes";
/// Records of one batch each.
const RECORDS: u64 = 40;
const VALUE: usize = 60_000;
const HEADER: u64 = 4096;
/// Bytes of a batch: its header, 80 for the table of sections and the key, and the value.
const BATCH: u64 = 96 + 80 + VALUE as u64;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_700_000_000_000_000))
}

fn look(fs: &SimFs, is_deep: bool) -> Report {
    let options = Options { is_deep, fs: Arc::new(fs.clone()), clock: clock() };
    examine(Path::new("/log"), &options, &mut |_, _| true).unwrap()
}

/// A log of three segments that was closed cleanly, with a mapping of two lanes.
fn sound_log() -> Disk {
    let fs = SimFs::new();
    let log = open(&fs);
    let patience = Patience::of(Duration::from_secs(30));
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for number in 0..RECORDS {
        let mut put = stream.begin_put().unwrap();
        let value = vec![u8::try_from(number).unwrap() | 0x80; VALUE];
        put.push(&value, Some("key"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    }
    Mapping::register(&log, "app.f", 2, Start::TrimHorizon).unwrap().prepare("s").unwrap();
    log.close().unwrap();
    SimFs::on(fs.disk()).disk()
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    let names = fs.list(Path::new(SHARD)).unwrap();
    let is_segment = |name: &&String| Path::new(name).extension().is_some_and(|e| e == "seg");
    names.iter().filter(is_segment).map(|name| Path::new(SHARD).join(name)).collect()
}

fn write(fs: &SimFs, path: impl AsRef<Path>, at: u64, bytes: &[u8]) {
    fs.open(path.as_ref(), Open::Create).unwrap().write_at(&[bytes], at).unwrap();
}

/// Kind, file, byte, and first and last sequence number.
type Told<Path> = (Kind, Path, Option<u64>, Option<(u64, u64)>);

/// The kinds, places and numbers that a report tells of.
fn told(report: &Report) -> Vec<Told<String>> {
    let short = |path: &Path| path.strip_prefix("/log").unwrap().display().to_string();
    let each = report.findings.iter();
    each.map(|f| (f.kind, short(&f.path), f.position, f.sequences)).collect()
}

#[test]
fn a_sound_log_has_nothing_to_tell() {
    let fs = SimFs::on(sound_log());
    for is_deep in [false, true] {
        let report = look(&fs, is_deep);

        assert_eq!(Vec::<Told<String>>::new(), told(&report));
        assert_eq!((1, 1, 3, RECORDS), {
            let c = report.checked;
            (c.streams, c.shards, c.segments, c.batches)
        });
        assert!(report.is_exclusive && !report.is_damaged());
    }
    assert_eq!(0, fs.point(), "an examination only reads");
}

/// One seeded damage: what is done to the log, and what is to be told, whether deep or not.
struct Case {
    name: &'static str,
    seed: fn(&SimFs),
    told: Vec<Told<&'static str>>,
    needs_deep: bool,
}

const SEGMENT_0: &str = "streams/s/shardId-000000000000/00000000-00000000000000000000.seg";
const SEGMENT_1: &str = "streams/s/shardId-000000000000/00000001-00000000000000000017.seg";
const SEGMENT_2: &str = "streams/s/shardId-000000000000/00000002-00000000000000000034.seg";
const FOLDER: &str = "streams/s/shardId-000000000000";
const STATE: &str = "streams/s/shardId-000000000000/state";

fn file(name: &str) -> PathBuf {
    Path::new("/log").join(name)
}

/// Copies a stream as a person does who knows nothing of pages.
fn copy_stream(fs: &SimFs, from: &str, to: &str) {
    let (from, to) = (file("streams").join(from), file("streams").join(to));
    let shard = "shardId-000000000000";
    for (from, to) in [(from.join(shard), to.join(shard)), (from, to)].iter().rev() {
        fs.create_dir(to).unwrap();
        for name in fs.list(from).unwrap().iter().filter(|name| *name != shard) {
            write(fs, to.join(name), 0, &streamfn_core::fs::read(fs, &from.join(name)).unwrap());
        }
    }
}

fn case(
    name: &'static str,
    seed: fn(&SimFs),
    kind: Kind,
    path: &'static str,
    position: Option<u64>,
    sequences: Option<(u64, u64)>,
) -> Case {
    Case { name, seed, told: vec![(kind, path, position, sequences)], needs_deep: false }
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    use Kind::*;
    let place = |n: u64| HEADER + n * BATCH;
    let mut cases = vec![
        case(
            "FORMAT gone",
            |fs| fs.remove(&file("FORMAT")).unwrap(),
            FormatDamaged,
            "FORMAT",
            None,
            None,
        ),
        case(
            "FORMAT flipped",
            |fs| write(fs, file("FORMAT"), 40, b"?"),
            FormatDamaged,
            "FORMAT",
            Some(0),
            None,
        ),
        case(
            "control of another length",
            |fs| fs.open(&file("control"), Open::Write).unwrap().truncate(8192).unwrap(),
            ControlDamaged,
            "control",
            None,
            None,
        ),
        case(
            "control of another log",
            |fs| {
                write(
                    fs,
                    file("control"),
                    0,
                    b"STRMCTL\x01????????????????????????????????????????",
                );
            },
            ControlDamaged,
            "control",
            Some(0),
            None,
        ),
        case(
            "manifest flipped",
            |fs| write(fs, file("streams/s/manifest.json"), 30, b"?"),
            ManifestDamaged,
            "streams/s/manifest.json",
            None,
            None,
        ),
        case(
            "manifest gone",
            |fs| fs.remove(&file("streams/s/manifest.json")).unwrap(),
            ManifestMissing,
            "streams/s",
            None,
            None,
        ),
        case(
            "a stream's folder copied",
            |fs| copy_stream(fs, "s", "t"),
            PageShared,
            "streams/t/manifest.json",
            None,
            None,
        ),
        case(
            "state flipped in one slot",
            |fs| write(fs, file(STATE), 4096 + 20, b"?"),
            StateSlotDamaged,
            STATE,
            Some(4096),
            None,
        ),
        case(
            "state flipped in both slots",
            |fs| {
                write(fs, file(STATE), 20, b"?");
                write(fs, file(STATE), 4096 + 20, b"?");
            },
            StateDamaged,
            STATE,
            None,
            None,
        ),
        case("state gone", |fs| fs.remove(&file(STATE)).unwrap(), StateDamaged, STATE, None, None),
        case(
            "segment header flipped",
            |fs| write(fs, file(SEGMENT_1), 100, b"?"),
            SegmentHeaderDamaged,
            SEGMENT_1,
            Some(0),
            None,
        ),
        case(
            "batch header flipped",
            |fs| write(fs, file(SEGMENT_0), HEADER + 3 * BATCH + 20, b"?"),
            BatchDamaged,
            SEGMENT_0,
            Some(place(3)),
            Some((3, 3)),
        ),
        case(
            "two batch headers flipped",
            |fs| {
                write(fs, file(SEGMENT_0), HEADER + 3 * BATCH + 20, b"?");
                write(fs, file(SEGMENT_0), HEADER + 4 * BATCH + 20, b"?");
            },
            BatchDamaged,
            SEGMENT_0,
            Some(place(3)),
            Some((3, 4)),
        ),
        case(
            "batch header zeroed",
            |fs| write(fs, file(SEGMENT_1), HEADER + 2 * BATCH, &[0; 512]),
            BatchDamaged,
            SEGMENT_1,
            Some(place(2)),
            Some((19, 19)),
        ),
        case(
            "last batch of a segment flipped",
            |fs| write(fs, file(SEGMENT_0), HEADER + 16 * BATCH + 20, b"?"),
            BatchDamaged,
            SEGMENT_0,
            Some(place(16)),
            Some((16, 16)),
        ),
        case(
            "last batch of the shard flipped",
            |fs| write(fs, file(SEGMENT_2), HEADER + 5 * BATCH + 20, b"?"),
            BatchDamaged,
            SEGMENT_2,
            Some(place(5)),
            Some((39, 39)),
        ),
        case(
            "end of a segment cut off",
            |fs| {
                fs.open(&file(SEGMENT_0), Open::Write)
                    .unwrap()
                    .truncate(HEADER + 15 * BATCH)
                    .unwrap();
            },
            EndMissing,
            SEGMENT_0,
            Some(place(15)),
            Some((15, 16)),
        ),
        case(
            "end of the shard cut off",
            |fs| {
                fs.open(&file(SEGMENT_2), Open::Write)
                    .unwrap()
                    .truncate(HEADER + 4 * BATCH)
                    .unwrap();
            },
            EndMissing,
            SEGMENT_2,
            Some(place(4)),
            Some((38, 39)),
        ),
        case(
            "first segment gone",
            |fs| fs.remove(&file(SEGMENT_0)).unwrap(),
            SegmentMissing,
            FOLDER,
            None,
            Some((0, 16)),
        ),
        case(
            "segment in the middle gone",
            |fs| fs.remove(&file(SEGMENT_1)).unwrap(),
            SegmentMissing,
            FOLDER,
            None,
            Some((17, 33)),
        ),
        case(
            "all segments gone",
            |fs| segments(fs).iter().for_each(|path| fs.remove(path).unwrap()),
            SegmentMissing,
            FOLDER,
            None,
            Some((0, 39)),
        ),
        case(
            "a flush failed",
            |fs| write(fs, file(FOLDER).join("failed"), 0, b"errno 5"),
            ShardFailed,
            "streams/s/shardId-000000000000/failed",
            None,
            None,
        ),
        case(
            "list of holes flipped",
            |fs| write(fs, file(FOLDER).join("holes"), 0, b"SFHOLES"),
            HolesDamaged,
            "streams/s/shardId-000000000000/holes",
            None,
            None,
        ),
        case(
            "bytes behind the end",
            |fs| write(fs, file(SEGMENT_2), HEADER + 6 * BATCH, b"SFB1 half of a batch"),
            TornTail,
            SEGMENT_2,
            Some(place(6)),
            None,
        ),
        case(
            "a stream whose removal did not finish",
            |fs| {
                fs.create_dir(&file("streams/gone")).unwrap();
                fs.create_dir(&file("streams/gone/shardId-000000000000")).unwrap();
                write(fs, file("streams/gone/removed"), 0, b"{}");
            },
            StreamRemoved,
            "streams/gone",
            None,
            None,
        ),
        case(
            "a stream that was not finished",
            |fs| fs.create_dir(&file("streams/t")).unwrap(),
            StreamUnfinished,
            "streams/t",
            None,
            None,
        ),
        case(
            "mapping flipped",
            |fs| {
                write(fs, file("mappings/app.f/mapping"), 20, b"?");
                write(fs, file("mappings/app.f/mapping"), 4096 + 20, b"?");
            },
            MappingDamaged,
            "mappings/app.f/mapping",
            Some(0),
            None,
        ),
        case(
            "mapping flipped in one slot",
            |fs| write(fs, file("mappings/app.f/mapping"), 4096 + 20, b"?"),
            MappingSlotDamaged,
            "mappings/app.f/mapping",
            Some(4096),
            None,
        ),
        case(
            "mapping gone",
            |fs| fs.remove(&file("mappings/app.f/mapping")).unwrap(),
            MappingDamaged,
            "mappings/app.f/mapping",
            None,
            None,
        ),
        case(
            "a mapping whose removal did not finish",
            |fs| {
                fs.remove(&file("mappings/app.f/mapping")).unwrap();
                write(fs, file("mappings/app.f/removed"), 0, b"");
            },
            MappingRemoved,
            "mappings/app.f/mapping",
            None,
            None,
        ),
        case(
            "head of lanes flipped",
            |fs| write(fs, LANES, 10, b"?"),
            LanesDamaged,
            "mappings/app.f/s/shardId-000000000000.lanes",
            Some(0),
            None,
        ),
        case(
            "one head of lanes flipped",
            |fs| write(fs, LANES, 4096, b"?"),
            LanesSlotDamaged,
            "mappings/app.f/s/shardId-000000000000.lanes",
            Some(4096),
            None,
        ),
        case(
            "lanes gone",
            |fs| fs.remove(Path::new(LANES)).unwrap(),
            LanesMissing,
            "mappings/app.f/s/shardId-000000000000.lanes",
            None,
            None,
        ),
        case(
            "lanes of a stream gone",
            |fs| {
                fs.remove(Path::new(LANES)).unwrap();
                fs.remove_dir(&file("mappings/app.f/s")).unwrap();
            },
            LanesMissing,
            "mappings/app.f/s",
            None,
            None,
        ),
        case(
            "checkpoint flipped",
            |fs| write(fs, LANES, 8192 + 12288 + 20, b"?"),
            CheckpointDamaged,
            "mappings/app.f/s/shardId-000000000000.lanes",
            Some(8192 + 12288),
            None,
        ),
        case(
            "one checkpoint flipped",
            |fs| write(fs, LANES, 8192 + 4096, b"?"),
            CheckpointSlotDamaged,
            "mappings/app.f/s/shardId-000000000000.lanes",
            Some(8192 + 4096),
            None,
        ),
        case(
            "in-flight slot flipped",
            |fs| write(fs, LANES, 8192 + 8192, b"?"),
            InFlightDamaged,
            "mappings/app.f/s/shardId-000000000000.lanes",
            Some(8192 + 8192),
            None,
        ),
        case(
            "a foreign file",
            |fs| write(fs, file("streams/s/notes.txt"), 0, b"hello"),
            ForeignFile,
            "streams/s/notes.txt",
            None,
            None,
        ),
        case(
            "a foreign file at the top",
            |fs| write(fs, file("notes.txt"), 0, b"hello"),
            ForeignFile,
            "notes.txt",
            None,
            None,
        ),
        case(
            "half of a replacement",
            |fs| write(fs, file("streams/s/manifest.json.new"), 0, b"{"),
            Leftover,
            "streams/s/manifest.json.new",
            None,
            None,
        ),
        case(
            "something in quarantine",
            |fs| {
                fs.create_dir(&file("quarantine")).unwrap();
                write(fs, file("quarantine/x.torn"), 0, b"x");
            },
            Quarantined,
            "quarantine/x.torn",
            None,
            None,
        ),
    ];
    cases.push(Case {
        name: "body flipped",
        seed: |fs| write(fs, file(SEGMENT_0), HEADER + 3 * BATCH + 500, b"?"),
        told: vec![(BatchDamaged, SEGMENT_0, Some(place(3)), Some((3, 3)))],
        needs_deep: true,
    });
    cases.push(Case {
        name: "a shard that nobody knows",
        seed: |fs| fs.create_dir(&file("streams/s/shardId-000000000009")).unwrap(),
        told: vec![(ShardUnknown, "streams/s/shardId-000000000009", None, None)],
        needs_deep: false,
    });
    cases.push(Case {
        name: "a shard's folder gone",
        seed: |fs| {
            for name in fs.list(&file(FOLDER)).unwrap() {
                fs.rename(&file(FOLDER).join(&name), &Path::new("/").join(&name)).unwrap();
            }
        },
        told: vec![(StateDamaged, STATE, None, None), (SegmentMissing, FOLDER, None, None)],
        needs_deep: false,
    });
    cases.push(Case {
        name: "two segments swapped",
        seed: |fs| {
            fs.rename(&file(SEGMENT_0), &file("x")).unwrap();
            fs.rename(&file(SEGMENT_1), &file(SEGMENT_0)).unwrap();
            fs.rename(&file("x"), &file(SEGMENT_1)).unwrap();
        },
        told: vec![
            (SegmentForeign, SEGMENT_0, Some(0), None),
            (BatchDamaged, SEGMENT_0, Some(HEADER), Some((0, 16))),
            (SegmentForeign, SEGMENT_1, Some(0), None),
            (BatchDamaged, SEGMENT_1, Some(HEADER), Some((17, 33))),
        ],
        needs_deep: false,
    });
    cases
}

#[test]
fn each_damage_is_told_with_its_place_and_its_numbers_and_nothing_else_is() {
    let sound = sound_log();
    let mut wrong = Vec::new();
    for case in cases() {
        let fs = SimFs::on(sound.clone());
        (case.seed)(&fs);
        let point = fs.point();
        let expected: Vec<_> = case
            .told
            .iter()
            .map(|(kind, path, position, numbers)| (*kind, (*path).to_owned(), *position, *numbers))
            .collect();

        for is_deep in [true, false] {
            let expected = if case.needs_deep && !is_deep { &[][..] } else { &expected };
            let found = told(&look(&fs, is_deep));
            if expected != found {
                wrong.push(format!("{}, deep {is_deep}: {found:#?}", case.name));
            }
        }
        assert_eq!(point, fs.point(), "{}: an examination only reads", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_has_its_own_code_and_says_what_it_means() {
    let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
    codes.sort_unstable();
    codes.dedup();

    assert_eq!(Kind::ALL.len(), codes.len());
    for kind in Kind::ALL {
        assert!(!kind.meaning().is_empty());
        assert!(kind.severity() == Severity::Note || !kind.action().is_empty(), "{kind:?}");
    }
}

fn mend(fs: &SimFs, is_deep: bool) -> Report {
    let options = Options { is_deep, fs: Arc::new(fs.clone()), clock: clock() };
    repair(Path::new("/log"), &options, &mut |_, _| true).unwrap()
}

/// All records that can be read by somebody who passes damage, by their numbers.
fn records(log: &Log) -> BTreeMap<u64, Vec<u8>> {
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = BTreeMap::new();
    loop {
        match shard.read(&cursor, &mut buffer) {
            Ok(None) => return found,
            Ok(Some((batch, after))) => {
                if batch.control().is_none() {
                    for index in 0..batch.count() {
                        let seq = batch.base_seq() + u64::from(index);
                        assert!(found.insert(seq, batch.value(index).to_vec()).is_none());
                    }
                }
                cursor = after;
            }
            Err(Error::Corruption { first, last, .. }) => {
                let skipped = shard.skip_damage(&cursor).unwrap();
                assert!(skipped.cursor != cursor, "no way on from {cursor:?}");
                assert!(
                    !skipped.is_loss() || (first, last + 1) == (skipped.lost_from, skipped.lost_to)
                );
                cursor = skipped.cursor;
                buffer = ReadBuffer::default();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Kinds that nothing can put right.
const LEFT_AS_IT_IS: [Kind; 4] =
    [Kind::CheckpointDamaged, Kind::LanesMissing, Kind::SegmentForeign, Kind::SegmentOverlaps];

#[test]
fn a_repair_keeps_every_whole_record_and_the_log_goes_on_above_every_number() {
    let sound = sound_log();
    let before = records(&open(&SimFs::on(sound.clone())));
    assert_eq!(RECORDS, before.len() as u64);
    for case in cases() {
        let fs = SimFs::on(sound.clone());
        (case.seed)(&fs);
        let found = look(&fs, true);
        let lost = |seq: &u64| {
            let numbers = found.findings.iter().filter_map(|finding| finding.sequences);
            numbers.into_iter().any(|(first, last)| (first..=last).contains(seq))
        };
        let is_gone = case.name == "a shard's folder gone";
        let expected: BTreeMap<_, _> = before
            .iter()
            .filter(|(seq, _)| !is_gone && !lost(seq))
            .map(|(s, v)| (*s, v.clone()))
            .collect();

        let report = mend(&fs, true);

        let again = SimFs::on(fs.disk());
        let is_left = |report: &Report| {
            report.findings.iter().any(|finding| LEFT_AS_IT_IS.contains(&finding.kind))
        };
        let second = mend(&again, true);
        assert_eq!(is_left(&second), second.is_damaged(), "{}: {second:#?}", case.name);
        let is_lossless = expected.len() == before.len() && !is_left(&report);
        assert_eq!(is_lossless, !report.is_damaged(), "{}: {report:#?}", case.name);
        let log = open(&SimFs::on(again.disk()));
        let kept = records(&log);
        let is_own = |(seq, value): (&u64, &Vec<u8>)| before.get(seq) == Some(value);
        assert!(kept.iter().all(is_own), "{}: {:?}", case.name, kept.keys());
        // A reader may still find in a file of another name what an examination gives up.
        let is_misplaced = found.findings.iter().any(|f| f.kind == Kind::SegmentForeign);
        assert!(expected.iter().all(|(seq, _)| kept.contains_key(seq)), "{}", case.name);
        assert!(is_misplaced || kept.len() == expected.len(), "{}: {:?}", case.name, kept.keys());
        let stream = log.stream("s").unwrap();
        let mut put = stream.begin_put().unwrap();
        put.push(b"goes on", Some("key"), std::iter::empty()).unwrap();
        let patience = Patience::of(Duration::from_secs(30));
        let seq = put.commit(&patience).unwrap().places()[0].1;
        assert!(seq >= RECORDS, "{}: {seq}", case.name);
    }
}

#[test]
fn shards_with_one_page_are_both_there_after_a_repair() {
    let fs = SimFs::on(sound_log());
    copy_stream(&fs, "s", "t");
    let log = open(&fs);
    let shard_of = |log: &Arc<Log>, stream: &str| log.stream(stream)?.shard(ShardId(0));
    let opened = ["s", "t"].iter().filter(|stream| shard_of(&log, stream).is_ok()).count();
    assert_eq!(1, opened, "one page is for one shard");
    log.close().unwrap();
    drop(log);

    let report = mend(&fs, false);

    let detail = "shardId-000000000000 has page 1, which is that of s/shardId-000000000000";
    let found = report.findings.iter().find(|finding| finding.kind == Kind::PageShared).unwrap();
    assert_eq!((detail, false), (found.detail.as_str(), found.is_open()));
    let log = open(&fs);
    for stream in ["s", "t"] {
        let shard = shard_of(&log, stream).unwrap();
        assert_eq!((0, RECORDS), (shard.trim_horizon().unwrap(), shard.visible_end()), "{stream}");
    }
}

#[test]
fn what_a_repair_replaces_or_cuts_lies_in_quarantine() {
    let fs = SimFs::on(sound_log());
    write(&fs, file("streams/s/manifest.json"), 30, b"?");
    let damaged = streamfn_core::fs::read(&fs, &file("streams/s/manifest.json")).unwrap();

    mend(&fs, false);

    let names = fs.list(&file("quarantine")).unwrap();
    let kept: Vec<_> = names
        .iter()
        .map(|name| streamfn_core::fs::read(&fs, &file("quarantine").join(name)).unwrap())
        .collect();
    assert_eq!(vec![damaged], kept, "{names:?}");
}

/// A log whose last two batches may not be on the disk: the flush behind them failed.
fn failed_log() -> SimFs {
    let fs = SimFs::new();
    let log = open(&fs);
    let patience = Patience::of(Duration::from_secs(30));
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience).unwrap();
    let put = |value: &[u8]| {
        let mut put = stream.begin_put().unwrap();
        put.push(value, Some("key"), std::iter::empty()).unwrap();
        put.commit(&patience).map(drop)
    };
    for value in [b"a", b"b", b"c"] {
        put(value).unwrap();
    }
    fs.fail_next(Call::Sync, Fault::Errno(libc::EIO));
    assert!(put(b"unknown").is_err());
    fs.heal();
    std::mem::forget(log);
    SimFs::on(fs.disk())
}

#[test]
fn a_failed_shard_takes_records_again_after_a_repair() {
    let fs = failed_log();
    let report = mend(&fs, true);

    let failed = report.findings.iter().find(|f| f.kind == Kind::ShardFailed).unwrap();
    assert!(failed.repaired.is_some());
    let log = open(&SimFs::on(fs.disk()));
    let kept: Vec<_> = records(&log).into_values().collect();
    assert_eq!([b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], kept[..3]);
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(b"goes on", Some("key"), std::iter::empty()).unwrap();
    assert!(put.commit(&Patience::of(Duration::from_secs(30))).unwrap().places()[0].1 > 3);
    assert!(!mend(&SimFs::on(fs.disk()), true).is_damaged());
}

/// In the boot of the failure the page knows what was acknowledged; what the file shows beyond that
/// may never have reached the disk.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
fn a_shard_that_failed_in_this_boot_is_cut_where_it_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (used, copy) = (folder.path().join("used"), folder.path().join("copy"));
    let log = Log::open(&used, &OpenOptions { housekeeping: false, ..OpenOptions::default() });
    let (log, patience) = (log.unwrap(), Patience::of(Duration::from_secs(30)));
    let config = StreamConfig {
        compression: Compression::None,
        durability: streamfn_core::Durability::Process,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience).unwrap();
    let put = |value: &[u8]| {
        let mut put = stream.begin_put().unwrap();
        put.push(value, Some("key"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    };
    put(b"synced");
    log.sync().unwrap();
    put(b"unknown");
    copy_folder(&used, &copy);
    std::fs::write(copy.join("streams/s/shardId-000000000000/failed"), "errno 5").unwrap();

    let options =
        Options { is_deep: true, fs: Arc::new(streamfn_core::fs::RealFs), clock: clock() };
    let report = repair(&copy, &options, &mut |_, _| true).unwrap();

    let failed = report.findings.iter().find(|f| f.kind == Kind::ShardFailed).unwrap();
    assert_eq!(Some((1, 1)), failed.sequences);
    let log = Log::open(&copy, &OpenOptions::default()).unwrap();
    assert_eq!(vec![b"synced".to_vec()], records(&log).into_values().collect::<Vec<_>>());
}

#[allow(clippy::disallowed_methods, reason = "a test prepares files")]
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (source, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

#[test]
fn a_replay_is_repaired_with_what_it_reads_or_named() {
    const RECORD: &str = "/log/mappings/app.f@replay-1/mapping";
    let fs = SimFs::on(sound_log());
    let log = open(&fs);
    let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
    let plan = mapping.plan_replay("s", Start::AtSequence(1), Start::Latest, None).unwrap();
    mapping.replay("s", &plan, &Patience::of(Duration::from_secs(30))).unwrap();
    log.close().unwrap();
    drop(log);
    assert!(told(&look(&fs, true)).is_empty());

    write(&fs, RECORD, 20, b"?");
    let report = look(&fs, true);
    assert_eq!(
        vec![Kind::MappingDamaged],
        report.findings.iter().map(|f| f.kind).collect::<Vec<_>>()
    );
    mend(&fs, false);
    let log = open(&fs);
    let replay = Mapping::open(&log, "app.f@replay-1").unwrap().unwrap();
    assert_eq!(plan, replay.ranges().unwrap());
    assert_eq!(2, replay.lanes(None).unwrap().len());
    log.close().unwrap();
    drop((log, replay));

    write(&fs, RECORD, 8192 + 20, b"?");
    let report = look(&fs, true);
    let found = report.findings.iter().find(|finding| finding.kind == Kind::ReplayDamaged);
    assert_eq!(Some((Path::new(RECORD), Some(8192))), found.map(|f| (&*f.path, f.position)));
}

#[test]
fn a_repair_can_be_stopped_at_every_step() {
    let mut points = 0;
    let wanted = [
        "manifest flipped",
        "state flipped in both slots",
        "segment header flipped",
        "two batch headers flipped",
        "all segments gone",
        "head of lanes flipped",
        "mapping flipped",
        "FORMAT flipped",
        "a flush failed",
    ];
    let sound = sound_log();
    for case in cases().iter().filter(|case| wanted.contains(&case.name)) {
        let fs = SimFs::on(sound.clone());
        (case.seed)(&fs);
        let seeded = fs.disk();
        let straight = SimFs::on(seeded.clone());
        mend(&straight, false);
        let expected = records(&open(&SimFs::on(straight.disk())));
        let mut crasher = Crasher::on(seeded);
        for (point, change) in straight.changes().iter().enumerate() {
            crasher.step(change);
            for disk in crasher.states(point as u64, &Bound::few(1)) {
                points += 1;
                let stopped = SimFs::on(disk);
                mend(&stopped, false);
                let second = mend(&SimFs::on(stopped.disk()), false);
                assert!(!second.is_damaged(), "{} at {point}: {second:#?}", case.name);
                let kept = records(&open(&SimFs::on(stopped.disk())));
                assert!(kept == expected, "{} at {point}: {:?}", case.name, kept.keys());
            }
        }
    }
    println!("repairs stopped {points} times");
    assert!(points > 100);
}

/// In the boot of the failure there is a page, and it knows of what the first run cut.
#[test]
fn a_repair_that_is_killed_and_run_again_tells_of_no_loss() {
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let told_lost = [Kind::BatchDamaged, Kind::EndMissing, Kind::SegmentMissing, Kind::HoleKnown];
    for is_closed in [false, true] {
        for nth in 0.. {
            // Its time begins here: all rounds together take longer on a slow machine.
            let patience = Patience::of(Duration::from_secs(30));
            let fs = SimFs::new();
            let log = open(&fs);
            let stream = log.create_stream("s", &config, &patience).unwrap();
            let put = |value: &[u8]| {
                let mut put = stream.begin_put().unwrap();
                put.push(value, Some("key"), std::iter::empty()).unwrap();
                put.commit(&patience).map(drop)
            };
            for value in [b"a", b"b", b"c"] {
                put(value).unwrap();
            }
            if is_closed {
                stream.split(ShardId(0), None, &patience).unwrap();
                write(&fs, file(FOLDER).join("failed"), 0, b"errno 5");
            } else {
                fs.fail_next(Call::Sync, Fault::Errno(libc::EIO));
                put(b"unknown").unwrap_err();
            }
            std::mem::forget((stream, log));
            let fs = fs.for_another_process();
            fs.fail(nth, usize::MAX, Fault::Errno(libc::EIO));
            let options = Options { is_deep: false, fs: Arc::new(fs.clone()), clock: clock() };
            let first = repair(Path::new("/log"), &options, &mut |_, _| true);
            fs.heal();

            let report = mend(&fs, true);

            let what = format!("closed {is_closed}, killed at {nth}");
            let is_lost = report.findings.iter().any(|f| told_lost.contains(&f.kind));
            assert!(!is_lost, "{what}: {report:#?}");
            let log = open(&fs.for_another_process());
            let kept: Vec<_> = records(&log).into_values().collect();
            assert_eq!([b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], kept[..3], "{what}");
            let closes: Vec<_> = marks(&log, ShardId(0))
                .into_iter()
                .filter(|mark| matches!(mark, Control::Close { .. }))
                .collect();
            assert_eq!(usize::from(is_closed), closes.len(), "{what}");
            log.close().unwrap();
            drop(log);
            assert!(!look(&fs, true).is_damaged(), "{what}");
            if first.is_ok() {
                assert!(nth > 50, "{what}");
                break;
            }
        }
    }
}

/// A small generator of numbers, the same in every run.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) % below
}

#[test]
fn random_damage_and_its_repair_lose_no_whole_batch_and_invent_none() {
    let rounds =
        std::env::var("STREAMFN_FSCK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let sound = sound_log();
    let before = records(&open(&SimFs::on(sound.clone())));
    let segments = [(SEGMENT_0, 0, 17), (SEGMENT_1, 17, 17), (SEGMENT_2, 34, 6)];
    let mut lost = 0;
    for round in 0..rounds {
        let fs = SimFs::on(sound.clone());
        let mut seed = round;
        let mut hit = std::collections::BTreeSet::new();
        for _ in 0..=draw(&mut seed, 4) {
            let (name, base, batches) = segments[usize::try_from(draw(&mut seed, 3)).unwrap()];
            let at = draw(&mut seed, HEADER + batches * BATCH - 1_000);
            let (length, byte) =
                [(1, 0x55), (512, 0), (900, 0xff)][usize::try_from(draw(&mut seed, 3)).unwrap()];
            write(&fs, file(name), at, &vec![byte; length]);
            let batch_of = |at: u64| base + at.saturating_sub(HEADER) / BATCH;
            let end = at + length as u64;
            if end > HEADER {
                hit.extend(batch_of(at)..=batch_of(end - 1));
            }
        }
        mend(&fs, true);
        let kept = records(&open(&SimFs::on(fs.disk())));
        for (seq, value) in &before {
            assert!(hit.contains(seq) || kept.get(seq) == Some(value), "round {round}: {seq}");
        }
        for (seq, value) in &kept {
            assert!(before.get(seq) == Some(value), "round {round}: {seq} was never put");
        }
        lost += before.len() - kept.len();
    }
    println!("records lost in {rounds} rounds: {lost}");
    assert!(lost > 0);
}

/// Only the page of the boot in which the flush failed knew how far the shard was durable.
#[test]
fn a_shard_that_failed_in_another_boot_keeps_all_that_is_whole() {
    let fs = SimFs::new();
    let log = open(&fs);
    let patience = Patience::of(Duration::from_secs(30));
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience).unwrap();
    for value in [b"a", b"b", b"c"] {
        let mut put = stream.begin_put().unwrap();
        put.push(value, Some("key"), std::iter::empty()).unwrap();
        put.commit(&patience).unwrap();
    }
    std::mem::forget(log);
    let fs = SimFs::on(fs.disk());
    write(&fs, file("streams/s/shardId-000000000000/failed"), 0, b"errno 5");
    fs.remove(&file("control")).unwrap();

    let report = mend(&fs, true);

    let failed = report.findings.iter().find(|f| f.kind == Kind::ShardFailed).unwrap();
    assert_eq!(None, failed.sequences);
    let kept: Vec<_> = records(&open(&SimFs::on(fs.disk()))).into_values().collect();
    assert_eq!(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()], kept);
}

#[test]
fn a_stream_whose_manifest_is_lost_is_not_made_anew_over_its_records() {
    let fs = SimFs::on(sound_log());
    fs.remove(&file("streams/s/manifest.json")).unwrap();
    let patience = Patience::of(Duration::from_secs(30));

    let made = open(&fs).create_stream("s", &StreamConfig::default(), &patience);

    assert!(matches!(made, Err(Error::Corruption { .. })), "{made:?}");
    mend(&fs, true);
    assert_eq!(RECORDS, records(&open(&SimFs::on(fs.disk()))).len() as u64);
}

/// Ends of shards are not judged beside others, but a stream with records in it was finished.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]
fn beside_a_running_log_a_manifest_that_is_lost_or_damaged_is_told_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    let log = Log::open(folder.path(), &options).unwrap();
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &StreamConfig::default(), &patience).unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(b"value", Some("key"), std::iter::empty()).unwrap();
    put.commit(&patience).unwrap();
    let manifest = folder.path().join("streams/s/manifest.json");
    let control = folder.path().join("control");
    let kinds = || -> Vec<Kind> {
        let report = examine(folder.path(), &Options::default(), &mut |_, _| true).unwrap();
        report.findings.iter().map(|finding| finding.kind).collect()
    };
    let whole = std::fs::read(&manifest).unwrap();
    assert_eq!(vec![Kind::InUse], kinds());

    std::fs::write(&manifest, b"{}").unwrap();
    assert_eq!(vec![Kind::InUse, Kind::ManifestDamaged], kinds());
    std::fs::remove_file(&manifest).unwrap();
    assert_eq!(vec![Kind::InUse, Kind::ManifestMissing], kinds());
    // Without the page nothing of the shard can be judged, and all the same it is there.
    std::fs::rename(&control, folder.path().join("workers/control")).unwrap();
    let found = kinds();
    assert!(found.contains(&Kind::ManifestMissing), "{found:?}");
    assert!(!found.contains(&Kind::SegmentHeaderDamaged), "{found:?}");
    std::fs::rename(folder.path().join("workers/control"), &control).unwrap();
    std::fs::write(&manifest, whole).unwrap();
    assert_eq!(vec![Kind::InUse], kinds());
}

/// Its page says that all up to the end of the old records may be judged.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]
fn beside_a_running_log_the_page_of_a_removed_stream_judges_no_stream_of_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    let log = Log::open(folder.path(), &options).unwrap();
    let patience = Patience::of(Duration::from_secs(30));
    let make = |values: &[&[u8]]| {
        let stream = log.create_stream("s", &StreamConfig::default(), &patience).unwrap();
        for value in values {
            let mut put = stream.begin_put().unwrap();
            put.push(value, Some("key"), std::iter::empty()).unwrap();
            put.commit(&patience).unwrap();
        }
    };
    make(&[&[b'x'; 3_000][..]; 50]);
    log.remove_stream("s", &patience).unwrap();
    make(&[b"value"]);
    let shard = folder.path().join("streams/s/shardId-000000000000");
    let segment = shard.join("00000000-00000000000000000000.seg");
    // Half of a batch that somebody is writing at this moment.
    let half = [&std::fs::read(&segment).unwrap()[..], b"SFB1 half of a batch"].concat();
    std::fs::write(&segment, half).unwrap();
    std::fs::write(folder.path().join("streams/s/manifest.json"), b"{}").unwrap();

    let report = examine(folder.path(), &Options::default(), &mut |_, _| true).unwrap();

    let kinds: Vec<Kind> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(vec![Kind::InUse, Kind::ManifestDamaged], kinds);
}

/// The marks of a shard, all of them.
fn marks(log: &Log, shard: ShardId) -> Vec<Control> {
    let shard = log.stream("s").unwrap().shard(shard).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut ReadBuffer::default()).unwrap() {
        found.extend(batch.control().cloned());
        cursor = after;
    }
    found
}

#[test]
fn a_closed_shard_whose_state_is_worked_out_anew_has_its_one_close() {
    let fs = SimFs::on(sound_log());
    let log = open(&fs);
    let patience = Patience::of(Duration::from_secs(30));
    log.stream("s").unwrap().split(ShardId(0), None, &patience).unwrap();
    log.close().unwrap();
    drop(log);
    let expected = vec![Control::Close { children: vec![1, 2] }];
    write(&fs, file(STATE), 20, b"?");
    write(&fs, file(STATE), 4096 + 20, b"?");

    mend(&fs, true);

    for _ in 0..2 {
        let log = open(&fs.for_the_next_boot());
        assert_eq!(expected, marks(&log, ShardId(0)));
        drop(log);
        assert!(!look(&fs, true).is_damaged());
    }
}

#[test]
fn a_closed_shard_whose_flush_failed_has_its_one_close() {
    let fs = SimFs::on(sound_log());
    let log = open(&fs);
    let stream = log.stream("s").unwrap();
    stream.split(ShardId(0), None, &Patience::of(Duration::from_secs(30))).unwrap();
    log.close().unwrap();
    drop((stream, log));
    write(&fs, file(FOLDER).join("failed"), 0, b"errno 5");
    let fs = fs.for_the_next_boot();
    let before = records(&open(&fs));

    assert!(!mend(&fs.for_the_next_boot(), true).is_damaged());

    for _ in 0..2 {
        let log = open(&fs.for_the_next_boot());
        assert_eq!(vec![Control::Close { children: vec![1, 2] }], marks(&log, ShardId(0)));
        assert_eq!(before, records(&log));
        drop(log);
        assert!(!look(&fs, true).is_damaged());
    }
}

/// All shards that are there get their lanes at once; one that comes later gets them later.
#[test]
fn a_child_without_lanes_is_new_unless_a_later_one_has_them() {
    let fs = SimFs::on(sound_log());
    let log = open(&fs);
    log.stream("s")
        .unwrap()
        .split(ShardId(0), None, &Patience::of(Duration::from_secs(30)))
        .unwrap();
    log.close().unwrap();
    drop(log);
    assert!(told(&look(&fs, true)).is_empty());

    let log = open(&fs);
    Mapping::open(&log, "app.f").unwrap().unwrap().prepare("s").unwrap();
    log.close().unwrap();
    drop(log);
    assert!(told(&look(&fs, true)).is_empty());
    let lanes = file("mappings/app.f/s/shardId-000000000001.lanes");
    fs.remove(&lanes).unwrap();

    let report = look(&fs, true);
    assert_eq!(
        vec![Kind::LanesMissing],
        report.findings.iter().map(|f| f.kind).collect::<Vec<_>>()
    );
    assert_eq!(
        (lanes, Some(ShardId(1))),
        (report.findings[0].path.clone(), report.findings[0].shard)
    );
}

/// The segments of a log that has gone on since a backup, and that of the backup.
fn gone_on_since_a_backup() -> (Disk, Disk) {
    let backup = sound_log();
    let fs = SimFs::on(backup.clone());
    let log = open(&fs);
    let (stream, patience) = (log.stream("s").unwrap(), Patience::of(Duration::from_secs(30)));
    let mut put = stream.begin_put().unwrap();
    put.push(b"since", Some("key"), std::iter::empty()).unwrap();
    put.commit(&patience).unwrap();
    (0..5).for_each(|_| log.tick());
    log.close().unwrap();
    (fs.disk(), backup)
}

#[test]
fn a_closed_segment_is_brought_back_from_any_backup() {
    let (mut disk, backup) = gone_on_since_a_backup();
    let path = file(SEGMENT_0);
    assert!(disk.bytes(&path).len() > backup.bytes(&path).len(), "it has an index by now");
    disk.patch(&path, HEADER + 3 * BATCH, &[0; 9000]);
    assert!(look(&SimFs::on(disk.clone()), true).is_damaged());

    disk.put(&path, &backup.bytes(&path));

    assert!(told(&look(&SimFs::on(disk.clone()), true)).is_empty());
    assert_eq!(RECORDS + 1, records(&open(&SimFs::on(disk))).len() as u64);
}

#[test]
fn the_last_segment_from_a_backup_loses_what_came_since_and_no_number_is_used_again() {
    let (mut disk, backup) = gone_on_since_a_backup();
    disk.put(&file(SEGMENT_2), &backup.bytes(&file(SEGMENT_2)));
    let fs = SimFs::on(disk);

    let lost = (Kind::EndMissing, SEGMENT_2.to_owned(), Some(HEADER + 6 * BATCH), Some((40, 40)));
    assert_eq!(vec![lost], told(&look(&fs, true)));
    mend(&fs, true);

    let log = open(&SimFs::on(fs.disk()));
    assert_eq!(RECORDS, records(&log).len() as u64);
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(b"goes on", Some("key"), std::iter::empty()).unwrap();
    assert!(put.commit(&Patience::of(Duration::from_secs(30))).unwrap().places()[0].1 > RECORDS);
}

/// As when a shard is brought back from a backup: its numbers must not be used again, or the function
/// would pass over the records that have them.
#[test]
fn a_shard_that_is_older_than_the_positions_in_it_goes_on_above_them() {
    let old = sound_log();
    let fs = SimFs::on(old.clone());
    let log = open(&fs);
    let stream = log.stream("s").unwrap();
    let patience = Patience::of(Duration::from_secs(30));
    let mut put = stream.begin_put().unwrap();
    (0..3).for_each(|_| put.push(b"since", Some("key"), std::iter::empty()).unwrap());
    put.commit(&patience).unwrap();
    let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
    let lanes = mapping.lanes_file("s", ShardId(0)).unwrap();
    let place = ResumePoint { next_seq: RECORDS + 3, ..ResumePoint::default() };
    lanes.take(0).unwrap();
    lanes.checkpoint(0, place, 1).unwrap();
    lanes.sync().unwrap();
    log.close().unwrap();
    drop((lanes, mapping, stream, log));
    let newer = streamfn_core::fs::read(&fs, Path::new(LANES)).unwrap();
    let mut disk = old;
    disk.put(Path::new(LANES), &newer);
    let fs = SimFs::on(disk);

    assert_eq!(vec![(Kind::StateMisplaced, STATE.to_owned(), None, None)], told(&look(&fs, true)));
    assert!(!mend(&fs, true).is_damaged());

    let log = open(&SimFs::on(fs.disk()));
    assert_eq!(RECORDS, records(&log).len() as u64);
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(b"goes on", Some("key"), std::iter::empty()).unwrap();
    assert!(put.commit(&patience).unwrap().places()[0].1 >= RECORDS + 3);
}

#[test]
fn positions_without_a_record_are_kept_until_they_are_repaired() {
    use streamfn_core::checkpoint::Mapping;
    let fs = SimFs::on(sound_log());
    fs.remove(&file("mappings/app.f/mapping")).unwrap();
    let log = open(&fs);

    Mapping::register(&log, "app.other", 1, Start::TrimHorizon).unwrap();
    let again = Mapping::register(&log, "app.f", 2, Start::Latest);

    assert!(matches!(again, Err(Error::CheckpointConflict { .. })), "{again:?}");
    drop(log);
    assert!(mend(&fs, true).findings.iter().any(|f| f.kind == Kind::MappingDamaged));
    let log = open(&fs);
    let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
    assert_eq!(2, mapping.lanes(Some("s")).unwrap().len());
}

/// A backup is restored without it.
#[test]
fn a_log_without_its_lock_file_is_locked_all_the_same() {
    let fs = SimFs::on(sound_log());
    fs.remove(&file("lock")).unwrap();

    mend(&fs, false);

    assert!(fs.exists(&file("lock")).unwrap());
}

#[test]
fn a_head_that_rots_after_a_change_of_the_factor_does_not_bring_back_old_lanes() {
    use streamfn_core::checkpoint::Mapping;
    for slot in [0, 4096] {
        let fs = SimFs::on(sound_log());
        let log = open(&fs);
        let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
        let lanes = mapping.lanes_file("s", ShardId(0)).unwrap();
        assert!(lanes.change_factor(1, [0; 16], 1).unwrap());
        drop((lanes, mapping, log));
        write(&fs, LANES, slot + 10, b"?");

        let log = open(&fs);
        let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
        let head = mapping.lanes_file("s", ShardId(0)).unwrap().head().unwrap();
        assert_eq!((2, 1), (head.generation, head.factor), "slot at {slot}");
    }
}
