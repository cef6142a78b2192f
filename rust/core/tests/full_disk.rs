//! A full disk, and a shard beyond help, close nothing but what they have to.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, try_open, Call, Fault, SimFs};
use streamfn_core::fs::{Fs, Open};
use streamfn_core::{
    Compression, Error, Log, Patience, ReadBuffer, Result, ShardId, Start, Stream, StreamConfig,
};

const FOLDER: &str = "/log/streams/s/shardId-000000000000";
const VALUE_BYTES: usize = 600_000;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(stream: &Stream, value: u8) -> Result<u64> {
    let mut put = stream.begin_put()?;
    put.push(&vec![value; VALUE_BYTES], Some("k"), std::iter::empty())?;
    Ok(put.commit(&patience())?.places()[0].1)
}

/// The first byte of each record.
fn values(stream: &Stream) -> Vec<u8> {
    let shard = stream.shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        if batch.control().is_none() {
            found.extend((0..batch.count()).map(|index| batch.value(index)[0]));
        }
        cursor = after;
    }
    found
}

/// Two streams of three records, a segment each, as a power cut leaves them; `s` has a torn tail.
fn stopped_log() -> SimFs {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    for name in ["other", "s"] {
        let stream = log.create_stream(name, &config, &patience()).unwrap();
        for n in 0..3 {
            put(&stream, n).unwrap();
        }
    }
    std::mem::forget(log);
    let stopped = SimFs::on(fs.disk());
    let last = Path::new(FOLDER).join("00000002-00000000000000000002.seg");
    let file = stopped.open(&last, Open::Write).unwrap();
    file.write_at(&[b"SFB1, half a batch"], file.length().unwrap()).unwrap();
    stopped
}

#[test]
fn after_a_power_cut_a_log_on_a_full_disk_is_read_and_trimmed_and_refuses_what_needs_room() {
    let fs = stopped_log();
    fs.set_packed(true);

    let log = open(&fs);
    for name in ["other", "s"] {
        let stream = log.stream(name).unwrap();
        assert_eq!(vec![0, 1, 2], values(&stream), "{name}");
        for _ in 0..2 {
            assert!(matches!(put(&stream, 9), Err(Error::LogFull { .. })), "{name}");
        }
        let trimmed = stream.shard(ShardId(0)).unwrap().trim(1, &patience()).unwrap();
        assert_eq!(1, trimmed.segments, "{name}");
        assert_eq!(vec![1, 2], values(&stream), "{name}");
    }
    assert!(fs.list(Path::new("/log/quarantine")).unwrap_or_default().is_empty());
}

#[test]
fn once_there_is_room_the_first_append_finishes_the_recovery() {
    let fs = stopped_log();
    fs.set_packed(true);
    let log = open(&fs);
    let stream = log.stream("s").unwrap();
    assert!(put(&stream, 9).is_err());

    fs.set_packed(false);
    let next = put(&stream, 3).unwrap();

    assert!(next > 1 << 20, "{next} may have been issued before the power cut");
    assert_eq!(vec![0, 1, 2, 3], values(&stream));
    assert_eq!(1, fs.list(Path::new("/log/quarantine")).unwrap().len());
    assert_eq!(next + 1, put(&stream, 4).unwrap());
}

#[test]
fn a_log_that_was_left_on_a_full_disk_can_be_opened_there_again() {
    let fs = stopped_log();
    fs.set_packed(true);
    for _ in 0..2 {
        let log = open(&fs);
        assert_eq!(vec![0, 1, 2], values(&log.stream("s").unwrap()));
        log.close().unwrap();
    }
    fs.set_packed(false);

    let log = open(&fs);
    let stream = log.stream("s").unwrap();
    assert!(put(&stream, 3).unwrap() > 1 << 20);
    assert_eq!(vec![0, 1, 2, 3], values(&stream));
}

#[test]
fn a_shard_beyond_help_does_not_close_the_others() {
    let fs = stopped_log();
    let state = fs.open(&Path::new(FOLDER).join("state"), Open::Write).unwrap();
    for slot in [0, 4096] {
        state.write_at(&[&[0xa5; 512]], slot).unwrap();
    }

    let log = open(&fs);

    let other = log.stream("other").unwrap();
    put(&other, 3).unwrap();
    assert_eq!(vec![0, 1, 2, 3], values(&other));
    let error = log.stream("s").unwrap().shard(ShardId(0)).unwrap_err();
    assert!(
        matches!(&error, Error::Corruption { reason, .. } if reason.contains("both state slots")),
        "{error}"
    );
}

/// A stream whose every record takes a segment of its own.
fn fresh(fs: &SimFs) -> (Arc<Log>, Arc<Stream>) {
    let log = open(fs);
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    (log, stream)
}

/// Puts, trims and lets the housekeeper work, whatever fails.
fn try_everything(log: &Log, stream: &Stream) {
    for value in 0..2 {
        let _ = put(stream, value);
    }
    let _ = stream.shard(ShardId(0)).unwrap().trim(1, &patience());
    (0..3).for_each(|_| log.tick());
}

#[test]
fn a_write_that_found_no_room_stops_nothing_once_there_is_some() {
    let fs = SimFs::new();
    let (log, stream) = fresh(&fs);
    let begun = fs.calls().len();
    try_everything(&log, &stream);
    let calls = fs.calls();
    let writes: Vec<usize> =
        (begun..calls.len()).filter(|nth| calls[*nth] == Call::Write).collect();
    assert!(writes.len() > 5, "{writes:?}");
    for nth in writes {
        let fs = SimFs::new();
        let (log, stream) = fresh(&fs);
        fs.fail(nth - begun, 1, Fault::Errno(libc::ENOSPC));
        try_everything(&log, &stream);
        fs.heal();

        let next = put(&stream, 2).unwrap();

        stream.shard(ShardId(0)).unwrap().trim(next, &patience()).unwrap();
        assert_eq!(vec![2], values(&stream), "write {nth}");
    }
}

#[test]
fn dead_letters_find_room_on_a_full_disk() {
    let fs = SimFs::new();
    let (log, plain) = fresh(&fs);
    let config = StreamConfig {
        is_internal: true,
        compression: Compression::None,
        ..StreamConfig::default()
    };
    let letters = log.create_stream("app.f.dlq", &config, &patience()).unwrap();
    letters.shard(ShardId(0)).unwrap();
    log.tick();
    fs.set_packed(true);
    assert!(matches!(put(&plain, 0), Err(Error::LogFull { .. })));

    let mut taken = Vec::new();
    for value in 0..9 {
        if put(&letters, value).is_err() {
            break;
        }
        taken.push(value);
        log.tick();
    }

    // Between one and two MiB were ready.
    assert_eq!(vec![0, 1, 2], taken);
    assert_eq!(taken, values(&letters));
    assert!(matches!(put(&letters, 9), Err(Error::LogFull { .. })));
    fs.set_packed(false);
    put(&letters, 3).unwrap();
    assert_eq!(vec![0, 1, 2, 3], values(&letters));
}

#[test]
fn a_file_system_that_machines_share_is_refused_and_left_alone() {
    for (magic, name) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9p")] {
        let fs = SimFs::new();
        fs.set_magic(magic);

        match try_open(&fs) {
            Err(Error::Config { field: "log_dir", reason }) => {
                assert!(reason.contains(name), "{reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(fs.list(Path::new("/log")).unwrap().is_empty(), "{name}");
    }
}
