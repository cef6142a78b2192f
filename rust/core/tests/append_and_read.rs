//! What is appended is read: in order, by several threads, across segments, codecs and reopening.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::disallowed_methods, reason = "a test damages files behind the engine's back")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{mpsc, Arc};
use std::time::Duration;

use streamfn_core::{
    Compression, Durability, Log, OpenOptions, Patience, ReadBuffer, Result, ShardId, Start,
    Stream, StreamConfig,
};

/// Where the control file counts those who sleep.
const SLEEPERS: u64 = 128;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(path: &Path) -> Arc<Log> {
    Log::open(path, &OpenOptions::default()).unwrap()
}

fn put(stream: &Stream, values: &[&str]) -> Vec<u64> {
    let mut put = stream.begin_put().unwrap();
    for value in values {
        put.push(value.as_bytes(), Some("k"), std::iter::empty()).unwrap();
    }
    put.commit(&patience()).unwrap().places().into_iter().map(|(_, seq)| seq).collect()
}

fn read_from(stream: &Stream, start: Start) -> Result<Vec<(u64, String)>> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(start)?;
    let mut buffer = ReadBuffer::default();
    let mut found = Vec::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            for index in 0..batch.count() {
                let seq = batch.base_seq() + u64::from(index);
                if seq >= cursor.next_seq {
                    found.push((seq, String::from_utf8(batch.value(index).to_vec()).unwrap()));
                }
            }
        }
        cursor = after;
    }
    Ok(found)
}

fn read(stream: &Stream) -> Vec<(u64, String)> {
    read_from(stream, Start::TrimHorizon).unwrap()
}

fn configs() -> Vec<StreamConfig> {
    let mut configs = Vec::new();
    for durability in [Durability::Process, Durability::Group] {
        for compression in [Compression::None, Compression::Zstd] {
            configs.push(StreamConfig { durability, compression, ..StreamConfig::default() });
        }
    }
    configs
}

#[test]
fn records_are_read_in_the_order_they_were_put() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let stream = log.create_stream("s", &config, &patience()).unwrap();

        assert_eq!(vec![0, 1], put(&stream, &["a", "b"]));
        assert_eq!(vec![2], put(&stream, &["c"]));

        let expected = vec![(0, "a".to_owned()), (1, "b".to_owned()), (2, "c".to_owned())];
        assert_eq!(expected, read(&stream), "{config:?}");
    }
}

#[test]
fn a_log_that_was_closed_goes_on_where_it_ended() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        {
            let log = open(folder.path());
            let stream = log.create_stream("s", &config, &patience()).unwrap();
            put(&stream, &["a", "b"]);
            log.close().unwrap();
        }
        let log = open(folder.path());
        let stream = log.stream("s").unwrap();

        assert_eq!(2, read(&stream).len());
        assert_eq!(vec![2], put(&stream, &["c"]));
        assert_eq!(0, stream.shard(ShardId(0)).unwrap().epoch());
    }
}

#[test]
fn a_log_is_read_across_segments_and_from_any_number() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let config = StreamConfig {
        segment_bytes: 1024 * 1024,
        compression: Compression::None,
        durability: Durability::Process,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    let large = "x".repeat(100_000);
    for n in 0..50 {
        put(&stream, &[&format!("{n}:{large}")]);
    }

    assert!(stream.shard(ShardId(0)).unwrap().size().unwrap().0 >= 4);
    for first in [0, 1, 9, 10, 11, 49, 50] {
        let found = read_from(&stream, Start::AtSequence(first)).unwrap();
        let numbers: Vec<u64> = found.iter().map(|(seq, _)| *seq).collect();

        assert_eq!((first..50).collect::<Vec<_>>(), numbers);
        assert!(found.iter().all(|(seq, value)| value.starts_with(&format!("{seq}:"))));
    }
}

#[test]
fn threads_that_put_at_once_keep_their_own_order_and_lose_nothing() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let stream = &stream;
                scope.spawn(move || {
                    for n in 0..200 {
                        put(stream, &[&format!("{thread} {n}")]);
                    }
                });
            }
        });

        let found = read(&stream);
        assert_eq!(
            (0..1600).collect::<Vec<u64>>(),
            found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>()
        );
        for thread in 0..8 {
            let own: Vec<String> = found
                .iter()
                .filter_map(|(_, value)| {
                    value.strip_prefix(&format!("{thread} ")).map(str::to_owned)
                })
                .collect();
            assert_eq!((0..200).map(|n| n.to_string()).collect::<Vec<_>>(), own);
        }
    }
}

/// The letter by which the kernel says what a thread of this process does: `S` when it sleeps.
fn state_of(thread: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

/// WHY an hour: a time-out that ends the sleep would hide that nobody woke the sleeper.
#[test]
fn a_reader_sleeps_until_a_record_is_put() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(
            folder.path(),
            &OpenOptions { housekeeping: false, ..OpenOptions::default() },
        )
        .unwrap();
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        let (told, tells) = mpsc::channel();
        let seen = log.wake_word();
        let sleeping = Arc::clone(&log);
        std::thread::spawn(move || {
            told.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let word = sleeping.wait(seen, Duration::from_secs(3600));
            assert_ne!(seen, word);
            told.send(0).unwrap();
        });
        let sleeper = tells.recv().unwrap();
        let sleepers = std::fs::File::open(folder.path().join("control")).unwrap();
        let is_asleep = || {
            let mut count = [0; 4];
            sleepers.read_exact_at(&mut count, SLEEPERS).unwrap();
            u32::from_le_bytes(count) == 1 && state_of(sleeper) == 'S'
        };
        while !is_asleep() {
            std::thread::yield_now();
        }

        put(&stream, &["a"]);

        let woken = tells.recv_timeout(Duration::from_secs(10));
        woken.unwrap_or_else(|_| panic!("the sleeper was not woken: {config:?}"));
    }
}

#[test]
fn records_without_a_key_are_spread_and_those_with_one_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let config = StreamConfig { shards: 4, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    let mut shards = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let mut put = stream.begin_put().unwrap();
        put.push(b"x", None, std::iter::empty()).unwrap();
        shards
            .extend(put.commit(&patience()).unwrap().places().into_iter().map(|(shard, _)| shard));
    }
    let mut put = stream.begin_put().unwrap();
    for n in 0..100 {
        put.push(b"x", Some(&format!("key {}", n % 10)), std::iter::empty()).unwrap();
    }
    let places = put.commit(&patience()).unwrap().places();

    assert_eq!(4, shards.len());
    for (n, (shard, _)) in places.iter().enumerate() {
        assert_eq!(stream.shard_of(&format!("key {}", n % 10)).unwrap(), *shard);
    }
}

#[test]
fn names_and_folders_that_cannot_be_logs_are_refused_with_the_field() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let error = Log::open(folder.path(), &OpenOptions::default()).unwrap_err();
    assert!(error.to_string().contains("`notes.txt`"), "{error}");

    let missing = OpenOptions { create: false, ..OpenOptions::default() };
    assert!(Log::open(&folder.path().join("no"), &missing).is_err());

    let log = open(&folder.path().join("log"));
    for name in ["", "a.b", "a/b", "ü", &"x".repeat(129)] {
        assert!(log.create_stream(name, &StreamConfig::default(), &patience()).is_err(), "{name}");
    }
    assert!(log.create_stream(&"x".repeat(128), &StreamConfig::default(), &patience()).is_ok());
}
