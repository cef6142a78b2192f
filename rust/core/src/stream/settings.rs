//! The settings of a stream that can change while it is in use: retention and compression.
//!
//! ```text
//! topology.lock ──▶ manifest replaced ──▶ every process that has the log open reads it again
//!                    └─ the commit point       (in its next pass of retention, once a second)
//! ```
//! A crash leaves the old manifest or the new one. Record batches say themselves how they are
//! compressed, so a segment may hold both kinds.

use crate::clock::Patience;
use crate::error::Result;
use crate::types::Compression;

use super::manifest::{Manifest, ShardMeta};
use super::{load, reshard, topology, Retention, Stream, StreamConfig};

/// New values of settings; `None` leaves a setting unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// When sealed segments may be removed.
    pub retention: Option<Retention>,
    /// How batches are stored from now on.
    pub compression: Option<Compression>,
}

impl SettingsChange {
    fn apply(&self, config: &mut StreamConfig) {
        config.retention = self.retention.unwrap_or(config.retention);
        config.compression = self.compression.unwrap_or(config.compression);
    }
}

impl Stream {
    /// Changes settings. This process uses them at once, the others within two seconds.
    ///
    /// # Errors
    /// [`crate::Error::StreamNotFound`], [`crate::Error::LockTimeout`], [`crate::Error::LogFull`],
    /// errors of the file system: nothing has changed, unless the directory's sync failed.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn set(&self, change: &SettingsChange, patience: &Patience<'_>) -> Result<()> {
        self.directory.check()?;
        {
            let changing = self.topology.enter(patience)?;
            let mut manifest = self.settle(&changing, patience)?;
            let before = manifest.config.clone();
            change.apply(&mut manifest.config);
            if manifest.config != before {
                topology::store(self.directory.fs(), &manifest, &self.manifest_path())?;
            }
        }
        self.refresh().map(drop)
    }

    /// Reads the manifest again, and uses its settings from now on; returns the shards.
    ///
    /// # Errors
    /// The manifest cannot be read; the settings stay as they were.
    pub fn refresh(&self) -> Result<Vec<ShardMeta>> {
        self.directory.check()?;
        let manifest = self.read_settings()?;
        for shard in self.open_shards() {
            shard.set_compression(manifest.config.compression);
        }
        Ok(reshard::visible(&manifest))
    }

    fn read_settings(&self) -> Result<Manifest> {
        // WHY locked while it is read: an older manifest must not replace the settings of a newer one.
        let mut settings = self.settings.lock();
        let manifest = load(&self.directory, &self.name)?;
        settings.clone_from(&manifest.config);
        Ok(manifest)
    }
}
