//! The lanes file of one shard in one mapping: every lane's checkpoint and batch in flight.
//!
//! ```text
//! 0          head slot 0          4096     head slot 1
//! 8192 + 12288 n    lane n:   +0 checkpoint slot 0   +4096 checkpoint slot 1   +8192 in-flight slot
//! ```
//! States of a lane: free -> `take` (epoch + 1, synced) -> held -> `give_back` -> free. Every write
//! of a held lane happens under the file's lock, and is refused if a slot holds a higher epoch.
//!
//! Between two syncs all checkpoints of a lane go to the same slot, never to the one that was
//! synced last. So a power cut can tear only the newer one. A slot counts as synced once a whole
//! sync has passed without a write to it. If a lane is never quiet for that long, its writes wait
//! for a sync now and then.
//!
//! The slots of a lane with tumbling windows hold only the epoch. Its position and windows are in
//! the window files (`window.rs`), which take turns by the same rule.

mod generation;
mod held;
mod slots;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Mutex, MutexGuard};

use super::lease;
use super::resume_point::ResumePoint;
use super::slot::{Checkpoint, Head, InFlight, LaneLayout};
use super::window::{Pair as WindowPair, WindowFiles, Windows};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, File, Fs, Lock, Open};
use crate::log::wait_for;
use crate::types::Micros;

use held::{note_sync, FileState, Held};
use slots::lane_start;
use view::view_of;
pub use view::LaneView;

pub(crate) const STRIDE: u64 = 4096;
pub(crate) const LANES_START: u64 = 2 * STRIDE;
pub(crate) const LANE_BYTES: u64 = 3 * STRIDE;
/// The lock is held for microseconds. A process that holds it for longer than this is stopped, and
/// the error names it.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// After this many syncs of a file one makes the writers wait, so that a busy lane's durable slot
/// is never much older than its newest.
const RACED_SYNCS_MAX: u32 = 9;

/// One lanes file, open. Threads share it; each held lane belongs to one of them.
#[derive(Debug)]
pub struct LanesFile {
    path: PathBuf,
    /// `mapping stream shard`, for messages.
    label: String,
    fs: Arc<dyn Fs>,
    file: Arc<dyn File>,
    window_files: WindowFiles,
    // WHY: of two syncs at once the kernel tells only one that writing failed. Taken before `state`.
    syncing: Mutex<()>,
    state: Mutex<FileState>,
}

/// Releases the file's lock when dropped.
struct Locked<'a>(&'a LanesFile);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // An unlock fails only for a descriptor that is not one; then there is no lock either.
        let _ = self.0.file.unlock();
    }
}

impl LanesFile {
    /// Makes a lanes file, unless there is one. `layout` is a factor or a [`LaneLayout`]; all lanes
    /// begin at `start`. The caller holds `mappings/lock`.
    ///
    /// # Errors
    /// [`Error::LogFull`] if there is no room for all slots, [`Error::Io`].
    ///
    /// # Durability
    /// Durable when it returns; a crash leaves the whole file or none.
    pub fn create(
        fs: &Arc<dyn Fs>,
        path: &Path,
        layout: impl Into<LaneLayout>,
        start: ResumePoint,
        now: Micros,
    ) -> Result<()> {
        let LaneLayout { factor, is_windowed } = layout.into();
        if fs.exists(path).at(path)? {
            return Ok(());
        }
        if is_windowed {
            let first = WindowPair {
                counter: 1,
                generation: 1,
                place: start,
                written: now,
                ..WindowPair::default()
            };
            WindowFiles::beside(fs, path).begin(&first)?;
        }
        let mut staged = path.as_os_str().to_owned();
        staged.push(".new");
        let staged = PathBuf::from(staged);
        let file = fs.open(&staged, Open::Create).at(&staged)?;
        file.truncate(0).at(&staged)?;
        // Every slot has its place from the beginning, so that a full disk cannot stop progress.
        file.allocate(lane_start(factor)).at(&staged)?;
        let head = Head { counter: 1, generation: 1, factor, is_windowed };
        file.write_at(&[&head.encode()], 0).at(&staged)?;
        let ResumePoint { next_seq, hint, shard_epoch } = start;
        let first = Checkpoint {
            counter: 1,
            generation: 1,
            lease_epoch: 0,
            next_seq,
            hint,
            written: now,
            shard_epoch,
        };
        for slot in 0..factor {
            file.write_at(&[&first.encode()], lane_start(slot)).at(&staged)?;
        }
        file.sync_data().at(&staged)?;
        fs.rename(&staged, path).at(path)?;
        fs.sync_dir(fs::parent(path)).at(path)
    }

