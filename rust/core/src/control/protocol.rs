//! The operations of several processes on shared words, in the order that makes them correct.
//!
//! Nothing here maps memory or sleeps by itself: words and futex come from `super::words`. So
//! `tests/loom.rs` can compile this very file with its own words and try every interleaving.

use std::time::Duration;

use super::words::{fence, futex_wait, futex_wake_all, AtomicU32, AtomicU64, Ordering};

/// Two words through which sleepers are woken.
#[derive(Clone, Copy)]
pub(crate) struct Wake<'a> {
    /// Changes whenever there is something to look at.
    pub(crate) word: &'a AtomicU32,
    /// How many sleep, or are about to.
    pub(crate) sleepers: &'a AtomicU32,
}

impl Wake<'_> {
    /// The word now.
    pub(crate) fn word(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Changes the word and wakes every sleeper.
    pub(crate) fn wake(&self) {
        self.word.fetch_add(1, Ordering::Release);
        // INVARIANT: with the fence in `wait`, either this load sees the sleeper or the sleeper
        // sees the new word; so no wake-up is lost.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            futex_wake_all(self.word);
        }
    }

    /// Sleeps until the word is not `seen` or `most` has passed; returns the word.
    pub(crate) fn wait(&self, seen: u32, most: Duration) -> u32 {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.word() == seen {
            futex_wait(self.word, seen, most);
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        self.word()
    }
}

/// An election among threads that wait for the same thing: the leader does the work, and the others
/// sleep meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Election<'a> {
    /// 1 while a thread leads.
    pub(crate) is_led: &'a AtomicU32,
    /// Changes when the leader makes progress, and when it stops leading.
    pub(crate) news: Wake<'a>,
}

/// The lead, until it is dropped.
pub(crate) struct Lead<'a>(Election<'a>);

impl<'a> Election<'a> {
    /// Takes the lead, if it is free.
    ///
    /// A caller that does not get the lead sleeps until `news` is not what it was before the attempt.
    pub(crate) fn try_lead(self) -> Option<Lead<'a>> {
        let before = self.is_led.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        before.is_ok().then(|| Lead(self))
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // INVARIANT: the lead first. A waiter that finds it taken has seen the word before this wake
        // changes it, so no waiter sleeps while none leads.
        self.0.is_led.store(0, Ordering::Release);
        self.0.news.wake();
    }
}

/// How far something has come: a position as one word, and the first number behind it.
#[derive(Clone, Copy)]
pub(crate) struct Reach<'a> {
    pub(crate) position: &'a AtomicU64,
    pub(crate) end: &'a AtomicU64,
}

impl Reach<'_> {
    /// Moves on to there, never back.
    pub(crate) fn raise(&self, position: u64, end: u64) {
        // INVARIANT: the position first. A reader that sees a number finds it before the position.
        self.position.fetch_max(position, Ordering::AcqRel);
        self.end.fetch_max(end, Ordering::AcqRel);
    }
}

/// The end of a shard as its writers, its disk and its readers have it.
#[derive(Clone, Copy)]
pub(crate) struct Progress<'a> {
    /// Written. Only stored to under `append.lock`.
    pub(crate) committed: Reach<'a>,
    /// On the disk.
    pub(crate) durable: Reach<'a>,
    /// Shown to readers.
    pub(crate) visible: Reach<'a>,
}

impl Progress<'_> {
    /// Announces a batch that was written.
    pub(crate) fn commit(&self, position: u64, end: u64) {
        // INVARIANT: the position before the number. A sync leader reads them in the other order, so
        // the position it publishes holds every number it publishes.
        self.committed.position.store(position, Ordering::Release);
        self.committed.end.store(end, Ordering::Release);
    }

    /// What a sync that begins now will make durable.
    pub(crate) fn before_sync(&self) -> (u64, u64) {
        let end = self.committed.end.load(Ordering::Acquire);
        (self.committed.position.load(Ordering::Acquire), end)
    }

    /// Shows readers what a sync made durable, and says that it is.
    pub(crate) fn after_sync(&self, position: u64, end: u64) {
        // WHY this order: a thread that sees that it is durable returns to its caller, whose record
        // must then be visible.
        self.visible.raise(position, end);
        self.durable.raise(position, end);
    }
}

/// What the writer is doing, and whether a sync has failed.
#[derive(Clone, Copy)]
pub(crate) struct WriterWords<'a> {
    /// 1 while bytes behind the end may be half of a batch.
    pub(crate) writing: &'a AtomicU32,
    /// Of the sync that failed; 0 if none has.
    pub(crate) errno: &'a AtomicU32,
}

impl WriterWords<'_> {
    /// Begins or ends a write.
    ///
    /// INVARIANT: a failure stays. A writer that ends its write while a sync fails beside it must not
    /// take the failure back: that is why the two are two words.
    pub(crate) fn set_writing(&self, is_writing: bool) {
        self.writing.store(is_writing.into(), Ordering::Release);
    }

    /// Fails for good.
    pub(crate) fn fail(&self, errno: u32) {
        self.errno.store(errno.max(1), Ordering::Release);
    }

    /// Whether a write is under way, and the error that ended all writing, or 0.
    pub(crate) fn get(&self) -> (bool, u32) {
        let errno = self.errno.load(Ordering::Acquire);
        (self.writing.load(Ordering::Acquire) != 0, errno)
    }
}
