//! The hot loop of a runner: forms batches of its lanes, and hands out one at a time for each lane.
//!
//! ```text
//! shard -> source (read once) -> cache -> lane: its share, filtered -> batch -> in-flight slot
//!                                                                              -> thread -> checkpoint
//! ```
//! `batching`, `takeover` and `selection` are pure; `leased` is one lane, `LaneSet` all of a runner's.

pub mod batching;
pub mod board;
pub mod cache;
pub mod in_flight_editor;
mod lane_filter;
mod leased;
pub mod selection;
mod share;
mod source;
pub mod takeover;
mod windowing;
mod work;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, MutexGuard};

use crate::checkpoint::{Entry, LanesFile, Mapping, Membership, WindowState};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::log::SpentBuffers;
use crate::stream::{Housekeeper, Log};
use crate::sys;
use crate::types::ShardId;

pub use batching::Limits;
pub use board::Board;
pub use cache::slot_of;
pub use in_flight_editor::InFlightEditor;
pub use lane_filter::Filtering;
pub use selection::Selection;
pub use takeover::{after_worker_death, WORKER_DEATHS_MAX};
pub use work::{Added, DamageMet, Request, Window, Work};

use cache::BatchCache;
use lane_filter::LaneFilter;
use leased::{LaneOpening, LeasedLane, Surroundings};
use source::{AtDamage, Source};
use takeover::{verdict, TakeoverVerdict, Taker};

/// Bytes that a runner's lanes may keep in memory ahead of their functions, by default.
pub const BUDGET_BYTES_DEFAULT: usize = 64 * 1024 * 1024;
/// How often checkpoints are synced, and positions without a batch are written.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(100);
/// Longest sleep of a thread that waits for a batch: some changes wake no thread.
const NAP_MAX: Duration = Duration::from_millis(100);

/// Where a lane is.
enum Holder {
    /// Free for a turn, or resting.
    Free(Box<LeasedLane>),
    /// Its batch is being called.
    InHands(Box<LeasedLane>),
    /// A thread is reading or writing for it.
    Busy,
}

#[derive(Default)]
struct SetState {
    lanes: BTreeMap<u32, Holder>,
    /// Free lanes, the one that has waited longest for a turn first.
    queue: VecDeque<u32>,
    sources: HashMap<(String, ShardId), Arc<Source>>,
    /// The highest number of a source.
    last_source: u32,
    damage: Vec<DamageMet>,
    files: BTreeMap<PathBuf, Arc<LanesFile>>,
}

/// The lanes of one runner, shared by its threads.
pub struct LaneSet {
    log: Arc<Log>,
    worker: [u8; 16],
    runner: u32,
    around: Arc<Surroundings>,
    cache: Arc<BatchCache>,
    spent: Arc<SpentBuffers>,
    state: Mutex<SetState>,
    /// Notified when a lane comes free or is removed.
    changed: Condvar,
    sleepers: AtomicU32,
    is_burst: AtomicBool,
    is_stopped: AtomicBool,
}

impl std::fmt::Debug for LaneSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneSet").field("lanes", &self.lanes()).finish_non_exhaustive()
    }
}

impl Housekeeper for LaneSet {
    fn tick(&self) {
        let files: Vec<_> = self.state.lock().files.values().cloned().collect();
        for file in files {
            // A failed sync is told to the next thread that writes a checkpoint.
            let _ = file.sync();
        }
        // What no lane and no mapping uses any more may be removed by now.
        let mut state = self.state.lock();
        state.files.retain(|_, file| Arc::strong_count(file) > 1);
        state.sources.retain(|_, source| Arc::strong_count(source) > 1 || !source.is_removed());
    }
}

impl LaneSet {
    /// An empty set for one runner of a worker. `budget` bounds, in bytes, the decoded batches it
    /// keeps, and the records that wait in its lanes.
    ///
    /// # Errors
    /// [`Error::ForkedHandle`], [`Error::StreamClosed`].
    pub fn new(log: &Arc<Log>, worker: [u8; 16], runner: u32, budget: usize) -> Result<Arc<Self>> {
        log.check()?;
        let set = Arc::new(Self {
            worker,
            runner,
            around: Arc::new(Surroundings {
                boot_id: log.boot_id(),
                clock: Arc::clone(log.clock()),
                waiting_bytes: AtomicUsize::new(0),
                budget,
            }),
            cache: Arc::new(BatchCache::new(budget)),
            spent: Arc::default(),
            log: Arc::clone(log),
            state: Mutex::default(),
            changed: Condvar::new(),
            sleepers: AtomicU32::new(0),
            is_burst: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        });
        let housekeeper: std::sync::Weak<Self> = Arc::downgrade(&set);
        log.on_housekeeping(housekeeper);
        Ok(set)
    }

