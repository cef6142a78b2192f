//! Streams and logs: a stream routes records to its shards, and a log directory holds streams.

mod config;
mod format_file;
mod log_directory;
pub mod manifest;
mod manifests;
mod opening;
mod put;
mod removal;
mod renaming;
mod reshard;
pub mod routing;
mod settings;
mod topology;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use crate::sync::Mutex;

use crate::error::{Error, IoContext, Result};
use crate::fs;
use crate::log::{recovery, Directory, ShardConfig, ShardLog};
use crate::types::{Micros, ShardId};

pub use config::{Retention, StreamConfig};
pub(crate) use format_file::{decode_format, encode_format};
pub use log_directory::{Housekeeper, Log};
pub use manifest::{Manifest, ShardMeta};
pub(crate) use manifests::holds_records;
pub use opening::OpenOptions;
pub use put::{Put, PutOutcome};
pub(crate) use removal::MARKER as REMOVED_MARKER;
pub use settings::SettingsChange;
pub(crate) use topology::Topology;

/// A named set of shards.
#[derive(Debug)]
pub struct Stream {
    name: Arc<str>,
    directory: Arc<Directory>,
    topology: Arc<Topology>,
    folder: PathBuf,
    /// The settings as this process last read them; any process may change them (`settings.rs`).
    settings: Mutex<StreamConfig>,
    is_internal: bool,
    created: Micros,
    /// The shards as this process last read them; a producer that meets a CLOSE reads them again.
    known: Mutex<Arc<[ShardMeta]>>,
    shards: Mutex<BTreeMap<ShardId, Arc<ShardLog>>>,
    next_keyless: AtomicUsize,
}

impl Stream {
    pub(crate) fn open(
        directory: &Arc<Directory>,
        topology: &Arc<Topology>,
        name: &str,
    ) -> Result<Self> {
        let folder = directory.root().join("streams").join(name);
        let manifest = load(directory, name)?;
        // WHY: the process that made the stream may have died, or met an error, before its names were
        // durable; nothing may be acknowledged in it until they are.
        let fs = directory.fs();
        for folder in [&folder, fs::parent(&folder)] {
            fs.sync_dir(folder).at(folder)?;
        }
        Ok(Self {
            name: name.into(),
            directory: Arc::clone(directory),
            topology: Arc::clone(topology),
            folder,
            known: Mutex::new(reshard::visible(&manifest).into()),
            is_internal: manifest.config.is_internal,
            settings: Mutex::new(manifest.config),
            created: manifest.created,
            shards: Mutex::default(),
            next_keyless: AtomicUsize::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings, as this process last read them: at most a second ago, while it has the log open.
    pub fn config(&self) -> StreamConfig {
        self.settings.lock().clone()
    }

    /// When it was made, µs UTC.
    pub fn created(&self) -> Micros {
        self.created
    }

    /// Its shards as they are on disk now, by number; parents come before their children.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn shards(&self) -> Result<Vec<ShardMeta>> {
        self.refresh()
    }

    /// One shard's log.
    ///
    /// # Errors
    /// [`Error::Config`] if the stream has no such shard; errors of opening it.
    pub fn shard(&self, id: ShardId) -> Result<Arc<ShardLog>> {
        self.directory.check()?;
        let mut open = self.shards.lock();
        if let Some(shard) = open.get(&id) {
            return Ok(Arc::clone(shard));
        }
        let mut meta = self.known.lock().iter().find(|meta| meta.id == id).cloned();
        if meta.is_none() {
            let all = reshard::visible(&load(&self.directory, &self.name)?);
            meta = all.into_iter().find(|meta| meta.id == id);
        }
        let meta = meta
            .ok_or_else(|| Error::config("shard", format!("stream `{}` has no {id}", self.name)))?;
        let folder = self.shard_folder(id);
        let config = self.shard_config(&meta);
        if !self.directory.control().page(config.page).is_of(config.owner()) {
            if let Some(cause) = recovery::explain(&self.directory, &folder, &config) {
                return Err(cause);
            }
            let path = self.directory.root().join("control");
            let reason = format!(
                "the page of {}/{id} belongs to another shard, or the shard could not be recovered: \
                 close all programs that use the log, then open it again",
                self.name
            );
            return Err(Error::Corruption {
                path,
                position: u64::from(config.page) * 4096,
                first: 0,
                last: 0,
                reason,
            });
        }
        let shard = Arc::new(ShardLog::open(&self.directory, folder, config)?);
        self.directory.add_shard(&shard);
        open.insert(id, Arc::clone(&shard));
        Ok(shard)
    }

    /// The shards that this process has open, except those of a removed stream.
    fn open_shards(&self) -> Vec<Arc<ShardLog>> {
        self.shards.lock().values().filter(|shard| !shard.is_removed()).cloned().collect()
    }

    fn manifest_path(&self) -> PathBuf {
        topology::manifest_path(&self.directory, &self.name)
    }

    fn shard_folder(&self, id: ShardId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    pub(crate) fn shard_config(&self, meta: &ShardMeta) -> ShardConfig {
        shard_config(&self.name, &self.config(), meta, &self.known.lock())
    }
}

/// Space reserved for dead letters and redrives. On a full disk, they are what lets a function
/// continue; then retention by consumption can free space.
const INTERNAL_ROOM: u64 = 1024 * 1024;

/// The manifest of a stream as it is on disk now.
fn load(directory: &Directory, name: &str) -> Result<Manifest> {
    match Manifest::load(directory.fs(), &topology::manifest_path(directory, name)) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::StreamNotFound { name: name.to_owned() })
        }
        other => other,
    }
}

fn shard_config(
    stream: &Arc<str>,
    config: &StreamConfig,
    meta: &ShardMeta,
    all: &[ShardMeta],
) -> ShardConfig {
    let goes_on =
        |other: &&ShardMeta| !meta.is_open && !other.is_pending && other.parents.contains(&meta.id);
    ShardConfig {
        stream: Arc::clone(stream),
        id: meta.id,
        page: meta.page,
        hash_range: meta.hash_range,
        parents: meta.parents.clone(),
        successors: all.iter().filter(goes_on).map(|child| child.id).collect(),
        durability: config.durability,
        compression: config.compression,
        segment_bytes: config.segment_bytes,
        room: if config.is_internal { INTERNAL_ROOM } else { 0 },
    }
}
