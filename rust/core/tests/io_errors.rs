//! Every call of the file system fails, once and from then on, in every way it can fail: the engine
//! says so and goes on where it can, what it acknowledged is there after a power cut, nothing is
//! acknowledged after a failed sync and no sync is tried again; signals and short reads and writes are
//! not even noticed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, open_at, Bound, Call, Crasher, Disk, Fault, Garbage, SimFs, NOW};
use streamfn_core::checkpoint::retention::retain_all;
use streamfn_core::checkpoint::{Mapping, ResumePoint};
use streamfn_core::clock::ManualClock;
use streamfn_core::fs::{File, Fs, Open};
use streamfn_core::fsck::{repair, Options};
use streamfn_core::log::Keep;
use streamfn_core::stream::Retention;
use streamfn_core::{
    Compression, Durability, Log, Patience, ReadBuffer, Result, ShardId, Start, Stream,
    StreamConfig,
};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const FAULTS: [Fault; 6] = [
    Fault::Errno(EIO),
    Fault::Errno(ENOSPC),
    Fault::Errno(EMFILE),
    Fault::Errno(EINTR),
    Fault::Short,
    Fault::ShortThenFull,
];
/// So many signals in a row are "from then on": more would only take longer.
const SIGNALS: usize = 50;
const SHARD: &str = "/log/streams/s/shardId-000000000000";
const MINUTE: u64 = 60_000_000;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn put(stream: &Stream, value: &[u8]) -> Result<u64> {
    let mut put = stream.begin_put()?;
    put.push(value, Some("k"), std::iter::empty())?;
    Ok(put.commit(&patience())?.places()[0].1)
}

/// The trim horizon, and every record from there on.
fn read(stream: &Stream) -> Result<(u64, BTreeMap<u64, Vec<u8>>)> {
    let shard = stream.shard(ShardId(0))?;
    let mut cursor = shard.cursor(Start::TrimHorizon)?;
    let mut buffer = ReadBuffer::default();
    let (horizon, mut found) = (cursor.next_seq, BTreeMap::new());
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer)? {
        if batch.control().is_none() {
            for index in 0..batch.count() {
                found.insert(batch.base_seq() + u64::from(index), batch.value(index).to_vec());
            }
        }
        cursor = after;
    }
    Ok((horizon, found))
}

/// What a run was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// The highest checkpoint that was synced.
    checkpoint: u64,
    /// How many calls of ours failed.
    errors: usize,
    /// Whether a record was acknowledged after a sync of its shard had failed.
    is_late: bool,
}

struct Run<'a> {
    fs: &'a SimFs,
    clock: Arc<ManualClock>,
    durability: Durability,
    told: Told,
    /// Syncs that had failed when the stream was made: its files were made anew after that.
    failed_before: usize,
}