    /// Takes the lease of a lane and opens it.
    ///
    /// # Errors
    /// [`Error::Config`] for a number in use, limits that cannot be or a shard that is not there;
    /// [`Error::StreamNotFound`], [`Error::CheckpointConflict`], errors of the file system.
    pub fn add(&self, mapping: &Mapping, request: &Request) -> Result<Added> {
        self.log.check()?;
        request.limits.check()?;
        let filter = request.filtering.clone().map(LaneFilter::new).transpose()?;
        let &Request { lane, shard, slot, limits, is_alone, is_exclusive, passes_damage, .. } =
            request;
        if self.state.lock().lanes.contains_key(&lane) {
            return Err(Error::config("lane", format!("lane {lane} is in the set already")));
        }
        let stream = self.log.stream(&request.stream)?;
        let meta = stream.shards()?.into_iter().find(|meta| meta.id == shard);
        if let Some(meta) = meta.filter(|meta| !meta.parents.is_empty()) {
            if !mapping.is_past_parents(&stream, &meta)? {
                return Ok(Added::Parents);
            }
        }
        let file = mapping.lanes_file(&request.stream, shard)?;
        let head = file.head()?;
        if slot >= head.factor || head.is_windowed != limits.tumbling.is_some() {
            return Ok(Added::Stale);
        }
        let Some(lease) = mapping.try_lease(&file, slot, &self.owner())? else {
            return Ok(Added::Held);
        };
        let Some(view) = file.lane(slot)? else { return Ok(Added::Stale) };
        let mut in_flight = view.still_open(self.log.boot_id());
        let taker = Taker { worker: self.worker, runner: self.runner, is_exclusive };
        if let Some(open) = in_flight.take_if(|open| !open.entries.is_empty()) {
            let is_alive = |worker| Membership::is_alive(&self.log, worker);
            match verdict(open, &taker, self.around.clock.now(), is_alive)? {
                TakeoverVerdict::Judge => return Ok(Added::Judge),
                TakeoverVerdict::Exclusive => return Ok(Added::Exclusive),
                TakeoverVerdict::Take(open) => in_flight = Some(open),
            }
        }
        let source = self.source(request, stream.shard(shard)?);
        let (number, around) = (lane, Arc::clone(&self.around));
        let file_kept = Arc::clone(&file);
        let opening = LaneOpening {
            number,
            slot,
            until: mapping.range_of(shard)?.map(|range| range.until),
            taker,
            is_alone,
            at_damage: if passes_damage { AtDamage::Pass } else { AtDamage::Stop },
            limits,
            filter,
            file,
            lease,
            source,
            around,
            in_flight,
        };
        let Some(held) = LeasedLane::open(opening)? else { return Ok(Added::Stale) };
        let mut state = self.state.lock();
        state.files.insert(file_kept.path().to_owned(), file_kept);
        state.lanes.insert(lane, Holder::Free(Box::new(held)));
        state.queue.push_back(lane);
        drop(state);
        self.log.bump();
        Ok(Added::Ok)
    }

    /// Releases a lane, with its checkpoint durable; waits at most `most` while a thread has it.
    /// False if a thread still has it. A lane that is not in the set is released already.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::StoragePoisoned`] from the sync; the lease is released all the same.
    pub fn remove(&self, lane: u32, most: Duration) -> Result<bool> {
        let deadline = Deadline::after(most);
        let mut state = self.state.lock();
        loop {
            match state.lanes.remove(&lane) {
                None => return Ok(true),
                Some(Holder::Free(held)) => {
                    state.queue.retain(|queued| *queued != lane);
                    self.changed.notify_all();
                    drop(state);
                    return held.close().map(|()| true);
                }
                Some(taken) => {
                    state.lanes.insert(lane, taken);
                    if deadline.is_past() {
                        return Ok(false);
                    }
                    self.changed.wait_for(&mut state, deadline.left());
                }
            }
        }
    }

