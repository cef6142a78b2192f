//! The durable record of a mapping, and its lanes files: `mappings/<name>/`.
//!
//! ```text
//! mapping    two slots of 4096 bytes; the newer valid one counts
//! ```
//! A new mapping resolves its `start` once, for the shards that exist then, and records the stream
//! as begun. From then on a shard without a lanes file is new, and begins at its first record.

mod erasing;
mod folder;
mod preparing;
mod record_file;
mod renaming;
mod status;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::sync::Mutex;

use super::lanes::LanesFile;
use super::lease::Lease;
use super::slot::{replayed, LaneLayout, MappingRecord, OnFailure, RecordRange};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File};
use crate::log::LockedFile;
use crate::stream::Log;
use crate::types::{is_valid_internal_name, is_valid_name, ShardId, Start, FACTOR_MAX};

pub(crate) use folder::{folder_of, stream_of, RECORD, REMOVED};
use folder::{has_folders, LANES_SUFFIX};
pub(super) use preparing::resolve;
pub(crate) use record_file::RANGES_START;
pub(super) use renaming::OWN_STREAMS;
pub(crate) use renaming::{RENAMING, RENAMING_STAGED};
pub use status::LaneStatus;

/// Longest wait for the lock: another process that makes lanes files for a large stream syncs each
/// of them.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How often the mappings are listed until the list is whole.
const LISTINGS_MAX: usize = 100;

/// A mapping: the position of each of its lanes in each stream that it reads.
#[derive(Debug)]
pub struct Mapping {
    log: Arc<Log>,
    name: String,
    folder: PathBuf,
    /// Its record as this handle found it, kept open, so that a later mapping of the same name is
    /// not taken for this one.
    found: OnceLock<Arc<dyn File>>,
    /// Only of a replay: what it reads.
    ranges: OnceLock<Vec<RecordRange>>,
    /// Lanes files this handle has used, by stream and shard.
    files: Mutex<BTreeMap<(String, ShardId), Arc<LanesFile>>>,
}

