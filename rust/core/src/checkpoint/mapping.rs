//! The durable record of a mapping, and its lanes files: `mappings/<name>/`.
//!
//! ```text
//! mapping    two slots of 4096 bytes; the newer valid one counts
//! ```
//! A new mapping resolves its `start` once for the shards that are there, and notes the stream as
//! begun; from then on a shard without a lanes file is new, and begins at its first record.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::sync::Mutex;

use super::lanes::{LaneView, LanesFile, Place};
use super::lease::Lease;
use super::slot::{
    replay_name, replayed, InFlight, MappingRecord, OnFailure, Shape, Stretch, MAPPING_BYTES,
    STREAMS_MAX,
};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Open};
use crate::log::LockedFile;
use crate::stream::{Log, ShardMeta, Stream};
use crate::types::{
    is_valid_internal_name, is_valid_name, Micros, SequenceNumber, ShardId, Start, FACTOR_MAX,
};

const STRIDE: u64 = MAPPING_BYTES as u64;
/// Another process making lanes files for a large stream syncs each of them.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LANES_SUFFIX: &str = ".lanes";
/// The file with what a mapping wants.
pub(crate) const RECORD: &str = "mapping";
/// Stands in the folder of a mapping that is being removed.
pub(crate) const REMOVED: &str = "removed";
/// Behind the two slots of the record.
pub(crate) const STRETCHES_START: usize = 2 * MAPPING_BYTES;

/// The name of a stream's folder in that of a mapping: no stream has a name with `@`, and two have the
/// names of files that stand there.
pub(crate) fn folder_of(stream: &str) -> Cow<'_, str> {
    match stream {
        RECORD | REMOVED => format!("@{stream}").into(),
        _ => stream.into(),
    }
}

/// The stream whose folder in that of a mapping has this name.
pub(crate) fn stream_of(folder: &str) -> &str {
    match folder.strip_prefix('@') {
        Some(stream @ (RECORD | REMOVED)) => stream,
        _ => folder,
    }
}

/// A mapping: which position each of its lanes has in each stream it reads.
#[derive(Debug)]
pub struct Mapping {
    log: Arc<Log>,
    name: String,
    folder: PathBuf,
    /// Its record as this handle found it, kept open: so that another mapping, made under the name
    /// after this one was removed, is not taken for it.
    found: OnceLock<Arc<dyn File>>,
    /// Of a replay: what it reads.
    stretches: OnceLock<Vec<Stretch>>,
    /// Lanes files this handle has used, by stream and shard.
    files: Mutex<BTreeMap<(String, ShardId), Arc<LanesFile>>>,
}

/// How one lane stands.
#[derive(Clone, Debug)]
pub struct LaneStatus {
    /// The stream it reads.
    pub stream: String,
    /// The shard it reads.
    pub shard: ShardId,
    /// Its number among the lanes of the shard.
    pub slot: u32,
    /// Lanes of the shard.
    pub factor: u32,
    /// Everything below is done.
    pub checkpoint: SequenceNumber,
    /// The shard's visible records are below.
    pub end: SequenceNumber,
    /// Sequence numbers from the checkpoint to the last record, of this lane or another.
    pub behind: u64,
    /// The batch in flight, with at least one entry; `None` if there is none or it is void.
    pub in_flight: Option<InFlight>,
    /// Whether a living process holds the lease.
    pub is_leased: bool,
    /// Wall time of the checkpoint.
    pub written: Micros,
    /// Whether the lane has tumbling windows.
    pub is_windowed: bool,
    /// Start and end of the window that is open.
    pub window: Option<(Micros, Micros)>,
    /// Whether it is done for good: all is settled, and nothing will follow, in a shard that was
    /// split or merged, or in a replay.
    pub is_finished: bool,
}