    /// The next batch of any lane that is free; `None` after `most`, or at once when stopped. Its
    /// in-flight slot is written, and says that it is being called.
    ///
    /// # Errors
    /// What a lane met: [`Error::LeaseLost`] (the lane is gone from the set),
    /// [`Error::SequenceTrimmed`] (it goes on with what is kept), [`Error::Io`] (it is tried again
    /// after a second). Other lanes are not touched. Damage is no error: see [`LaneSet::take_damage`].
    pub fn next(&self, most: Duration) -> Result<Option<Work>> {
        let deadline = Deadline::after(most);
        let mut asleep = None;
        loop {
            self.log.check()?;
            if self.is_stopped() {
                return Ok(None);
            }
            let seen = self.log.wake_word();
            let due = match self.look()? {
                LookResult::Work(work) => {
                    drop(asleep);
                    self.pass_on();
                    return Ok(Some(work));
                }
                LookResult::Nothing(due) => due,
            };
            let left = deadline.left();
            if left.is_zero() || self.has_damage() {
                return Ok(None);
            }
            if asleep.is_none() {
                // INVARIANT: there is a look after this. A thread that frees a lane counts sleepers after
                // that: either this thread is among them, or its look finds the lane free.
                asleep = Some(Asleep::among(&self.sleepers));
                continue;
            }
            let nap = due.map_or(left, |due| due.left().min(left)).min(NAP_MAX);
            self.log.wait(seen, nap);
        }
    }

    /// The next batch of one lane, if it is free and has one now. For a thread that has just put
    /// the lane back, so that it need not wake another thread for the same lane.
    ///
    /// # Errors
    /// As [`LaneSet::next`].
    pub fn next_of(&self, lane: u32) -> Result<Option<Work>> {
        self.log.check()?;
        if self.is_stopped() {
            return Ok(None);
        }
        let is_burst = self.is_burst.load(Ordering::Acquire);
        let mut state = self.state.lock();
        // A lane that was just let go is the last one.
        let Some(place) = state.queue.iter().rposition(|queued| *queued == lane) else {
            return Ok(None);
        };
        state.queue.remove(place);
        let mut due = None;
        let work = self.turn(&mut state, lane, is_burst, &mut due);
        drop(state);
        // A thread that sleeps in `next` has not seen when this lane's batch will be due.
        if due.is_some() && self.sleepers.load(Ordering::SeqCst) > 0 {
            self.log.bump();
        }
        work
    }

    /// Wakes a thread that sleeps in [`LaneSet::next`] if there is more to do, because it does not
    /// notice that a lane came free. For a thread that has put a lane back and does not call `next`
    /// itself.
    pub fn pass_on(&self) {
        if self.sleepers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let is_burst = self.is_burst.load(Ordering::Acquire);
        let is_ready =
            |holder: &Holder| matches!(holder, Holder::Free(held) if held.is_ready(is_burst));
        if self.state.lock().lanes.values().any(is_ready) {
            self.log.bump();
        }
    }

    /// Rewrites the in-flight slot of a lane that a thread has: the open rest of its batch, first
    /// call first. The checkpoint moves up to the lowest open record.
    ///
    /// # Errors
    /// [`Error::Config`] for entries that are not within the batch, or none;
    /// [`Error::LeaseLost`], [`Error::Io`], [`Error::StoragePoisoned`].
    pub fn hold(&self, lane: u32, entries: Vec<Entry>, exponent: u32) -> Result<()> {
        self.in_hands(lane, |held| held.keep(entries, exponent, None).map(|()| IN_HANDS))
    }

    /// Rewrites whether the function of a lane that a thread has is being called. While a batch
    /// waits for its turn after [`LaneSet::next`], it is not, and the death of its runner does not
    /// count for it.
    ///
    /// # Errors
    /// As [`LaneSet::hold`].
    pub fn set_calling(&self, lane: u32, is_calling: bool) -> Result<()> {
        self.in_hands(lane, |held| held.write_slot(is_calling).map(|()| IN_HANDS))
    }