impl Run<'_> {
    /// Counts an error, and goes on without what was asked for.
    fn ok<T>(&mut self, result: Result<T>) -> Option<T> {
        self.told.errors += usize::from(result.is_err());
        result.ok()
    }

    fn has_sync_failed(&self) -> bool {
        let failed = self.fs.failed_syncs();
        let is_ours = |name: &String| name.starts_with(SHARD) && !name.contains("/failed");
        failed.iter().skip(self.failed_before).any(is_ours)
    }

    fn put(&mut self, stream: &Stream, value: Vec<u8>) {
        let has_failed = self.has_sync_failed();
        if let Some(seq) = self.ok_put(stream, &value) {
            self.told.is_late |= has_failed || self.has_sync_failed();
            let is_new = self.told.acknowledged.insert(seq, value).is_none();
            assert!(is_new, "number {seq} was issued twice");
        }
    }

    fn ok_put(&mut self, stream: &Stream, value: &[u8]) -> Option<u64> {
        let result = put(stream, value);
        self.ok(result)
    }

    /// One life of a process: puts, a new segment, a checkpoint, retention.
    fn live(&mut self, round: u64, is_closed: bool) {
        let opened = open_at(self.fs, &self.clock);
        let Some(log) = self.ok(opened) else { return };
        let config = StreamConfig {
            durability: self.durability,
            compression: Compression::None,
            segment_bytes: 1 << 20,
            ..StreamConfig::default()
        };
        let stream = log.stream("s").or_else(|_| {
            let made = log.create_stream("s", &config, &patience());
            self.failed_before = self.fs.failed_syncs().len();
            made
        });
        if let Some(stream) = self.ok(stream) {
            self.put(&stream, format!("{round} small").into_bytes());
            self.put(&stream, format!("{round} {}", "x".repeat(1_500)).into_bytes());
            self.clock.set(NOW + (round + 1) * 100 * MINUTE);
            if let Some(shard) = self.ok(stream.shard(ShardId(0))) {
                let since = NOW + (round + 1) * 100 * MINUTE - 200 * MINUTE;
                let _ = self.ok(shard.retain(&Keep { since: Some(since), ..Keep::default() }));
            }
            self.put(&stream, format!("{round} after the roll").into_bytes());
            self.lane(&log);
            let _ = self.ok(retain_all(&log));
            if let Some(shard) = self.ok(stream.shard(ShardId(0))) {
                let _ = self.ok(shard.retain(&Keep { bytes: Some(0), ..Keep::default() }));
            }
            self.put(&stream, format!("{round} last").into_bytes());
        }
        if is_closed {
            let _ = self.ok(log.sync());
            let _ = self.ok(log.close());
        } else {
            std::mem::forget(log); // killed
        }
    }

    /// Moves a lane on and syncs it.
    fn lane(&mut self, log: &Arc<Log>) {
        let moved = (|| {
            let mapping = Mapping::register(log, "app.f", 1, Start::TrimHorizon)?;
            mapping.prepare("s")?;
            let file = mapping.lanes_file("s", ShardId(0))?;
            let Some(view) = file.take(0)? else { return Ok(0) };
            let next_seq = view.checkpoint.next_seq + 1;
            file.checkpoint(0, ResumePoint { next_seq, ..ResumePoint::default() }, NOW)?;
            file.sync()?;
            Ok(next_seq)
        })();
        if let Some(next_seq) = self.ok(moved) {
            self.told.checkpoint = next_seq;
        }
    }
}

fn run(fs: &SimFs, durability: Durability, is_closed: bool) -> Told {
    let clock = Arc::new(ManualClock::new(NOW));
    let mut run = Run { fs, clock, durability, told: Told::default(), failed_before: 0 };
    for round in 0..3 {
        run.live(round, is_closed);
    }
    run.told
}

/// What the machine finds when it stops after all this, in a few states of what was not synced.
fn check(fs: &SimFs, told: &Told, durability: Durability) -> std::result::Result<(), String> {
    let mut crasher = Crasher::on(SimFs::new().disk());
    fs.changes().iter().for_each(|change| crasher.step(change));
    let few = Bound { exhaustive: 4, drawn: 1, garbage: Garbage::No };
    let clock = Arc::new(ManualClock::new(NOW + 1_000 * MINUTE));
    for (index, disk) in crasher.states(1, &few).into_iter().enumerate() {
        let text = |error: streamfn_core::Error| format!("state {index}: {error}");
        let fs = SimFs::on(disk);
        let log = open_at(&fs, &clock).map_err(text)?;
        let Ok(stream) = log.stream("s") else {
            if told.acknowledged.is_empty() {
                continue;
            }
            return Err(format!("state {index}: the stream is gone"));
        };
        let (horizon, found) = read(&stream).map_err(text)?;
        for (seq, value) in told.acknowledged.range(horizon..) {
            let is_allowed = match found.get(seq) {
                Some(other) => value == other,
                None => durability == Durability::Process,
            };
            if !is_allowed {
                return Err(format!("state {index}: record {seq} is lost or another"));
            }
            let shard = stream.shard(ShardId(0)).map_err(text)?;
            let cursor = shard.cursor(Start::AtSequence(*seq)).map_err(text)?;
            let next = shard.read(&cursor, &mut ReadBuffer::default()).map_err(text)?;
            if found.contains_key(seq)
                && !next
                    .is_some_and(|(batch, _)| (batch.base_seq()..batch.next_seq()).contains(seq))
            {
                return Err(format!("state {index}: record {seq} is skipped"));
            }
        }
        if told.checkpoint > 0 {
            let mapping = Mapping::open(&log, "app.f").map_err(text)?.ok_or("no mapping")?;
            let file = mapping.lanes_file("s", ShardId(0)).map_err(text)?;
            let lane = file.lane(0).map_err(text)?.ok_or("no lane")?;
            if lane.checkpoint.next_seq < told.checkpoint {
                return Err(format!("state {index}: the checkpoint is at {:?}", lane.checkpoint));
            }
        }
    }
    Ok(())
}

