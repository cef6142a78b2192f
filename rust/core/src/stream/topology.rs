//! The set of shards, changed by one process at a time: creating, splitting, merging.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::sync::{Mutex, MutexGuard};

use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{File, Fs};
use crate::log::{Directory, Locked, LockedFile};
use crate::types::SHARDS_MAX;

use super::manifest::Manifest;

/// The right to change manifests, and the pages of the control file that go to new shards.
#[derive(Debug)]
pub(crate) struct Topology {
    directory: Arc<Directory>,
    threads: Mutex<()>,
    lock: LockedFile,
    control_file: Arc<dyn File>,
}

/// Holds `topology.lock` until it is dropped.
pub(crate) struct Changing<'a> {
    topology: &'a Topology,
    _processes: Locked<'a>,
    _threads: MutexGuard<'a, ()>,
}

impl Topology {
    pub(crate) fn open(directory: &Arc<Directory>, control_file: Arc<dyn File>) -> Result<Self> {
        let lock = LockedFile::open(directory.fs(), &directory.root().join("topology.lock"))?;
        Ok(Self { directory: Arc::clone(directory), threads: Mutex::default(), lock, control_file })
    }

    pub(crate) fn control_file(&self) -> &Arc<dyn File> {
        &self.control_file
    }

    /// Waits until no other process changes anything.
    pub(crate) fn enter(&self, patience: &Patience<'_>) -> Result<Changing<'_>> {
        let threads = self.threads.lock();
        let processes = self.lock.lock(patience)?;
        Ok(Changing { topology: self, _processes: processes, _threads: threads })
    }
}

impl Changing<'_> {
    /// Pages for `count` new shards, which no manifest names; they have their place on the disk.
    ///
    /// # Errors
    /// [`Error::Config`] if the log would have too many shards; [`Error::LogFull`].
    pub(crate) fn pages(&self, count: u32) -> Result<Vec<u32>> {
        let directory = &self.topology.directory;
        let mut taken = BTreeSet::new();
        for name in stream_names(directory)? {
            let manifest = Manifest::load(directory.fs(), &manifest_path(directory, &name))?;
            taken.extend(manifest.shards.iter().map(|shard| shard.page));
        }
        let control = directory.control();
        // WHY: a process that has a removed shard open must not find another one on its page.
        let is_free = |page: &u32| !taken.contains(page) && !control.is_retired(*page);
        let has_owner = |page: &u32| {
            let page = control.page(*page);
            page.is_owned() && !page.is_removed()
        };
        let free = || (1..=SHARDS_MAX).filter(is_free);
        // WHY those last: a page that has an owner but no manifest is left of a creation that did not
        // finish, or it is in use and the manifest is lost.
        let pages: Vec<u32> = free()
            .filter(|page| !has_owner(page))
            .chain(free().filter(has_owner))
            .take(count as usize)
            .collect();
        if pages.len() < count as usize {
            let reason = format!(
                "a log has at most {SHARDS_MAX} shards, closed ones too: {} are taken, {count} more \
                 do not fit",
                taken.len()
            );
            return Err(Error::config("shards", reason));
        }
        // A store to a page of a sparse file on a full disk would kill the process.
        let length = u64::from(pages.iter().max().map_or(0, |page| page + 1)) * 4096;
        let path = directory.root().join("control");
        self.topology.control_file.allocate(length).at(&path)?;
        Ok(pages)
    }
}

pub(super) fn manifest_path(directory: &Directory, stream: &str) -> std::path::PathBuf {
    directory.root().join("streams").join(stream).join("manifest.json")
}

/// Names of all streams, sorted.
pub(super) fn stream_names(directory: &Directory) -> Result<Vec<String>> {
    let fs = directory.fs();
    let parent = directory.root().join("streams");
    let mut names = Vec::new();
    for name in fs.list(&parent).at(&parent)? {
        // A folder without a manifest is a creation that did not finish. A manifest of which nobody
        // can say whether it is there may have any page.
        let manifest = manifest_path(directory, &name);
        if fs.exists(&manifest).at(&manifest)? {
            names.push(name);
        }
    }
    Ok(names)
}

/// Stores a manifest whose new shards have their files already.
pub(super) fn store(fs: &Arc<dyn Fs>, manifest: &Manifest, path: &Path) -> Result<()> {
    // WHY: the manifest must not be there before the folders it speaks of.
    let folder = crate::fs::parent(path);
    fs.sync_dir(folder).at(folder)?;
    manifest.store(fs, path)
}
