//! A log directory: opening it beside other processes, and its streams.
//!
//! `lock` is held shared by everyone who has the log open. Who gets it exclusively is alone: only
//! then are pages of the control file made or rebuilt, and shards recovered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

use crate::clock::{Clock, Deadline, Patience, SystemClock};
use crate::control::{Control, CONTROL_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::segment_header::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::fs::{self, File, Fs, Lock, Open, RealFs};
use crate::log::{recovery, Directory, Segments, ShardLog};
use crate::sys;
use crate::types::{Durability, ShardId};

use super::manifest::{Manifest, ShardMeta};
use super::topology::{manifest_path, stream_names, Changing};
use super::{removal, routing, shard_config, topology, Stream, StreamConfig, Topology};

/// How long an opener waits for one that recovers the log.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);
/// How long an opener believes that what it stands beside is a log whose opener died, and nothing
/// worse.
const UNREADY_PATIENCE: Duration = Duration::from_secs(1);
const UNREADY_PAUSE: Duration = Duration::from_millis(2);
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);
const FORMAT_MAGIC: [u8; 8] = *b"STREAMFN";
const FORMAT_BYTES: usize = 64;

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether a directory that is missing or empty becomes a log.
    pub create: bool,
    /// The durability of streams that this handle creates without saying.
    pub durability: Durability,
    /// Where it is; tests give a simulated one.
    pub fs: Arc<dyn Fs>,
    /// The clock that stamps records.
    pub clock: Arc<dyn Clock>,
    /// Whether a thread of this process syncs what nobody else does; without it a caller has to
    /// call [`Log::tick`].
    pub housekeeping: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: true,
            durability: Durability::Group,
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock),
            housekeeping: true,
        }
    }
}

/// Called about ten times a second while a log is open.
pub trait Housekeeper: Send + Sync {
    /// Does what is due; must not block for long.
    fn tick(&self);
}

/// An open log directory: one for each directory and process, however often it is opened.
pub struct Log {
    directory: Arc<Directory>,
    lock: Arc<dyn File>,
    topology: Arc<Topology>,
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
        let log = Arc::new(Opening { root, options }.run()?);
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

    /// The durability of streams that this handle creates without saying.
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

    /// Has `housekeeper` called about ten times a second for as long as it lives.
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

    /// Removes a stream with all its records. Who has it open, in whichever process, is told
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

    /// Gives one handle back: as often as [`Log::open`] returned this log, the last time closes it.
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

