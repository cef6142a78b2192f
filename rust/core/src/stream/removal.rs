//! Removing a stream.
//!
//! ```text
//! pages of its shards REMOVED ──▶ manifest renamed to `removed` ──▶ files, folders, `removed` gone
//!   (no process can use it)        └─ the commit point
//! ```
//! A process that finds `removed` (an opener that is alone, or a creation of that name) continues
//! with the last step. Before the rename the stream is whole, and after a crash it comes back. Until
//! then, processes that have it open get `StreamNotFound`.

use std::path::Path;
use std::sync::Arc;

use crate::clock::Patience;
use crate::error::{IoContext, Result};
use crate::fs::{self, Fs};
use crate::log::Directory;

use super::topology::Changing;
use super::Stream;

/// The file in a stream's folder, in place of the manifest, while the stream is being removed.
pub(crate) const MARKER: &str = "removed";

impl Stream {
    /// Whether the stream was removed while this process had it open.
    pub(super) fn is_removed(&self) -> bool {
        let page = self.known.lock().first().map(|shard| shard.page);
        page.is_some_and(|page| self.directory.control().page(page).is_removed())
    }

    /// Under `topology.lock`: removes the stream with all its records.
    pub(super) fn remove(&self, _: &Changing<'_>, patience: &Patience<'_>) -> Result<()> {
        for meta in self.shards()? {
            self.shard(meta.id)?.remove(patience)?;
        }
        let fs = self.directory.fs();
        let manifest = self.manifest_path();
        fs.rename(&manifest, &self.folder.join(MARKER)).at(&manifest)?;
        fs.sync_dir(&self.folder).at(&self.folder)?;
        sweep(fs, &self.folder)
    }
}

/// Removes what is left of a removed stream; does nothing in the folder of any other.
pub(super) fn sweep(fs: &Arc<dyn Fs>, folder: &Path) -> Result<()> {
    let marker = folder.join(MARKER);
    if !fs.exists(&marker).at(&marker)? {
        return Ok(());
    }
    for name in fs.list(folder).at(folder)? {
        let inner = folder.join(&name);
        match fs::names_in(&**fs, &inner).at(&inner)? {
            Some(names) => {
                for name in names {
                    fs.remove(&inner.join(name)).at(&inner)?;
                }
                fs.sync_dir(&inner).at(&inner)?;
                fs.remove_dir(&inner).at(&inner)?;
            }
            None if name == MARKER => {}
            None => fs.remove(&inner).at(&inner)?,
        }
    }
    // INVARIANT: the marker goes last, when nothing else can come back.
    fs.sync_dir(folder).at(folder)?;
    fs.remove(&marker).at(&marker)?;
    fs.sync_dir(folder).at(folder)?;
    fs.remove_dir(folder).at(folder)?;
    let streams = fs::parent(folder);
    fs.sync_dir(streams).at(streams)
}

/// Finishes all removals that were interrupted.
pub(super) fn sweep_all(directory: &Directory) -> Result<()> {
    let streams = directory.root().join("streams");
    for name in directory.fs().list(&streams).at(&streams)? {
        sweep(directory.fs(), &streams.join(name))?;
    }
    Ok(())
}