/// One failure of one run; says what is wrong with what came of it.
fn try_failure(
    (nth, count, fault): (usize, usize, Fault),
    (durability, is_closed): (Durability, bool),
    expected: &Told,
) -> std::result::Result<(), String> {
    let fs = SimFs::new();
    fs.fail(nth, count, fault);
    let told = run(&fs, durability, is_closed);
    fs.heal();
    if told.is_late {
        return Err("a record was acknowledged after a failed sync".into());
    }
    let retried = fs.retried_syncs();
    if !retried.is_empty() {
        return Err(format!("synced again after a failed sync: {retried:?}"));
    }
    let is_invisible = matches!(fault, Fault::Errno(EINTR) | Fault::Short);
    if is_invisible && told != *expected {
        return Err(format!("it was noticed: {} errors", told.errors));
    }
    check(&fs, &told, durability)
}

#[test]
fn every_call_fails_once_and_from_then_on() {
    let (mut tried, mut calls) = (0, 0);
    let mut wrong = Vec::new();
    for durability in [Durability::Group, Durability::Process] {
        for is_closed in [true, false] {
            let fs = SimFs::new();
            let expected = run(&fs, durability, is_closed);
            assert_eq!((0, 12), (expected.errors, expected.acknowledged.len()));
            calls += fs.calls().len();
            for (nth, call) in fs.calls().into_iter().enumerate() {
                for fault in FAULTS.into_iter().filter(|fault| fault.can_hit(call)) {
                    let many = if fault == Fault::Errno(EINTR) { SIGNALS } else { usize::MAX };
                    for count in [1, many] {
                        tried += 1;
                        let failure = (nth, count, fault);
                        if let Err(what) = try_failure(failure, (durability, is_closed), &expected)
                        {
                            wrong.push(format!(
                                "{durability:?}, closed {is_closed}, {call:?} {nth} x{count} {fault:?}: {what}"
                            ));
                        }
                    }
                }
            }
        }
    }
    println!("calls failed {calls}, failures tried {tried}, with a wrong end {}", wrong.len());
    wrong.truncate(20);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn a_sync_that_failed_stops_the_shard_until_it_is_repaired() {
    for durability in [Durability::Group, Durability::Process] {
        let fs = SimFs::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let log = open_at(&fs, &clock).unwrap();
        let config = StreamConfig { durability, ..StreamConfig::default() };
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        put(&stream, b"before").unwrap();
        log.sync().unwrap();
        fs.fail_next(Call::Sync, Fault::Errno(EIO));

        let first = put(&stream, b"lost");
        assert_eq!(durability == Durability::Process, first.is_ok());
        let shown = usize::from(first.is_ok()) + 1;
        assert_eq!(shown, read(&stream).unwrap().1.len(), "what is refused is shown to nobody");
        assert!(log.sync().is_err());
        assert!(put(&stream, b"refused").is_err());
        std::mem::forget(log);
        for later in [SimFs::for_another_process, SimFs::for_the_next_boot] {
            let again = open_at(&later(&fs), &clock).unwrap();
            let stream = again.stream("s").unwrap();
            assert!(put(&stream, b"refused").is_err(), "who opens it later is refused too");
            assert!(read(&stream).unwrap().1.contains_key(&0), "reading goes on");
            assert_eq!(Vec::<String>::new(), fs.retried_syncs());
            std::mem::forget(again);
        }
    }
}

/// Writes a second record behind the first as a process leaves it that dies before it was synced.
fn leave_unsynced(fs: &SimFs, clock: &Arc<ManualClock>, config: &StreamConfig) {
    let segment = Path::new(SHARD).join("00000000-00000000000000000000.seg");
    let twin = SimFs::new();
    let log = open_at(&twin, clock).unwrap();
    let stream = log.create_stream("s", config, &patience()).unwrap();
    put(&stream, b"synced").unwrap();
    put(&stream, b"written").unwrap();
    let length = fs.disk().bytes(&segment).len();
    let batch = twin.disk().bytes(&segment)[length..].to_vec();
    fs.open(&segment, Open::Write).unwrap().write_at(&[&batch], length as u64).unwrap();
}

/// A log with a synced record and one in memory only, for a process of which nobody knows whether its boot
/// wrote them: the control file is gone.
fn stopped_before_a_sync(clock: &Arc<ManualClock>, durability: Durability) -> SimFs {
    let fs = SimFs::new();
    let config = StreamConfig { durability, ..StreamConfig::default() };
    let log = open_at(&fs, clock).unwrap();
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    put(&stream, b"synced").unwrap();
    log.sync().unwrap();
    leave_unsynced(&fs, clock, &config);
    std::mem::forget((stream, log));
    fs.for_the_next_boot()
}

/// The records that can be read when the power goes now.
fn left_by_a_power_cut(fs: &SimFs, clock: &Arc<ManualClock>) -> BTreeMap<u64, Vec<u8>> {
    shown(&power_cut(fs), clock)
}

/// The records that can be read by the next one who opens the log.
fn shown(fs: &SimFs, clock: &Arc<ManualClock>) -> BTreeMap<u64, Vec<u8>> {
    let log = open_at(fs, clock).unwrap();
    let (_, found) = read(&log.stream("s").unwrap()).unwrap();
    std::mem::forget(log);
    found
}

/// The log as the next process of this boot finds it when somebody removed the control file.
fn without_the_control_file(fs: &SimFs) -> SimFs {
    fs.remove(Path::new("/log/control")).unwrap();
    fs.for_another_process()
}

/// A log with a record that is on disk, and one whose flush failed.
fn stopped_by_a_failed_flush(clock: &Arc<ManualClock>, durability: Durability) -> SimFs {
    let fs = SimFs::new();
    let log = open_at(&fs, clock).unwrap();
    let config = StreamConfig { durability, ..StreamConfig::default() };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    put(&stream, b"synced").unwrap();
    log.sync().unwrap();
    fs.fail_next(Call::Sync, Fault::Errno(EIO));
    let _ = put(&stream, b"in memory");
    log.sync().unwrap_err();
    std::mem::forget((stream, log));
    fs
}

#[test]
fn the_failed_file_is_not_written_over_one_that_a_power_cut_left() {
    let clock = Arc::new(ManualClock::new(NOW));
    let fs = SimFs::new();
    let log = open_at(&fs, &clock).unwrap();
    let config = StreamConfig { durability: Durability::Process, ..StreamConfig::default() };
    put(&log.create_stream("s", &config, &patience()).unwrap(), b"in memory").unwrap();
    let left = fs.open(&Path::new(SHARD).join("failed.new"), Open::Create).unwrap();
    let of_another_boot = format!("errno 5 in boot {}: {}\n", "0".repeat(32), "x".repeat(500));
    left.write_at(&[of_another_boot.as_bytes()], 0).unwrap();
    fs.fail_next(Call::Sync, Fault::Errno(EIO));

    log.sync().unwrap_err();

    let text = streamfn_core::fs::read(&fs, &Path::new(SHARD).join("failed")).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("errno 5 in boot ") && text.ends_with('\n'), "{text}");
    assert!(!text.contains("00000000000000000000000000000000") && !text.contains("xx"), "{text}");
}

