//! Examines a log directory file by file, and repairs what can be derived.
//!
//! ```text
//! examine ── FORMAT ── control ── streams ── shards ── batches ── mappings ── lanes ──▶ findings
//! repair  ── examine ── keep the originals ── rebuild ── open (recovery) ── examine ──▶ what was lost
//! ```
//! An examination only reads, and may run beside programs that use the log; it does not judge what
//! they are writing at that moment. A repair has the log to itself. Nothing is removed only because
//! it looks odd: a repair first copies to `quarantine/` whatever it replaces or cuts.

mod finding;
mod lanes_bytes;
mod mappings;
mod metrics;
mod repair;
mod segment_bytes;
mod shard;
mod streams;
mod top_lock;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::mapping::{RENAMING, RENAMING_STAGED};
use crate::clock::{Clock, Stopwatch, SystemClock};
use crate::control::{view_log, PageView, CONTROL_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Open, RealFs};
use crate::stream::{decode_format, Manifest};
use crate::sys;
use crate::types::{Micros, Position, SequenceNumber, ShardId, SHARDS_MAX};

pub use finding::{Finding, Kind, Severity};
pub use repair::repair;
use shard::ShardFacts;
use top_lock::TopLock;

/// How often a caller is told the progress of an examination.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const PAGE_BYTES: usize = 4096;
/// Names in the log directory itself.
const TOP: [&str; 9] = [
    "FORMAT",
    "lock",
    "topology.lock",
    "control",
    "workers",
    "streams",
    "mappings",
    "metrics",
    "quarantine",
];

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

/// Amounts that were examined.
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
    /// Amounts that were examined.
    pub checked: Checked,
    /// Whether no other process had the log open.
    pub is_exclusive: bool,
}

impl Report {
    /// Whether anything is broken; after a repair: still broken, or lost.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(Finding::is_open)
    }
}

/// Gets how many bytes of segment files were examined, and how many there are; false ends the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Examines a log directory without changing anything in it.
///
/// If no process has the log open it is locked meanwhile: a process that opens it waits.
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

/// What is known about a stream after its examination.
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
        metrics::examine(self)?;
        (self.progress)(self.checked.bytes, self.total);
        Ok(())
    }

    fn holder(&self, path: &Path) -> String {
        let identity = self.fs().open(path, Open::Read).and_then(|file| file.identity());
        identity.map_or_else(|_| "another process".into(), |(_, inode)| sys::lock_holder(inode))
    }

    /// Checks the names in the log directory, and refuses a folder that is not a log.
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

    /// Reports a name that is not expected where it is.
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

    /// The page of a shard whose manifest does not name one; only beside other processes. The page
    /// of a removed shard of its name may still be there.
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

    /// Up to where a shard may be judged; `None`: all of it.
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
            } else if !["lock", RENAMING, RENAMING_STAGED].contains(&name.as_str()) {
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

    /// Reports the progress now and then.
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

    /// Reads a small file of slots; reads it again if other processes may have been writing it.
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
}
