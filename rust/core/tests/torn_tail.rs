//! A log that was cut at any byte opens with an exact prefix of what was written, never issues a
//! number twice, and a damaged middle is never taken for a torn tail.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamfn_core::format::record_batch::{HeaderRead, HEADER_BYTES};
use streamfn_core::format::BatchHeader;
use streamfn_core::fsck::{examine, Kind, Options};
use streamfn_core::{
    Compression, Error, Log, OpenOptions, Patience, ReadBuffer, ShardId, Start, Stream,
    StreamConfig,
};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(path: &Path) -> Arc<Log> {
    Log::open(path, &OpenOptions::default()).unwrap()
}

fn put(stream: &Stream, value: &str) -> u64 {
    let mut put = stream.begin_put().unwrap();
    put.push(value.as_bytes(), Some("k"), std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap().places()[0].1
}

fn read(stream: &Stream) -> Result<Vec<(u64, String)>, Error> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(Start::TrimHorizon)?;
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            found.extend((0..batch.count()).map(|i| {
                (
                    batch.base_seq() + u64::from(i),
                    String::from_utf8(batch.value(i).to_vec()).unwrap(),
                )
            }));
        }
        cursor = after;
    }
    Ok(found)
}

/// A log of `count` records as an operating-system crash leaves it: nobody closed it, and the boot
/// that wrote the control file is over.
fn crashed_log(folder: &Path, count: usize) -> PathBuf {
    let source = folder.join("source");
    // Without the housekeeper, which would note after a second that the last record is on disk.
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    let log = Log::open(&source, &options).unwrap();
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    for n in 0..count {
        put(&stream, &format!("value {n}"));
    }
    let copy = folder.join("crashed");
    copy_tree(&source, &copy);
    std::fs::remove_file(copy.join("control")).unwrap();
    copy
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn segment_of(log: &Path) -> PathBuf {
    log.join("streams/s/shardId-000000000000/00000000-00000000000000000000.seg")
}

#[test]
fn a_file_cut_at_any_byte_opens_with_the_whole_batches_before_the_cut() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = crashed_log(folder.path(), 4);
    let whole = std::fs::read(segment_of(&crashed)).unwrap();
    let batch = (whole.len() - 4096) / 4;
    for length in 4096..=whole.len() {
        let copy = folder.path().join("cut");
        copy_tree(&crashed, &copy);
        std::fs::write(segment_of(&copy), &whole[..length]).unwrap();
        let log = open(&copy);
        let stream = log.stream("s").unwrap();
        let kept = (length - 4096) / batch;

        let expected: Vec<_> = (0..kept as u64).map(|n| (n, format!("value {n}"))).collect();
        assert_eq!(expected, read(&stream).unwrap(), "cut at {length}");
        let next = put(&stream, "after");
        assert!(next >= 1 << 20, "{next} may have been issued before the crash");
        assert_eq!(kept + 1, read(&stream).unwrap().len());

        log.close().unwrap();
        drop((stream, log));
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

#[test]
fn recovery_a_second_time_finds_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = crashed_log(folder.path(), 3);
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let _ = std::fs::remove_file(crashed.join("control"));
        let log = open(&crashed);
        let stream = log.stream("s").unwrap();
        assert_eq!(3, read(&stream).unwrap().len());
        epochs.push(stream.shard(ShardId(0)).unwrap().epoch());
        log.close().unwrap();
    }

    assert_eq!(vec![1, 1, 1], epochs, "a clean close needs no new epoch");
}

#[test]
fn a_flipped_bit_in_the_middle_is_corruption_and_nothing_behind_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = crashed_log(folder.path(), 4);
    let path = segment_of(&crashed);
    let whole = std::fs::read(&path).unwrap();
    let batch = (whole.len() - 4096) / 4;
    let mut damaged = whole.clone();
    damaged[4096 + batch + 120] ^= 1;
    std::fs::write(&path, &damaged).unwrap();

    let log = open(&crashed);
    let stream = log.stream("s").unwrap();

    let error = read(&stream).unwrap_err();
    let Error::Corruption { position, first, .. } = error else { panic!("{error}") };
    assert_eq!((4096 + batch as u64, 1), (position, first));
    let now = std::fs::read(&path).unwrap();
    assert_eq!(damaged, now[..damaged.len()], "not a byte is gone");
    let shard = stream.shard(ShardId(0)).unwrap();
    let cursor = shard
        .cursor_hint(2, streamfn_core::Position { segment: 0, offset: 4096 + 2 * batch as u64 })
        .unwrap();
    let (found, _) = shard.read(&cursor, &mut ReadBuffer::default()).unwrap().unwrap();
    assert_eq!(b"value 2", found.value(0));
}

