//! Group commit: one `fdatasync` for all waiting callers, in all processes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::Mutex;

use crate::clock::{Deadline, Patience, Stopwatch};
use crate::control::{Page, WriterState};
use crate::error::{Error, IoContext, Result};
use crate::format::ShardState;
use crate::types::{Durability, Position, SequenceNumber};

use super::failure::FailedSync;
use super::locks::INTERRUPT_CHECK;
use super::{Directory, ShardLog};

/// How long a waiter sleeps before it checks the leader's progress.
const WAIT_STEP: Duration = Duration::from_millis(5);
/// A waiter that sees no progress for this long syncs itself: the leader may be stopped.
const LEADER_PATIENCE: Duration = Duration::from_millis(50);
/// Committed data that was not synced for this long is synced by the first process that notices.
pub(crate) const LAG_MAX: Duration = Duration::from_secs(1);

/// Since when this process has seen committed data that is not durable.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    since: Mutex<Option<Stopwatch>>,
    durable_seen: AtomicU64,
    /// The end at the last tick.
    end_seen: AtomicU64,
    /// The end up to which this process knows that the recovery point has been moved.
    marked: AtomicU64,
}

/// How far a waiter saw the shard synced, and since when without progress.
struct Standstill {
    at: SequenceNumber,
    since: Stopwatch,
}

impl Standstill {
    fn at(durable_end: SequenceNumber) -> Self {
        Self { at: durable_end, since: Stopwatch::start() }
    }
}

fn errno_of(error: &Error) -> i32 {
    match error {
        Error::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
        Error::LogFull { .. } => libc::ENOSPC,
        _ => libc::EIO,
    }
}

/// A folder that could not even be opened was not synced, and no caller was told that it was. So the
/// sync may be tried again.
fn was_never_tried(error: &Error) -> bool {
    matches!(errno_of(error), libc::EMFILE | libc::ENFILE)
}

/// A sync of a shard failed: no process acknowledges anything on it any more. The data is not
/// written again, because the kernel may have dropped it and would not report that twice.
pub(super) fn fail_stop(
    directory: &Directory,
    folder: &Path,
    page: &Page<'_>,
    error: &Error,
) -> Error {
    if was_never_tried(error) {
        return error.duplicate();
    }
    let errno = errno_of(error);
    page.set_state(WriterState::Failed(errno));
    FailedSync::note(directory, folder, errno, error);
    directory.control().wake();
    Error::StoragePoisoned { path: folder.to_owned(), errno }
}

impl ShardLog {
    /// Waits until everything below `end` is synced, by another thread or by this one as the
    /// leader.
    ///
    /// # Errors
    /// [`Error::StoragePoisoned`], [`Error::Interrupted`], [`Error::LockTimeout`]: whether the
    /// records are durable is then unknown.
    pub(crate) fn wait_durable(&self, end: SequenceNumber, patience: &Patience<'_>) -> Result<()> {
        let page = self.page();
        let mut asked = Stopwatch::start();
        let mut standstill = Standstill::at(page.durable_end());
        loop {
            let seen = self.waiters.word();
            if page.durable_end() >= end {
                return Ok(());
            }
            page.check(&self.folder)?;
            // WHY all at once, not one after the other: a thread whose records were synced is to put
            // again while the next sync runs. A thread that leads before the others have gone on syncs
            // for itself alone.
            if let Some(_lead) = self.waiters.try_lead() {
                self.lead(end, &mut standstill, &asked, patience.deadline)?;
            } else {
                self.waiters.wait(seen, INTERRUPT_CHECK.min(patience.deadline.left()));
            }
            // WHY not while leading: handlers of signals run here, and may put themselves.
            if page.durable_end() < end {
                self.keep_waiting(&mut asked, patience)?;
            }
        }
    }

    /// As the leading thread of this process: syncs, or waits for a process that does, until it is
    /// time to ask the caller whether it still wants to wait.
    fn lead(
        &self,
        end: SequenceNumber,
        standstill: &mut Standstill,
        asked: &Stopwatch,
        deadline: Deadline,
    ) -> Result<()> {
        let page = self.page();
        while page.durable_end() < end && asked.elapsed() < INTERRUPT_CHECK && !deadline.is_past() {
            page.check(&self.folder)?;
            if page.durable_end() > standstill.at {
                *standstill = Standstill::at(page.durable_end());
                self.waiters.wake();
            }
            let seen = self.directory.control().wake_word();
            let leader = self.sync_lock.try_lock()?;
            if leader.is_some() || standstill.since.elapsed() >= LEADER_PATIENCE {
                self.sync_now()?;
            } else if page.durable_end() < end {
                // Another process leads; its wake ends this sleep.
                self.directory.control().wait(seen, WAIT_STEP);
            }
        }
        Ok(())
    }

    /// Whether the caller still wants to wait; it is not asked every time.
    fn keep_waiting(&self, asked: &mut Stopwatch, patience: &Patience<'_>) -> Result<()> {
        if asked.elapsed() >= INTERRUPT_CHECK {
            *asked = Stopwatch::start();
            if (patience.interrupted)() {
                return Err(Error::Interrupted);
            }
        }
        if patience.deadline.is_past() {
            let path = self.folder.join("sync.lock");
            return Err(Error::LockTimeout { path, holder: "a slow disk".into() });
        }
        Ok(())
    }

