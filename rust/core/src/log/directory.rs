//! What all shards of one log directory share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::clock::Clock;
use crate::control::ControlFile;
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::sync::Mutex;
use crate::sys;

use super::ShardLog;

/// An open log directory, below the streams.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    uuid: [u8; 16],
    boot_id: [u8; 16],
    control: ControlFile,
    fork_generation: u64,
    closed: AtomicBool,
    /// The shards that this process has open, including those of removed streams.
    shards: Mutex<Vec<Weak<ShardLog>>>,
}

impl Directory {
    pub(crate) fn new(
        root: PathBuf,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        uuid: [u8; 16],
        boot_id: [u8; 16],
        control: ControlFile,
    ) -> Self {
        let fork_generation = sys::fork_generation();
        Self {
            root,
            fs,
            clock,
            uuid,
            boot_id,
            control,
            fork_generation,
            closed: AtomicBool::new(false),
            shards: Mutex::default(),
        }
    }

    /// The folder, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file system it is on.
    pub fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    /// Time for what is written to disk.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Identity of the log.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Identity of this boot of the machine.
    pub fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// The mapped control file.
    pub fn control(&self) -> &ControlFile {
        &self.control
    }

    /// Whether handles on this directory belong to a parent process.
    pub fn is_forked(&self) -> bool {
        self.fork_generation != sys::fork_generation()
    }

    /// `Ok` unless the log was closed, or opened before a fork.
    ///
    /// # Errors
    /// [`Error::ForkedHandle`], [`Error::StreamClosed`].
    pub fn check(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::ForkedHandle { path: self.root.clone() });
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::StreamClosed { name: self.root.display().to_string() });
        }
        Ok(())
    }

    pub(crate) fn add_shard(&self, shard: &Arc<ShardLog>) {
        self.shards.lock().push(Arc::downgrade(shard));
    }

    /// The shards that this process has open; a caller may still have a removed stream open.
    pub(crate) fn shards(&self) -> Vec<Arc<ShardLog>> {
        let mut shards = self.shards.lock();
        shards.retain(|shard| shard.strong_count() > 0);
        shards.iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }
}
