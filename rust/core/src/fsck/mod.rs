//! Examining a log directory file by file, and putting right what can be derived.
//!
//! ```text
//! examine ── FORMAT ── control ── streams ── shards ── batches ── mappings ── lanes ──▶ findings
//! repair  ── examine ── keep the originals ── rebuild ── open (recovery) ── examine ──▶ what was lost
//! ```
//! An examination only reads, and may run beside programs that use the log; what they are writing at
//! that moment is then not judged. A repair is alone with the log. Nothing is ever removed because
//! something about it looks odd: what a repair replaces or cuts lies in `quarantine/` before.

mod finding;
mod mappings;
mod repair;
mod segment_bytes;
mod shard;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::control::{view_log, PageView, CONTROL_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open, RealFs};
use crate::log::{owner_of, Segments};
use crate::stream::{decode_format, holds_records, Manifest, ShardMeta, REMOVED_MARKER};
use crate::sys;
use crate::types::{Micros, Position, SequenceNumber, ShardId, SHARDS_MAX};

pub use finding::{Finding, Kind, Severity};
pub use repair::repair;
use shard::{ShardFacts, ShardPlace};

/// How often a caller hears how far an examination is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const PAGE_BYTES: usize = 4096;
/// Names in the log directory itself.
const TOP: [&str; 8] =
    ["FORMAT", "lock", "topology.lock", "control", "workers", "streams", "mappings", "quarantine"];
/// Names in a shard's folder that are no segments.
const SHARD_FILES: [&str; 5] = ["append.lock", "sync.lock", "state", "failed", "holes"];

/// How a log is examined.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether every body is read, decompressed and decoded; otherwise headers, chain and numbers.
    pub is_deep: bool,
    /// Where the log is; tests give a simulated one.
    pub fs: Arc<dyn Fs>,
    /// The clock that stamps what a repair writes.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self { is_deep: false, fs: Arc::new(RealFs), clock: Arc::new(SystemClock) }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Streams with a manifest.
    pub streams: u64,
    /// Shards.
    pub shards: u64,
    /// Segment files.
    pub segments: u64,
    /// Record batches whose header is whole.
    pub batches: u64,
    /// Bytes of segment files.
    pub bytes: u64,
    /// Mappings.
    pub mappings: u64,
}

/// What an examination, or a repair, found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order of the folder.
    pub findings: Vec<Finding>,
    /// How much was looked at.
    pub checked: Checked,
    /// Whether nobody else had the log open.
    pub is_exclusive: bool,
}

impl Report {
    /// Whether anything is broken; after a repair: still broken, or lost.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_open)
    }
}

/// Is told how many bytes of segment files were looked at, of how many; false ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Examines a log directory without changing anything in it.
///
/// If nobody has the log open it is locked meanwhile: who wants to open it waits.
///
/// # Errors
/// [`Error::Config`] (`log_dir`) if it is not a log directory; [`Error::UnsupportedFormat`];
/// [`Error::Interrupted`]; errors of the file system other than damage.
pub fn examine(root: &Path, options: &Options, progress: Progress<'_>) -> Result<Report> {
    let root = std::path::absolute(root).at(root)?;
    let lock = TopLock::try_take(&options.fs, &root)?;
    let mut examination = Examination::new(&root, options, lock.is_held, progress);
    examination.run()?;
    Ok(examination.report())
}

/// The lock of the log, held exclusively if nobody has the log open.
struct TopLock {
    file: Option<Arc<dyn File>>,
    is_held: bool,
}

impl TopLock {
    /// Takes the lock, or says who has the log open.
    fn take(fs: &Arc<dyn Fs>, root: &Path) -> Result<Self> {
        let lock = Self::try_take(fs, root)?;
        if lock.is_held {
            return Ok(lock);
        }
        let path = root.join("lock");
        let identity = lock.file.as_ref().and_then(|file| file.identity().ok());
        let holder =
            identity.map_or_else(|| "unknown".into(), |(_, inode)| sys::lock_holder(inode));
        Err(Error::LockTimeout { path, holder })
    }

