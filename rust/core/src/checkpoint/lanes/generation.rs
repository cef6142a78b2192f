//! A new generation of lanes: another number of lanes, or another place.

use super::held::FileState;
use super::slots::lane_start;
use super::view::LaneView;
use super::{LanesFile, STRIDE};
use crate::checkpoint::resume_point::ResumePoint;
use crate::checkpoint::slot::{Checkpoint, Head, LaneLayout};
use crate::checkpoint::window::Pair as WindowPair;
use crate::error::{IoContext, Result};
use crate::fs::Lock;
use crate::sync::MutexGuard;
use crate::types::Micros;

impl LanesFile {
    /// Changes the factor in force, and whether the lanes have windows. The caller has the leases of
    /// all lanes in force.
    ///
    /// Every lane of the new factor begins at the lowest checkpoint of the old ones; a window that was
    /// open is forgotten. Returns false, without a change, if a batch is still in flight.
    ///
    /// # Errors
    /// [`Error::LogFull`] if there is no room for more lanes (nothing has changed),
    /// [`Error::CheckpointConflict`], [`Error::Io`].
    ///
    /// # Durability
    /// Durable when it returns. The write of the head is the commit: a crash before it leaves the old
    /// lanes, whose slots were not touched.
    pub fn change_factor(
        &self,
        wanted: impl Into<LaneLayout>,
        boot_id: [u8; 16],
        now: Micros,
    ) -> Result<bool> {
        let layout = wanted.into();
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        self.check(&state)?;
        let _locked = self.lock(&state, Lock::Exclusive)?;
        let head = self.read_head()?;
        if head.layout() == layout {
            return Ok(true);
        }
        // WHY: below only slots that do not count are overwritten; those that do must be durable
        // before, or a power cut could leave neither.
        self.sync_slots(&mut state)?;
        let lanes = (0..head.factor).map(|slot| self.read_lane(head, slot));
        let lanes = lanes.collect::<Result<Vec<_>>>()?;
        let is_open = |lane: &LaneView| {
            lane.still_open(boot_id).is_some_and(|in_flight| !in_flight.entries.is_empty())
        };
        if lanes.iter().any(is_open) {
            return Ok(false);
        }
        let lowest = lanes.iter().map(|lane| lane.checkpoint).min_by_key(|found| found.next_seq);
        let lowest = lowest.expect("a factor is at least 1");
        self.begin_anew(&mut state, head, layout, &Checkpoint { written: now, ..lowest })?;
        Ok(true)
    }

    /// Makes all lanes begin at a place, whatever they have done or have in flight. The caller has
    /// the leases of all lanes in force.
    ///
    /// # Errors
    /// As [`LanesFile::change_factor`].
    ///
    /// # Durability
    /// As [`LanesFile::change_factor`].
    pub fn restart(&self, place: ResumePoint, now: Micros) -> Result<()> {
        let _syncing = self.syncing.lock();
        let mut state = self.state.lock();
        self.check(&state)?;
        let _locked = self.lock(&state, Lock::Exclusive)?;
        let head = self.read_head()?;
        self.sync_slots(&mut state)?;
        let ResumePoint { next_seq, hint, shard_epoch } = place;
        let first =
            Checkpoint { next_seq, hint, shard_epoch, written: now, ..Checkpoint::default() };
        self.begin_anew(&mut state, head, head.layout(), &first)
    }

    /// Writes a generation in which all lanes begin at `first`; what is in the slots must be durable.
    fn begin_anew(
        &self,
        state: &mut MutexGuard<'_, FileState>,
        head: Head,
        layout: LaneLayout,
        first: &Checkpoint,
    ) -> Result<()> {
        let LaneLayout { factor, is_windowed } = layout;
        self.file.allocate(lane_start(factor.max(head.factor))).at(&self.path)?;
        let generation = head.generation + 1;
        for slot in 0..factor {
            let pair = self.read_slots(slot)?;
            let counts = if slot < head.factor { pair.newest(head.generation) } else { None };
            let target = counts.map_or(0, |(newest, _)| 1 - newest);
            let (counter, lease_epoch) = (pair.counter() + 1, pair.epoch() + 1);
            let first = Checkpoint { counter, generation, lease_epoch, ..*first };
            self.write_checkpoint(slot, target, &first)?;
        }
        if is_windowed {
            let &Checkpoint { next_seq, hint, shard_epoch, written, .. } = first;
            let place = ResumePoint { next_seq, hint, shard_epoch };
            let pair =
                WindowPair { counter: 1, generation, place, written, ..WindowPair::default() };
            let counts =
                if head.is_windowed { self.window_files.newest(head.generation)? } else { None };
            match counts {
                // WHY: until the head is written the old pair counts, and has to stay.
                Some((which, _)) => self.window_files.write(1 - which, &pair)?,
                None => self.window_files.begin(&pair)?,
            }
        }
        self.sync_slots(state)?;
        let new = Head { counter: head.counter + 1, generation, factor, is_windowed };
        self.write_head(state, &new)?;
        // WHY twice: if one slot rots, the other must not bring back lanes that were given up.
        self.write_head(state, &Head { counter: new.counter + 1, ..new })?;
        if head.is_windowed && !is_windowed {
            self.window_files.clear()?;
        }
        Ok(())
    }

    fn write_head(&self, state: &mut MutexGuard<'_, FileState>, head: &Head) -> Result<()> {
        // INVARIANT: counters rise by one from the 1 in slot 0, so this is the slot that does not count.
        self.file.write_at(&[&head.encode()], (head.counter - 1) % 2 * STRIDE).at(&self.path)?;
        self.sync_slots(state)
    }
}