/// Without the control file only the `failed` file tells that this boot wrote what can be read.
#[test]
fn what_a_failed_flush_left_in_memory_is_not_shown_without_the_control_file() {
    for durability in [Durability::Group, Durability::Process] {
        let clock = Arc::new(ManualClock::new(NOW));
        let fs = without_the_control_file(&stopped_by_a_failed_flush(&clock, durability));

        let log = open_at(&fs, &clock).unwrap();

        let stream = log.stream("s").unwrap();
        let (_, found) = read(&stream).unwrap();
        match durability {
            Durability::Group => assert_eq!(left_by_a_power_cut(&fs, &clock), found),
            Durability::Process => assert_eq!(2, found.len(), "what could be read can be"),
        }
        assert_eq!(Some(&b"synced".to_vec()), found.get(&0));
        put(&stream, b"refused").unwrap_err();
        log.sync().unwrap_err();
        assert_eq!(Vec::<String>::new(), fs.retried_syncs());
    }
}

/// What can be read in the next boot comes from the disk; the power cut takes the control file too.
#[test]
fn what_a_failed_flush_left_on_the_disk_is_shown_after_a_power_cut() {
    let clock = Arc::new(ManualClock::new(NOW));
    let fs = stopped_by_a_failed_flush(&clock, Durability::Group);
    let mut crasher = Crasher::on(SimFs::new().disk());
    fs.changes().iter().for_each(|change| crasher.step(change));
    let all = Bound { exhaustive: 64, drawn: 0, garbage: Garbage::No };

    let lengths: BTreeSet<usize> = crasher
        .states(1, &all)
        .into_iter()
        .map(|disk| {
            let found = shown(&SimFs::on(disk), &clock);
            assert_eq!(Some(&b"synced".to_vec()), found.get(&0));
            found.len()
        })
        .collect();

    assert_eq!(BTreeSet::from([1, 2]), lengths, "it survived, or it did not");
}