    fn try_take(fs: &Arc<dyn Fs>, root: &Path) -> Result<Self> {
        let path = root.join("lock");
        // A backup may come without it. Without one that is held, somebody may open the log meanwhile.
        let is_log = fs.exists(&root.join("streams")).at(root)?;
        match fs.open(&path, if is_log { Open::Create } else { Open::Read }) {
            Ok(file) => {
                let is_held = file.try_lock(Lock::Exclusive).at(&path)?;
                Ok(Self { file: Some(file), is_held })
            }
            // There is no log.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { file: None, is_held: true })
            }
            // Looking is allowed where nothing may be written.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES)) => {
                Ok(Self { file: None, is_held: false })
            }
            Err(error) => Err(Error::io(&path, error)),
        }
    }
}

impl Drop for TopLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_held) {
            // An unlock fails only for a descriptor that is not one; then there is no lock either.
            let _ = file.unlock();
        }
    }
}

/// What is known of a stream after it was looked through.
struct StreamFacts {
    name: String,
    folder: PathBuf,
    /// `None` if it is damaged or missing.
    manifest: Option<Manifest>,
    /// By shard; those with a folder.
    shards: BTreeMap<ShardId, ShardFacts>,
}

/// One examination under way.
struct Examination<'x> {
    root: PathBuf,
    options: &'x Options,
    is_deep: bool,
    is_exclusive: bool,
    progress: Progress<'x>,
    told: Stopwatch,
    total: u64,
    findings: Vec<Finding>,
    checked: Checked,
    /// The log's, once it is known.
    uuid: Option<[u8; 16]>,
    /// The control file, if it is this log's and of this boot.
    control: Option<Arc<dyn File>>,
    streams: Vec<StreamFacts>,
}

impl<'x> Examination<'x> {
    fn new(root: &Path, options: &'x Options, is_exclusive: bool, progress: Progress<'x>) -> Self {
        Self {
            root: root.to_owned(),
            options,
            is_deep: options.is_deep,
            is_exclusive,
            progress,
            told: Stopwatch::start(),
            total: 0,
            findings: Vec::new(),
            checked: Checked::default(),
            uuid: None,
            control: None,
            streams: Vec::new(),
        }
    }

    fn report(self) -> Report {
        let Self { findings, checked, is_exclusive, .. } = self;
        Report { findings, checked, is_exclusive }
    }

