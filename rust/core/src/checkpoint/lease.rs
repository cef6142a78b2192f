//! The lease of a lane: a kernel lock that lasts as long as its owner's process.
//!
//! There is no heartbeat and no time-out: a stopped owner keeps its lanes, a dead one frees them at
//! once. The epoch in the checkpoint slots makes writes of an old owner void (`lanes.rs`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open};

/// Longer than a process that only checks a lease keeps its lock.
const PROBE: Duration = Duration::from_micros(50);
const OWNER_BYTES_MAX: usize = 200;

/// A lane's lease; released when dropped.
#[derive(Debug)]
pub struct Lease {
    // WHY no unlock on drop: closing the only descriptor frees the lock, and in a forked child, where
    // the descriptor is closed already, its number may belong to another file.
    _file: Arc<dyn File>,
}

impl Lease {
    /// Takes the lease if it is free. `owner` is for people who look at the file.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if the file cannot be made or written.
    pub fn try_take(fs: &Arc<dyn Fs>, path: &Path, owner: &str) -> Result<Option<Self>> {
        let file = fs.open(path, Open::Create).at(path)?;
        if !file.try_lock(Lock::Exclusive).at(path)? {
            std::thread::sleep(PROBE);
            if !file.try_lock(Lock::Exclusive).at(path)? {
                return Ok(None);
            }
        }
        // For people only: a full disk must not keep a lane from its runner.
        let _ = file.truncate(0).and_then(|()| file.write_at(&[owner.as_bytes()], 0));
        Ok(Some(Self { _file: file }))
    }

    /// Whether a live process holds the lease.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn is_held(fs: &Arc<dyn Fs>, path: &Path) -> Result<bool> {
        if !fs.exists(path).at(path)? {
            return Ok(false);
        }
        // A shared lock, so that two who ask do not take each other for an owner.
        let file = fs.open(path, Open::Read).at(path)?;
        Ok(!file.try_lock(Lock::Shared).at(path)?)
    }
}

/// The owner that wrote the lease file last, for messages.
pub(super) fn owner(fs: &Arc<dyn Fs>, path: &Path) -> String {
    let mut bytes = fs::read(fs.as_ref(), path).unwrap_or_default();
    bytes.truncate(OWNER_BYTES_MAX);
    if bytes.is_empty() {
        "another owner".into()
    } else {
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Deadline;
    use crate::fs::RealFs;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    const PATH_VARIABLE: &str = "STREAMFN_TEST_LEASE";

    fn real() -> Arc<dyn Fs> {
        Arc::new(RealFs)
    }

    #[test]
    fn one_has_it_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        assert!(!Lease::is_held(&real(), &path).unwrap());
        let first = Lease::try_take(&real(), &path, "the first").unwrap().unwrap();
        assert!(Lease::try_take(&real(), &path, "the second").unwrap().is_none());
        assert!(Lease::is_held(&real(), &path).unwrap());
        assert_eq!("the first", owner(&real(), &path));
        drop(first);

        // WHY not at once: a process that another test is just starting has a copy of every
        // descriptor until it runs its program.
        let deadline = Deadline::after(Duration::from_secs(5));
        while Lease::is_held(&real(), &path).unwrap() {
            assert!(!deadline.is_past(), "it is held after its end");
        }
        assert!(Lease::try_take(&real(), &path, "the second").unwrap().is_some());
    }

    /// Not a test: what the next test runs in another process.
    #[test]
    #[ignore = "run by `the_death_of_its_owner_frees_it`"]
    fn hold_it_for_ever() {
        let Ok(path) = std::env::var(PATH_VARIABLE) else { return };
        let _lease = Lease::try_take(&real(), Path::new(&path), "the child").unwrap().unwrap();
        println!("\nheld");
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn the_death_of_its_owner_frees_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "checkpoint::lease::tests::hold_it_for_ever",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(PATH_VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(std::io::Result::ok).any(|line| line == "held"));
        assert!(Lease::try_take(&real(), &path, "us").unwrap().is_none());
        assert!(Lease::is_held(&real(), &path).unwrap());

        child.kill().unwrap();
        child.wait().unwrap();

        assert!(!Lease::is_held(&real(), &path).unwrap());
        assert!(Lease::try_take(&real(), &path, "us").unwrap().is_some());
    }
}
