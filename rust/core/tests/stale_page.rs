//! The control page is a hint: where it says something else than the segments, the segments are right.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test changes files behind the engine's back")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamfn_core::{
    Compression, Durability, Log, OpenOptions, Patience, ReadBuffer, Result, ShardId, Start,
    Stream, StreamConfig,
};

const SHARD: &str = "streams/s/shardId-000000000000";
const SEGMENT: &str = "00000000-00000000000000000000.seg";
const SEGMENT_HEADER: usize = 4096;
const PAGE: usize = 4096;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(path: &Path) -> Arc<Log> {
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    Log::open(path, &options).unwrap()
}

fn create(log: &Arc<Log>, durability: Durability) -> Arc<Stream> {
    let config =
        StreamConfig { durability, compression: Compression::None, ..StreamConfig::default() };
    log.create_stream("s", &config, &patience()).unwrap()
}

fn put(stream: &Stream, value: &str) -> u64 {
    let mut put = stream.begin_put().unwrap();
    put.push(value.as_bytes(), None, std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap().places()[0].1
}

fn read(stream: &Stream) -> Result<Vec<String>> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(Start::TrimHorizon)?;
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            let values = (0..batch.count()).map(|index| batch.value(index).to_vec());
            found.extend(values.map(|value| String::from_utf8(value).unwrap()));
        }
        cursor = after;
    }
    Ok(found)
}

/// What of a shard a disk keeps; the page is not among it.
struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    fn keep(log: &Path) -> Self {
        let paths = [SEGMENT, "state"].map(|name| log.join(SHARD).join(name));
        Self(paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).into())
    }

    /// They stay the same files: the page knows its segment by device and inode.
    fn bring_back(&self) {
        for (path, bytes) in &self.0 {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_page_that_knows_more_than_the_segment_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let stream = create(&log, Durability::Group);
    put(&stream, "a");
    put(&stream, "b");
    let before = Files::keep(folder.path());
    put(&stream, "c");
    let last = put(&stream, "d");
    log.close().unwrap();
    drop((stream, log));
    before.bring_back();

    let log = open(folder.path());
    let stream = log.stream("s").unwrap();

    assert_eq!(vec!["a", "b"], read(&stream).unwrap());
    assert!(put(&stream, "e") > last, "what is told is not told again");
    assert_eq!(vec!["a", "b", "e"], read(&stream).unwrap());
}

#[test]
fn a_page_that_knows_less_than_the_segment_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let stream = create(&log, Durability::Group);
    put(&stream, "a");
    let control = folder.path().join("control");
    let before = std::fs::read(&control).unwrap();
    let second = put(&stream, "b");
    // Not with `fs::write`: a mapped file must not become shorter.
    let mapped = std::fs::File::options().write(true).open(&control).unwrap();
    mapped.write_all_at(&before, 0).unwrap();

    assert!(put(&stream, "c") > second);

    assert_eq!(vec!["a", "b", "c"], read(&stream).unwrap());
}

fn control_of(log: &Path) -> std::fs::File {
    std::fs::File::options().read(true).write(true).open(log.join("control")).unwrap()
}

/// Has the control file say that it is of a boot that is over.
fn begin_another_boot(log: &Path, boot: [u8; 16]) {
    let control = control_of(log);
    let mut head = [0; 64];
    control.read_exact_at(&mut head, 0).unwrap();
    let at = head.windows(16).position(|bytes| bytes == boot).unwrap();
    control.write_all_at(&[7; 16], at as u64).unwrap();
}

#[test]
fn a_page_of_another_boot_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let boot = log.boot_id();
    let stream = create(&log, Durability::Process);
    for value in ["a", "b", "c"] {
        put(&stream, value);
    }
    let mut unsynced = Files::keep(folder.path());
    log.close().unwrap();
    drop((stream, log));
    // The machine stopped before anything was flushed, and of the three batches the second is gone.
    let segment = &mut unsynced.0[0].1;
    let batch = (segment.len() - SEGMENT_HEADER) / 3;
    segment[SEGMENT_HEADER + batch..][..batch].fill(0);
    unsynced.bring_back();
    begin_another_boot(folder.path(), boot);

    let log = open(folder.path());
    let stream = log.stream("s").unwrap();

    assert_eq!(vec!["a"], read(&stream).unwrap());
    put(&stream, "d");
    assert_eq!(vec!["a", "d"], read(&stream).unwrap());
}

/// Who opens the log meanwhile makes page 0 one of this boot, and passes over the stream.
#[test]
fn a_page_of_another_boot_is_not_believed_when_its_manifest_comes_back() {
    for is_lost in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let boot = log.boot_id();
        let stream = create(&log, Durability::Process);
        let place = PAGE as u64 * u64::from(stream.shards().unwrap()[0].page);
        for value in ["a", "b", "c"] {
            put(&stream, value);
        }
        let written_back = Files::keep(folder.path());
        let mut page = [0; PAGE];
        control_of(folder.path()).read_exact_at(&mut page, place).unwrap();
        let last = ["d", "e", "f"].map(|value| put(&stream, value))[2];
        log.close().unwrap();
        drop((stream, log));
        // The machine stopped: files and page are as they were written back, which is of one moment.
        written_back.bring_back();
        control_of(folder.path()).write_all_at(&page, place).unwrap();
        begin_another_boot(folder.path(), boot);
        let manifest = folder.path().join("streams/s/manifest.json");
        let whole = std::fs::read(&manifest).unwrap();
        if is_lost {
            std::fs::remove_file(&manifest).unwrap();
        } else {
            std::fs::write(&manifest, b"{}").unwrap();
        }
        let meanwhile = open(folder.path());
        assert!(meanwhile.stream("s").is_err());
        meanwhile.close().unwrap();
        drop(meanwhile);
        std::fs::write(&manifest, whole).unwrap();

        let log = open(folder.path());
        let stream = log.stream("s").unwrap();

        assert_eq!(vec!["a", "b", "c"], read(&stream).unwrap());
        assert!(put(&stream, "g") > last, "what is told is not told again");
    }
}

#[test]
fn a_stream_whose_manifest_is_lost_while_it_is_open_keeps_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let stream = create(&log, Durability::Group);
    put(&stream, "a");
    let manifest = folder.path().join("streams/s/manifest.json");
    let whole = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();

    let other = log.create_stream("other", &StreamConfig::default(), &patience()).unwrap();
    put(&other, "x");
    put(&stream, "b");
    std::fs::write(&manifest, whole).unwrap();

    for log in [&log, &open(folder.path())] {
        assert_eq!(vec!["a", "b"], read(&log.stream("s").unwrap()).unwrap());
        assert_eq!(vec!["x"], read(&log.stream("other").unwrap()).unwrap());
    }
}
