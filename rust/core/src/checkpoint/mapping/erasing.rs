//! Forgetting a stream, or all of a mapping.

use super::folder::{has_folders, remove_all, remove_empty, RECORD, REMOVED};
use super::renaming::RENAMING_STAGED;
use super::Mapping;
use crate::checkpoint::lease::Lease;
use crate::checkpoint::slot::replayed;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, Open};
use crate::stream::Log;

impl Mapping {
    /// Whether it remembers positions in a stream: its record says so, or its lanes if that is lost.
    pub(in crate::checkpoint) fn has_begun(&self, stream: &str) -> Result<bool> {
        match self.load()? {
            Some(record) => Ok(record.begun.iter().any(|name| name == stream)),
            None => Ok(!self.shards_with_lanes(stream)?.is_empty()),
        }
    }

    /// Whether a stream is there for this mapping alone: its dead letters, its redrives.
    pub(in crate::checkpoint) fn owns(&self, stream: &str) -> bool {
        stream.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Forgets its positions in a stream; call it under the lock.
    pub(in crate::checkpoint) fn forget(&self, stream: &str) -> Result<()> {
        let fs = self.log.fs();
        let folder = self.stream_folder(stream);
        if fs.exists(&folder).at(&folder)? {
            let _leases = self.lease_all(stream)?;
            for name in fs.list(&folder).at(&folder)? {
                let path = folder.join(name);
                fs.remove(&path).at(&path)?;
            }
            fs.sync_dir(&folder).at(&folder)?;
            fs.remove_dir(&folder).at(&folder)?;
            fs.sync_dir(&self.folder).at(&self.folder)?;
        }
        self.files.lock().retain(|(name, _), _| name != stream);
        // Last: what is begun and has no lanes starts at its first record, so nothing is skipped.
        match self.load()? {
            Some(mut record) if record.begun.iter().any(|name| name == stream) => {
                record.begun.retain(|name| name != stream);
                self.store(record)
            }
            _ => Ok(()),
        }
    }

    /// The leases of all lanes of a stream, so that no runner reads it.
    fn lease_all(&self, stream: &str) -> Result<Vec<Lease>> {
        let mut leases = Vec::new();
        for shard in self.shards_with_lanes(stream)? {
            let file = self.lanes_file(stream, shard)?;
            for slot in 0..file.head()?.factor {
                let lease = Lease::try_take(
                    self.log.fs(),
                    &file.lease_path(slot),
                    "a removal of its stream",
                )?;
                leases.push(lease.ok_or_else(|| {
                    let reason = format!(
                        "`{stream}` is being read by a worker (`{}`): stop it first",
                        self.name
                    );
                    Error::config("stream", reason)
                })?);
            }
        }
        Ok(leases)
    }

    /// Forgets all of it; call it under the lock, with the leases of all its lanes.
    ///
    /// The removal of the record is the commit: a mapping is there if its record is.
    pub(in crate::checkpoint) fn erase(&self) -> Result<()> {
        let (fs, marker, path) = (self.log.fs(), self.folder.join(REMOVED), self.record_path());
        // INVARIANT: positions are cleared where somebody wanted it, never because a record is lost.
        fs.open(&marker, Open::Create).at(&marker)?;
        fs.sync_dir(&self.folder).at(&self.folder)?;
        fs.remove(&path).at(&path)?;
        fs.sync_dir(&self.folder).at(&self.folder)?;
        Self::sweep(&self.log)
    }

    /// Clears the folders of mappings that were removed, or made, in part; call it under the lock.
    pub(super) fn sweep(log: &Log) -> Result<()> {
        let (fs, mappings) = (log.fs(), log.root().join("mappings"));
        let mut was_left = false;
        for mapping in fs.list(&mappings).at(&mappings)? {
            let folder = mappings.join(&mapping);
            if mapping == RENAMING_STAGED {
                fs.remove(&folder).at(&folder)?;
                was_left = true;
                continue;
            }
            // What is no folder is the lock.
            let Some(names) = fs::names_in(&**fs, &folder).at(&folder)? else { continue };
            let has = |wanted: &str| names.iter().any(|name| name == wanted);
            if has(RECORD) {
                continue;
            }
            // A replay has its lanes before its record.
            let is_left =
                has(REMOVED) || replayed(&mapping).is_some() || !has_folders(fs, &folder, &names)?;
            if !is_left {
                continue;
            }
            for name in names.iter().filter(|name| *name != REMOVED) {
                remove_all(fs, &folder.join(name))?;
            }
            if has(REMOVED) {
                // INVARIANT: the marker goes last, when nothing else can come back.
                fs.sync_dir(&folder).at(&folder)?;
                fs.remove(&folder.join(REMOVED)).at(&folder)?;
            }
            remove_empty(fs, &folder)?;
            was_left = true;
        }
        if was_left {
            fs.sync_dir(&mappings).at(&mappings)?;
        }
        Ok(())
    }
}
