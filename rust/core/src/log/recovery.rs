//! Recovery: what is done with each shard when a process opens a log alone.
//!
//! ```text
//! same boot, CLEAN, last batch verifies ─────────────────────────────▶ trust the page cache
//! same boot, WRITING ── walk from the last batch ── adopt whole, cut rest ▶ go on
//! otherwise ── walk from the recovery point ─┬─ end ─────────────────▶ epoch + 1 if numbers may be lost
//!                                            ├─ torn tail ── quarantine, cut, epoch + 1
//!                                            └─ damage before synced data ── never cut; reading it fails
//! ```
//! A shard that its manifest calls closed ends with CLOSE; a missing CLOSE is written again.
//! [`examine`] only reads, so that a log of a newer version is refused before anything is changed.
//! After recovery the shard can be read at once. Cutting a tail and beginning an epoch may need
//! space that a full disk does not have; then the first append does it.

mod begin;
mod find_end;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{End, Page, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::{Hole, ShardState};
use crate::fs::Fs;

use super::failure::FailedSync;
use super::scan::{Scan, Tail};
use super::sync::fail_stop;
use super::{holes, Directory, Segments, ShardConfig, StateFile};

/// What the examination of a shard found.
pub(crate) struct ExaminedShard {
    folder: PathBuf,
    config: ShardConfig,
    segments: Segments,
    state_file: StateFile,
    state: ShardState,
    /// A failed sync, which is final.
    failure: Option<FailedSync>,
    /// Where the log ends; `None` if the page can be trusted.
    end: Option<LogEnd>,
}

/// Where a log ends.
struct LogEnd {
    tail: Tail,
    /// Up to where the batches found say that they were on disk.
    synced: End,
    /// Whether a torn tail lies behind it.
    is_torn: bool,
    /// Damage before it that is not in the list yet.
    holes: Vec<Hole>,
}

/// Finds out how a shard was left; changes nothing. Only under the exclusive lock of the log.
///
/// # Errors
/// [`Error::UnsupportedFormat`] if a newer version wrote what has to be looked at;
/// [`Error::Corruption`] if the state is damaged; errors of reading.
pub(crate) fn examine(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
    same_boot: bool,
) -> Result<ExaminedShard> {
    let fs = directory.fs();
    let page = directory.control().page(config.page);
    let segments = Segments::new(Arc::clone(fs), folder.to_owned());
    let state_file = StateFile::open(fs, &folder.join("state"))?;
    let state = state_file.load()?;
    let failure = FailedSync::load(fs, folder)?;
    let end = if same_boot && page.is_of(config.owner()) && trust(&page, &segments, fs)? {
        None
    } else {
        let shard =
            Recovering { directory, folder, config, segments: &segments, state_file: &state_file };
        Some(shard.find_end(&state)?)
    };
    Ok(ExaminedShard {
        folder: folder.to_owned(),
        config: config.clone(),
        segments,
        state_file,
        state,
        failure,
        end,
    })
}

/// Makes one shard readable and, if there is space, writable, and writes its page. Only under the
/// exclusive lock of the log. Running it again, even after a crash inside it, gives the same
/// result.
pub(crate) fn recover(directory: &Arc<Directory>, found: &ExaminedShard) -> Result<()> {
    let page = directory.control().page(found.config.page);
    let shard = Recovering {
        directory,
        folder: &found.folder,
        config: &found.config,
        segments: &found.segments,
        state_file: &found.state_file,
    };
    match &found.end {
        None => {
            // A clean close that did not finish may have lowered what is on disk already.
            page.set_reserved(page.reserved().min(found.state.reserved));
            if found.failure.is_some() {
                page.set_state(WriterState::Failed(libc::EIO));
            }
            Ok(())
        }
        Some(end) => {
            if let Some(failure) = found.failure {
                shard.stay_failed(&found.state, end, failure);
                return Ok(());
            }
            shard.note_holes(&end.holes)?;
            match shard.begin_reading(&found.state, end.tail) {
                Err(Error::StoragePoisoned { .. }) => {
                    // WHY no boot, though it is this one: what was found may have been written before it.
                    shard.stay_failed(&found.state, end, FailedSync::default());
                    return Ok(());
                }
                begun => begun?,
            }
            match shard.begin_writing(&found.state, end.tail, end.is_torn) {
                // Reading, checkpoints and retention go on; each append tries again, or is told, and
                // says why not.
                Err(
                    Error::LogFull { .. }
                    | Error::UnsupportedFormat { .. }
                    | Error::StoragePoisoned { .. },
                ) => Ok(()),
                begun => begun,
            }
        }
    }
}

/// Why a shard has no page: the error of trying to examine it now.
pub(crate) fn explain(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
) -> Option<Error> {
    examine(directory, folder, config, false).err()
}

/// Whether the page can be trusted: the page cache outlives every process.
fn trust(page: &Page<'_>, segments: &Segments, fs: &Arc<dyn Fs>) -> Result<bool> {
    if page.is_removed() {
        // A removal that did not come to its first lasting step: the stream is still there.
        return Ok(false);
    }
    match page.state() {
        WriterState::Failed(_) => return Ok(true),
        WriterState::Unrecovered => return Ok(false),
        WriterState::Clean | WriterState::Writing => {}
    }
    let Some(segment) = segments.get(page.committed().segment)? else { return Ok(false) };
    let file = segment.open(fs)?;
    if file.identity().at(segment.path())? != page.segment_identity() {
        return Ok(false);
    }
    if page.state() == WriterState::Writing {
        // The next writer looks at the tail under `append.lock`, as it would beside a dead one.
        return Ok(true);
    }
    let last = page.last_position();
    if last.offset == 0 {
        return Ok(true);
    }
    let mut scan = Scan::new(segments, fs);
    scan.open(last.segment)?;
    Ok(match scan.batch(last.offset)? {
        Ok(Some((header, crc))) => crc == page.last_crc() && header.next_seq() == page.next_seq(),
        _ => false,
    })
}

pub(super) struct Recovering<'a> {
    pub(super) directory: &'a Arc<Directory>,
    pub(super) folder: &'a Path,
    pub(super) config: &'a ShardConfig,
    pub(super) segments: &'a Segments,
    pub(super) state_file: &'a StateFile,
}