    /// Syncs what is committed now, shows it to readers and wakes them.
    ///
    /// # Errors
    /// [`Error::StoragePoisoned`]: the shard is fail-stopped.
    pub(crate) fn sync_now(&self) -> Result<()> {
        let page = self.page();
        // WHY one at a time: the kernel tells a failed write-back once for each open file. Of two syncs
        // at once on ours, one would hear of it and the other report a success that never was.
        let _alone = self.syncing.lock();
        page.check(&self.folder)?;
        let (end, end_seq) = page.before_sync();
        let is_durable = page.durable() >= end && page.durable_end() >= end_seq;
        if is_durable && page.visible() >= end && page.visible_end() >= end_seq {
            return Ok(());
        }
        let (segment, file) = self.segments.open(end.segment)?.ok_or_else(|| Error::Io {
            path: self.folder.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        if let Err(error) = file.sync_data().at(segment.path()) {
            return Err(self.fail_stop(&error));
        }
        // Another process may have heard of a failure that this one was not told.
        page.check(&self.folder)?;
        page.after_sync(end, end_seq);
        self.directory.control().wake();
        Ok(())
    }

    /// Changes `state`, durably; a sync of it that fails stops the shard.
    ///
    /// # Errors
    /// [`Error::StoragePoisoned`]; [`Error::LogFull`]: nothing has changed.
    pub(super) fn update_state(&self, change: impl FnOnce(&mut ShardState)) -> Result<()> {
        match self.state.update(change) {
            // It was not written, so no sync of it was tried.
            Err(full @ Error::LogFull { .. }) => Err(full),
            updated => updated.map(drop).map_err(|error| self.fail_stop(&error)),
        }
    }

    /// See [`fail_stop`].
    pub(crate) fn fail_stop(&self, error: &Error) -> Error {
        fail_stop(&self.directory, &self.folder, &self.page(), error)
    }

    /// Moves the recovery point to the end of an idle shard: everything before it was synced, and
    /// from now on is known to have been.
    fn mark_recovery_point(&self, end_seq: SequenceNumber) -> Result<()> {
        let page = self.page();
        let Some(_writer) = self.try_exclude_writers() else { return Ok(()) };
        let Some(_locked) = self.append_lock.try_lock()? else { return Ok(()) };
        self.directory.check()?;
        let end = page.committed();
        let is_synced = page.durable() >= end && page.durable_end() >= end_seq;
        if page.next_seq() != end_seq || page.state() != WriterState::Clean || !is_synced {
            return Ok(());
        }
        // The recovery point of a closed shard stays before its CLOSE: see `ShardLog::close`.
        if !page.is_closed() && self.state.load()?.recovery_point < end {
            self.update_state(|state| {
                state.recovery_point = end;
                state.recovery_seq = end_seq;
                state.recovery_crc = page.last_crc();
                state.recovery_ts = page.max_ts();
            })?;
        }
        self.lag.marked.store(end_seq, Ordering::Relaxed);
        Ok(())
    }

    /// Reserves disk space for the next records of a shard that must continue when the disk is
    /// full.
    fn keep_room(&self) -> Result<()> {
        let (step, end) = (self.config.room, self.page().committed());
        if step == 0 {
            return Ok(());
        }
        let offset = (end.offset.next_multiple_of(step) + step).min(self.config.segment_bytes);
        let wanted = Position { offset, ..end }.to_word();
        if self.room.load(Ordering::Relaxed) >= wanted {
            return Ok(());
        }
        if let Some((segment, file)) = self.segments.open(end.segment)? {
            file.reserve(offset).at(segment.path())?;
            self.room.store(wanted, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Called ten times a second: syncs what has been waiting for [`LAG_MAX`].
    pub(crate) fn tick(&self) {
        let page = self.page();
        if page.check(&self.folder).is_err() {
            return;
        }
        let (committed, durable) = (page.next_seq(), page.durable_end().min(page.visible_end()));
        let is_idle = self.lag.end_seen.swap(committed, Ordering::Relaxed) == committed;
        if is_idle && durable >= committed && self.lag.marked.load(Ordering::Relaxed) != committed {
            // A failure leaves the older point, from which more is read at the next opening.
            let _ = self.mark_recovery_point(committed);
        }
        // A failure leaves a segment that is read from its beginning.
        let _ = self.seal_next();
        // A failure leaves the room there was.
        let _ = self.keep_room();
        let mut since = self.lag.since.lock();
        let moved = self.lag.durable_seen.swap(durable, Ordering::Relaxed) != durable;
        if committed <= durable {
            *since = None;
        } else if since.is_none() || (moved && self.config.durability == Durability::Group) {
            *since = Some(Stopwatch::start());
        } else if since.is_some_and(|since| since.elapsed() >= LAG_MAX) {
            *since = None;
            drop(since);
            // A failure is on the page: the next call of the user reports it.
            let _ = self.sync_now();
        }
    }
}
