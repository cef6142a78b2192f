//! A writer that died between any two of its stores: the next one finds the batch, whole or not.
//! Threads that wait for a sync: one leads, and none waits for more than it has to.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Deadline, Patience};
use crate::control::WriterState;
use crate::error::Error;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{RecordBuilder, SegmentHeader};
use crate::stream::{Log, OpenOptions, StreamConfig};
use crate::types::{Compression, ShardId};

use super::{LockedFile, ShardLog};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(log: &Arc<Log>, value: &str) -> u64 {
    let stream = log.stream("s").unwrap();
    let mut put = stream.begin_put().unwrap();
    put.push(value.as_bytes(), Some("k"), std::iter::empty()).unwrap();
    put.commit(&patience()).unwrap().places()[0].1
}

/// A log with so many records whose last batch is written, but announced only by its first
/// `stores` stores, as `Page::commit` makes them.
fn died_inside_commit(folder: &std::path::Path, records: usize, stores: usize) -> Arc<Log> {
    let log = Log::open(folder, &OpenOptions::default()).unwrap();
    let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
    log.create_stream("s", &config, &patience()).unwrap();
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    for n in 1..records {
        put(&log, &n.to_string());
    }
    let before = values(&shard);
    put(&log, "last");
    let after = values(&shard);
    for (place, value) in before.iter().enumerate().skip(stores) {
        set(&shard, place, *value);
    }
    assert_ne!(before, after);
    shard.page().set_state(WriterState::Writing);
    log
}

/// The stores of `Page::commit`, in their order.
fn values(shard: &ShardLog) -> [u64; 5] {
    let page = shard.page();
    let (committed, last) = (page.committed().to_word(), page.last_position().to_word());
    [committed, page.next_seq(), u64::from(page.last_crc()), page.max_ts(), last]
}

fn set(shard: &ShardLog, place: usize, value: u64) {
    shard.page().set_raw_for_tests(place, value);
}

#[test]
fn a_batch_announced_in_part_is_adopted_and_no_number_is_issued_twice() {
    for records in 1..4 {
        for stores in 0..=5 {
            let folder = tempfile::tempdir().unwrap();
            let log = died_inside_commit(folder.path(), records, stores);

            let next = put(&log, "next");

            assert_eq!(records as u64, next, "{records} records, {stores} stores");
        }
    }
}

#[test]
fn a_failure_is_not_taken_back_by_a_writer_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
    log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    put(&log, "a");
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    let page = shard.page();

    page.set_state(WriterState::Writing);
    page.set_state(WriterState::Failed(5));
    page.set_state(WriterState::Clean);

    assert_eq!(WriterState::Failed(5), page.state());
    assert!(shard.sync_now().is_err());
}

/// A log with one stream whose puts wait for a sync, and nobody else who syncs.
fn group_log(folder: &std::path::Path) -> (Arc<Log>, Arc<ShardLog>) {
    let options = OpenOptions { housekeeping: false, ..OpenOptions::default() };
    let log = Log::open(folder, &options).unwrap();
    log.create_stream("s", &StreamConfig::default(), &patience()).unwrap();
    let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
    (log, shard)
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !is_so() {
        assert!(!deadline.is_past(), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn all_who_wait_share_one_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (log, shard) = group_log(folder.path());
    let lead = shard.waiters.try_lead().unwrap();
    let wakes = log.wake_word();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| put(&log, "a"));
        }
        wait_until(|| shard.page().next_seq() == 16);
        assert_eq!(0, shard.page().durable_end());

        drop(lead);
    });

    assert_eq!(16, shard.page().durable_end());
    assert_eq!(wakes + 1, log.wake_word(), "the sync wakes, the puts do not");
}

#[test]
fn who_waits_for_a_leader_waits_no_longer_than_it_wants() {
    let folder = tempfile::tempdir().unwrap();
    let (_log, shard) = group_log(folder.path());
    let lead = shard.waiters.try_lead().unwrap();
    let wait = |patience: &Patience<'_>| shard.wait_durable(1, patience);

    let timeout = wait(&Patience::of(Duration::from_millis(10)));
    let deadline = Deadline::after(Duration::from_secs(30));
    let interrupted = wait(&Patience { deadline, interrupted: &|| true });

    assert!(matches!(timeout, Err(Error::LockTimeout { .. })), "{timeout:?}");
    assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
    drop(lead);
}