    /// [`LaneSet::hold`], and puts the lane back; [`LaneSet::next`] hands the batch out again after
    /// `rest`. Its slot says that no call is in progress.
    ///
    /// # Errors
    /// As [`LaneSet::hold`].
    pub fn wait(
        &self,
        lane: u32,
        entries: Vec<Entry>,
        exponent: u32,
        rest: Duration,
    ) -> Result<()> {
        self.in_hands(lane, |held| held.keep(entries, exponent, Some(rest)).map(|()| FREE))
    }

    /// Takes the state that a successful call of a lane left, while a thread has the lane. It
    /// counts, and is written, together with the next move of the checkpoint: by [`LaneSet::hold`],
    /// [`LaneSet::wait`] or [`LaneSet::settle`]. `is_ended_early`: the window is to be closed once
    /// the batch is settled.
    ///
    /// # Errors
    /// [`Error::Config`] for a lane without an open window, or a state of more than
    /// [`STATE_BYTES_MAX`](crate::checkpoint::window::STATE_BYTES_MAX) bytes.
    pub fn keep_state(&self, lane: u32, state: WindowState, is_ended_early: bool) -> Result<()> {
        self.in_hands(lane, |held| held.keep_state(state, is_ended_early).map(|()| IN_HANDS))
    }

    /// Notes that the batch of a lane that a thread has is done: checkpoint at its end, lane free.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], [`Error::Io`], [`Error::StoragePoisoned`]; the thread still has the
    /// lane unless it was lost.
    pub fn settle(&self, lane: u32, exponent: u32) -> Result<()> {
        self.in_hands(lane, |held| held.settle(exponent).map(|()| FREE))
    }

    /// Whether lanes met damage that was not taken yet; [`LaneSet::next`] then returns early.
    pub fn has_damage(&self) -> bool {
        !self.state.lock().damage.is_empty()
    }

    /// The damage that lanes met since this was called last.
    pub fn take_damage(&self) -> Vec<DamageMet> {
        std::mem::take(&mut self.state.lock().damage)
    }

    /// Whether batch windows close at once and positions are written at once.
    pub fn set_burst(&self, is_on: bool) {
        self.is_burst.store(is_on, Ordering::Release);
        self.log.bump();
    }

