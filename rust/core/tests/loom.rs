//! Every interleaving of the control page's protocol, of writers, sync leaders, readers and sleepers.
//!
//! The product's own file is compiled here with loom's words and a futex made of a lock, which has no
//! time-out: a wake-up that is lost is a sleeper that never wakes, and loom reports it.
//!
//! A model says how often its threads are interrupted where they need not be; `make loom` makes that
//! deeper by `STREAMFN_LOOM_DEEPER`. Two or three are known to find nearly everything.
//! SOURCE: Musuvathi and Qadeer, "Iterative context bounding for systematic testing", PLDI 2007.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

/// As `control::words`, for loom.
mod words {
    use std::time::Duration;

    pub(crate) use loom::sync::atomic::{fence, AtomicU64, Ordering};
    use loom::sync::{Condvar, Mutex};

    /// A word, and the bed of those who sleep on it.
    pub(crate) struct AtomicU32 {
        word: loom::sync::atomic::AtomicU32,
        bed: Mutex<()>,
        bell: Condvar,
    }

    impl AtomicU32 {
        pub(crate) fn new(value: u32) -> Self {
            let word = loom::sync::atomic::AtomicU32::new(value);
            Self { word, bed: Mutex::new(()), bell: Condvar::new() }
        }

        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.word.load(order)
        }

        pub(crate) fn store(&self, value: u32, order: Ordering) {
            self.word.store(value, order);
        }

        pub(crate) fn compare_exchange(
            &self,
            current: u32,
            new: u32,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u32, u32> {
            self.word.compare_exchange(current, new, success, failure)
        }

        pub(crate) fn fetch_add(&self, by: u32, order: Ordering) -> u32 {
            self.word.fetch_add(by, order)
        }

        pub(crate) fn fetch_sub(&self, by: u32, order: Ordering) -> u32 {
            self.word.fetch_sub(by, order)
        }
    }

    /// The kernel looks at the word once more under the lock of its bed, then sleeps: futex(2).
    pub(crate) fn futex_wait(word: &AtomicU32, seen: u32, _most: Duration) {
        let bed = word.bed.lock().unwrap();
        if word.load(Ordering::SeqCst) == seen {
            drop(word.bell.wait(bed).unwrap());
        }
    }

    pub(crate) fn futex_wake_all(word: &AtomicU32) {
        let _bed = word.bed.lock().unwrap();
        word.bell.notify_all();
    }
}

#[path = "../src/control/protocol.rs"]
mod protocol;

use std::process::Command;
use std::time::Duration;

use loom::sync::{Arc, Mutex};
use loom::thread;
use protocol::{Election, Progress, Reach, Wake, WriterWords};
use words::{fence, AtomicU32, AtomicU64, Ordering};

const FOREVER: Duration = Duration::MAX;

/// Tries all interleavings in which threads are interrupted at most `bound` times where they need not
/// be, and says how many those were.
fn explore(name: &str, bound: usize, model: impl Fn() + Sync + Send + 'static) {
    let deeper = std::env::var("STREAMFN_LOOM_DEEPER");
    let bound = bound + deeper.map_or(0, |text| text.parse::<usize>().expect("a number"));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    let tried = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&tried);
    builder.check(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    #[allow(clippy::print_stdout, reason = "the count is a result")]
    {
        let tried = tried.load(std::sync::atomic::Ordering::Relaxed);
        println!("{name}: {tried} interleavings with at most {bound} preemptions");
    }
}

/// The words of the log's page, and something to be told of.
struct Bedroom {
    word: AtomicU32,
    sleepers: AtomicU32,
    news: AtomicU64,
}

impl Bedroom {
    fn new() -> Arc<Self> {
        let (word, sleepers) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Self { word, sleepers, news: AtomicU64::new(0) })
    }

    fn wake(&self) -> Wake<'_> {
        Wake { word: &self.word, sleepers: &self.sleepers }
    }

    /// As a reader does: look at the word, look for news, sleep.
    fn sleep_until(&self, news: u64) {
        loop {
            let seen = self.wake().word();
            if self.news.load(Ordering::Acquire) >= news {
                return;
            }
            self.wake().wait(seen, FOREVER);
        }
    }
}

/// Writers publish and wake with `wake`, readers sleep until they have seen everything.
fn publish_and_sleep(writers: u64, readers: u64, wake: fn(&Bedroom)) {
    let room = Bedroom::new();
    let mut threads = Vec::new();
    for _ in 0..writers {
        let room = Arc::clone(&room);
        threads.push(thread::spawn(move || {
            room.news.fetch_add(1, Ordering::AcqRel);
            wake(&room);
        }));
    }
    for _ in 1..readers {
        let room = Arc::clone(&room);
        threads.push(thread::spawn(move || room.sleep_until(writers)));
    }
    room.sleep_until(writers);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn no_wake_up_is_lost() {
    for (writers, readers, bound) in [(1, 1, 4), (2, 1, 2), (1, 2, 2), (2, 2, 1)] {
        let name = format!("{writers} writers, {readers} readers");
        explore(&name, bound, move || {
            publish_and_sleep(writers, readers, |room| room.wake().wake());
        });
    }
}

fn reach(words: &(AtomicU64, AtomicU64)) -> Reach<'_> {
    Reach { position: &words.0, end: &words.1 }
}

