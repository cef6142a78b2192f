//! Lock files, and waiting for a lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Patience, Stopwatch};
use crate::error::{Error, IoContext, Result};
use crate::fs::{File, Fs, Lock, Open};
use crate::sys;

/// How often a waiting caller is asked whether it still wants to wait.
pub(super) const INTERRUPT_CHECK: Duration = Duration::from_millis(50);
const SLEEP_FIRST: Duration = Duration::from_micros(5);
const SLEEP_LONGEST: Duration = Duration::from_millis(1);

/// A lock file. The lock belongs to the process: threads exclude each other with a mutex first.
#[derive(Debug)]
pub(crate) struct LockedFile {
    path: PathBuf,
    file: Arc<dyn File>,
}

/// Releases the lock when dropped.
#[derive(Debug)]
pub(crate) struct Locked<'a>(&'a LockedFile);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // An unlock fails only for a descriptor that is not one; then there is no lock either.
        let _ = self.0.file.unlock();
    }
}

impl LockedFile {
    pub(crate) fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: fs.open(path, Open::Create).at(path)? })
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Result<Option<Locked<'_>>> {
        Ok(self.file.try_lock(Lock::Exclusive).at(&self.path)?.then_some(Locked(self)))
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] naming the holder, [`Error::Interrupted`].
    pub(crate) fn lock(&self, patience: &Patience<'_>) -> Result<Locked<'_>> {
        wait_for(&self.file, &self.path, Lock::Exclusive, patience)?;
        Ok(Locked(self))
    }
}

/// Waits for a lock on an open file.
///
/// WHY polling: the kernel's blocking `flock` has no time-out, and the holder may be a stopped
/// process. Locks here are held for microseconds, so the first tries nearly always succeed.
pub(crate) fn wait_for(
    file: &Arc<dyn File>,
    path: &Path,
    lock: Lock,
    patience: &Patience<'_>,
) -> Result<()> {
    let mut sleep = SLEEP_FIRST;
    let mut asked = Stopwatch::start();
    loop {
        if file.try_lock(lock).at(path)? {
            return Ok(());
        }
        if patience.deadline.is_past() {
            let holder = file
                .identity()
                .map_or_else(|_| "unknown".into(), |(_, inode)| sys::lock_holder(inode));
            return Err(Error::LockTimeout { path: path.to_owned(), holder });
        }
        if asked.elapsed() >= INTERRUPT_CHECK {
            asked = Stopwatch::start();
            if (patience.interrupted)() {
                return Err(Error::Interrupted);
            }
        }
        std::thread::sleep(sleep);
        sleep = (sleep * 2).min(SLEEP_LONGEST);
    }
}