impl Mapping {
    /// Makes a mapping or opens it, and sets the factor it wants, or the [`Shape`]. `start` counts
    /// only while no stream of it has begun.
    ///
    /// # Errors
    /// [`Error::Config`] for a name or factor that cannot be, or a start that counts and lies in the
    /// future, [`Error::CheckpointConflict`] for a record damaged beyond use, [`Error::Io`], [`Error::LogFull`], [`Error::LockTimeout`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn register(
        log: &Arc<Log>,
        name: &str,
        wanted: impl Into<Shape>,
        start: Start,
    ) -> Result<Self> {
        let wanted = wanted.into();
        log.check()?;
        if !(is_valid_name(name) || is_valid_internal_name(name)) {
            return Err(Error::config("name", format!("`{name}` is not a mapping's name")));
        }
        check_shape(wanted)?;
        let factor = wanted.factor;
        let mapping = Self::at(log, name);
        let lock = mapping.lock_file()?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
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
                // WHY: who made it may have died, or met an error, before its name was durable.
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

    /// Refuses a time to come: there is no place in a shard for it yet, and the records until then
    /// would be delivered or not as the streams happen to begin.
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

    /// All mappings that have positions to keep: also one whose record is lost, which goes on where it was
    /// when `fsck --repair` has written it again.
    ///
    /// # Errors
    /// As [`Mapping::register`]: of one that cannot be read nobody knows what it needs.
    pub(super) fn all(log: &Arc<Log>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (name, has_record) in Self::entries(log)? {
            if has_record {
                all.extend(Self::open(log, &name)?);
            } else if Self::is_lost(log, &name)? {
                all.push(Self::at(log, &name));
            }
        }
        Ok(all)
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

    /// Whether a name without a record is that of a mapping that nobody removed.
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
        let (found, stretches, files) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Self { log, name, folder, found, stretches, files }
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

    /// What it wants the lanes of a shard to be like.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn wanted(&self) -> Result<Shape> {
        Ok(self.record()?.wanted())
    }

    /// Where what its function gives up goes, as the worker that started last noted it.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn on_failure(&self) -> Result<OnFailure> {
        Ok(self.record()?.on_failure)
    }

    /// Notes where what its function gives up goes.
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

    /// Whether it rests.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn is_paused(&self) -> Result<bool> {
        Ok(self.record()?.is_paused)
    }

    /// Takes the lease of a lane, if nobody has it; see [`Lease::try_take`].
    ///
    /// # Errors
    /// [`Error::Config`] if it was removed since it was opened, also if there is another of its name
    /// by now; as [`Lease::try_take`].
    pub fn try_lease(&self, file: &LanesFile, slot: u32, owner: &str) -> Result<Option<Lease>> {
        let lease = Lease::try_take(self.log.fs(), &file.lease_path(slot), owner);
        let lease = lease.map_err(|error| self.told_removed(error))?;
        // WHY after the lease: who removes the mapping has to have it, too.
        self.record()?;
        Ok(lease)
    }

    /// An error as it was, or that the mapping is gone if it is: then its files are, too.
    pub(super) fn told_removed(&self, error: Error) -> Error {
        self.record().err().unwrap_or(error)
    }

    /// Whether it is a replay, see [`Mapping::replay`].
    pub fn is_replay(&self) -> bool {
        replayed(&self.name).is_some()
    }

    /// What a replay reads, shard by shard; nothing if it is none.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn stretches(&self) -> Result<&[Stretch]> {
        if self.is_replay() && self.stretches.get().is_none() {
            self.record()?;
        }
        Ok(self.stretches.get().map_or(&[], Vec::as_slice))
    }

    /// What a replay reads of a shard.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    pub fn stretch(&self, shard: ShardId) -> Result<Option<Stretch>> {
        Ok(self.stretches()?.iter().find(|stretch| stretch.shard == shard).copied())
    }

    /// Sets what it wants the lanes of a shard to be like; only of a replay, whose function has
    /// changed since: of others [`Mapping::register`] does.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn set_wanted(&self, wanted: Shape) -> Result<()> {
        check_shape(wanted)?;
        if self.wanted()? == wanted {
            return Ok(());
        }
        self.change(|record| {
            record.wanted_factor = wanted.factor;
            record.wants_windows = wanted.is_windowed;
        })
    }

    /// Makes sure that each shard of a stream has a lanes file; returns the shards.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], [`Error::LogFull`], [`Error::Io`], [`Error::LockTimeout`].
    ///
    /// # Durability
    /// All starts are durable when it returns.
    pub fn prepare(&self, stream: &str) -> Result<Vec<ShardId>> {
        if self.is_replay() {
            return Ok(self.stretches()?.iter().map(|stretch| stretch.shard).collect());
        }
        let source = self.log.stream(stream)?;
        let shards: Vec<ShardId> = source.shards()?.iter().map(|meta| meta.id).collect();
        let is_begun = |record: &MappingRecord| record.begun.iter().any(|name| name == stream);
        if is_begun(&self.record()?) && self.missing(stream, &shards)?.is_empty() {
            return Ok(shards);
        }
        let lock = self.lock_file()?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
        let mut record = self.record()?;
        let folder = self.stream_folder(stream);
        self.log.fs().create_dir(&folder).at(&folder)?;
        self.log.fs().sync_dir(&self.folder).at(&self.folder)?;
        // What is redriven came from this mapping itself; none of it may be skipped but what was done
        // before it was removed.
        let is_own = stream.strip_prefix(self.name.as_str()) == Some(".redrive");
        let is_new = !is_begun(&record);
        for shard in self.missing(stream, &shards)? {
            let is_first = is_new && !self.has_more_before(&source, shard)?;
            let start = match (is_own, is_first) {
                (true, _) => Start::TrimHorizon,
                (false, true) => record.start,
                (false, false) => Start::AtSequence(0),
            };
            let place = resolve(&source, shard, start)?;
            let (path, now) = (self.lanes_path(stream, shard), self.log.clock().now());
            LanesFile::create(self.log.fs(), &path, record.wanted(), place, now)?;
        }
        if !is_begun(&record) {
            if record.begun.len() == STREAMS_MAX {
                let reason = format!("`{}` reads {STREAMS_MAX} streams already", self.name);
                return Err(Error::config("stream", reason));
            }
            record.begun.push(stream.to_owned());
            self.store(record)?;
        }
        Ok(shards)
    }

    /// Whether it begins before the end of a shard that this one came from, as when it was split
    /// between two tries to prepare: then nothing of this one may be skipped.
    fn has_more_before(&self, stream: &Stream, shard: ShardId) -> Result<bool> {
        let metas = stream.shards()?;
        let parents = metas.iter().filter(|meta| meta.id == shard).flat_map(|meta| &meta.parents);
        for &parent in parents {
            if !self.missing(stream.name(), &[parent])?.is_empty() {
                continue;
            }
            let lanes = self.lanes_file(stream.name(), parent)?.lanes()?;
            let end = stream.shard(parent)?.visible_end();
            if lanes.iter().any(|lane| lane.checkpoint.next_seq < end) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn missing(&self, stream: &str, shards: &[ShardId]) -> Result<Vec<ShardId>> {
        let mut missing = Vec::new();
        for &shard in shards {
            let path = self.lanes_path(stream, shard);
            if !self.log.fs().exists(&path).at(&path)? {
                missing.push(shard);
            }
        }
        Ok(missing)
    }

    /// The lanes file of a shard.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none: [`Mapping::prepare`] makes it.
    pub fn lanes_file(&self, stream: &str, shard: ShardId) -> Result<Arc<LanesFile>> {
        self.log.check()?;
        let mut files = self.files.lock();
        let path = self.lanes_path(stream, shard);
        // WHY each time: whoever removed the stream meanwhile, and made another of its name, has put
        // another file in its place.
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
        // WHY: who made the file may have died, or met an error, before its name was durable; no
        // checkpoint may be told to be durable in it until it is.
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

    /// Puts what is wanted in force for a shard, the factor and whether there are windows, if nobody holds a lease of it and no batch is in
    /// flight; returns whether it is in force now.
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
        if head.shape() == wanted {
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

    /// How the lanes of one stream, or of all, stand.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`], [`Error::Io`].
    pub fn lanes(&self, stream: Option<&str>) -> Result<Vec<LaneStatus>> {
        let streams = match stream {
            Some(stream) => vec![stream.to_owned()],
            None => self.record()?.begun,
        };
        let mut lanes = Vec::new();
        for stream in streams {
            for shard in self.shards_with_lanes(&stream)? {
                self.add_status(&stream, shard, &mut lanes)?;
            }
        }
        Ok(lanes)
    }

    /// Every stream and shard that has lanes.
    pub(super) fn shards(&self) -> Result<Vec<(String, ShardId)>> {
        let mut shards = Vec::new();
        for stream in self.record()?.begun {
            let found = self.shards_with_lanes(&stream)?;
            shards.extend(found.into_iter().map(|shard| (stream.clone(), shard)));
        }
        Ok(shards)
    }

    fn shards_with_lanes(&self, stream: &str) -> Result<Vec<ShardId>> {
        let folder = self.stream_folder(stream);
        if !self.log.fs().exists(&folder).at(&folder)? {
            return Ok(Vec::new());
        }
        let names = self.log.fs().list(&folder).at(&folder)?;
        let shard = |name: &String| ShardId::parse(name.strip_suffix(LANES_SUFFIX)?);
        Ok(names.iter().filter_map(shard).collect())
    }

    fn add_status(&self, stream: &str, shard: ShardId, to: &mut Vec<LaneStatus>) -> Result<()> {
        let file = self.lanes_file(stream, shard)?;
        let views = file.lanes()?;
        let source = self.log.stream(stream)?;
        let end = self.end_in(&source, shard)?;
        let log = source.shard(shard)?;
        let (is_closed, end_of_records) = (log.is_finished(end), log.end_of_records(end));
        for (slot, view) in (0..).zip(views) {
            let in_flight = view.still_open(self.log.boot_id());
            let window = view.window().map(|open| (open.start, open.end));
            let LaneView { head, checkpoint, .. } = view;
            let in_flight = in_flight.filter(|open| !open.entries.is_empty());
            let is_settled = checkpoint.next_seq >= end && in_flight.is_none() && window.is_none();
            to.push(LaneStatus {
                stream: stream.to_owned(),
                shard,
                slot,
                factor: head.factor,
                checkpoint: checkpoint.next_seq,
                end: end.max(checkpoint.next_seq),
                behind: end_of_records.saturating_sub(checkpoint.next_seq),
                in_flight,
                is_leased: Lease::is_held(self.log.fs(), &file.lease_path(slot))?,
                written: checkpoint.written,
                is_windowed: head.is_windowed,
                window,
                is_finished: is_settled && (is_closed || self.is_replay()),
            });
        }
        Ok(())
    }

    /// Whether all lanes of a shard's parents have passed its end, for good.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`], [`Error::Io`].
    pub fn is_past_parents(&self, stream: &Stream, shard: &ShardMeta) -> Result<bool> {
        if self.is_replay() {
            return self.is_past_ancestors(stream, shard);
        }
        for &parent in &shard.parents {
            let Some(meta) = stream.shards()?.into_iter().find(|meta| meta.id == parent) else {
                // Retention has taken it whole.
                continue;
            };
            if !self.missing(stream.name(), &[parent])?.is_empty() {
                return Ok(false);
            }
            let end = stream.shard(parent)?.visible_end();
            let file = self.lanes_file(stream.name(), parent)?;
            // A window that is open at the end of its shard still has its final call to come.
            let is_past =
                |view: &LaneView| view.checkpoint.next_seq >= end && view.window().is_none();
            if meta.is_open || !file.lanes()?.iter().all(is_past) {
                return Ok(false);
            }
            // WHY: the children's records must not be done before the parent's are known to be.
            file.sync_all()?;
        }
        Ok(true)
    }

    /// Runs `work` while nobody makes a mapping or begins a stream.
    pub(super) fn alone<T>(
        log: &Arc<Log>,
        patience: &Patience<'_>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let folder = log.root().join("mappings");
        let lock = LockedFile::open(log.fs(), &folder.join("lock"))?;
        let _locked = lock.lock(patience)?;
        work()
    }

    /// Whether it remembers positions in a stream: its record says so, or its lanes if that is lost.
    pub(super) fn has_begun(&self, stream: &str) -> Result<bool> {
        match self.load()? {
            Some(record) => Ok(record.begun.iter().any(|name| name == stream)),
            None => Ok(!self.shards_with_lanes(stream)?.is_empty()),
        }
    }

    /// Whether a stream is there for this mapping alone: its dead letters, its redrives.
    pub(super) fn owns(&self, stream: &str) -> bool {
        stream.strip_prefix(self.name.as_str()).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Forgets its positions in a stream; call it under the lock.
    pub(super) fn forget(&self, stream: &str) -> Result<()> {
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
    pub(super) fn erase(&self) -> Result<()> {
        let (fs, marker, path) = (self.log.fs(), self.folder.join(REMOVED), self.record_path());
        // INVARIANT: positions are cleared where somebody wanted it, never because a record is lost.
        fs.open(&marker, Open::Create).at(&marker)?;
        fs.sync_dir(&self.folder).at(&self.folder)?;
        fs.remove(&path).at(&path)?;
        fs.sync_dir(&self.folder).at(&self.folder)?;
        Self::sweep(&self.log)
    }

    /// Clears the folders of mappings that were removed, or made, in part; call it under the lock.
    fn sweep(log: &Log) -> Result<()> {
        let (fs, mappings) = (log.fs(), log.root().join("mappings"));
        let mut was_left = false;
        for mapping in fs.list(&mappings).at(&mappings)? {
            let folder = mappings.join(&mapping);
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

    /// The streams it has lanes in, and the shards; also if its record cannot be read.
    pub(super) fn shards_on_disk(&self) -> Result<Vec<(String, ShardId)>> {
        let mut shards = Vec::new();
        for name in self.log.fs().list(&self.folder).at(&self.folder)? {
            if name != RECORD && name != REMOVED {
                let stream = stream_of(&name);
                let found = self.shards_with_lanes(stream)?;
                shards.extend(found.into_iter().map(|shard| (stream.to_owned(), shard)));
            }
        }
        Ok(shards)
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

    fn record(&self) -> Result<MappingRecord> {
        self.log.check()?;
        self.load()?.ok_or_else(|| {
            Error::config("mapping", format!("`{}` was removed while it was open", self.name))
        })
    }

    /// The newer valid slot; `None` if the mapping was never made, or is no longer there.
    fn load(&self) -> Result<Option<MappingRecord>> {
        let path = self.record_path();
        let file = match self.log.fs().open(&path, Open::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.at(&path)?,
        };
        let found = self.found.get_or_init(|| Arc::clone(&file));
        if found.identity().at(&path)? != file.identity().at(&path)? {
            return Ok(None);
        }
        let bytes = fs::read_all(file.as_ref()).at(&path)?;
        if self.is_replay() && self.stretches.get().is_none() {
            let stretches = bytes.get(STRETCHES_START..).unwrap_or_default();
            let stretches = Stretch::decode_all(stretches)
                .map_err(|damage| self.damaged(&format!("its stretches: {}", damage.0)))?;
            // Another thread may have read the same meanwhile.
            let _ = self.stretches.set(stretches);
        }
        let newest = bytes
            .chunks(MAPPING_BYTES)
            .take(2)
            .filter_map(|slot| MappingRecord::decode(slot).ok())
            .max_by_key(|record| record.counter);
        newest.map(Some).ok_or_else(|| self.damaged("both slots of the record are damaged"))
    }

    fn damaged(&self, what: &str) -> Error {
        let reason = format!("{what}: remove it with `streamfn fn rm {}`", self.name);
        Error::CheckpointConflict { path: self.record_path(), reason }
    }

    fn create(&self, record: &MappingRecord) -> Result<()> {
        self.create_folder()?;
        self.commit(&[record.encode(), vec![0; MAPPING_BYTES]].concat())
    }

    /// Gives out the name of the next replay, which none had before; call it under the lock.
    pub(super) fn next_replay(&self) -> Result<String> {
        let (mut record, names) = (self.record()?, Self::names(&self.log)?);
        let name = loop {
            record.replays += 1;
            let name = replay_name(&self.name, record.replays);
            // WHY: a record that was worked out again from the lanes has forgotten the number.
            if !names.contains(&name) {
                break name;
            }
        };
        self.store(record)?;
        Ok(name)
    }

    /// Makes a replay with lanes of the `wanted` shape, where its stretches begin; call it under the
    /// lock.
    pub(super) fn create_replay(
        &self,
        stream: &str,
        wanted: Shape,
        stretches: &[Stretch],
    ) -> Result<()> {
        self.create_folder()?;
        let (fs, folder) = (self.log.fs(), self.stream_folder(stream));
        fs.create_dir(&folder).at(&folder)?;
        for stretch in stretches {
            let place = Place { next_seq: stretch.first, ..Place::default() };
            let (path, now) = (self.lanes_path(stream, stretch.shard), self.log.clock().now());
            LanesFile::create(fs, &path, wanted, place, now)?;
        }
        let record = MappingRecord {
            counter: 1,
            wanted_factor: wanted.factor,
            wants_windows: wanted.is_windowed,
            is_paused: false,
            start: Start::TrimHorizon,
            begun: vec![stream.to_owned()],
            replays: 0,
            on_failure: OnFailure::default(),
        };
        let slots = [record.encode(), vec![0; MAPPING_BYTES], Stretch::encode_all(stretches)];
        self.commit(&slots.concat())
    }

    fn create_folder(&self) -> Result<()> {
        // WHY: lanes of one that was removed, or never wholly made, are not this one's.
        Self::sweep(&self.log)?;
        let fs = self.log.fs();
        if !fs.exists(&self.folder).at(&self.folder)? {
            return fs.create_dir(&self.folder).at(&self.folder);
        }
        if has_folders(fs, &self.folder, &fs.list(&self.folder).at(&self.folder)?)? {
            let reason =
                "the record is missing, the positions are there: `streamfn fsck --repair` \
                          writes it again"
                    .to_owned();
            return Err(Error::CheckpointConflict { path: self.record_path(), reason });
        }
        Ok(())
    }

    /// Writes the record: from now on it is there, with all that is in its folder.
    fn commit(&self, bytes: &[u8]) -> Result<()> {
        let path = self.record_path();
        self.log.fs().sync_dir(&self.folder).at(&self.folder)?;
        fs::replace(self.log.fs().as_ref(), &path, bytes).at(&path)?;
        self.sync_names()
    }

    /// Makes the record's name durable, and those of the folders it is in, which may be new.
    fn sync_names(&self) -> Result<()> {
        let folders = [self.folder.as_path(), fs::parent(&self.folder), self.log.root()];
        folders.into_iter().try_for_each(|folder| self.log.fs().sync_dir(folder).at(folder))
    }

    /// Changes the record, durably.
    pub(super) fn change(&self, change: impl FnOnce(&mut MappingRecord)) -> Result<()> {
        let lock = self.lock_file()?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
        let mut record = self.record()?;
        change(&mut record);
        self.store(record)
    }

    /// Writes the slot that does not count; call it under the lock.
    fn store(&self, mut record: MappingRecord) -> Result<()> {
        record.counter += 1;
        let path = self.record_path();
        let file = self.log.fs().open(&path, Open::Write).at(&path)?;
        // INVARIANT: counters rise by one from the 1 in slot 0.
        let position = (record.counter - 1) % 2 * STRIDE;
        file.write_at(&[&record.encode()], position).at(&path)?;
        file.sync_data().at(&path)
    }
}

/// Removes a file, or a folder of files.
fn remove_all(fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
    let Some(names) = fs::names_in(&**fs, path).at(path)? else {
        return fs.remove(path).at(path);
    };
    for name in names {
        let file = path.join(name);
        fs.remove(&file).at(&file)?;
    }
    remove_empty(fs, path)
}

/// Whether a mapping's folder has those of streams in it, where its positions are.
fn has_folders(fs: &Arc<dyn Fs>, folder: &Path, names: &[String]) -> Result<bool> {
    for path in names.iter().map(|name| folder.join(name)) {
        if fs::names_in(&**fs, &path).at(&path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn remove_empty(fs: &Arc<dyn Fs>, folder: &Path) -> Result<()> {
    fs.sync_dir(folder).at(folder)?;
    fs.remove_dir(folder).at(folder)
}

/// Where a shard's lanes begin.
pub(super) fn resolve(stream: &Stream, shard: ShardId, start: Start) -> Result<Place> {
    let log = stream.shard(shard)?;
    if start == Start::AtSequence(0) {
        return Ok(Place { shard_epoch: log.epoch(), ..Place::default() });
    }
    let cursor = log.cursor(start)?;
    Ok(Place { next_seq: cursor.next_seq, hint: cursor.position, shard_epoch: log.epoch() })
}

/// Refuses lanes that there cannot be.
fn check_shape(wanted: Shape) -> Result<()> {
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