#[test]
fn who_waits_syncs_itself_while_the_process_that_leads_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (log, shard) = group_log(folder.path());
    // Another open file: for the kernel, another process.
    let other = LockedFile::open(shard.directory.fs(), &shard.folder().join("sync.lock")).unwrap();
    let _stopped = other.try_lock().unwrap().unwrap();

    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| put(&log, "a"));
        }
    });

    assert_eq!(16, shard.page().durable_end());
}

#[test]
fn a_signal_handler_may_put_while_its_thread_waits_for_the_process_that_leads() {
    let folder = tempfile::tempdir().unwrap();
    let (log, shard) = group_log(folder.path());
    // Another open file: for the kernel, another process.
    let other = LockedFile::open(shard.directory.fs(), &shard.folder().join("sync.lock")).unwrap();
    let _stopped = other.try_lock().unwrap().unwrap();
    // The shard is never synced as far as this, so the thread waits and is asked.
    let end = 3;
    let calls = std::cell::Cell::new(0);
    let handler = || {
        calls.set(calls.get() + 1);
        put(&log, "a");
        calls.get() == 2
    };
    let deadline = Deadline::after(Duration::from_secs(30));

    let waited = shard.wait_durable(end, &Patience { deadline, interrupted: &handler });

    assert!(matches!(waited, Err(Error::Interrupted)), "{waited:?}");
    assert_eq!(2, shard.page().durable_end());
}

#[test]
fn records_that_are_durable_are_so_however_late_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, shard) = group_log(folder.path());
    put(&log, "a");

    shard.wait_durable(1, &Patience::of(Duration::ZERO)).unwrap();
}

/// What is open of a file under the folder although it was removed.
#[allow(clippy::disallowed_methods, reason = "a test looks at the descriptors of its process")]
fn removed_but_open(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let is_removed = |link: &std::path::PathBuf| link.to_string_lossy().ends_with(" (deleted)");
    links.filter(|link| link.starts_with(folder)).filter(is_removed).collect()
}

#[test]
fn an_idle_writer_closes_the_segment_that_others_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (log, shard) = group_log(folder.path());
    put(&log, "a");
    // A second handle on the shard: it writes and removes as another process does.
    let (directory, config) = (&shard.directory, shard.config.clone());
    let other = ShardLog::open(directory, shard.folder().to_owned(), config).unwrap();
    other.roll(&mut other.exclude_writers()).unwrap();
    let mut record = RecordBuilder::default();
    record.push(b"b", Some("k"), b"");
    other.append(vec![record], &patience()).unwrap();
    other.trim(1, &patience()).unwrap();
    assert_eq!(1, removed_but_open(folder.path()).len(), "the writer has it open");

    log.tick();

    assert!(removed_but_open(folder.path()).is_empty());
    assert_eq!(2, put(&log, "c"), "it goes on in the segment that is there");
}

/// Found by a campaign of kills: the next writer stepped into a file without a header, and ended the
/// shard in it. The recovery point stayed in the segment before, which retention then removed.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test makes the file that a dead writer left")]
fn a_segment_whose_maker_died_is_made_anew_by_the_next_writer() {
    for is_beside_others in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let config = StreamConfig { compression: Compression::None, ..StreamConfig::default() };
        let mut log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        log.create_stream("s", &config, &patience()).unwrap();
        put(&log, "a");
        let half_made = folder.path().join(format!("streams/s/{SHARD}/{:08x}-{:020}.seg", 1, 1));
        std::fs::write(&half_made, b"").unwrap();
        if is_beside_others {
            log.stream("s")
                .unwrap()
                .shard(ShardId(0))
                .unwrap()
                .page()
                .set_state(WriterState::Writing);
        } else {
            drop(log);
            std::fs::remove_file(folder.path().join("control")).unwrap();
            log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        }

        log.stream("s").unwrap().split(ShardId(0), None, &patience()).unwrap();

        let shard = log.stream("s").unwrap().shard(ShardId(0)).unwrap();
        let state = shard.state.load().unwrap();
        let last = shard.segments.list().unwrap().pop().unwrap();
        assert_eq!((last.ordinal, super::SEGMENT_START), {
            let point = state.recovery_point;
            (point.segment, point.offset)
        });
        let bytes = std::fs::read(last.path()).unwrap();
        let header = SegmentHeader::decode(&bytes[..SEGMENT_HEADER_BYTES]).unwrap();
        assert_eq!(last.base_seq, header.base_seq);
        assert_eq!(shard.page().last_position().segment, last.ordinal, "CLOSE is in it");
    }
}

const SHARD: &str = "shardId-000000000000";
