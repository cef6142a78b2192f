//! One shard on disk: append, read, roll, sync, recover.
//!
//! ```text
//! append ── queue ── prepare (compress) ── append.lock ── pwrite ── commit word ─┬─ visible (process)
//!                                                                                 └─ sync.lock ── fdatasync ── visible (group)
//! ```
//! A writer's states: CLEAN → WRITING → CLEAN for each batch; any → FAILED when a sync fails, for
//! good (until `fsck --repair`).

mod append;
mod barrier;
mod cursor;
mod damage;
mod directory;
mod failure;
pub(crate) mod holes;
mod kept_file;
mod locks;
mod preview;
mod read;
mod read_buffer;
pub(crate) mod recovery;
mod resync;
mod retention;
mod scan;
mod seal;
mod segment;
mod state_file;
mod sync;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use crate::sync::Mutex;

use crate::control::{Page, Waiters};
use crate::error::{IoContext, Result};
use crate::format::record_batch::HEADER_BYTES;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::SegmentHeader;
use crate::fs::{File, Open};
use crate::types::{Compression, Durability, Position, SequenceNumber, ShardId};

pub use append::Appended;
pub(crate) use append::Attempt;
pub use cursor::Cursor;
pub use damage::Skipped;
pub use directory::Directory;
pub(crate) use locks::{wait_for, Locked, LockedFile};
pub use preview::Removable;
pub use read_buffer::{ReadBuffer, SpentBuffers};
pub(crate) use resync::{Candidate, Resync};
pub use retention::{Keep, Trimmed};
pub(crate) use segment::Segments;
pub(crate) use state_file::StateFile;

/// Bounds of the size of a segment file.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Bounds of the size of a segment file.
pub const SEGMENT_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Size at which a new segment begins.
pub const SEGMENT_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// A call's records go into batches of about this many bytes: one `pwrite` each.
pub const BATCH_BYTES_TARGET: usize = 1024 * 1024;

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(8) && HEADER_BYTES.is_multiple_of(8));
const _: () = assert!(SEGMENT_BYTES_MAX / 8 <= u32::MAX as u64, "a position fits one word");

/// Where the first batch of a segment begins.
pub(crate) const SEGMENT_START: u64 = SEGMENT_HEADER_BYTES as u64;

/// The properties of a shard, from its stream's manifest.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// The stream's name.
    pub stream: Arc<str>,
    /// The shard.
    pub id: ShardId,
    /// Number of its page in the control file.
    pub page: u32,
    /// First and last hash key it owns.
    pub hash_range: (u128, u128),
    /// The shards it came from.
    pub parents: Vec<ShardId>,
    /// Its children, if it is closed for good.
    pub successors: Vec<ShardId>,
    /// What an acknowledgement survives.
    pub durability: Durability,
    /// How batches are stored when the shard is opened; see [`ShardLog::set_compression`].
    pub compression: Compression,
    /// Size at which a new segment begins.
    pub segment_bytes: u64,
    /// Disk space reserved ahead of the next records, in steps of this many bytes; 0: none.
    pub room: u64,
}

impl ShardConfig {
    /// Marks the shard's page as its own.
    pub(crate) fn owner(&self) -> u64 {
        owner_of(&self.stream, self.id)
    }
}

/// Marks the page of this shard in the control file.
pub(crate) fn owner_of(stream: &str, id: ShardId) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("{stream}/{id}").as_bytes())
}

/// One shard's log, shared by all threads of the process.
#[derive(Debug)]
pub struct ShardLog {
    config: ShardConfig,
    /// Whether batches are compressed from now on.
    is_compressing: AtomicBool,
    directory: Arc<Directory>,
    folder: PathBuf,
    segments: Segments,
    kept_files: kept_file::KeptFiles,
    append_lock: LockedFile,
    sync_lock: LockedFile,
    state: StateFile,
    queue: Mutex<Vec<Arc<append::Pending>>>,
    writer: Mutex<append::Writer>,
    /// Threads that wait for a sync.
    waiters: Waiters,
    /// Held while the active segment is synced.
    syncing: Mutex<()>,
    lag: sync::Lag,
    /// The first segment that was not checked for an index yet.
    sealed: AtomicU32,
    /// The end of the reserved space, as a position's word.
    room: AtomicU64,
}

impl ShardLog {
    /// Makes the files of a new shard, synced; the caller adds it to the manifest.
    pub(crate) fn create(
        directory: &Arc<Directory>,
        folder: &Path,
        config: &ShardConfig,
    ) -> Result<()> {
        let fs = directory.fs();
        fs.create_dir(folder).at(folder)?;
        for name in ["append.lock", "sync.lock"] {
            let path = folder.join(name);
            fs.open(&path, Open::Create).at(&path)?;
        }
        StateFile::create(directory.fs(), &folder.join("state"))?;
        let segments = Segments::new(Arc::clone(directory.fs()), folder.to_owned());
        let first =
            segments
                .create(0, 0, &Self::segment_header(directory, config, 0, 0, 0), |error| error)?;
        let identity = first.open(directory.fs())?.identity().at(first.path())?;
        let start = (Position { segment: 0, offset: SEGMENT_START }, 0);
        directory.control().page(config.page).initialise(&crate::control::PageValues {
            owner: config.owner(),
            segment_identity: identity,
            committed: start,
            durable: start,
            visible: start,
            ..Default::default()
        });
        fs.sync_dir(folder).at(folder)
    }