/// The words of a shard's page, and how much of the file the disk has. Position *n* ends with number *n*.
struct Shard {
    words: [(AtomicU64, AtomicU64); 3],
    written: AtomicU64,
    on_disk: AtomicU64,
}

impl Shard {
    fn new() -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        let words = [(zero(), zero()), (zero(), zero()), (zero(), zero())];
        Arc::new(Self { words, written: zero(), on_disk: zero() })
    }

    fn progress(&self) -> Progress<'_> {
        let [committed, durable, visible] = &self.words;
        Progress { committed: reach(committed), durable: reach(durable), visible: reach(visible) }
    }

    /// As a writer under `append.lock`.
    fn write(&self, batch: u64) {
        self.written.store(batch, Ordering::Release);
        self.progress().commit(batch, batch);
    }

    /// As `ShardLog::sync_now`.
    fn sync(&self) {
        let (position, end) = self.progress().before_sync();
        self.on_disk.fetch_max(self.written.load(Ordering::Acquire), Ordering::AcqRel);
        self.progress().after_sync(position, end);
    }

    /// What a reader, and a writer that waits for durability, may rely on at any moment.
    fn check(&self) -> (u64, u64) {
        let Progress { durable, visible, .. } = self.progress();
        let acknowledged = durable.end.load(Ordering::Acquire);
        let end = visible.end.load(Ordering::Acquire);
        let position = visible.position.load(Ordering::Acquire);
        let on_disk = self.on_disk.load(Ordering::Acquire);
        assert!(acknowledged <= end, "{acknowledged} is acknowledged, {end} visible");
        assert!(end <= position, "number {end} is visible, but not its bytes: {position}");
        assert!(position <= on_disk, "{position} is visible, {on_disk} on disk");
        (end, position)
    }
}

/// A writer of so many batches and so many leaders, each a thread, while a reader looks twice.
fn write_sync_and_look(batches: u64, leaders: u64) {
    let shard = Shard::new();
    let run = |act: Box<dyn Fn(&Shard) + Send>| {
        let shard = Arc::clone(&shard);
        thread::spawn(move || act(&shard))
    };
    let mut threads = vec![run(Box::new(move |shard| (1..=batches).for_each(|n| shard.write(n))))];
    threads.extend((0..leaders).map(|_| run(Box::new(Shard::sync))));
    let before = shard.check();
    let after = shard.check();
    assert!(before.0 <= after.0 && before.1 <= after.1, "it went back");
    for thread in threads {
        thread.join().unwrap();
    }
    shard.sync();
    assert_eq!((batches, batches), shard.check());
}

#[test]
fn only_what_is_on_disk_is_shown_and_what_is_acknowledged_is_shown() {
    for (batches, leaders, bound) in [(2, 2, 1), (1, 1, 3)] {
        let name = format!("a writer of {batches}, {leaders} sync leaders, a reader");
        explore(&name, bound, move || write_sync_and_look(batches, leaders));
    }
}

/// Threads that wait until their batch is durable, as `ShardLog::wait_durable` does.
struct Waiters {
    shard: Arc<Shard>,
    room: Arc<Bedroom>,
    is_led: AtomicU32,
    /// With the number of the last batch.
    append_lock: Mutex<u64>,
    /// How many sync at this moment.
    syncing: AtomicU64,
}