/// Whichever flush of a shard failed, and whatever was done after it.
#[test]
fn no_failed_flush_leaves_anything_to_show_that_a_power_cut_takes() {
    let clock = Arc::new(ManualClock::new(NOW + 1_000 * MINUTE));
    let mut stopped = 0;
    for is_closed in [true, false] {
        let fs = SimFs::new();
        run(&fs, Durability::Group, is_closed);
        let is_sync = |call: &Call| matches!(call, Call::Sync | Call::SyncDir);
        let calls: Vec<_> = fs.calls().into_iter().enumerate().collect();
        for (nth, call) in calls.into_iter().filter(|(_, call)| is_sync(call)) {
            let fs = SimFs::new();
            fs.fail(nth, 1, Fault::Errno(EIO));
            run(&fs, Durability::Group, is_closed);
            fs.heal();
            if !fs.exists(&Path::new(SHARD).join("failed")).unwrap() {
                continue;
            }
            stopped += 1;

            let found = shown(&without_the_control_file(&fs), &clock);

            let left = left_by_a_power_cut(&fs, &clock);
            let lost: Vec<_> = found.keys().filter(|seq| !left.contains_key(seq)).collect();
            assert!(lost.is_empty(), "closed {is_closed}, {call:?} {nth}: {lost:?}");
        }
    }
    assert!(stopped > 20, "{stopped}");
}