    /// Opens a lanes file; `label` is `mapping stream shard`, for messages.
    ///
    /// # Errors
    /// [`Error::Io`], also if it is not there.
    pub fn open(fs: &Arc<dyn Fs>, path: &Path, label: String) -> Result<Self> {
        let file = fs.open(path, Open::Write).at(path)?;
        let window_files = WindowFiles::beside(fs, path);
        let (path, fs) = (path.to_owned(), Arc::clone(fs));
        let (syncing, state) = (Mutex::default(), Mutex::default());
        Ok(Self { path, label, fs, file, window_files, syncing, state })
    }

    /// Whether it still has its name: a removed file is no mapping's position any more.
    pub(super) fn is_there(&self) -> Result<bool> {
        match self.fs.open(&self.path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            found => {
                let found = found.at(&self.path)?.identity().at(&self.path)?;
                Ok(found == self.file.identity().at(&self.path)?)
            }
        }
    }

    /// The head: generation and factor in force.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`] if both head slots are damaged.
    pub fn head(&self) -> Result<Head> {
        let state = self.state.lock();
        let _locked = self.lock(&state, Lock::Shared)?;
        self.read_head()
    }

    /// One lane; `None` if the factor in force has no such lane.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`] if both of its checkpoint slots, or of the head, are damaged.
    pub fn lane(&self, slot: u32) -> Result<Option<LaneView>> {
        let state = self.state.lock();
        let _locked = self.lock(&state, Lock::Shared)?;
        let head = self.read_head()?;
        if slot >= head.factor {
            return Ok(None);
        }
        self.read_lane(head, slot).map(Some)
    }

    /// All lanes of the factor in force, as they stand at one moment.
    ///
    /// # Errors
    /// As [`LanesFile::lane`].
    pub fn lanes(&self) -> Result<Vec<LaneView>> {
        let state = self.state.lock();
        let _locked = self.lock(&state, Lock::Shared)?;
        let head = self.read_head()?;
        (0..head.factor).map(|slot| self.read_lane(head, slot)).collect()
    }

    /// Raises the lane's epoch: from then on only writes of the caller, which has the lease, count.
    /// `None` if the factor in force has no such lane.
    ///
    /// # Errors
    /// As [`LanesFile::lane`]; [`Error::StoragePoisoned`].
    ///
    /// # Durability
    /// The new epoch, and the checkpoint it found, are durable when it returns.
    pub fn take(&self, slot: u32) -> Result<Option<LaneView>> {
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        // WHY: the owner before may have died with its newest checkpoint unsynced; the older slot,
        // which is written below, must not be the only durable one.
        self.sync_slots(&mut state)?;
        let Some((view, held)) = self.raise_epoch(&state, slot)? else { return Ok(None) };
        state.held.insert(slot, held);
        if let Err(error) = self.sync_slots(&mut state) {
            state.held.remove(&slot);
            return Err(error);
        }
        Ok(Some(view))
    }