#[test]
fn a_batch_that_does_not_follow_the_one_before_it_is_not_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = crashed_log(folder.path(), 3);
    let path = segment_of(&crashed);
    let mut bytes = std::fs::read(&path).unwrap();
    let batch = (bytes.len() - 4096) / 3;
    // The second batch as another life of the log would have written it: the third is a stale rest,
    // though its number is the next one.
    let head = &mut bytes[4096 + batch..][..HEADER_BYTES];
    let HeaderRead::Valid(header, _) = BatchHeader::decode(head) else { panic!("it was whole") };
    let other = BatchHeader { base_ts: header.base_ts + 1, max_ts: header.max_ts + 1, ..header };
    head.copy_from_slice(&other.encode().0);
    std::fs::write(&path, &bytes).unwrap();

    let log = open(&crashed);

    let found = read(&log.stream("s").unwrap()).unwrap();
    assert_eq!(vec![(0, "value 0".to_owned()), (1, "value 1".to_owned())], found);
}

#[test]
fn torn_bytes_are_kept_in_quarantine() {
    let folder = tempfile::tempdir().unwrap();
    let crashed = crashed_log(folder.path(), 2);
    let path = segment_of(&crashed);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();

    drop(open(&crashed));

    let kept: Vec<_> = std::fs::read_dir(crashed.join("quarantine")).unwrap().collect();
    assert_eq!(1, kept.len());
}

#[test]
fn a_writer_killed_in_the_middle_of_a_batch_is_stepped_over_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = open(&path);
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    put(&stream, "a");
    // Half of a batch behind the tail, as a killed process leaves it.
    let segment = segment_of(&path);
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes.extend(b"SFB1 and then nothing that fits");
    std::fs::write(&segment, bytes).unwrap();

    put(&stream, "b");

    let values: Vec<_> = read(&stream).unwrap().into_iter().map(|(_, value)| value).collect();
    assert_eq!(vec!["a", "b"], values);
}

/// The body of a batch that was being written is no reason to doubt what its header says was on disk.
#[test]
fn the_header_of_a_torn_batch_tells_rot_before_it_from_a_torn_tail() {
    for damaged in [20, 120] {
        let folder = tempfile::tempdir().unwrap();
        let crashed = crashed_log(folder.path(), 3);
        let path = segment_of(&crashed);
        let mut bytes = std::fs::read(&path).unwrap();
        let batch = (bytes.len() - 4096) / 3;
        bytes[4096 + batch + damaged] ^= 1;
        bytes.truncate(4096 + 3 * batch - 20);
        std::fs::write(&path, &bytes).unwrap();
        let look = || {
            let options = Options { is_deep: true, ..Options::default() };
            let report = examine(&crashed, &options, &mut |_, _| true).unwrap();
            let findings = report.findings.iter().filter(|f| f.kind != Kind::Quarantined);
            findings.map(|f| (f.kind, f.sequences)).collect::<Vec<_>>()
        };

        let rot = (Kind::BatchDamaged, Some((1, 1)));
        assert_eq!(vec![rot, (Kind::TornTail, None)], look(), "byte {damaged}");
        for round in 0..2 {
            let _ = std::fs::remove_file(crashed.join("control"));
            let log = open(&crashed);
            let stream = log.stream("s").unwrap();
            let error = read(&stream).unwrap_err();
            assert!(matches!(error, Error::Corruption { first: 1, last: 1, .. }), "{error}");
            put(&stream, "goes on");
            let shard = stream.shard(ShardId(0)).unwrap();
            let cursor = shard.cursor(Start::AtSequence(1)).unwrap();
            let mut cursor = shard.skip_damage(&cursor).unwrap().cursor;
            let mut values = 0;
            while let Some((found, after)) =
                shard.read(&cursor, &mut ReadBuffer::default()).unwrap()
            {
                values += usize::from(found.control().is_none());
                cursor = after;
            }
            assert_eq!(round + 1, values, "byte {damaged}");
            log.close().unwrap();
            drop((shard, stream, log));
            assert_eq!(vec![rot], look(), "byte {damaged}");
        }
    }
}
