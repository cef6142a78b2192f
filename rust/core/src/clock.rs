//! Time: a trait for the wall clock, which stamps records; the monotonic clock, which ends waits.

#![allow(clippy::disallowed_methods, reason = "this is the room that the others go through")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::Micros;

/// Source of wall-clock time for what is written to disk.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now, in microseconds UTC.
    fn now(&self) -> Micros;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// A clock that shows the time it was set to; for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Micros) -> Self {
        Self(AtomicU64::new(now))
    }

    /// Sets the time shown.
    pub fn set(&self, now: Micros) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }
}

/// A moment on the monotonic clock after which a wait ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `wait` from now.
    pub fn after(wait: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(wait).unwrap_or(now + Duration::from_secs(86_400 * 365)))
    }

    /// The moment that another process of this boot wrote with [`Deadline::shared_millis`].
    pub fn at_shared_millis(millis: u64) -> Self {
        let now = monotonic();
        Self::after(Duration::from_millis(millis).saturating_sub(now))
    }

    /// This moment for other processes of this boot: milliseconds on the clock that they share
    /// (`CLOCK_MONOTONIC`), rounded up.
    pub fn shared_millis(self) -> u64 {
        let micros = (monotonic() + self.left()).as_micros();
        u64::try_from(micros.div_ceil(1_000)).unwrap_or(u64::MAX)
    }

    /// What is left; zero once passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn is_past(self) -> bool {
        self.left().is_zero()
    }
}

/// Time on the monotonic clock, which all processes of a boot have in common.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default() // it never shows less than 0
}

/// Measures how long ago something happened, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// How long a caller waits, and how it ends the wait early (because a signal came).
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// When waiting ends.
    pub deadline: Deadline,
    /// Asked at least every 100 ms; true ends the wait with [`crate::Error::Interrupted`].
    pub interrupted: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Patience<'static> {
    /// Waits at most `most` and is never interrupted.
    pub fn of(most: Duration) -> Self {
        Self { deadline: Deadline::after(most), interrupted: &|| false }
    }
}