    fn raise_epoch(
        &self,
        state: &MutexGuard<'_, FileState>,
        slot: u32,
    ) -> Result<Option<(LaneView, Held)>> {
        let _locked = self.lock(state, Lock::Exclusive)?;
        let head = self.read_head()?;
        if slot >= head.factor {
            return Ok(None);
        }
        let slots = self.read_slots(slot)?;
        let (newest, found) = slots.newest(head.generation).ok_or_else(|| self.conflict(slot))?;
        // Read first: a lane that is refused must not have a new owner.
        let pair = self.read_windows(head)?;
        let (lease_epoch, counter) = (slots.epoch() + 1, slots.counter() + 1);
        let raised = Checkpoint { counter, lease_epoch, ..found };
        let target = 1 - newest;
        self.write_checkpoint(slot, target, &raised)?;
        let mut held = Held {
            epoch: lease_epoch,
            generation: head.generation,
            counter,
            next_seq: found.next_seq,
            windows: None,
            target,
            is_dirty: true,
            raced_syncs: 0,
        };
        if let Some((which, pair)) = &pair {
            held.counter = pair.counter;
            held.next_seq = pair.place.next_seq;
            held.windows = Some(pair.windows.clone());
            (held.target, held.is_dirty) = (1 - which, false);
        }
        let view = view_of(head, raised, pair, self.read_in_flight(slot)?);
        Ok(Some((view, held)))
    }

    /// Writes a held lane's checkpoint; its windows, if it has some, stay as they are.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if another owner's epoch stands in a slot (nothing was written);
    /// [`Error::StoragePoisoned`], [`Error::Io`], [`Error::LockTimeout`].
    ///
    /// # Panics
    /// If it goes back: records below a checkpoint are done.
    ///
    /// # Durability
    /// Survives the death of any process at once, a power cut after the next [`LanesFile::sync`].
    pub fn checkpoint(&self, slot: u32, place: ResumePoint, now: Micros) -> Result<()> {
        self.write_place(slot, place, None, now)
    }

    /// Writes the position and the windows of a held lane that has some, as one.
    ///
    /// # Errors
    /// As [`LanesFile::checkpoint`]; [`Error::LogFull`] if there is no room for the state: what was
    /// written last counts.
    ///
    /// # Panics
    /// As [`LanesFile::checkpoint`], and of a lane without windows.
    ///
    /// # Durability
    /// As [`LanesFile::checkpoint`].
    pub fn checkpoint_windows(
        &self,
        slot: u32,
        place: ResumePoint,
        windows: &Windows,
        now: Micros,
    ) -> Result<()> {
        self.write_place(slot, place, Some(windows), now)
    }

    fn write_place(
        &self,
        slot: u32,
        place: ResumePoint,
        windows: Option<&Windows>,
        now: Micros,
    ) -> Result<()> {
        let mut state = self.state.lock();
        self.check(&state)?;
        let _locked = self.lock(&state, Lock::Exclusive)?;
        let held = self.fence(&mut state, slot)?;
        assert!(
            place.next_seq >= held.next_seq,
            "the checkpoint of {} went back",
            self.lane_label(slot)
        );
        assert!(held.windows.is_some() || windows.is_none(), "the lane has no windows");
        let (counter, generation, lease_epoch) = (held.counter + 1, held.generation, held.epoch);
        if let Some(kept) = &held.windows {
            let windows = windows.unwrap_or(kept).clone();
            let pair =
                WindowPair { counter, generation, lease_epoch, place, written: now, windows };
            self.window_files.write(held.target, &pair)?;
            held.windows = Some(pair.windows);
        } else {
            let ResumePoint { next_seq, hint, shard_epoch } = place;
            let checkpoint = Checkpoint {
                counter,
                generation,
                lease_epoch,
                next_seq,
                hint,
                written: now,
                shard_epoch,
            };
            self.write_checkpoint(slot, held.target, &checkpoint)?;
        }
        held.counter += 1;
        held.next_seq = place.next_seq;
        held.is_dirty = true;
        Ok(())
    }

    /// Writes a held lane's in-flight slot; it is never synced.
    ///
    /// # Errors
    /// As [`LanesFile::checkpoint`].
    pub fn put_in_flight(&self, slot: u32, in_flight: &InFlight) -> Result<()> {
        let mut state = self.state.lock();
        self.check(&state)?;
        let _locked = self.lock(&state, Lock::Exclusive)?;
        self.fence(&mut state, slot)?;
        let position = lane_start(slot) + 2 * STRIDE;
        self.file.write_at(&[&in_flight.encode()], position).at(&self.path)
    }