/// What a dead process left in memory cannot be flushed: readers of a `group` stream must not see what
/// a power cut would take from them.
#[test]
fn a_flush_that_fails_in_recovery_makes_nothing_durable() {
    for durability in [Durability::Group, Durability::Process] {
        let clock = Arc::new(ManualClock::new(NOW));
        let fs = stopped_before_a_sync(&clock, durability);
        fs.fail_next(Call::Sync, Fault::Errno(EIO));

        let log = open_at(&fs, &clock).unwrap();

        let stream = log.stream("s").unwrap();
        let (_, found) = read(&stream).unwrap();
        match durability {
            Durability::Group => {
                let left = left_by_a_power_cut(&fs, &clock);
                assert_eq!(left, found, "what is shown survives a power cut");
                assert_eq!(1, found.len());
            }
            Durability::Process => assert_eq!(2, found.len(), "what could be read can be"),
        }
        assert!(put(&stream, b"refused").is_err());
        assert!(log.sync().is_err());
        assert_eq!(Vec::<String>::new(), fs.retried_syncs());
    }
}

/// Without room the recovery cannot be finished, and so not flush at its end: what it shows before that
/// has to be on disk.
#[test]
fn what_a_recovery_without_room_shows_survives_a_power_cut() {
    let clock = Arc::new(ManualClock::new(NOW));
    let fs = stopped_before_a_sync(&clock, Durability::Group);
    fs.set_packed(true);

    let log = open_at(&fs, &clock).unwrap();

    let stream = log.stream("s").unwrap();
    assert!(matches!(put(&stream, b"refused"), Err(streamfn_core::Error::LogFull { .. })));
    let (_, found) = read(&stream).unwrap();
    assert_eq!(2, found.len());
    assert_eq!(left_by_a_power_cut(&fs, &clock), found);
}

/// A log whose second record is in memory only, and whose recovery could not flush it.
fn failed_recovery(clock: &Arc<ManualClock>) -> SimFs {
    let fs = stopped_before_a_sync(clock, Durability::Group);
    fs.fail_next(Call::Sync, Fault::Errno(EIO));
    let log = open_at(&fs, clock).unwrap();
    assert_eq!(1, read(&log.stream("s").unwrap()).unwrap().1.len());
    std::mem::forget(log);
    fs
}

/// The disk after a power cut that takes all that was not flushed.
fn power_cut(fs: &SimFs) -> SimFs {
    let mut crasher = Crasher::on(SimFs::new().disk());
    fs.changes().iter().for_each(|change| crasher.step(change));
    SimFs::on(crasher.strict())
}

/// Its acknowledgement is known only to the page of a boot that is over.
#[test]
fn what_a_failed_recovery_does_not_show_is_not_lost() {
    let clock = Arc::new(ManualClock::new(NOW));
    let fs = failed_recovery(&clock).for_another_process();

    let options = Options { fs: Arc::new(fs.clone()), ..Options::default() };
    repair(Path::new("/log"), &options, &mut |_, _| true).unwrap();

    assert_eq!(Vec::<String>::new(), fs.retried_syncs());
    let log = open_at(&fs, &clock).unwrap();
    put(&log.stream("s").unwrap(), b"goes on").unwrap();
    log.sync().unwrap();
    std::mem::forget(log);
    for fs in [power_cut(&fs), fs] {
        let log = open_at(&fs, &clock).unwrap();
        let (_, found) = read(&log.stream("s").unwrap()).unwrap();
        let found: Vec<_> = found.into_values().collect();
        assert_eq!([b"synced".to_vec(), b"written".to_vec(), b"goes on".to_vec()], *found);
    }
}

#[test]
fn a_batch_that_could_not_be_written_is_shown_to_nobody() {
    for durability in [Durability::Group, Durability::Process] {
        let fs = SimFs::new();
        let log = open(&fs);
        let config = StreamConfig { durability, ..StreamConfig::default() };
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        let first = put(&stream, b"before").unwrap();
        fs.fail_next(Call::Write, Fault::Errno(ENOSPC));

        assert!(put(&stream, b"refused").is_err());

        assert_eq!(first + 1, stream.shard(ShardId(0)).unwrap().visible_end());
        assert_eq!(1, read(&stream).unwrap().1.len());
        assert_eq!(first + 1, put(&stream, b"after").unwrap());
        assert_eq!(2, read(&stream).unwrap().1.len());
    }
}

