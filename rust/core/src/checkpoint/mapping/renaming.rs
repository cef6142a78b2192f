//! Renaming a mapping, in steps that any process can finish.
//!
//! ```text
//! `mappings/renaming` ──▶ streams `.dlq`, `.redrive` ──▶ lanes of `.redrive`, `begun` in the record
//!   (the commit point)      ──▶ replays ──▶ the folder ──▶ `renaming` gone
//! ```
//! The mapping is there under the old name until its folder is renamed, and under the new one from
//! then on. A process that takes `mappings/lock` to change which mappings there are finishes first
//! what another has begun.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::folder::{folder_of, RECORD};
use super::Mapping;
use crate::checkpoint::slot::replayed;
use crate::clock::Patience;
use crate::counts;
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::fs::{self, Open};
use crate::stream::Log;

/// The file that says which mapping is being renamed.
pub(crate) const RENAMING: &str = "renaming";
/// What is left of it if a process died while it wrote it.
pub(crate) const RENAMING_STAGED: &str = "renaming.new";
/// Behind the name of a mapping: the streams that are its own.
pub(in crate::checkpoint) const OWN_STREAMS: [&str; 2] = [".dlq", ".redrive"];

impl Mapping {
    /// Decides that it gets another name; call it under the lock, with the leases of all its lanes.
    /// [`Mapping::finish_renaming`] does the rest.
    pub(in crate::checkpoint) fn begin_renaming(&self, new: &str) -> Result<()> {
        // WHY before: what cannot be read now could not be renamed later.
        self.record()?;
        Self::sweep(&self.log)?;
        let (fs, path) = (self.log.fs(), renaming_path(&self.log));
        fs::replace(fs.as_ref(), &path, &encode(&self.name, new)).at(&path)
    }

    /// Finishes a renaming, if one was begun; call it under the lock.
    pub(in crate::checkpoint) fn finish_renaming(
        log: &Arc<Log>,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let (fs, path) = (log.fs(), renaming_path(log));
        let bytes = match fs.open(&path, Open::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => fs::read_all(file.at(&path)?.as_ref()).at(&path)?,
        };
        let Some((old, new)) = decode(&bytes) else {
            let reason = "it is damaged: look which of the two functions has its positions, then \
                          remove this file"
                .to_owned();
            return Err(Error::CheckpointConflict { path, reason });
        };
        for suffix in OWN_STREAMS {
            let (from, to) = (format!("{old}{suffix}"), format!("{new}{suffix}"));
            log.rename_stream(&from, &to, patience)?;
        }
        let mapping = Self::at(log, &old);
        if fs.exists(&mapping.record_path()).at(&mapping.record_path())? {
            mapping.rename_redrives(&new)?;
            mapping.rename_folders(&new)?;
        }
        counts::rename(log, &old, &new)?;
        let mappings = log.root().join("mappings");
        fs.sync_dir(&mappings).at(&mappings)?;
        fs.remove(&path).at(&path)?;
        fs.sync_dir(&mappings).at(&mappings)
    }

    /// Renames the lanes of its redrive stream.
    fn rename_redrives(&self, new: &str) -> Result<()> {
        let fs = self.log.fs();
        let (before, after) = (format!("{}.redrive", self.name), format!("{new}.redrive"));
        let from = self.folder.join(&*folder_of(&before));
        if fs.exists(&from).at(&from)? {
            fs.rename(&from, &self.folder.join(&*folder_of(&after))).at(&from)?;
        }
        fs.sync_dir(&self.folder).at(&self.folder)?;
        let mut record = self.record()?;
        if record.begun.contains(&before) {
            record.begun.retain(|name| *name != before);
            record.begun.push(after);
            self.store(record)?;
        }
        Ok(())
    }

    /// Renames its folder, after those of its replays: a replay without its function is nobody's.
    fn rename_folders(&self, new: &str) -> Result<()> {
        let (fs, mappings) = (self.log.fs(), self.log.root().join("mappings"));
        for name in Self::names(&self.log)? {
            let Some(number) = name.strip_prefix(self.name.as_str()) else { continue };
            if replayed(&name) == Some(&self.name) {
                let from = mappings.join(&name);
                fs.rename(&from, &mappings.join(format!("{new}{number}"))).at(&from)?;
            }
        }
        fs.sync_dir(&mappings).at(&mappings)?;
        fs.rename(&self.folder, &mappings.join(new)).at(&self.folder)
    }

    /// Whether there is anything of a mapping of this name, also if its record is lost.
    pub(in crate::checkpoint) fn has_folder(log: &Log, name: &str) -> Result<bool> {
        let folder = log.root().join("mappings").join(name);
        let record = folder.join(RECORD);
        Ok(log.fs().exists(&record).at(&record)? || Self::is_lost(log, name)?)
    }
}

fn renaming_path(log: &Log) -> PathBuf {
    log.root().join("mappings").join(RENAMING)
}

fn encode(old: &str, new: &str) -> Vec<u8> {
    let names = format!("{old}\n{new}\n");
    format!("{names}crc32c:{:08x}\n", crc32c(names.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let (old, new) = (lines.next()?, lines.next()?);
    (encode(old, new) == bytes).then(|| (old.to_owned(), new.to_owned()))
}
