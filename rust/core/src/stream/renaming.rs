//! Renaming an internal stream.

use crate::clock::Patience;
use crate::error::{IoContext, Result};
use crate::fs;
use crate::log::owner_of;

use super::topology::manifest_path;
use super::{Log, Manifest};

impl Log {
    /// Renames a stream with all its records; does nothing if there is none of the old name.
    ///
    /// A process that has it open may go on reading, but finds no new segments. So this is for
    /// streams of a mapping that no worker runs.
    ///
    /// # Errors
    /// [`crate::Error::LockTimeout`], errors of the file system.
    ///
    /// # Durability
    /// Durable when it returns.
    pub(crate) fn rename_stream(
        &self,
        old: &str,
        new: &str,
        patience: &Patience<'_>,
    ) -> Result<()> {
        let _changing = self.topology.enter(patience)?;
        let (from, to) =
            (manifest_path(self.directory(), old), manifest_path(self.directory(), new));
        if self.fs().exists(&from).at(&from)? {
            let folder = fs::parent(&from);
            self.fs().rename(folder, fs::parent(&to)).at(folder)?;
        }
        let streams = self.root().join("streams");
        if self.fs().exists(&to).at(&to)? {
            self.rename_pages(old, new)?;
        }
        // Also if there is none: the process that renamed it may have died before that was durable.
        self.fs().sync_dir(&streams).at(&streams)?;
        self.forget_stream(old);
        Ok(())
    }

    /// Has the pages belong to the new name. If the machine stops before, the next process that
    /// opens the log alone makes them anew.
    fn rename_pages(&self, old: &str, new: &str) -> Result<()> {
        let manifest = Manifest::load(self.fs(), &manifest_path(self.directory(), new))?;
        for meta in &manifest.shards {
            let page = self.directory().control().page(meta.page);
            if page.is_of(owner_of(old, meta.id)) {
                page.set_owner(owner_of(new, meta.id));
            }
        }
        Ok(())
    }
}