/// What of a control file was written back when the machine stops, by its mapped pages.
struct WrittenBack(Arc<dyn File>, Vec<u8>);

impl WrittenBack {
    const PLACE: u64 = 4096;

    fn keep(fs: &SimFs) -> Self {
        let control = fs.open(Path::new("/log/control"), Open::Write).unwrap();
        let mut page = vec![0; 4096];
        rustix::io::pread(control.descriptor().unwrap(), &mut page, Self::PLACE).unwrap();
        Self(control, page)
    }

    /// Brings the page back, below a page 0 of another boot.
    fn begin_another_boot(&self) {
        let memory = self.0.descriptor().unwrap();
        rustix::io::pwrite(memory, &self.1, Self::PLACE).unwrap();
        rustix::io::pwrite(memory, &[7; 16], 32).unwrap();
    }
}

/// Of the first opening after a power cut one call fails: no shard may be passed over and then be
/// believed to be of this boot.
#[test]
fn no_number_is_issued_twice_whatever_fails_when_the_log_is_opened_after_a_reboot() {
    let (mut nth, mut opened) = (0, 0);
    loop {
        let fs = SimFs::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let log = open_at(&fs, &clock).unwrap();
        let config = StreamConfig { durability: Durability::Process, ..StreamConfig::default() };
        let stream = log.create_stream("s", &config, &patience()).unwrap();
        put(&stream, b"written back").unwrap();
        let control = WrittenBack::keep(&fs);
        let segment = Path::new(SHARD).join("00000000-00000000000000000000.seg");
        let length = fs.disk().bytes(&segment).len() as u64;
        let last = put(&stream, b"acknowledged").unwrap();
        std::mem::forget((stream, log));
        fs.open(&segment, Open::Write).unwrap().truncate(length).unwrap();
        control.begin_another_boot();
        let fs = fs.for_another_process();
        let before = fs.calls().len();

        fs.fail(nth, 1, Fault::Errno(EIO));
        let first = open_at(&fs, &clock).ok();
        let was_hit = fs.calls().len() > before + nth;
        fs.heal();

        opened += usize::from(first.is_some());
        let log = first.unwrap_or_else(|| open_at(&fs.for_another_process(), &clock).unwrap());
        // A shard that could not be recovered is recovered by the next one who is alone.
        let log = if log.stream("s").and_then(|stream| stream.shard(ShardId(0))).is_err() {
            std::mem::forget(log);
            open_at(&fs.for_another_process(), &clock).unwrap()
        } else {
            log
        };
        // A sync that failed ends all writing.
        if let Ok(seq) = put(&log.stream("s").unwrap(), b"new") {
            assert!(seq > last, "call {nth} failed: {seq} is issued again");
        }
        std::mem::forget(log);
        if !was_hit {
            break;
        }
        nth += 1;
    }
    assert!(nth > 20 && opened > 1, "{nth} {opened}");
}

/// A manifest that cannot be looked at may name any page: a new shard on it would write over the
/// numbers of one that lives.
#[test]
fn no_page_goes_to_two_shards_whatever_fails_when_they_are_made() {
    for is_split in [true, false] {
        let (mut nth, mut made) = (0, 0);
        loop {
            let fs = SimFs::new();
            let log = open(&fs);
            let create = |name| log.create_stream(name, &StreamConfig::default(), &patience());
            let stream = create("s").unwrap();
            put(&stream, b"before").unwrap();
            let before = fs.calls().len();

            fs.fail(nth, 1, Fault::Errno(EIO));
            let done = if is_split {
                stream.split(ShardId(0), None, &patience()).map(drop)
            } else {
                create("t").map(drop)
            };
            let was_hit = fs.calls().len() > before + nth;
            fs.heal();

            made += usize::from(done.is_ok());
            if done.is_err() {
                let _ = create("t");
            }
            let streams: Vec<_> =
                log.streams().unwrap().iter().map(|name| log.stream(name).unwrap()).collect();
            let shards: Vec<_> =
                streams.iter().flat_map(|stream| stream.shards().unwrap()).collect();
            let pages: BTreeSet<u32> = shards.iter().map(|shard| shard.page).collect();
            assert_eq!(shards.len(), pages.len(), "split {is_split}, call {nth}: {shards:?}");
            std::mem::forget((stream, streams, log));
            if !was_hit {
                break;
            }
            nth += 1;
        }
        assert!(nth > 20 && made > 0, "{nth} {made}");
    }
}

