//! An open log directory: its streams, its housekeeping, and closing it.
//!
//! Every process that has the log open holds `lock` shared. A process that gets it exclusively is
//! alone. Only then may it make or rebuild pages of the control file, and recover shards
//! (`opening.rs`).

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

use crate::clock::{Clock, Patience};
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open};
use crate::log::{recovery, Directory, ShardLog};
use crate::sys;
use crate::types::{Durability, ShardId};

use super::manifest::{Manifest, ShardMeta};
use super::manifests::{for_each_shard, holds_records};
use super::opening::{prepare_folder, OpenOptions, Opening};
use super::topology::{manifest_path, stream_names, Changing};
use super::{removal, routing, shard_config, topology, Stream, StreamConfig, Topology};

const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);

/// Called about ten times a second while a log is open.
pub trait Housekeeper: Send + Sync {
    /// Does what is due; must not block for long.
    fn tick(&self);
}

/// An open log directory: one for each directory and process, however often it is opened.
pub struct Log {
    directory: Arc<Directory>,
    lock: Arc<dyn File>,
    pub(super) topology: Arc<Topology>,
    streams: Mutex<HashMap<String, Arc<Stream>>>,
    housekeepers: Mutex<Vec<Weak<dyn Housekeeper>>>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    durability: Durability,
    /// How often it was opened and not closed again.
    handles: AtomicUsize,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("root", &self.directory.root()).finish_non_exhaustive()
    }
}

type Registry = Mutex<HashMap<(u64, u64, u64), Weak<Log>>>;

/// The logs this process has open, by fork generation, device and inode. A second handle on one
/// directory must share the descriptors: two of them in one process would lock each other out.
fn registry() -> &'static Registry {
    static OPEN: OnceLock<Registry> = OnceLock::new();
    OPEN.get_or_init(Registry::default)
}

