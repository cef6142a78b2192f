//! What a newer version wrote is refused, and nothing of it is touched: not cut, not put into
//! quarantine, not appended to. What it says may be ignored is ignored.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::simulation::{open, try_open, SimFs};
use streamfn_core::format::checksum::crc32c;
use streamfn_core::format::BatchHeader;
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{
    Compression, Error, Patience, ReadBuffer, Result, ShardId, Start, Stream, StreamConfig,
};

const SEGMENT: &str = "/log/streams/s/shardId-000000000000/00000000-00000000000000000000.seg";
const FORMAT: &str = "/log/FORMAT";

fn put(stream: &Stream, value: &str) -> Result<u64> {
    let mut put = stream.begin_put()?;
    put.push(value.as_bytes(), Some("k"), std::iter::empty())?;
    Ok(put.commit(&Patience::of(Duration::from_secs(30)))?.places()[0].1)
}

fn values(stream: &Stream) -> Result<Vec<String>> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(Start::TrimHorizon)?;
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            found.extend(
                (0..batch.count()).map(|i| String::from_utf8(batch.value(i).to_vec()).unwrap()),
            );
        }
        cursor = after;
    }
    Ok(found)
}

/// A log with three records, as a power cut leaves it; `change` alters the bytes of a file.
fn stopped_log(path: &str, change: impl Fn(&mut Vec<u8>)) -> SimFs {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    for name in ["other", "s"] {
        let patience = Patience::of(Duration::from_secs(30));
        let stream = log.create_stream(name, &config, &patience).unwrap();
        for n in 0..3 {
            put(&stream, &format!("value {n}")).unwrap();
        }
    }
    std::mem::forget(log);
    let stopped = SimFs::on(fs.disk());
    let mut bytes = streamfn_core::fs::read(&stopped, Path::new(path)).unwrap();
    change(&mut bytes);
    stopped.open(Path::new(path), Open::Write).unwrap().write_at(&[&bytes], 0).unwrap();
    stopped
}

/// Writes `piece` at a place, and the checksum over everything from `from` to the 4 bytes at `crc`.
fn patch(bytes: &mut [u8], at: usize, piece: &[u8], from: usize, crc: usize) {
    bytes[at..at + piece.len()].copy_from_slice(piece);
    let sum = crc32c(&bytes[from..crc]);
    bytes[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
}

fn patch_segment_header(bytes: &mut [u8], at: usize, piece: &[u8]) {
    patch(bytes, at, piece, 0, 4092);
}

/// Every file but the control file and the locks, with its bytes.
fn files(fs: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::from("/log")];
    while let Some(folder) = folders.pop() {
        for name in fs.list(&folder).unwrap() {
            let path = folder.join(&name);
            if fs.list(&path).is_ok() {
                folders.push(path);
            } else if name != "control" && !name.ends_with("lock") {
                found.insert(path.clone(), streamfn_core::fs::read(fs, &path).unwrap());
            }
        }
    }
    found
}

fn assert_refused(fs: &SimFs, what: &str) {
    let before = files(fs);
    match try_open(fs) {
        Err(Error::UnsupportedFormat { found, .. }) => assert!(found.contains(what), "{found}"),
        other => panic!("{what}: {other:?}"),
    }
    assert_eq!(before, files(fs), "{what}");
}

#[test]
fn a_batch_of_a_newer_version_refuses_the_log_and_nothing_is_touched() {
    for (at, piece, what) in [
        (4, &[2][..], "version 2"),
        (5, &[13], "header of 104 bytes"),
        (6, &[3], "flags 0x0203"),
        (6, &[1 << 6], "flags 0x0240"),
        (68, &[9], "dictionary 9"),
    ] {
        let fs = stopped_log(SEGMENT, |bytes| {
            let batch = 4096 + 2 * (bytes.len() - 4096) / 3;
            patch(bytes, batch + at, piece, batch, batch + 92);
        });
        assert_refused(&fs, what);
    }
}

#[test]
fn a_batch_of_a_newer_version_behind_a_damaged_one_is_not_cut_either() {
    let fs = stopped_log(SEGMENT, |bytes| {
        let size = (bytes.len() - 4096) / 3;
        bytes[4096 + size + 100] ^= 1;
        patch(bytes, 4096 + 2 * size + 4, &[2], 4096 + 2 * size, 4096 + 2 * size + 92);
    });

    assert_refused(&fs, "version 2");
}

