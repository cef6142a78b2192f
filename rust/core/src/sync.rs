//! Locks without poisoning, built on the standard library's.
//!
//! WHY not `parking_lot`: its locks share one table of sleeping threads per process. If a process
//! forks while a thread is inside that table, the table stays locked forever in the child. Then
//! every contended lock hangs there, new ones too. A lock of the standard library is one word (a
//! futex).

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{self, PoisonError};
use std::time::Duration;

/// A mutual exclusion lock; a panic of its holder does not close it.
#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// Holds a [`Mutex`] until it is dropped.
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// `None` only inside [`Condvar::wait_for`] and [`MutexGuard::unlocked`].
    held: Option<sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// An unlocked one.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.take()) }
    }

    /// The lock if it is free now.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    /// The guarded value, once no thread shares the lock.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> MutexGuard<'_, T> {
    /// Releases the lock while `work` runs.
    pub fn unlocked<U>(guard: &mut Self, work: impl FnOnce() -> U) -> U {
        guard.held = None;
        let done = work();
        guard.held = Some(guard.mutex.take());
        done
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("held but inside wait_for and unlocked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held but inside wait_for and unlocked")
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Threads that wait for a change under a [`Mutex`]; the change is made under the same mutex.
#[derive(Debug, Default)]
pub struct Condvar {
    told: sync::Condvar,
    /// Changes under the mutex only.
    waiting: AtomicU32,
}

impl Condvar {
    /// One without waiting threads.
    pub const fn new() -> Self {
        Self { told: sync::Condvar::new(), waiting: AtomicU32::new(0) }
    }

    /// Releases the lock until notified, for at most `most`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, most: Duration) {
        let held = guard.held.take().expect("held but inside wait_for and unlocked");
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (held, _) = self.told.wait_timeout(held, most).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard.held = Some(held);
    }

    /// Wakes all threads that wait.
    ///
    /// WHY the count: the standard library's `notify_all` enters the kernel even if no thread waits
    /// (240 ns). A thread that held the mutex to make a change sees every thread that began to wait
    /// before.
    pub fn notify_all(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.told.notify_all();
        }
    }
}

/// A lock for many readers or one writer; a panic of its holder does not close it.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// Waits until no writer has it.
    pub fn read(&self) -> sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no thread has it.
    pub fn write(&self) -> sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{mpsc, Arc};

    #[test]
    fn a_lock_can_be_let_go_for_a_while() {
        let mutex = Mutex::new(1);
        let mut guard = mutex.lock();
        MutexGuard::unlocked(&mut guard, || *mutex.lock() += 1);

        assert_eq!(2, *guard);
    }

    #[test]
    fn a_panic_of_its_holder_does_not_close_it() {
        let mutex = Mutex::new(1);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = mutex.lock();
            panic!("on purpose");
        }));

        assert!(result.is_err());
        assert_eq!(1, *mutex.lock());
    }

    /// WHY no time-out that could end the wait: it would hide a missing notification.
    #[test]
    fn who_waits_is_told() {
        for waiting in [1, 3] {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let (awake, woken) = mpsc::channel();
            for _ in 0..waiting {
                let (shared, awake) = (Arc::clone(&shared), awake.clone());
                std::thread::spawn(move || {
                    let (mutex, told) = &*shared;
                    let mut guard = mutex.lock();
                    while !*guard {
                        told.wait_for(&mut guard, Duration::from_secs(3600));
                    }
                    awake.send(()).unwrap();
                });
            }
            let (mutex, told) = &*shared;
            // Under the mutex: who has counted itself has let go of the mutex, and waits.
            while told.waiting.load(Ordering::Relaxed) < waiting || mutex.try_lock().is_none() {
                std::thread::yield_now();
            }

            *mutex.lock() = true;
            told.notify_all();

            for _ in 0..waiting {
                woken.recv_timeout(Duration::from_secs(10)).expect("all who wait are told");
            }
            assert_eq!(0, told.waiting.load(Ordering::Relaxed));
        }
    }
}