    /// Makes [`LaneSet::next`] return `None` from now on.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.log.bump();
    }

    /// Whether [`LaneSet::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Numbers of the lanes in the set.
    pub fn lanes(&self) -> Vec<u32> {
        self.state.lock().lanes.keys().copied().collect()
    }

    /// Whether no thread has a lane and no lane rests with an open batch.
    pub fn is_idle(&self) -> bool {
        let is_idle = |holder: &Holder| matches!(holder, Holder::Free(held) if !held.is_open());
        self.state.lock().lanes.values().all(is_idle)
    }

    /// Bytes of decoded batches in the cache.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Releases all lanes; false if a thread still has one after `most`.
    ///
    /// # Errors
    /// The first error of releasing one; the others are released all the same.
    pub fn close(&self, most: Duration) -> Result<bool> {
        self.stop();
        let deadline = Deadline::after(most);
        let removed: Vec<_> =
            self.lanes().into_iter().map(|lane| self.remove(lane, deadline.left())).collect();
        removed.into_iter().try_fold(true, |all, one| Ok(all & one?))
    }

    fn owner(&self) -> String {
        let (worker, process) = (sys::hex(&self.worker), std::process::id());
        format!("worker {worker} runner {} process {process}", self.runner)
    }

    fn source(&self, request: &Request, shard: Arc<crate::log::ShardLog>) -> Arc<Source> {
        let mut state = self.state.lock();
        let key = (request.stream.clone(), request.shard);
        // One of a stream that was removed reads nothing, though another stream has its name by now.
        if let Some(source) = state.sources.get(&key).filter(|source| source.is_of(&shard)) {
            return Arc::clone(source);
        }
        state.last_source += 1;
        let (cache, spent) = (Arc::clone(&self.cache), Arc::clone(&self.spent));
        let source = Arc::new(Source::new(state.last_source, shard, cache, spent));
        state.sources.insert(key, Arc::clone(&source));
        source
    }

    /// Gives each free lane that is ready a turn, until one has a batch.
    fn look(&self) -> Result<LookResult> {
        let is_burst = self.is_burst.load(Ordering::Acquire);
        let mut due = None;
        let mut state = self.state.lock();
        for _ in 0..state.queue.len() {
            let Some(lane) = state.queue.pop_front() else { break };
            if let Some(work) = self.turn(&mut state, lane, is_burst, &mut due)? {
                return Ok(LookResult::Work(work));
            }
        }
        Ok(LookResult::Nothing(due))
    }

    /// Gives a lane that left the queue its turn, if it is ready for one.
    fn turn(
        &self,
        state: &mut MutexGuard<'_, SetState>,
        lane: u32,
        is_burst: bool,
        due: &mut Option<Deadline>,
    ) -> Result<Option<Work>> {
        let Some(mut held) = take_if_ready(state, lane, is_burst, due) else { return Ok(None) };
        let turn = MutexGuard::unlocked(state, || held.turn(is_burst));
        if let Ok(Some(work)) = turn {
            state.lanes.insert(lane, Holder::InHands(held));
            return Ok(Some(work));
        }
        let is_lost = matches!(turn, Err(Error::LeaseLost { .. }));
        *due = earlier(*due, held.due());
        let (slot, is_passed) = (held.slot(), held.passes_damage());
        self.put_back(state, lane, held, is_lost);
        match turn {
            Err(error @ Error::Corruption { .. }) => {
                state.damage.push(DamageMet { lane, slot, error, is_passed });
                Ok(None)
            }
            other => other,
        }
    }

    /// Makes a lane free again, or removes it if its lease was lost.
    fn put_back(&self, state: &mut SetState, lane: u32, held: Box<LeasedLane>, is_lost: bool) {
        if is_lost {
            state.lanes.remove(&lane);
        } else {
            state.lanes.insert(lane, Holder::Free(held));
            state.queue.push_back(lane);
        }
        self.changed.notify_all();
    }

    /// Does something with a lane that a thread has, without blocking the others.
    fn in_hands(
        &self,
        lane: u32,
        work: impl FnOnce(&mut LeasedLane) -> Result<IsFree>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let mut held = match state.lanes.remove(&lane) {
            Some(Holder::InHands(held)) => held,
            other => {
                other.and_then(|other| state.lanes.insert(lane, other));
                return Err(Error::config("lane", format!("lane {lane} is in nobody's hands")));
            }
        };
        state.lanes.insert(lane, Holder::Busy);
        let done = MutexGuard::unlocked(&mut state, || work(&mut held));
        match done {
            Ok(FREE) => self.put_back(&mut state, lane, held, false),
            Err(Error::LeaseLost { .. }) => self.put_back(&mut state, lane, held, true),
            _ => {
                state.lanes.insert(lane, Holder::InHands(held));
            }
        }
        done.map(|_| ())
    }
}

/// Counts a thread among those that sleep, until it is dropped.
struct Asleep<'a>(&'a AtomicU32);

impl<'a> Asleep<'a> {
    fn among(sleepers: &'a AtomicU32) -> Self {
        sleepers.fetch_add(1, Ordering::SeqCst);
        Self(sleepers)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a lane is free after what was done with it.
type IsFree = bool;
const FREE: IsFree = true;
const IN_HANDS: IsFree = false;

enum LookResult {
    Work(Work),
    /// When a lane will be ready by itself.
    Nothing(Option<Deadline>),
}

/// Takes a lane that left the queue for a turn; one that is not ready goes to the end of it.
fn take_if_ready(
    state: &mut SetState,
    lane: u32,
    is_burst: bool,
    due: &mut Option<Deadline>,
) -> Option<Box<LeasedLane>> {
    let holder = state.lanes.get_mut(&lane)?;
    let Holder::Free(held) = holder else { return None };
    if !held.is_ready(is_burst) {
        *due = earlier(*due, held.due());
        state.queue.push_back(lane);
        return None;
    }
    match std::mem::replace(holder, Holder::Busy) {
        Holder::Free(held) => Some(held),
        Holder::InHands(_) | Holder::Busy => None,
    }
}

fn earlier(a: Option<Deadline>, b: Option<Deadline>) -> Option<Deadline> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests;