/// A record may hold anything; the search behind damage meets it.
#[test]
fn a_record_that_holds_a_batch_of_a_newer_version_refuses_no_log() {
    let mut newer = BatchHeader { record_count: 1, ..BatchHeader::default() }.encode().0;
    patch(&mut newer, 4, &[2], 0, 92);
    for is_last in [true, false] {
        let fs = SimFs::new();
        let log = open(&fs);
        let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
        let patience = Patience::of(Duration::from_secs(30));
        let stream = log.create_stream("s", &config, &patience).unwrap();
        put(&stream, "first").unwrap();
        let outer = fs.disk().bytes(Path::new(SEGMENT)).len() as u64;
        let mut holder = stream.begin_put().unwrap();
        holder.push(&[&newer[..], b"and then"].concat(), None, std::iter::empty()).unwrap();
        holder.commit(&patience).unwrap();
        if !is_last {
            put(&stream, "later").unwrap();
        }
        std::mem::forget((stream, log));
        let fs = SimFs::on(fs.disk());
        fs.patch(Path::new(SEGMENT), outer, &[0; 96]);

        let log = open(&fs);

        let stream = log.stream("s").unwrap();
        put(&stream, "goes on").unwrap();
        let shard = stream.shard(ShardId(0)).unwrap();
        match values(&stream) {
            Ok(found) if is_last => assert_eq!(vec!["first", "goes on"], found),
            Err(Error::Corruption { first: 1, last: 1, .. }) if !is_last => {
                let cursor = shard.cursor(Start::AtSequence(2)).unwrap();
                let next = shard.read(&cursor, &mut ReadBuffer::default()).unwrap();
                assert_eq!(b"later", next.unwrap().0.value(0));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_segment_of_a_newer_version_refuses_the_log_and_nothing_is_touched() {
    for (at, piece, what) in [
        (8, &[2][..], "format 2"),
        (12, &[4], "features 0x4"),
        (69, &[1], "encryption 1"),
        (72, &[1], "dictionary 1"),
    ] {
        let fs = stopped_log(SEGMENT, |bytes| patch_segment_header(bytes, at, piece));
        assert_refused(&fs, what);
    }
}

#[test]
fn features_needed_for_writing_leave_the_shard_readable_and_refuse_every_append() {
    let fs = stopped_log(SEGMENT, |bytes| patch_segment_header(bytes, 16, &[8]));
    let before = files(&fs);

    let log = open(&fs);
    let stream = log.stream("s").unwrap();
    assert_eq!(vec!["value 0", "value 1", "value 2"], values(&stream).unwrap());
    for _ in 0..2 {
        match put(&stream, "new") {
            Err(Error::UnsupportedFormat { found, .. }) => {
                assert!(found.contains("features 0x8 needed for writing"), "{found}");
            }
            other => panic!("{other:?}"),
        }
    }
    put(&log.stream("other").unwrap(), "new").unwrap();
    log.close().unwrap();

    let after = files(&fs);
    for (path, bytes) in before.iter().filter(|(path, _)| path.starts_with("/log/streams/s")) {
        assert!(bytes == &after[path], "{} was changed", path.display());
    }
}

#[test]
fn features_that_may_be_ignored_and_minor_versions_are() {
    for (at, piece) in [(20, &[0xff][..]), (10, &[7])] {
        let fs = stopped_log(SEGMENT, |bytes| patch_segment_header(bytes, at, piece));
        let log = open(&fs);
        let stream = log.stream("s").unwrap();
        put(&stream, "new").unwrap();

        assert_eq!(vec!["value 0", "value 1", "value 2", "new"], values(&stream).unwrap());
    }
    let fs = stopped_log(FORMAT, |bytes| patch(bytes, 10, &[7], 0, 60));
    let log = open(&fs);
    put(&log.stream("s").unwrap(), "new").unwrap();
}

#[test]
fn a_log_of_another_major_version_is_left_as_it_is() {
    let fs = stopped_log(FORMAT, |bytes| patch(bytes, 8, &[2], 0, 60));
    fs.remove(Path::new("/log/control")).unwrap();

    assert_refused(&fs, "format 2");
    assert!(!fs.exists(Path::new("/log/control")).unwrap());
}

#[test]
fn a_batch_of_a_newer_version_is_reported_by_a_reader_too() {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    let patience = Patience::of(Duration::from_secs(30));
    let stream = log.create_stream("s", &config, &patience).unwrap();
    put(&stream, "value").unwrap();
    let mut bytes = streamfn_core::fs::read(&fs, Path::new(SEGMENT)).unwrap();
    patch(&mut bytes, 4096 + 4, &[2], 4096, 4096 + 92);
    fs.open(Path::new(SEGMENT), Open::Write).unwrap().write_at(&[&bytes], 0).unwrap();

    assert!(matches!(values(&stream), Err(Error::UnsupportedFormat { .. })));
}

#[test]
fn a_section_that_must_be_understood_is_refused_and_is_no_damage() {
    // The third section of a body with keys is their offsets.
    let fs = stopped_log(SEGMENT, |bytes| {
        let batch = 4096 + 2 * (bytes.len() - 4096) / 3;
        let kind = batch + 96 + 8 + 2 * 12;
        bytes[kind..kind + 4].copy_from_slice(&[77, 0, 1, 0]);
        let length = u32::from_le_bytes(bytes[batch + 8..batch + 12].try_into().unwrap()) as usize;
        let body = crc32c(&bytes[batch + 96..batch + 96 + length]);
        patch(bytes, batch + 28, &body.to_le_bytes(), batch, batch + 92);
    });

    let log = open(&fs);

    match values(&log.stream("s").unwrap()) {
        Err(Error::UnsupportedFormat { found, .. }) => {
            assert!(found.contains("section"), "{found}");
        }
        other => panic!("{other:?}"),
    }
}