impl Waiters {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            shard: Shard::new(),
            room: Bedroom::new(),
            is_led: AtomicU32::new(0),
            append_lock: Mutex::new(0),
            syncing: AtomicU64::new(0),
        })
    }

    fn put(&self) -> u64 {
        let mut last = self.append_lock.lock().unwrap();
        *last += 1;
        self.shard.write(*last);
        *last
    }

    fn wait_durable(&self, batch: u64, lead: fn(&Self, Election<'_>) -> bool) {
        let election = Election { is_led: &self.is_led, news: self.room.wake() };
        loop {
            let seen = election.news.word();
            if self.shard.progress().durable.end.load(Ordering::Acquire) >= batch {
                return;
            }
            if !lead(self, election) {
                election.news.wait(seen, FOREVER);
            }
        }
    }

    fn sync(&self) {
        assert_eq!(0, self.syncing.fetch_add(1, Ordering::AcqRel), "two syncs at once");
        self.shard.sync();
        self.syncing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// So many threads put a batch each and wait for it.
fn put_and_wait(threads: usize, lead: fn(&Waiters, Election<'_>) -> bool) {
    let waiters = Waiters::new();
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let waiters = Arc::clone(&waiters);
            thread::spawn(move || waiters.wait_durable(waiters.put(), lead))
        })
        .collect();
    waiters.wait_durable(waiters.put(), lead);
    for thread in others {
        thread.join().unwrap();
    }
    waiters.shard.check();
}

#[test]
fn one_leads_and_nobody_sleeps_while_nobody_does() {
    for (threads, bound) in [(2, 3), (3, 2)] {
        explore(&format!("{threads} threads that put and wait"), bound, move || {
            put_and_wait(threads, |waiters, election| {
                election.try_lead().map(|_lead| waiters.sync()).is_some()
            });
        });
    }
}

#[test]
fn a_failure_stays_whatever_a_writer_beside_it_does() {
    explore("a writer and a failing sync", 3, || {
        let words = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let writer = Arc::clone(&words);
        let thread = thread::spawn(move || {
            let state = WriterWords { writing: &writer.0, errno: &writer.1 };
            state.set_writing(true);
            state.set_writing(false);
        });
        let state = WriterWords { writing: &words.0, errno: &words.1 };
        state.fail(5);
        assert_eq!(5, state.get().1);
        thread.join().unwrap();
        assert_eq!((false, 5), state.get());
    });
}

#[test]
fn a_fence_is_one() {
    // The models above stand on loom's fences: of two that store and then look, one sees the other.
    explore("store, fence, load", 3, || {
        let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let other = Arc::clone(&words);
        let thread = thread::spawn(move || {
            other.0.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            other.1.load(Ordering::Relaxed)
        });
        words.1.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let seen = words.0.load(Ordering::Relaxed);
        assert!(seen + thread.join().unwrap() > 0, "neither saw the other");
    });
}

/// Runs a model with a bug, in a process of its own because loom ends it; returns what it said.
fn caught(bug: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(["--exact", "--ignored", "--nocapture", bug]).output();
    let run = run.unwrap();
    assert!(!run.status.success(), "the model does not see it");
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[test]
fn a_wake_without_its_fence_is_caught() {
    assert!(caught("bugs::a_wake_without_its_fence").contains("deadlock"));
}

#[test]
fn a_wake_before_the_news_is_caught() {
    assert!(caught("bugs::a_wake_before_the_news").contains("deadlock"));
}

#[test]
fn a_leader_that_wakes_before_it_lets_go_is_caught() {
    assert!(caught("bugs::a_leader_that_wakes_before_it_lets_go").contains("deadlock"));
}

#[test]
fn a_leader_that_reads_the_position_first_is_caught() {
    assert!(caught("bugs::a_leader_that_reads_the_position_first").contains("but not its bytes"));
}

/// Models that are wrong on purpose.
mod bugs {
    use super::*;
    use crate::words::futex_wake_all;

    #[test]
    #[ignore = "wrong on purpose; the tests above run it"]
    fn a_wake_without_its_fence() {
        explore("a wake without its fence", 2, || {
            publish_and_sleep(1, 1, |room| {
                room.word.fetch_add(1, Ordering::Release);
                if room.sleepers.load(Ordering::Relaxed) > 0 {
                    futex_wake_all(&room.word);
                }
            });
        });
    }

    #[test]
    #[ignore = "wrong on purpose; the tests above run it"]
    fn a_wake_before_the_news() {
        explore("a wake before the news", 2, || {
            let room = Bedroom::new();
            let writer = Arc::clone(&room);
            let thread = thread::spawn(move || {
                writer.wake().wake();
                writer.news.fetch_add(1, Ordering::AcqRel);
            });
            room.sleep_until(1);
            thread.join().unwrap();
        });
    }

    #[test]
    #[ignore = "wrong on purpose; the tests above run it"]
    fn a_leader_that_wakes_before_it_lets_go() {
        explore("a wake before the lead is free", 2, || {
            put_and_wait(2, |waiters, election| {
                let (won, lost) = (Ordering::Acquire, Ordering::Relaxed);
                if election.is_led.compare_exchange(0, 1, won, lost).is_err() {
                    return false;
                }
                waiters.sync();
                election.news.wake();
                election.is_led.store(0, Ordering::Release);
                true
            });
        });
    }

    #[test]
    #[ignore = "wrong on purpose; the tests above run it"]
    fn a_leader_that_reads_the_position_first() {
        explore("the position read first", 2, || {
            let shard = Shard::new();
            let writer = Arc::clone(&shard);
            let thread = thread::spawn(move || writer.write(1));
            let committed = shard.progress().committed;
            let position = committed.position.load(Ordering::Acquire);
            let end = committed.end.load(Ordering::Acquire);
            shard.on_disk.store(shard.written.load(Ordering::Acquire), Ordering::Release);
            shard.progress().after_sync(position, end);
            shard.check();
            thread.join().unwrap();
        });
    }
}