impl Mapping {
    /// Makes a mapping or opens it, and sets the factor or the [`LaneLayout`] that it wants.
    /// `start` counts only while no stream of it has begun.
    ///
    /// # Errors
    /// [`Error::Config`] for a name or factor that cannot be, or a start that counts and lies in the
    /// future, [`Error::CheckpointConflict`] for a record damaged beyond use, [`Error::Io`],
    /// [`Error::LogFull`], [`Error::LockTimeout`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn register(
        log: &Arc<Log>,
        name: &str,
        wanted: impl Into<LaneLayout>,
        start: Start,
    ) -> Result<Self> {
        let wanted = wanted.into();
        log.check()?;
        if !(is_valid_name(name) || is_valid_internal_name(name)) {
            return Err(Error::config("name", format!("`{name}` is not a mapping's name")));
        }
        check_layout(wanted)?;
        let factor = wanted.factor;
        let mapping = Self::at(log, name);
        let lock = mapping.lock_file()?;
        let patience = Patience::of(LOCK_PATIENCE);
        let _locked = lock.lock(&patience)?;
        Self::finish_renaming(log, &patience)?;
        let found = mapping.load()?;
        if found.as_ref().is_none_or(|record| record.begun.is_empty()) {
            mapping.check_start(start)?;
        }
        match found {
            None => mapping.create(&MappingRecord {
                counter: 1,
                wanted_factor: factor,
                wants_windows: wanted.is_windowed,
                is_paused: false,
                start,
                begun: Vec::new(),
                replays: 0,
                on_failure: OnFailure::default(),
            })?,
            Some(record) => {
                // WHY: the process that made it may have died, or met an error, before its name was
                // durable.
                mapping.sync_names()?;
                let start = if record.begun.is_empty() { start } else { record.start };
                if (record.wanted(), record.start) != (wanted, start) {
                    let wants_windows = wanted.is_windowed;
                    let wanted_factor = factor;
                    mapping.store(MappingRecord {
                        wanted_factor,
                        wants_windows,
                        start,
                        ..record
                    })?;
                }
            }
        }
        Ok(mapping)
    }

    /// Refuses a time in the future. A shard has no place for it yet, and whether a record put
    /// before it is delivered would depend on when its stream begins.
    fn check_start(&self, start: Start) -> Result<()> {
        if matches!(start, Start::AtTimestamp(time) if time > self.log.clock().now()) {
            let reason = format!(
                "`{}` is to begin at a time that is yet to come; give one that has passed, or \
                 `latest` for what comes from now on",
                self.name
            );
            return Err(Error::config("start", reason));
        }
        Ok(())
    }

    /// Opens a mapping; `None` if there is none of that name.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn open(log: &Arc<Log>, name: &str) -> Result<Option<Self>> {
        log.check()?;
        let function = replayed(name).unwrap_or(name);
        if !(is_valid_name(function) || is_valid_internal_name(function)) {
            return Ok(None);
        }
        let mapping = Self::at(log, name);
        Ok(mapping.load()?.map(|_| mapping))
    }

    /// Names of all mappings, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn names(log: &Log) -> Result<Vec<String>> {
        let found = Self::entries(log)?.into_iter();
        Ok(found.filter_map(|(name, has_record)| has_record.then_some(name)).collect())
    }

    /// All mappings that have positions to keep. That includes a mapping whose record is lost:
    /// after `fsck --repair` has written the record again, it continues where it was.
    ///
    /// # Errors
    /// As [`Mapping::register`]: what an unreadable mapping needs is unknown.
    pub(super) fn all(log: &Arc<Log>) -> Result<Vec<Self>> {
        for _ in 0..LISTINGS_MAX {
            if let Some(all) = Self::all_listed(log)? {
                return Ok(all);
            }
        }
        Err(Error::config("mapping", "functions are renamed or removed all the time".to_owned()))
    }

    /// All mappings, `None` if one went between the listing and its opening. WHY not without it: it
    /// may have another name now, which the listing does not have.
    fn all_listed(log: &Arc<Log>) -> Result<Option<Vec<Self>>> {
        let mut all = Vec::new();
        for (name, has_record) in Self::entries(log)? {
            if has_record {
                let Some(mapping) = Self::open(log, &name)? else { return Ok(None) };
                all.push(mapping);
            } else if Self::is_lost(log, &name)? {
                all.push(Self::at(log, &name));
            }
        }
        Ok(Some(all))
    }

    /// The names in the folder of all mappings, and whether there is a record.
    fn entries(log: &Log) -> Result<Vec<(String, bool)>> {
        log.check()?;
        let folder = log.root().join("mappings");
        let fs = log.fs();
        if !fs.exists(&folder).at(&folder)? {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for name in fs.list(&folder).at(&folder)? {
            // WHY not without one that cannot be looked at: what it has not read would be taken for
            // consumed.
            let record = folder.join(&name).join(RECORD);
            let has_record = fs.exists(&record).at(&record)?;
            entries.push((name, has_record));
        }
        Ok(entries)
    }

    /// Whether a name without a record is that of a mapping that was not removed.
    fn is_lost(log: &Log, name: &str) -> Result<bool> {
        let (fs, folder) = (log.fs(), log.root().join("mappings").join(name));
        // A replay has its lanes before its record; without it there is none.
        if replayed(name).is_some() {
            return Ok(false);
        }
        // What is no folder is the lock.
        let Some(names) = fs::names_in(&**fs, &folder).at(&folder)? else { return Ok(false) };
        Ok(!names.iter().any(|name| name == REMOVED) && has_folders(fs, &folder, &names)?)
    }

    pub(super) fn at(log: &Arc<Log>, name: &str) -> Self {
        let folder = log.root().join("mappings").join(name);
        let (log, name) = (Arc::clone(log), name.to_owned());
        let (found, ranges, files) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Self { log, name, folder, found, ranges, files }
    }

    /// Its name, `<app>.<function>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log it is in.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// The factor it wants; the one in force is each shard's own.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn wanted_factor(&self) -> Result<u32> {
        Ok(self.record()?.wanted_factor)
    }

    /// The layout of a shard's lanes that it wants.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn wanted(&self) -> Result<LaneLayout> {
        Ok(self.record()?.wanted())
    }

    /// Where the records go that its function gives up, as the worker that started last noted it.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn on_failure(&self) -> Result<OnFailure> {
        Ok(self.record()?.on_failure)
    }

    /// Notes where the records go that its function gives up.
    ///
    /// # Errors
    /// [`Error::Config`] for a stream whose name cannot be; as [`Mapping::register`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn note_on_failure(&self, on_failure: OnFailure) -> Result<()> {
        if let OnFailure::Stream(name) = &on_failure {
            if !is_valid_name(name) {
                return Err(Error::config(
                    "on_failure",
                    format!("`{name}` is not a stream's name"),
                ));
            }
        }
        if self.on_failure()? == on_failure {
            return Ok(());
        }
        self.change(|record| record.on_failure = on_failure)
    }

    /// Whether it is paused.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn is_paused(&self) -> Result<bool> {
        Ok(self.record()?.is_paused)
    }

    /// Takes the lease of a lane, if it is free; see [`Lease::try_take`].
    ///
    /// # Errors
    /// [`Error::Config`] if it was removed since it was opened, even if another mapping has its
    /// name by now; as [`Lease::try_take`].
    pub fn try_lease(&self, file: &LanesFile, slot: u32, owner: &str) -> Result<Option<Lease>> {
        let lease = Lease::try_take(self.log.fs(), &file.lease_path(slot), owner);
        let lease = lease.map_err(|error| self.told_removed(error))?;
        // WHY after the lease: a process that removes the mapping has to have it, too.
        self.record()?;
        Ok(lease)
    }

    /// The error itself or, if the mapping was removed (and its files with it), an error that says
    /// so.
    pub(super) fn told_removed(&self, error: Error) -> Error {
        self.record().err().unwrap_or(error)
    }

    /// Whether it is a replay, see [`Mapping::replay`].
    pub fn is_replay(&self) -> bool {
        replayed(&self.name).is_some()
    }

    /// The ranges that a replay reads, shard by shard; none of another mapping.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn ranges(&self) -> Result<&[RecordRange]> {
        if self.is_replay() && self.ranges.get().is_none() {
            self.record()?;
        }
        Ok(self.ranges.get().map_or(&[], Vec::as_slice))
    }

    /// What a replay reads of a shard.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn range_of(&self, shard: ShardId) -> Result<Option<RecordRange>> {
        Ok(self.ranges()?.iter().find(|range| range.shard == shard).copied())
    }

    /// Sets the layout that a replay wants, after its function has changed. For other mappings
    /// [`Mapping::register`] does that.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn set_wanted(&self, wanted: LaneLayout) -> Result<()> {
        check_layout(wanted)?;
        if self.wanted()? == wanted {
            return Ok(());
        }
        self.change(|record| {
            record.wanted_factor = wanted.factor;
            record.wants_windows = wanted.is_windowed;
        })
    }

    /// The lanes file of a shard.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none: [`Mapping::prepare`] makes it.
    pub fn lanes_file(&self, stream: &str, shard: ShardId) -> Result<Arc<LanesFile>> {
        self.log.check()?;
        let mut files = self.files.lock();
        let path = self.lanes_path(stream, shard);
        // WHY each time: if the stream was removed meanwhile, and another of its name was made, another
        // file is in its place.
        if let Some(file) = files.get(&(stream.to_owned(), shard)) {
            if file.is_there()? {
                return Ok(Arc::clone(file));
            }
        }
        let label = format!("{} {stream} {shard}", self.name);
        let file = match LanesFile::open(self.log.fs(), &path, label) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let reason = format!("`{}` has no lanes for {stream} {shard}", self.name);
                return Err(Error::config("shard_id", reason));
            }
            other => Arc::new(other?),
        };
        // WHY: the process that made the file may have died, or met an error, before its name was
        // durable. Until it is, no checkpoint in it may be reported as durable.
        for folder in [fs::parent(&path), &self.folder] {
            self.log.fs().sync_dir(folder).at(folder)?;
        }
        files.insert((stream.to_owned(), shard), Arc::clone(&file));
        Ok(file)
    }

    /// The factor in force for a shard.
    ///
    /// # Errors
    /// As [`Mapping::lanes_file`]; [`Error::CheckpointConflict`].
    pub fn factor(&self, stream: &str, shard: ShardId) -> Result<u32> {
        Ok(self.lanes_file(stream, shard)?.head()?.factor)
    }

    /// Applies the wanted layout (factor, windows) to a shard, if no lane of it is leased and no
    /// batch is in flight; returns whether it is in force now.
    ///
    /// # Errors
    /// As [`LanesFile::change_factor`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn change_factor(&self, stream: &str, shard: ShardId) -> Result<bool> {
        let wanted = self.wanted()?;
        let file = self.lanes_file(stream, shard)?;
        let head = file.head()?;
        let factor = head.factor;
        if head.layout() == wanted {
            return Ok(true);
        }
        let owner = format!("a factor change to {}", wanted.factor);
        let mut leases = Vec::new();
        for slot in 0..factor {
            match Lease::try_take(self.log.fs(), &file.lease_path(slot), &owner)? {
                Some(lease) => leases.push(lease),
                None => return Ok(false),
            }
        }
        // Somebody may have been faster, and changed it to what they wanted.
        if file.head()?.generation != head.generation {
            return Ok(false);
        }
        file.change_factor(wanted, self.log.boot_id(), self.log.clock().now())
    }

    /// Runs `work` while no other process makes a mapping or begins a stream.
    pub(super) fn alone<T>(
        log: &Arc<Log>,
        patience: &Patience<'_>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let folder = log.root().join("mappings");
        let lock = LockedFile::open(log.fs(), &folder.join("lock"))?;
        let _locked = lock.lock(patience)?;
        Self::finish_renaming(log, patience)?;
        work()
    }

    fn stream_folder(&self, stream: &str) -> PathBuf {
        self.folder.join(&*folder_of(stream))
    }

    fn lanes_path(&self, stream: &str, shard: ShardId) -> PathBuf {
        self.stream_folder(stream).join(format!("{shard}{LANES_SUFFIX}"))
    }

    fn record_path(&self) -> PathBuf {
        self.folder.join(RECORD)
    }

    /// One lock for the records of all mappings: they change rarely.
    fn lock_file(&self) -> Result<LockedFile> {
        let folder = self.log.root().join("mappings");
        self.log.fs().create_dir(&folder).at(&folder)?;
        LockedFile::open(self.log.fs(), &folder.join("lock"))
    }
}

/// Refuses an impossible layout.
fn check_layout(wanted: LaneLayout) -> Result<()> {
    let factor = wanted.factor;
    if wanted.is_valid() {
        return Ok(());
    }
    let reason = if (1..=FACTOR_MAX).contains(&factor) {
        format!("{factor} lanes cannot share the state of a window, it takes 1")
    } else {
        format!("{factor} is not 1 to {FACTOR_MAX}")
    };
    Err(Error::config("parallelization_factor", reason))
}

#[cfg(test)]
mod tests;