    /// Makes the checkpoints written so far durable, if there are any.
    ///
    /// # Errors
    /// [`Error::Io`] for the sync that failed, [`Error::StoragePoisoned`] ever after: it is never
    /// tried again.
    pub fn sync(&self) -> Result<()> {
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        if !state.held.values().any(|held| held.is_dirty) {
            return Ok(());
        }
        if state.held.values().any(|held| held.raced_syncs >= RACED_SYNCS_MAX) {
            return self.sync_slots(&mut state);
        }
        self.check(&state)?;
        let before: Vec<_> = state.held.iter().map(|(slot, held)| (*slot, held.counter)).collect();
        let windowed = state.held.values().find(|held| held.windows.is_some());
        let window_file = windowed.map(|held| held.target);
        let synced = MutexGuard::unlocked(&mut state, || match window_file {
            Some(which) => self.window_files.sync(which),
            None => self.file.sync_data().at(&self.path),
        });
        note_sync(&mut state, synced)?;
        for (slot, counter) in before {
            match state.held.get_mut(&slot) {
                Some(held) if held.counter == counter => held.note_synced(),
                Some(held) => held.raced_syncs += 1,
                None => {}
            }
        }
        Ok(())
    }

    /// Makes everything in the file durable, whoever wrote it.
    ///
    /// # Errors
    /// As [`LanesFile::sync`].
    pub fn sync_all(&self) -> Result<()> {
        let _syncing = self.syncing.lock();
        self.sync_slots(&mut self.state.lock())
    }

    /// Forgets a held lane, after making its checkpoint durable; the lease may then be released.
    ///
    /// # Errors
    /// As [`LanesFile::sync`]; the lane is forgotten all the same.
    pub fn give_back(&self, slot: u32) -> Result<()> {
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        let is_dirty = state.held.get(&slot).is_some_and(|held| held.is_dirty);
        let synced = if is_dirty { self.sync_slots(&mut state) } else { Ok(()) };
        state.held.remove(&slot);
        synced
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lease file of a lane.
    pub fn lease_path(&self, slot: u32) -> PathBuf {
        self.path.with_extension(format!("{slot}.lease"))
    }

    /// `mapping stream shard slot`, for messages.
    pub fn lane_label(&self, slot: u32) -> String {
        format!("{} {slot}", self.label)
    }

    /// Locks out other processes; the guard proves that the threads of this one are locked out too.
    fn lock<'a>(&'a self, _threads: &MutexGuard<'_, FileState>, lock: Lock) -> Result<Locked<'a>> {
        wait_for(&self.file, &self.path, lock, &Patience::of(LOCK_PATIENCE))?;
        Ok(Locked(self))
    }

    fn check(&self, state: &FileState) -> Result<()> {
        match state.failed {
            Some(errno) => Err(Error::StoragePoisoned { path: self.path.clone(), errno }),
            None => Ok(()),
        }
    }

    /// Refuses a write if the lane is not ours any more.
    fn fence<'a>(&self, state: &'a mut FileState, slot: u32) -> Result<&'a mut Held> {
        let found = self.read_slots(slot)?.epoch();
        if state.held.get(&slot).is_some_and(|held| held.epoch < found) {
            state.held.remove(&slot);
        }
        state.held.get_mut(&slot).ok_or_else(|| Error::LeaseLost {
            lane: self.lane_label(slot),
            owner: lease::owner(&self.fs, &self.lease_path(slot)),
        })
    }

    /// Syncs while the writers wait.
    fn sync_slots(&self, state: &mut FileState) -> Result<()> {
        self.check(state)?;
        let synced = self.file.sync_data().at(&self.path);
        note_sync(state, synced.and_then(|()| self.window_files.sync_both()))?;
        state.held.values_mut().for_each(Held::note_synced);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