/// A stream that keeps what is not consumed, of which one function has read all and one nothing.
fn half_consumed() -> Disk {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        retention: Retention { is_consumed: true, ..Retention::default() },
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    for _ in 0..6 {
        put(&stream, &vec![0; 400_000]).unwrap();
    }
    move_to(&log, "app.slow", 0);
    move_to(&log, "app.fast", 6);
    log.close().unwrap();
    fs.disk()
}

fn move_to(log: &Arc<Log>, name: &str, next_seq: u64) {
    let mapping = Mapping::register(log, name, 1, Start::TrimHorizon).unwrap();
    mapping.prepare("s").unwrap();
    let file = mapping.lanes_file("s", ShardId(0)).unwrap();
    file.take(0).unwrap();
    file.checkpoint(0, ResumePoint { next_seq, ..ResumePoint::default() }, NOW).unwrap();
    file.sync().unwrap();
}

fn horizon(log: &Arc<Log>) -> u64 {
    log.stream("s").unwrap().shard(ShardId(0)).unwrap().trim_horizon().unwrap()
}

#[test]
fn what_one_function_has_not_read_stays_whatever_fails_in_retention() {
    let clock = Arc::new(ManualClock::new(NOW));
    let (disk, mut nth) = (half_consumed(), 0);
    let log = loop {
        let mut was_hit = false;
        let mut last = None;
        for fault in FAULTS {
            for count in [1, SIGNALS] {
                let fs = SimFs::on(disk.clone());
                let log = open_at(&fs, &clock).unwrap();
                let before = fs.calls().len();

                fs.fail(nth, count, fault);
                let _ = retain_all(&log);
                was_hit |= fs.calls().len() > before + nth;
                fs.heal();

                assert_eq!(0, horizon(&log), "call {nth} x{count} {fault:?}");
                if let Some(before) = last.replace(log) {
                    std::mem::forget(before);
                }
            }
        }
        if !was_hit {
            break last.unwrap();
        }
        nth += 1;
    };
    assert!(nth > 10, "{nth}");
    move_to(&log, "app.slow", 6);
    retain_all(&log).unwrap();
    assert!(horizon(&log) > 0, "what both have read goes");
}

/// The horizon was raised in memory only: after a power cut the files below it would be missing.
#[test]
fn a_trim_horizon_that_was_not_synced_takes_no_file() {
    let fs = SimFs::new();
    let log = open(&fs);
    let config = StreamConfig {
        compression: Compression::None,
        segment_bytes: 1 << 20,
        ..StreamConfig::default()
    };
    let stream = log.create_stream("s", &config, &patience()).unwrap();
    for _ in 0..3 {
        put(&stream, &vec![0; 700_000]).unwrap();
    }
    let shard = stream.shard(ShardId(0)).unwrap();
    let keep = Keep { bytes: Some(0), ..Keep::default() };
    let files = fs.list(Path::new(SHARD)).unwrap();
    fs.fail_next(Call::Sync, Fault::Errno(EIO));
    assert!(shard.retain(&keep).is_err());

    let again = shard.retain(&keep);

    assert!(matches!(again, Err(streamfn_core::Error::StoragePoisoned { .. })), "{again:?}");
    let left = fs.list(Path::new(SHARD)).unwrap();
    assert!(files.iter().all(|file| left.contains(file)), "{files:?} {left:?}");
}