    /// Ends all use of the log in this process. The last process to do so notes that, so that the
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

/// Checks that the folder is, or may become, a log; returns its absolute path.
fn prepare_folder(path: &Path, options: &OpenOptions) -> Result<PathBuf> {
    let fs = &options.fs;
    let not_a_log = |reason: String| Error::config("log_dir", reason);
    let path = std::path::absolute(path).at(path)?;
    let names = match fs.list(&path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(not_a_log(format!(
                "{} is a file, or in one, not a folder",
                path.display()
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if !options.create {
                return Err(not_a_log(format!("{} does not exist", path.display())));
            }
            create_dirs(fs, &path)?;
            Vec::new()
        }
        Err(error) => return Err(Error::io(&path, error)),
    };
    if names.iter().any(|name| name == "FORMAT") {
        return Ok(path);
    }
    // What a creator that was killed can have left behind.
    let ours = ["lock", "FORMAT.new", "control", "topology.lock", "streams", "mappings", "workers"];
    if let Some(foreign) = names.iter().find(|name| !ours.contains(&name.as_str())) {
        let reason = format!(
            "{} is not a log directory: it has `{foreign}` but no FORMAT file",
            path.display()
        );
        return Err(not_a_log(reason));
    }
    if !options.create {
        return Err(not_a_log(format!(
            "{} is not a log directory: it has no FORMAT file",
            path.display()
        )));
    }
    Ok(path)
}

fn create_dirs(fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
    if fs.exists(path).at(path)? {
        return Ok(());
    }
    let parent = fs::parent(path);
    create_dirs(fs, parent)?;
    fs.create_dir(path).at(path)?;
    fs.sync_dir(parent).at(parent)
}

/// FORMAT: magic, format major and minor u16, 4 zeros, uuid, zeros, CRC-32C of the first 60 bytes.
pub(crate) fn encode_format(uuid: [u8; 16]) -> Vec<u8> {
    let mut bytes = FORMAT_MAGIC.to_vec();
    bytes.extend(FORMAT_MAJOR.to_le_bytes());
    bytes.extend(FORMAT_MINOR.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(uuid);
    bytes.resize(FORMAT_BYTES - 4, 0);
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

pub(crate) fn decode_format(bytes: &[u8], path: &Path) -> Result<[u8; 16]> {
    let damaged = |reason: &str| Error::Corruption {
        path: path.to_owned(),
        position: 0,
        first: 0,
        last: 0,
        reason: reason.into(),
    };
    let (head, crc) = bytes
        .get(..FORMAT_BYTES)
        .and_then(|bytes| bytes.split_last_chunk::<4>())
        .ok_or_else(|| damaged("the FORMAT file is cut off"))?;
    if crc32c(head) != u32::from_le_bytes(*crc) {
        return Err(damaged("the FORMAT file's checksum does not match"));
    }
    let mut from = crate::format::Bytes(head);
    let magic: Option<[u8; 8]> = from.array();
    let (major, _, _) = (from.u16(), from.u16(), from.u32());
    if magic != Some(FORMAT_MAGIC) || major != Some(FORMAT_MAJOR) {
        return Err(Error::UnsupportedFormat {
            path: path.to_owned(),
            found: format!("format {}", major.unwrap_or(0)),
            supported: FORMAT_MAJOR.to_string(),
        });
    }
    from.array().ok_or_else(|| damaged("the FORMAT file is cut off"))
}

/// The streams and their manifests, but for those whose manifest is damaged: who asks for such a
/// stream is told, and the others do not depend on it.
fn whole_streams(directory: &Directory) -> Result<Vec<(String, Manifest)>> {
    let mut found = Vec::new();
    for name in stream_names(directory)? {
        match Manifest::load(directory.fs(), &manifest_path(directory, &name)) {
            Err(Error::Corruption { .. }) => {}
            manifest => found.push((name, manifest?)),
        }
    }
    Ok(found)
}

fn for_each_shard(
    directory: &Arc<Directory>,
    mut visit: impl FnMut(&Path, &crate::log::ShardConfig) -> Result<()>,
) -> Result<()> {
    for (name, manifest) in whole_streams(directory)? {
        let folder = directory.root().join("streams").join(&name);
        for meta in &manifest.shards {
            let stream = name.as_str().into();
            let config = shard_config(&stream, &manifest.config, meta, &manifest.shards);
            visit(&folder.join(meta.id.to_string()), &config)?;
        }
    }
    Ok(())
}

/// Recovers every shard. One that cannot be is closed, and the others are not: who asks for it is told
/// why. What a newer version wrote is refused as a whole, before anything is changed.
///
/// In another boot a page that was not visited is nobody's from then on: its stream's manifest is
/// damaged, or missing, and may be brought back when page 0 is of this boot.
fn recover_shards(opened: &Opened, same_boot: bool) -> Result<()> {
    let directory = &opened.directory;
    let mut found = Vec::new();
    for_each_shard(directory, |folder, config| {
        match recovery::examine(directory, folder, config, same_boot) {
            Err(refused @ Error::UnsupportedFormat { .. }) => return Err(refused),
            examined => found.push((config.page, examined)),
        }
        Ok(())
    })?;
    if !same_boot {
        let visited = found.iter().map(|(page, _)| *page).collect();
        let file = opened.topology.control_file();
        directory.control().disown_all_but(&visited, &**file);
    }
    for (page, examined) in found {
        if examined.and_then(|found| recovery::recover(directory, &found)).is_err() {
            directory.control().page(page).disown();
        }
    }
    Ok(())
}

/// One opening of a log directory.
struct Opening<'a> {
    root: PathBuf,
    options: &'a OpenOptions,
}

impl Opening<'_> {
    fn run(self) -> Result<Log> {
        let fs = &self.options.fs;
        let magic = fs.magic(&self.root).at(&self.root)?;
        if let Some(name) = sys::network_file_system(magic) {
            let reason =
                format!("{} is on {name}: a log needs a local file system", self.root.display());
            return Err(Error::config("log_dir", reason));
        }
        let lock_path = self.root.join("lock");
        let lock = fs.open(&lock_path, Open::Create).at(&lock_path)?;
        let patience = Patience::of(OPEN_PATIENCE);
        let mut unready: Option<Deadline> = None;
        loop {
            if lock.try_lock(Lock::Exclusive).at(&lock_path)? {
                let opened = self.alone()?;
                crate::log::wait_for(&lock, &lock_path, Lock::Shared, &patience)?;
                // WHY: going from exclusive to shared lets go for a moment, in which another may
                // have been alone and begun a new control file.
                if self.is_current(&opened)? {
                    return Ok(self.finish(lock, opened));
                }
                continue;
            }
            crate::log::wait_for(&lock, &lock_path, Lock::Shared, &patience)?;
            if let Some(opened) = self.beside_others()? {
                return Ok(self.finish(lock, opened));
            }
            // WHY: one who was alone has died in the middle of it, and all who waited for its end
            // are in here. They let go, so that one of them can be alone in its place.
            lock.unlock().at(&lock_path)?;
            if unready.get_or_insert_with(|| Deadline::after(UNREADY_PATIENCE)).is_past() {
                return Err(self.foreign_control());
            }
            std::thread::sleep(UNREADY_PAUSE);
        }
    }

    /// Under the exclusive lock: makes what is missing and recovers every shard.
    fn alone(&self) -> Result<Opened> {
        let fs = &self.options.fs;
        let format_path = self.root.join("FORMAT");
        // First of all: what a newer version made is left as it is.
        let is_new = !fs.exists(&format_path).at(&format_path)?;
        let uuid =
            if is_new { sys::random_uuid().at(&format_path)? } else { self.uuid_of(&format_path)? };
        for name in ["streams", "mappings", "workers"] {
            fs.create_dir(&self.root.join(name)).at(&self.root)?;
        }
        // Each time: whoever made them may have died before their names were durable.
        fs.sync_dir(&self.root).at(&self.root)?;
        if is_new {
            fs::replace(&**fs, &format_path, &encode_format(uuid)).at(&format_path)?;
        }
        let control_path = self.root.join("control");
        let file = fs.open(&control_path, Open::Create).at(&control_path)?;
        if file.length().at(&control_path)? != CONTROL_BYTES {
            file.truncate(CONTROL_BYTES).at(&control_path)?;
        }
        let boot_id = fs.boot_id().at(&control_path)?;
        let control = Control::map(&*file, &control_path)?;
        let same_boot = control.is_of(uuid) && control.boot_id() == boot_id;
        let opened = self.opened(uuid, boot_id, control, file)?;
        removal::sweep_all(&opened.directory)?;
        let mut pages = 1;
        for_each_shard(&opened.directory, |_, config| {
            pages = pages.max(config.page + 1);
            Ok(())
        })?;
        opened.topology.control_file().allocate(u64::from(pages) * 4096).at(&control_path)?;
        recover_shards(&opened, same_boot)?;
        opened.directory.control().reuse_retired();
        opened.settle()?;
        // Last, so that a crash before leaves the pages of another boot, which nobody trusts.
        opened.directory.control().initialise(uuid, boot_id);
        Ok(opened)
    }

    fn uuid_of(&self, format_path: &Path) -> Result<[u8; 16]> {
        let bytes = fs::read(&*self.options.fs, format_path).at(format_path)?;
        decode_format(&bytes, format_path)
    }

    /// Under the shared lock: what others have made; `None` if it is not there, or not of this boot.
    fn beside_others(&self) -> Result<Option<Opened>> {
        let fs = &self.options.fs;
        let (format_path, control_path) = (self.root.join("FORMAT"), self.root.join("control"));
        for path in [&format_path, &control_path] {
            if !fs.exists(path).at(path)? {
                return Ok(None);
            }
        }
        let uuid = self.uuid_of(&format_path)?;
        let file = fs.open(&control_path, Open::Write).at(&control_path)?;
        if file.length().at(&control_path)? != CONTROL_BYTES {
            return Ok(None);
        }
        let boot_id = fs.boot_id().at(&control_path)?;
        let control = Control::map(&*file, &control_path)?;
        if !control.is_of(uuid) || control.boot_id() != boot_id {
            return Ok(None);
        }
        self.opened(uuid, boot_id, control, file).map(Some)
    }

    fn foreign_control(&self) -> Error {
        let path = self.root.join("control");
        let reason = format!(
            "{} is not the control file of this log: close all programs that use the log, then open it again",
            path.display()
        );
        Error::config("log_dir", reason)
    }

    fn opened(
        &self,
        uuid: [u8; 16],
        boot_id: [u8; 16],
        control: Control,
        control_file: Arc<dyn File>,
    ) -> Result<Opened> {
        let (fs, clock) = (Arc::clone(&self.options.fs), Arc::clone(&self.options.clock));
        let directory =
            Arc::new(Directory::new(self.root.clone(), fs, clock, uuid, boot_id, control));
        let topology = Arc::new(Topology::open(&directory, control_file)?);
        Ok(Opened { directory, topology })
    }

    fn is_current(&self, opened: &Opened) -> Result<bool> {
        let path = self.root.join("control");
        let file = self.options.fs.open(&path, Open::Read).at(&path)?;
        let same_file =
            file.identity().at(&path)? == opened.topology.control_file().identity().at(&path)?;
        Ok(same_file && opened.directory.control().is_of(opened.directory.uuid()))
    }

    fn finish(&self, lock: Arc<dyn File>, opened: Opened) -> Log {
        Log {
            topology: opened.topology,
            directory: opened.directory,
            lock,
            streams: Mutex::default(),
            housekeepers: Mutex::default(),
            stop: Arc::default(),
            durability: self.options.durability,
            handles: AtomicUsize::new(1),
        }
    }
}

struct Opened {
    directory: Arc<Directory>,
    topology: Arc<Topology>,
}

impl Opened {
    /// Finishes the splits and merges that were left in the middle.
    fn settle(&self) -> Result<()> {
        let patience = Patience::of(OPEN_PATIENCE);
        for (name, manifest) in whole_streams(&self.directory)? {
            if !manifest.shards.iter().any(|shard| shard.is_pending) {
                continue;
            }
            let stream = Stream::open(&self.directory, &self.topology, &name)?;
            match stream.settle(&self.topology.enter(&patience)?, &patience) {
                // The log can be read all the same; whoever meets the CLOSE tries again.
                Err(
                    Error::LogFull { .. }
                    | Error::StoragePoisoned { .. }
                    | Error::UnsupportedFormat { .. }
                    | Error::Corruption { .. },
                ) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }
}

/// Whether the folder of a stream holds record batches: then it is no creation that did not finish.
pub(crate) fn holds_records(fs: &Arc<dyn Fs>, folder: &Path) -> Result<bool> {
    if !fs.exists(folder).at(folder)? {
        return Ok(false);
    }
    for name in fs.list(folder).at(folder)? {
        if ShardId::parse(&name).is_some() {
            let segments = Segments::new(Arc::clone(fs), folder.join(name));
            for segment in segments.list()? {
                if !segment.is_empty(fs)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