impl Recovering<'_> {
    fn note_holes(&self, found: &[Hole]) -> Result<()> {
        match holes::note(self.directory.fs(), self.folder, found) {
            // Readers and `fsck` meet the damage without the list; a full disk must not stop them.
            Err(Error::LogFull { .. }) => Ok(()),
            noted => noted,
        }
    }

    /// Recovers as the opening would, but beside readers: under `append.lock`.
    pub(super) fn resume(&self) -> Result<()> {
        let state = self.state_file.load()?;
        let LogEnd { tail, is_torn, holes, .. } = self.find_end(&state)?;
        self.note_holes(&holes)?;
        let visible = self.directory.control().page(self.config.page).visible();
        if tail.position < visible {
            return Err(Error::Corruption {
                path: self.folder.to_owned(),
                position: tail.position.offset,
                first: tail.next_seq,
                last: tail.next_seq,
                reason: "what could be read when the log was opened is no longer whole".into(),
            });
        }
        self.begin_writing(&state, tail, is_torn)
    }
}

/// After everything was synced and no other process has the log open: notes that no number was issued
/// beyond the log, so that the next opening needs neither a scan nor a new epoch.
pub(crate) fn close_cleanly(
    directory: &Arc<Directory>,
    folder: &Path,
    config: &ShardConfig,
) -> Result<()> {
    let page = directory.control().page(config.page);
    if !page.is_of(config.owner())
        || page.state() != WriterState::Clean
        || page.is_removed()
        || page.reserved() == page.next_seq()
    {
        return Ok(());
    }
    let fs = directory.fs();
    let segments = Segments::new(Arc::clone(fs), folder.to_owned());
    let end = page.committed();
    let failed = |error: Error| fail_stop(directory, folder, &page, &error);
    if let Some(segment) = segments.get(end.segment)? {
        let synced = segment.open(fs)?.sync_data().at(segment.path());
        synced.map_err(failed)?;
    }
    page.after_sync(end, page.next_seq());
    // INVARIANT: the page never has more reserved than the disk. First down there, then here.
    page.set_reserved(page.next_seq());
    let state_file = StateFile::open(fs, &folder.join("state"))?;
    let noted = state_file.update(|state| {
        state.reserved = page.next_seq();
        // The recovery point of a closed shard stays before its CLOSE: see `ShardLog::close`.
        if !page.is_closed() {
            state.recovery_point = end;
            state.recovery_seq = page.next_seq();
            state.recovery_crc = page.last_crc();
            state.recovery_ts = page.max_ts();
        }
    });
    noted.map_err(failed).map(drop)
}