    fn fs(&self) -> &'x Arc<dyn Fs> {
        &self.options.fs
    }

    fn now(&self) -> Micros {
        self.options.clock.now()
    }

    fn tell(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn run(&mut self) -> Result<()> {
        self.top()?;
        if !self.is_exclusive {
            let path = self.root.join("lock");
            let holder = self.holder(&path);
            self.tell(Finding::new(Kind::InUse, path, format!("open in {holder}")));
        }
        self.format()?;
        self.control_file()?;
        self.total = self.total_bytes()?;
        for name in self.folders(&self.root.join("streams"))? {
            let manifest = self.root.join("streams").join(&name).join("manifest.json");
            match self.stream(name) {
                // Others may remove a stream while it is looked at.
                Err(Error::Io { source, .. })
                    if !self.is_exclusive
                        && source.kind() == std::io::ErrorKind::NotFound
                        && !self.fs().exists(&manifest).at(&manifest)? => {}
                other => other?,
            }
        }
        self.shared_pages();
        mappings::examine(self)?;
        (self.progress)(self.checked.bytes, self.total);
        Ok(())
    }

    fn holder(&self, path: &Path) -> String {
        let identity = self.fs().open(path, Open::Read).and_then(|file| file.identity());
        identity.map_or_else(|_| "another process".into(), |(_, inode)| sys::lock_holder(inode))
    }

    /// Looks at the names in the log directory, and refuses a folder that is none.
    fn top(&mut self) -> Result<()> {
        let not_a_log = |reason: String| Error::config("log_dir", reason);
        let names = match self.fs().list(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_a_log(format!("{} does not exist", self.root.display())));
            }
            other => other.at(&self.root)?,
        };
        let is_log = |name: &String| name == "FORMAT" || name == "streams";
        if !names.iter().any(is_log) {
            let reason = format!("{} is not a log directory", self.root.display());
            return Err(not_a_log(reason));
        }
        for name in names.iter().filter(|name| !TOP.contains(&name.as_str())) {
            self.foreign(&self.root.join(name));
        }
        let quarantine = self.root.join("quarantine");
        for name in self.names(&quarantine)? {
            let path = quarantine.join(name);
            let length = self.fs().open(&path, Open::Read).and_then(|file| file.length());
            let detail = length.map_or_else(|_| "a folder".into(), |n| format!("{n} bytes"));
            self.tell(Finding::new(Kind::Quarantined, path, detail));
        }
        Ok(())
    }

    /// Tells of a name that is not expected where it is.
    fn foreign(&mut self, path: &Path) {
        let is_left = path.extension().is_some_and(|extension| extension == "new");
        let (kind, detail) = if is_left {
            (Kind::Leftover, "a replacement that did not finish")
        } else {
            (Kind::ForeignFile, "not a name of ours")
        };
        self.tell(Finding::new(kind, path, detail));
    }

    fn format(&mut self) -> Result<()> {
        let path = self.root.join("FORMAT");
        let decoded = match fs::read(&**self.fs(), &path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.tell(Finding::new(Kind::FormatDamaged, path, "the file is missing"));
                return Ok(());
            }
            bytes => decode_format(&bytes.at(&path)?, &path),
        };
        match decoded {
            Ok(uuid) => self.uuid = Some(uuid),
            Err(Error::Corruption { reason, .. }) => {
                self.tell(Finding::new(Kind::FormatDamaged, path, reason).at(0));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn control_file(&mut self) -> Result<()> {
        let path = self.root.join("control");
        let file = match self.fs().open(&path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // A copy of a log need not have one; those who have the log open do.
                if !self.is_exclusive {
                    self.tell(Finding::new(Kind::ControlDamaged, path, "the file is missing"));
                }
                return Ok(());
            }
            other => other.at(&path)?,
        };
        let length = file.length().at(&path)?;
        if length != CONTROL_BYTES {
            let detail = format!("it has {length} bytes, not {CONTROL_BYTES}");
            self.tell(Finding::new(Kind::ControlDamaged, path, detail));
            return Ok(());
        }
        let mut page = [0; PAGE_BYTES];
        file.read_at(&mut page, 0).at(&path)?;
        match (view_log(&page), self.uuid) {
            (Some((uuid, boot)), known) if known.is_none_or(|known| known == uuid) => {
                let is_current = self.fs().boot_id().is_ok_and(|now| now == boot);
                self.control = is_current.then_some(file);
            }
            (None, _) if page.iter().all(|byte| *byte == 0) => {}
            _ => self.tell(Finding::new(Kind::ControlDamaged, path, "it is another log's").at(0)),
        }
        Ok(())
    }

    /// A shard's page, if it can be believed.
    fn page(&mut self, number: u32, owner: u64) -> Result<Option<PageView>> {
        let Some(file) = &self.control else { return Ok(None) };
        let path = self.root.join("control");
        let mut bytes = [0; PAGE_BYTES];
        file.read_at(&mut bytes, u64::from(number) * PAGE_BYTES as u64).at(&path)?;
        let page = PageView::decode(&bytes).filter(|page| page.owner == owner);
        if let Some(page) = page {
            let is_ordered = page.durable <= page.committed
                && page.visible <= page.committed
                && page.durable_end <= page.next_seq
                && page.visible_end <= page.next_seq;
            if self.is_exclusive && !page.is_writing && !is_ordered {
                let detail = "a shard's page contradicts itself";
                let position = u64::from(number) * PAGE_BYTES as u64;
                self.tell(Finding::new(Kind::ControlDamaged, path, detail).at(position));
                return Ok(None);
            }
        }
        Ok(page)
    }

    /// The page of a shard whose manifest does not say which one it has; only beside others. That of a
    /// removed shard of its name may still be there.
    fn page_of(&mut self, owner: u64) -> Result<Option<PageView>> {
        if self.is_exclusive {
            return Ok(None);
        }
        for number in 1..=SHARDS_MAX {
            let page = self.page(number, owner)?.filter(|page| !page.is_removed);
            if page.is_some() {
                return Ok(page);
            }
        }
        Ok(None)
    }

    /// Up to where a shard may be judged: `None` is its whole length.
    fn limit_of(&self, page: Option<&PageView>) -> Option<Position> {
        (!self.is_exclusive).then(|| page.map_or(Position::default(), |page| page.visible))
    }

    /// The number after the last one of a shard, if all of it was judged.
    fn end_of(&self, stream: &str, shard: ShardId) -> Option<SequenceNumber> {
        let found = self.streams.iter().find(|facts| facts.name == stream)?;
        self.is_exclusive.then(|| Some(found.shards.get(&shard)?.end.next_seq)).flatten()
    }

    /// The first number of a shard that was never issued, if that was judged.
    fn reserved_of(&self, stream: &str, shard: ShardId) -> Option<SequenceNumber> {
        let found = self.streams.iter().find(|facts| facts.name == stream)?;
        self.is_exclusive.then(|| Some(found.shards.get(&shard)?.state?.reserved)).flatten()
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>> {
        if !self.fs().exists(folder).at(folder)? {
            return Ok(Vec::new());
        }
        self.fs().list(folder).at(folder)
    }

    fn is_folder(&self, path: &Path) -> Result<bool> {
        Ok(fs::names_in(&**self.fs(), path).at(path)?.is_some())
    }

    /// Names of the folders in a folder; files there are foreign.
    fn folders(&mut self, folder: &Path) -> Result<Vec<String>> {
        let mut folders = Vec::new();
        for name in self.names(folder)? {
            let path = folder.join(&name);
            if self.is_folder(&path)? {
                folders.push(name);
            } else if name != "lock" {
                self.foreign(&path);
            }
        }
        Ok(folders)
    }

    fn total_bytes(&self) -> Result<u64> {
        let mut total = 0;
        let streams = self.root.join("streams");
        for stream in self.names(&streams)? {
            let folder = streams.join(stream);
            for shard in self.names(&folder).unwrap_or_default() {
                let shard = folder.join(shard);
                for name in self.names(&shard).unwrap_or_default() {
                    let path = shard.join(name);
                    let is_segment = path.extension().is_some_and(|extension| extension == "seg");
                    if is_segment {
                        total += self
                            .fs()
                            .open(&path, Open::Read)
                            .and_then(|file| file.length())
                            .unwrap_or(0);
                    }
                }
            }
        }
        Ok(total)
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.checked.bytes += bytes;
        self.told = Stopwatch::start();
        self.go_on()
    }

    /// Says how far the work is, now and then.
    fn pause(&mut self) -> Result<()> {
        if self.told.elapsed() < PROGRESS_INTERVAL {
            return Ok(());
        }
        self.told = Stopwatch::start();
        self.go_on()
    }

    fn go_on(&mut self) -> Result<()> {
        let goes_on = (self.progress)(self.checked.bytes.min(self.total), self.total);
        goes_on.then_some(()).ok_or(Error::Interrupted)
    }

    /// Reads a small file of slots; looks again if others may have been writing it.
    fn read_slots<T>(
        &self,
        path: &Path,
        read: impl Fn(&[u8]) -> [Option<T>; 2],
    ) -> Result<[Option<T>; 2]> {
        let mut tries = if self.is_exclusive { 1 } else { 5 };
        loop {
            let slots = match fs::read(&**self.fs(), path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => [None, None],
                bytes => read(&bytes.at(path)?),
            };
            tries -= 1;
            if tries == 0 || slots.iter().all(Option::is_some) {
                return Ok(slots);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stream(&mut self, name: String) -> Result<()> {
        let folder = self.root.join("streams").join(&name);
        let marker = folder.join(REMOVED_MARKER);
        if self.fs().exists(&marker).at(&marker)? {
            let finding = Finding::new(Kind::StreamRemoved, folder, "it was removed");
            self.tell(finding.of(&name, None));
            return Ok(());
        }
        let (shard_folders, others): (Vec<_>, Vec<_>) =
            self.names(&folder)?.into_iter().partition(|name| shard_of(name).is_some());
        for other in others.iter().filter(|name| *name != "manifest.json") {
            self.foreign(&folder.join(other));
        }
        let manifest = self.manifest(&name, &folder)?;
        let mut shards = BTreeMap::new();
        let first_of_stream = self.findings.len();
        for shard_folder in shard_folders {
            let Some(id) = shard_of(&shard_folder) else { continue };
            let meta = manifest.as_ref().and_then(|m| m.shards.iter().find(|meta| meta.id == id));
            let before = self.findings.len();
            let facts = self.shard(&name, id, &folder.join(&shard_folder), meta)?;
            if manifest.is_some() && meta.is_none() {
                // Nothing reads it: what it lacks is not damage.
                self.findings.truncate(before);
                let detail = format!("{} record batches", facts.batches);
                let path = folder.join(&shard_folder);
                self.tell(Finding::new(Kind::ShardUnknown, path, detail).of(&name, Some(id)));
            }
            if meta.is_some_and(|meta| meta.is_pending) && self.is_exclusive {
                let path = folder.join("manifest.json");
                let finding = Finding::new(Kind::ShardPending, path, "its parents were not closed");
                self.tell(finding.of(&name, Some(id)));
            }
            shards.insert(id, facts);
        }
        if let Some(manifest) = &manifest {
            self.checked.streams += 1;
            for meta in manifest.shards.iter().filter(|meta| !shards.contains_key(&meta.id)) {
                let path = folder.join(meta.id.to_string());
                let finding = Finding::new(Kind::ShardMissing, path, "the folder is missing");
                self.tell(finding.of(&name, Some(meta.id)));
            }
        } else if !self.fs().exists(&folder.join("manifest.json")).at(&folder)? {
            // What others are writing was not judged, but it is there.
            let has_batches = shards.values().any(|facts| facts.batches > 0)
                || !self.is_exclusive && holds_records(self.fs(), &folder)?;
            if !has_batches {
                self.findings.truncate(first_of_stream);
                shards.clear();
            }
            let kind = match has_batches {
                // Others may have begun to remove the stream since it was looked at.
                _ if self.fs().exists(&marker).at(&marker)? => Kind::StreamRemoved,
                true => Kind::ManifestMissing,
                false => Kind::StreamUnfinished,
            };
            let finding = Finding::new(kind, &folder, "there is no manifest.json");
            self.tell(finding.of(&name, None));
        }
        self.streams.push(StreamFacts { name, folder, manifest, shards });
        Ok(())
    }

    fn manifest(&mut self, name: &str, folder: &Path) -> Result<Option<Manifest>> {
        let path = folder.join("manifest.json");
        match Manifest::load(self.fs(), &path) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(Error::Corruption { reason, .. }) => {
                let finding = Finding::new(Kind::ManifestDamaged, path, reason);
                self.tell(finding.of(name, None));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells of shards whose page belongs to one before them.
    fn shared_pages(&mut self) {
        // Others may be changing manifests: what was read earlier and what later do not go together.
        if !self.is_exclusive {
            return;
        }
        let mut owners = BTreeMap::new();
        let mut shared = Vec::new();
        for stream in &self.streams {
            for meta in stream.manifest.iter().flat_map(|manifest| &manifest.shards) {
                let (page, id) = (meta.page, meta.id);
                let (first, of) = *owners.entry(page).or_insert((&stream.name, id));
                if (first, of) != (&stream.name, id) {
                    let path = stream.folder.join("manifest.json");
                    let detail = format!("{id} has page {page}, which is that of {first}/{of}");
                    let finding = Finding::new(Kind::PageShared, path, detail);
                    shared.push(finding.of(&stream.name, Some(id)));
                }
            }
        }
        self.findings.extend(shared);
    }

    fn shard(
        &mut self,
        stream: &str,
        id: ShardId,
        folder: &Path,
        meta: Option<&ShardMeta>,
    ) -> Result<ShardFacts> {
        for name in self.names(folder)? {
            let is_ours = SHARD_FILES.contains(&name.as_str()) || Segments::is_name(&name);
            if !is_ours {
                self.foreign(&folder.join(name));
            }
        }
        let owner = owner_of(stream, id);
        let page = match meta {
            Some(meta) => self.page(meta.page, owner)?,
            None => self.page_of(owner)?,
        };
        self.checked.shards += 1;
        let place = ShardPlace { stream, id, folder: folder.to_owned(), page };
        shard::examine(self, &place)
    }
}

fn shard_of(name: &str) -> Option<ShardId> {
    name.starts_with("shardId-").then(|| ShardId::parse(name)).flatten()
}