impl Log {
    /// Opens a log directory.
    ///
    /// # Errors
    /// [`Error::Config`] (`log_dir`) if it is not one or lies on a network file system;
    /// [`Error::LockTimeout`]; [`Error::UnsupportedFormat`]; errors of recovery.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Arc<Self>> {
        let fs = &options.fs;
        let root = prepare_folder(path, options)?;
        let identity = fs.open(&root, Open::Read).and_then(|file| file.identity()).at(&root)?;
        let key = (sys::fork_generation(), identity.0, identity.1);
        let _opening = sys::begin_opening();
        let mut open = registry().lock();
        if let Some(log) = open.get(&key).and_then(Weak::upgrade) {
            if log.directory.check().is_ok() {
                log.handles.fetch_add(1, Ordering::AcqRel);
                return Ok(log);
            }
        }
        let (lock, opened) = Opening { root, options }.run()?;
        let log = Arc::new(Self {
            topology: opened.topology,
            directory: opened.directory,
            lock,
            streams: Mutex::default(),
            housekeepers: Mutex::default(),
            stop: Arc::default(),
            durability: options.durability,
            handles: AtomicUsize::new(1),
        });
        if options.housekeeping {
            log.start_housekeeping()?;
        }
        open.insert(key, Arc::downgrade(&log));
        Ok(log)
    }

    /// The folder, absolute.
    pub fn root(&self) -> &Path {
        self.directory.root()
    }

    /// What its shards share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The file system it is on.
    pub fn fs(&self) -> &Arc<dyn Fs> {
        self.directory.fs()
    }

    /// Time for what is written to disk.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.directory.clock()
    }

    /// Identity of this boot of the machine.
    pub fn boot_id(&self) -> [u8; 16] {
        self.directory.boot_id()
    }

    /// Identity of the log.
    pub fn uuid(&self) -> [u8; 16] {
        self.directory.uuid()
    }

    /// The default durability of streams that this handle creates.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// `Ok` unless the log was closed, or opened before a fork.
    ///
    /// # Errors
    /// [`Error::ForkedHandle`], [`Error::StreamClosed`].
    pub fn check(&self) -> Result<()> {
        self.directory.check()
    }

    /// The wake word: changes whenever something became visible or was handed over.
    pub fn wake_word(&self) -> u32 {
        self.directory.control().wake_word()
    }

    /// Sleeps until the wake word is not `seen` or `most` has passed; returns the word.
    pub fn wait(&self, seen: u32, most: Duration) -> u32 {
        self.directory.control().wait(seen, most)
    }

    /// Changes the wake word and wakes every sleeper of the log.
    pub fn bump(&self) {
        self.directory.control().wake();
    }

    /// Calls `housekeeper` about ten times a second for as long as it lives.
    pub fn on_housekeeping(&self, housekeeper: Weak<dyn Housekeeper>) {
        self.housekeepers.lock().push(housekeeper);
    }

    /// A stream.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`]; errors of reading its manifest.
    pub fn stream(&self, name: &str) -> Result<Arc<Stream>> {
        self.check()?;
        let mut open = self.streams.lock();
        if let Some(stream) = open.get(name).filter(|stream| !stream.is_removed()) {
            return Ok(Arc::clone(stream));
        }
        let is_name =
            crate::types::is_valid_name(name) || crate::types::is_valid_internal_name(name);
        if !is_name {
            return Err(Error::StreamNotFound { name: name.to_owned() });
        }
        let stream = Arc::new(Stream::open(&self.directory, &self.topology, name)?);
        open.insert(name.to_owned(), Arc::clone(&stream));
        Ok(stream)
    }

    /// Names of all streams, internal ones too, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn streams(&self) -> Result<Vec<String>> {
        self.check()?;
        stream_names(&self.directory)
    }

    /// Makes a stream.
    ///
    /// # Errors
    /// [`Error::StreamExists`], [`Error::Config`], errors of the file system.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn create_stream(
        &self,
        name: &str,
        config: &StreamConfig,
        patience: &Patience<'_>,
    ) -> Result<Arc<Stream>> {
        self.check()?;
        config.validate(name)?;
        {
            let changing = self.topology.enter(patience)?;
            self.make_stream(&changing, name, config)?;
        }
        self.bump();
        self.stream(name)
    }

    /// Removes a stream with all its records. Processes that have it open get
    /// [`Error::StreamNotFound`] from then on. What mappings remember of it stays: see
    /// [`crate::checkpoint::removal`].
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], [`Error::LockTimeout`], errors of the file system.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn remove_stream(&self, name: &str, patience: &Patience<'_>) -> Result<()> {
        self.check()?;
        // WHY anew: what is cached may be one that was removed in part.
        let stream = Stream::open(&self.directory, &self.topology, name)?;
        stream.remove(&self.topology.enter(patience)?, patience)?;
        self.streams.lock().remove(name);
        self.bump();
        Ok(())
    }

    /// Drops the handle that this process has open on a stream.
    pub(super) fn forget_stream(&self, name: &str) {
        self.streams.lock().remove(name);
    }

    fn make_stream(
        &self,
        changing: &Changing<'_>,
        name: &str,
        config: &StreamConfig,
    ) -> Result<()> {
        let fs = self.fs();
        let manifest_path = manifest_path(&self.directory, name);
        let folder = fs::parent(&manifest_path);
        if fs.exists(&manifest_path).at(&manifest_path)? {
            return Err(Error::StreamExists { name: name.to_owned() });
        }
        removal::sweep(fs, folder)?;
        if holds_records(fs, folder)? {
            return Err(Error::Corruption {
                path: manifest_path,
                position: 0,
                first: 0,
                last: 0,
                reason: "it is missing, the records of the stream are there: `streamfn fsck \
                         --repair` writes it again"
                    .into(),
            });
        }
        let pages = changing.pages(config.shards)?;
        fs.create_dir(folder).at(folder)?;
        let ranges = routing::even_ranges(config.shards);
        let shards: Vec<ShardMeta> = (0..)
            .zip(pages)
            .zip(ranges)
            .map(|((id, page), hash_range)| ShardMeta {
                id: ShardId(id),
                page,
                hash_range,
                parents: Vec::new(),
                is_open: true,
                is_pending: false,
            })
            .collect();
        for meta in &shards {
            let shard = shard_config(&name.into(), config, meta, &[]);
            ShardLog::create(&self.directory, &folder.join(meta.id.to_string()), &shard)?;
        }
        let manifest = Manifest { config: config.clone(), created: self.clock().now(), shards };
        topology::store(fs, &manifest, &manifest_path)?;
        let parent = fs::parent(folder);
        fs.sync_dir(parent).at(parent)
    }

    /// Syncs everything that is committed in the shards this process has open, and the checkpoints
    /// of its lanes.
    ///
    /// # Errors
    /// [`Error::StoragePoisoned`].
    pub fn sync(&self) -> Result<()> {
        self.check()?;
        self.sync_shards()?;
        self.tick();
        Ok(())
    }

    fn sync_shards(&self) -> Result<()> {
        let streams: Vec<_> = self.streams.lock().values().cloned().collect();
        streams
            .iter()
            .flat_map(|stream| stream.open_shards())
            .try_for_each(|shard| shard.sync_now())
    }

    /// Closes one handle; the log closes when this was called as often as [`Log::open`] returned
    /// it.
    ///
    /// # Errors
    /// A final sync failed.
    pub fn close(&self) -> Result<()> {
        if self.directory.is_forked() {
            return Ok(());
        }
        {
            // An opening that goes on at the same time must not be given a log that is about to
            // close. Only for this moment: a fork waits for the guard, and the end waits for writers.
            let _opening = sys::begin_opening();
            if self.handles.fetch_sub(1, Ordering::AcqRel) > 1 || !self.directory.close() {
                return Ok(());
            }
        }
        self.wind_up()
    }

    /// Ends all use of the log in this process. The last process to do so records that, so that the
    /// next opening needs no recovery.
    fn end(&self) -> Result<()> {
        if self.directory.is_forked() || !self.directory.close() {
            return Ok(());
        }
        self.wind_up()
    }

    fn wind_up(&self) -> Result<()> {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        let synced = self.sync_shards();
        let streams = std::mem::take(&mut *self.streams.lock());
        let shards: Vec<_> = streams.values().flat_map(|stream| stream.open_shards()).collect();
        // WHY: nobody may note a clean close while a thread has a batch on its way. Those that come
        // later find the log closed.
        let writers: Vec<_> = shards.iter().map(|shard| shard.exclude_writers()).collect();
        let closed = synced.and_then(|()| {
            if !self.lock.try_lock(Lock::Exclusive).at(self.root())? {
                return Ok(());
            }
            let mut closed = Ok(());
            for_each_shard(&self.directory, |folder, config| {
                let this = recovery::close_cleanly(&self.directory, folder, config);
                closed = std::mem::replace(&mut closed, Ok(())).and(this);
                Ok(())
            })?;
            closed
        });
        drop(writers);
        self.directory.shards().iter().for_each(|shard| shard.close_files());
        let _ = self.lock.unlock();
        closed
    }

    fn start_housekeeping(self: &Arc<Self>) -> Result<()> {
        let weak = Arc::downgrade(self);
        let stop = Arc::clone(&self.stop);
        let root = self.root().to_owned();
        std::thread::Builder::new()
            .name("streamfn-housekeeper".into())
            .spawn(move || loop {
                {
                    let mut stopped = stop.0.lock();
                    if !*stopped {
                        stop.1.wait_for(&mut stopped, HOUSEKEEPING_INTERVAL);
                    }
                    if *stopped {
                        return;
                    }
                }
                match weak.upgrade() {
                    Some(log) => log.tick(),
                    None => return,
                }
            })
            .map(drop)
            .at(&root)
    }

    /// Does what is due: closes files that were removed, syncs what has waited too long, and calls the
    /// housekeepers.
    pub fn tick(&self) {
        self.directory.shards().iter().for_each(|shard| shard.close_removed_files());
        let streams: Vec<_> = {
            let mut open = self.streams.lock();
            // One that is removed is of no use to anybody who asks for it by its name.
            open.retain(|_, stream| !stream.is_removed());
            open.values().cloned().collect()
        };
        for shard in streams.iter().flat_map(|stream| stream.open_shards()) {
            shard.tick();
        }
        let mut housekeepers = self.housekeepers.lock();
        housekeepers.retain(|weak| weak.strong_count() > 0);
        let live: Vec<_> = housekeepers.iter().filter_map(Weak::upgrade).collect();
        drop(housekeepers);
        for housekeeper in live {
            housekeeper.tick();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // An error here has nobody to go to; what was acknowledged is durable without it.
        let _ = self.end();
    }
}