    /// Opens a shard that is in the manifest and whose page was initialised.
    pub(crate) fn open(
        directory: &Arc<Directory>,
        folder: PathBuf,
        config: ShardConfig,
    ) -> Result<Self> {
        let fs = directory.fs();
        Ok(Self {
            append_lock: LockedFile::open(fs, &folder.join("append.lock"))?,
            sync_lock: LockedFile::open(fs, &folder.join("sync.lock"))?,
            state: StateFile::open(fs, &folder.join("state"))?,
            segments: Segments::new(Arc::clone(fs), folder.clone()),
            kept_files: kept_file::KeptFiles::default(),
            directory: Arc::clone(directory),
            folder,
            is_compressing: AtomicBool::new(config.compression == Compression::Zstd),
            config,
            queue: Mutex::default(),
            writer: Mutex::default(),
            waiters: Waiters::default(),
            syncing: Mutex::default(),
            lag: sync::Lag::default(),
            sealed: AtomicU32::default(),
            room: AtomicU64::default(),
        })
    }

    pub(crate) fn segment_header(
        directory: &Directory,
        config: &ShardConfig,
        epoch: u32,
        base_seq: SequenceNumber,
        prev_header_crc: u32,
    ) -> SegmentHeader {
        SegmentHeader {
            log_uuid: directory.uuid(),
            shard: config.id,
            epoch,
            base_seq,
            created: directory.clock().now(),
            prev_header_crc,
            incompatible: 0,
            read_only_compatible: 0,
            compatible: 0,
            hash_range: config.hash_range,
            parents: config.parents.clone(),
        }
    }

    fn page(&self) -> Page<'_> {
        self.directory.control().page(self.config.page)
    }

    /// The stream's name.
    pub fn stream(&self) -> &Arc<str> {
        &self.config.stream
    }

    /// The shard.
    pub fn id(&self) -> ShardId {
        self.config.id
    }

    /// Changes how batches are stored from now on.
    pub(crate) fn set_compression(&self, compression: Compression) {
        self.is_compressing.store(compression == Compression::Zstd, Ordering::Relaxed);
    }

    /// The shard's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Rises at every unclean stop.
    pub fn epoch(&self) -> u32 {
        self.page().epoch()
    }

    /// Lowest sequence number kept.
    ///
    /// # Errors
    /// The state file cannot be read.
    pub fn trim_horizon(&self) -> Result<SequenceNumber> {
        Ok(self.state.load()?.trim_horizon)
    }

    /// Visible records have sequence numbers below this.
    pub fn visible_end(&self) -> SequenceNumber {
        self.page().visible_end()
    }

    /// Whether a reader at `next_seq` has read the whole shard for good: it was split or merged,
    /// and its CLOSE is read.
    pub fn is_finished(&self, next_seq: SequenceNumber) -> bool {
        self.page().is_closed() && next_seq >= self.page().next_seq()
    }

    /// Where the records below `end` end: `end` itself, or the CLOSE of the shard just below it.
    pub fn end_of_records(&self, end: SequenceNumber) -> SequenceNumber {
        end.saturating_sub(u64::from(self.is_finished(end)))
    }

    /// Append time of the last batch committed, µs UTC; 0 before the first.
    pub fn last_timestamp(&self) -> u64 {
        self.page().max_ts()
    }

    /// Number of segment files and their size together, in bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn size(&self) -> Result<(usize, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for segment in self.segments.list()? {
            // Retention may have taken it since the folder was read.
            if let Some((segment, file)) = self.segments.open(segment.ordinal)? {
                bytes += file.length().at(segment.path())?;
                count += 1;
            }
        }
        Ok((count, bytes))
    }

    /// Called ten times a second: closes the files of removed segments that idle readers and writers of
    /// this process have open, so that the disk has their room back.
    pub(crate) fn close_removed_files(&self) {
        // The segment being written is there as long as the stream is, which spares asking.
        let active = (!self.is_removed()).then(|| self.page().committed().segment);
        self.kept_files.close_removed(active);
        if let Some(mut writer) = self.try_exclude_writers() {
            writer.close_unless(active);
        }
    }

    /// Closes the files that readers and writers of this process have open: the log is closed.
    pub(crate) fn close_files(&self) {
        self.kept_files.close_all();
        self.exclude_writers().close_unless(None);
    }

    /// Whether the file is one a batch can be read from: for `page.segment_identity` checks.
    fn identity_of(file: &Arc<dyn File>, path: &Path) -> Result<(u64, u64)> {
        file.identity().at(path)
    }
}
