//! One lane in the hands of a runner: reading on, forming batches, and what of them is open.
//!
//! ```text
//! forming --a batch closes: slot written--> open, handed out --settle: checkpoint--> forming
//!                                            |          ^
//!                                 keep: slot v          | handed out again: slot written
//!                                            open, resting
//! ```
//! A lane with tumbling windows closes its batches at their ends too. When a window is over and what
//! was read of it is settled, its final call is made: a batch without a record, with one entry that
//! stands for the call.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::batching::{Limits, Tally};
use super::cache::CachedBatch;
use super::selection::{Builder, Picked, Selection};
use super::sieve::Sieve;
use super::source::{covered, AtDamage, Share, Source};
use super::takeover::Taker;
use super::windowing::Windowing;
use super::{Window, Work, CHECKPOINT_INTERVAL};
use crate::checkpoint::slot::shorten;
use crate::checkpoint::window::STATE_BYTES_MAX;
use crate::checkpoint::{Entry, InFlight, LanesFile, Lease, Place, State, Windows};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, Result};
use crate::format::Control;
use crate::log::Cursor;
use crate::types::{Position, SequenceNumber};

/// Bytes of batches a lane looks through before others have their turn.
const TURN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a lane that could not go on rests before it tries again.
const REST_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a lane rests when a writer has the lock that it needs for a moment.
const REST_AFTER_BUSY: Duration = Duration::from_millis(5);
/// How long a lane that met damage rests before it looks whether the file was put right.
const REST_AT_DAMAGE: Duration = Duration::from_secs(10);
/// What naming some records of a batch costs beside them.
const PART_BYTES: usize = 64;

/// What all lanes of a runner share.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) boot_id: [u8; 16],
    pub(super) clock: Arc<dyn Clock>,
    /// Bytes of records that wait in the runner's lanes, and how many they may be.
    pub(super) waiting_bytes: AtomicUsize,
    pub(super) budget: usize,
}

impl Surroundings {
    fn is_over_budget(&self) -> bool {
        self.waiting_bytes.load(Ordering::Relaxed) > self.budget
    }
}

/// What a lane is opened with.
pub(super) struct Opening {
    pub(super) number: u32,
    pub(super) slot: u32,
    /// Of a replay: where it ends.
    pub(super) until: Option<SequenceNumber>,
    pub(super) taker: Taker,
    pub(super) is_alone: bool,
    pub(super) at_damage: AtDamage,
    pub(super) limits: Limits,
    pub(super) sieve: Option<Sieve>,
    pub(super) file: Arc<LanesFile>,
    pub(super) lease: Lease,
    pub(super) source: Arc<Source>,
    pub(super) around: Arc<Surroundings>,
    /// What the in-flight slot says, as far as it counts.
    pub(super) in_flight: Option<InFlight>,
}

/// A batch on its way: records taken, waiting for its limits.
#[derive(Default)]
struct Forming {
    records: Builder,
    tally: Tally,
    /// When its window is over; set with the first record.
    window: Option<Deadline>,
    /// Where its first record was read.
    from: Cursor,
}

/// A batch that was formed and is not settled.
struct OpenBatch {
    formed_at: SequenceNumber,
    end: SequenceNumber,
    entries: Vec<Entry>,
    /// Its records; `None` if they have to be read again, from `from` on.
    records: Option<Selection>,
    from: Cursor,
    /// Where reading goes on behind it, unless the lane's cursor is there already.
    after: Option<Cursor>,
    is_resumed: bool,
    /// The final call of a window.
    is_final: bool,
}

impl OpenBatch {
    fn covers(&self, entry: &Entry) -> bool {
        let &Self { formed_at, end, is_final, .. } = self;
        InFlight { formed_at, end, is_final, ..InFlight::default() }.covers(entry)
    }
}

/// A lane. It belongs to one thread at a time.
pub(super) struct HeldLane {
    number: u32,
    share: Share,
    at_damage: AtDamage,
    generation: u64,
    taker: Taker,
    limits: Limits,
    /// None: the function sees every record.
    sieve: Option<Sieve>,
    file: Arc<LanesFile>,
    _lease: Lease,
    source: Arc<Source>,
    around: Arc<Surroundings>,

    cursor: Cursor,
    /// As it stands on disk.
    checkpoint: SequenceNumber,
    forming: Forming,
    open: Option<OpenBatch>,
    /// Of a lane with tumbling windows.
    windowing: Option<Windowing>,
    /// The window that is open is over by the clock once the lane has read up to here.
    barrier: Option<SequenceNumber>,
    exponent: u32,
    /// The exponent that the in-flight slot says.
    slot_exponent: u32,
    worker_deaths: u32,
    is_alone: bool,
    /// What this lane adds to the runner's waiting bytes.
    waiting_bytes: usize,

    /// The visible end when the lane had last read up to it.
    seen_end: Option<SequenceNumber>,
    /// No turn before this: a back-off, or an error.
    rest: Option<Deadline>,
    /// When a position without a batch is written again.
    persist: Deadline,
    /// Met while opening; the first turn says it.
    trouble: Option<Error>,
}

impl Drop for HeldLane {
    fn drop(&mut self) {
        self.count_waiting(0);
        self.source.leave();
    }
}

impl HeldLane {
    /// Opens a lane whose lease is held; `None` if the factor in force has no such lane.
    pub(super) fn open(opening: Opening) -> Result<Option<Self>> {
        let Opening { number, slot, taker, limits, sieve, file, lease, source, around, .. } =
            opening;
        let Some(view) = file.take(slot)? else { return Ok(None) };
        let mut trouble = None;
        let cursor = match source.cursor(view.checkpoint.next_seq, view.checkpoint.hint) {
            Err(Error::SequenceTrimmed { lost_from, lost_to }) => {
                trouble = Some(Error::SequenceTrimmed { lost_from, lost_to });
                source.cursor_behind(lost_to)?
            }
            other => other?,
        };
        let in_flight = opening.in_flight.unwrap_or_default();
        let windows = view.windows.unwrap_or_default();
        let windowing = limits.tumbling.map(|width| Windowing::new(width, windows));
        let is_open = !in_flight.entries.is_empty();
        source.join();
        Ok(Some(Self {
            number,
            share: Share { factor: view.head.factor, slot, until: opening.until },
            at_damage: opening.at_damage,
            generation: view.head.generation,
            is_alone: opening.is_alone || taker.is_exclusive || (is_open && in_flight.is_alone),
            taker,
            limits,
            sieve,
            cursor,
            checkpoint: view.checkpoint.next_seq,
            forming: Forming::default(),
            open: is_open.then_some(OpenBatch {
                formed_at: in_flight.formed_at,
                end: in_flight.end,
                entries: in_flight.entries,
                records: None,
                from: cursor,
                after: None,
                is_resumed: true,
                is_final: in_flight.is_final,
            }),
            windowing,
            barrier: None,
            exponent: in_flight.exponent,
            slot_exponent: in_flight.exponent,
            // Of a settled batch only the exponent goes on to the next.
            worker_deaths: if is_open { in_flight.worker_deaths } else { 0 },
            waiting_bytes: 0,
            seen_end: None,
            // Whoever has the lane: it waits before a retry for as long as was said.
            rest: is_open.then(|| Deadline::at_shared_millis(in_flight.not_before)),
            persist: Deadline::after(CHECKPOINT_INTERVAL),
            trouble,
            file,
            _lease: lease,
            source,
            around,
        }))
    }

    /// Whether a turn now would come to something.
    pub(super) fn is_ready(&self, is_burst: bool) -> bool {
        if self.rest.is_some_and(|rest| !rest.is_past()) {
            return false;
        }
        let is_unread = || Some(self.end()) != self.seen_end;
        self.trouble.is_some()
            || self.open.is_some()
            || self.forming.tally.is_due(self.is_window_over(is_burst))
            || (!self.forming.tally.is_full && is_unread())
            || self.is_final_call_due()
            || self.is_position_due(is_burst)
    }

    /// When a turn will come to something even if nothing is appended.
    pub(super) fn due(&self) -> Option<Deadline> {
        let rest = self.rest.filter(|rest| !rest.is_past());
        let persist = (self.cursor.next_seq > self.checkpoint).then_some(self.persist);
        rest.or(self.forming.window).or(persist).or(self.window_end())
    }

    /// Whether a batch of it was formed and not settled.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Reads on until a batch closes or the log ends; a batch comes with its in-flight slot written.
    pub(super) fn turn(&mut self, is_burst: bool) -> Result<Option<Work>> {
        self.rest = None;
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        let turn = if self.open.is_some() { self.hand_out() } else { self.read_on(is_burst) };
        match turn {
            Err(Error::SequenceTrimmed { lost_from, lost_to }) => {
                // Said once, never silently: after that the lane goes on with what is kept.
                self.skip_lost(lost_to)?;
                Err(Error::SequenceTrimmed { lost_from, lost_to })
            }
            Err(error @ Error::Corruption { .. }) => {
                if self.passes_damage() && self.open.is_none() {
                    self.cursor = self.source.cursor_behind_damage(&self.cursor)?;
                } else {
                    self.rest = Some(Deadline::after(REST_AT_DAMAGE));
                }
                Err(error)
            }
            Err(error) => {
                self.rest = Some(Deadline::after(REST_AFTER_ERROR));
                Err(error)
            }
            done => done,
        }
    }

    /// Its number among the lanes of the shard.
    pub(super) fn slot(&self) -> u32 {
        self.share.slot
    }

    /// Whether the lane goes on behind damage; it stops there otherwise.
    pub(super) fn passes_damage(&self) -> bool {
        self.at_damage == AtDamage::Pass
    }

    /// Notes what of the batch is still open. `rest`: nobody works on it for that long.
    pub(super) fn keep(
        &mut self,
        entries: Vec<Entry>,
        exponent: u32,
        rest: Option<Duration>,
    ) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(nothing_open(self.number)) };
        let Some(lowest) = entries.iter().map(|entry| entry.first).min() else {
            return Err(Error::config("entries", "the work list is empty: settle the batch"));
        };
        if let Some(other) = entries.iter().find(|entry| !open.covers(entry)) {
            let (first, last, formed_at, end) = (other.first, other.last, open.formed_at, open.end);
            let reason = format!("{first} to {last} is not within the batch, {formed_at} to {end}");
            return Err(Error::config("entries", reason));
        }
        open.entries = entries;
        self.exponent = exponent;
        if self.windowing.is_some() {
            // WHY: a slot that leaves records out must not count beside a state without them.
            self.advance(lowest)?;
        }
        self.rest = rest.map(Deadline::after);
        self.write_slot(rest.is_none())?;
        if rest.is_some() {
            self.put_by();
        }
        self.advance(lowest)
    }

    /// Notes that the batch is done: the checkpoint goes to its end.
    pub(super) fn settle(&mut self, exponent: u32) -> Result<()> {
        let Some(open) = &self.open else { return Err(nothing_open(self.number)) };
        let is_final = open.is_final;
        if let Some(after) = open.after {
            self.cursor = after;
            self.cursor.next_seq = open.end;
        }
        if is_final {
            self.write_windows(self.source.place(&self.cursor), Windowing::closed)?;
        } else {
            self.write_checkpoint(self.source.place(&self.cursor))?;
        }
        self.open = None;
        self.exponent = exponent;
        self.worker_deaths = 0;
        self.is_alone = false;
        self.seen_end = None;
        self.count_waiting(0);
        if self.exponent == self.slot_exponent && !is_final {
            return Ok(());
        }
        // The entries in the slot are below the checkpoint now, but its exponent would be taken over.
        self.put_in_flight(self.checkpoint, self.checkpoint, false, Vec::new())
    }

    /// Takes the state that a successful call left; it is written with the next checkpoint.
    pub(super) fn keep_state(&mut self, state: State, is_ended_early: bool) -> Result<()> {
        if state.bytes.len() > STATE_BYTES_MAX {
            let reason = format!("{} bytes are more than {STATE_BYTES_MAX}", state.bytes.len());
            return Err(Error::config("state", reason));
        }
        let Some(windowing) = self.windowing.as_mut().filter(|w| w.open().is_some()) else {
            let reason = format!("lane {} is in no window", self.number);
            return Err(Error::config("state", reason));
        };
        windowing.keep(state, is_ended_early);
        Ok(())
    }

    /// Gives the lane back, its checkpoint durable.
    pub(super) fn close(self) -> Result<()> {
        self.file.give_back(self.share.slot)
    }

    fn is_window_over(&self, is_burst: bool) -> bool {
        // Waiting for more records must not take the memory that other lanes need.
        let is_hurried = is_burst || self.around.is_over_budget();
        is_hurried || self.forming.window.is_some_and(Deadline::is_past)
    }

    fn is_position_due(&self, is_burst: bool) -> bool {
        self.forming.tally.count == 0
            && self.cursor.next_seq > self.checkpoint
            && (is_burst || self.persist.is_past())
    }

    fn read_on(&mut self, is_burst: bool) -> Result<Option<Work>> {
        let mut looked_through = 0;
        while !self.forming.tally.is_full && !self.is_tumbling() {
            let end = self.end();
            if self.share.until.is_some() && self.cursor.next_seq >= end {
                self.seen_end = Some(end);
                self.end_batch();
                break;
            }
            let read = match self.source.read(&self.cursor) {
                // What was read before the damage is called first; the next turn meets it again.
                Err(Error::Corruption { .. }) if self.forming.tally.count > 0 => {
                    return self.form();
                }
                read => read?,
            };
            let Some(cached) = read else {
                self.seen_end = Some(end);
                break;
            };
            self.take_from(&cached)?;
            looked_through += cached.batch().memory();
            if looked_through >= TURN_BYTES_MAX {
                self.seen_end = None;
                break;
            }
        }
        self.look_at_clock()?;
        self.forming.tally.is_full |= self.is_tumbling() && self.forming.tally.count > 0;
        if self.forming.tally.is_due(self.is_window_over(is_burst)) {
            return self.form();
        }
        if self.is_tumbling() {
            return self.form_final();
        }
        if self.is_position_due(is_burst) {
            self.write_checkpoint(self.source.place(&self.cursor))?;
            self.persist = Deadline::after(CHECKPOINT_INTERVAL);
        }
        Ok(None)
    }

    /// Takes the lane's records out of a batch, as many as go into the batch that is forming.
    fn take_from(&mut self, cached: &CachedBatch) -> Result<()> {
        let batch = cached.batch();
        let forming = &mut self.forming;
        let picked = match &mut self.sieve {
            Some(sieve) => sieve.pick(cached, self.share, self.cursor.next_seq)?,
            None => self.share.of(cached, self.cursor.next_seq),
        };
        let at_once = match &picked {
            Picked::Range(range) if self.windowing.is_none() => {
                let bytes = batch.range_bytes(range);
                forming.tally.admit_all(&self.limits, picked.len(), bytes)
            }
            _ => false,
        };
        let windowing = &mut self.windowing;
        let mut is_in_window = |index: u32| {
            windowing.as_mut().is_none_or(|windowing| windowing.admit(batch.timestamp(index)))
        };
        let fits = |i: &usize| {
            picked.get(*i).is_some_and(|index| {
                let bytes = batch.record_bytes(index);
                is_in_window(index) && forming.tally.admit(&self.limits, bytes)
            })
        };
        let taken = if at_once { picked.len() } else { (0..picked.len()).take_while(fits).count() };
        if taken > 0 {
            if forming.window.is_none() {
                forming.from = self.cursor;
            }
            forming.window.get_or_insert_with(|| Deadline::after(self.limits.window));
            forming.records.push(batch, picked.slice(0, taken));
            // Its part of what it keeps in memory; the lanes of a shard keep the same batches.
            let part = batch.memory() / batch.count().max(1) as usize * taken + PART_BYTES;
            self.count_waiting(self.waiting_bytes + part);
        }
        if let Some(next) = picked.get(taken) {
            self.cursor.next_seq = batch.base_seq() + u64::from(next);
            return Ok(());
        }
        // Behind CLOSE nothing will ever follow: the batch has all it can get.
        let is_last = matches!(batch.control(), Some(Control::Close { .. }));
        if let Some(windowing) = self.windowing.as_mut().filter(|w| is_last && w.open().is_some()) {
            // SOURCE: W-5, the end of the shard closes the window. CLOSE is passed after that.
            windowing.end();
            return Ok(());
        }
        let before = self.cursor;
        self.source.pass(cached, &mut self.cursor);
        if let Some(until) = self.share.until.filter(|until| *until < self.cursor.next_seq) {
            // The rest of the batch, or a gap, is beyond the end.
            self.cursor = before;
            self.cursor.next_seq = until;
        }
        self.forming.tally.is_full |= is_last && self.forming.tally.count > 0;
        Ok(())
    }

    /// Where reading ends, for now or, in a replay, for ever.
    fn end(&self) -> SequenceNumber {
        let visible_end = self.source.visible_end();
        self.share.until.map_or(visible_end, |until| until.min(visible_end))
    }

    /// Closes the batch, and the window, at the end of a replay: nothing will follow.
    fn end_batch(&mut self) {
        self.forming.tally.is_full = self.forming.tally.count > 0;
        if let Some(windowing) = &mut self.windowing {
            windowing.end();
        }
    }

    fn form(&mut self) -> Result<Option<Work>> {
        let mut forming = std::mem::take(&mut self.forming);
        let records = forming.records.finish();
        let (first, last) = records.first().zip(records.last()).expect("a batch is never empty");
        self.open = Some(OpenBatch {
            formed_at: self.checkpoint,
            end: self.cursor.next_seq,
            entries: vec![Entry::fresh(first, last)],
            records: Some(records),
            from: forming.from,
            after: None,
            is_resumed: false,
            is_final: false,
        });
        self.hand_out()
    }

    /// Makes the final call of the window that is over, all of which is settled.
    fn form_final(&mut self) -> Result<Option<Work>> {
        if self.cursor.next_seq > self.checkpoint {
            self.write_checkpoint(self.source.place(&self.cursor))?;
        }
        self.open = Some(OpenBatch {
            formed_at: self.checkpoint,
            end: self.checkpoint,
            entries: vec![InFlight::final_entry(self.checkpoint)],
            records: None,
            from: self.cursor,
            after: None,
            is_resumed: false,
            is_final: true,
        });
        self.hand_out()
    }

    /// Whether the window that is open has had its last record.
    fn is_tumbling(&self) -> bool {
        self.windowing.as_ref().is_some_and(Windowing::is_over)
    }

    /// Whether the window that is open may be over by the clock.
    fn is_past_window(&self) -> bool {
        let open = self.windowing.as_ref().and_then(Windowing::open);
        open.is_some_and(|open| self.around.clock.now() >= open.end)
    }

    fn is_final_call_due(&self) -> bool {
        let has_read = |barrier| self.cursor.next_seq >= barrier;
        self.is_tumbling() || (self.is_past_window() && self.barrier.is_none_or(has_read))
    }

    /// When the window that is open ends.
    fn window_end(&self) -> Option<Deadline> {
        let open = self.windowing.as_ref()?.open()?;
        let left = open.end.saturating_sub(self.around.clock.now());
        Some(Deadline::after(Duration::from_micros(left)))
    }

    /// Ends the window that is open once its time is over and all that can lie in it was read.
    ///
    /// A record gets its time under `append.lock`. So after the lock was taken and freed once, what
    /// is appended has a later one, and what was appended before has a number below the barrier.
    fn look_at_clock(&mut self) -> Result<()> {
        if self.seen_end.is_none() || self.is_tumbling() || !self.is_past_window() {
            return Ok(());
        }
        if self.barrier.is_none() {
            self.barrier = self.source.barrier()?;
        }
        match (self.barrier, &mut self.windowing) {
            (Some(barrier), Some(windowing)) if self.cursor.next_seq >= barrier => windowing.end(),
            (None, _) => self.rest = Some(Deadline::after(REST_AFTER_BUSY)),
            _ => {}
        }
        Ok(())
    }

    /// Hands out what is open, to be called.
    fn hand_out(&mut self) -> Result<Option<Work>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        if open.is_final {
            return self.hand_to_function(Selection::default());
        }
        let records = match open.records.take() {
            Some(records) => covered(&records, &open.entries),
            None if open.entries.is_empty() => Selection::default(),
            None => {
                let sieve = self.sieve.as_mut();
                let (share, entries) = (self.share, &open.entries);
                let found =
                    self.source.collect(share, entries, open.from, sieve, self.at_damage)?;
                let records = found.records;
                open.after = Some(found.after);
                let may_lack = self.sieve.is_some() || found.damage.is_some();
                // Told at the next turn.
                self.trouble = found.damage;
                if may_lack && self.source.visible_end() >= open.end {
                    // WHY: the filter may be another one than when the batch was formed, and nobody
                    // is to be called with an entry of no records.
                    open.entries.retain(|e| !records.between(e.first, e.last).is_empty());
                }
                records
            }
        };
        if records.is_empty() {
            return self.pass_over();
        }
        open.records = Some(records.clone());
        if !self.is_within_window(&records) {
            return self.form_again();
        }
        self.count_waiting(0);
        self.hand_to_function(records)
    }

    fn hand_to_function(&mut self, records: Selection) -> Result<Option<Work>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let (entries, end, is_resumed) = (open.entries.clone(), open.end, open.is_resumed);
        let is_final = open.is_final;
        self.write_slot(true)?;
        if let Some(windowing) = &mut self.windowing {
            windowing.forget();
        }
        let (stream, shard) = self.source.name();
        let window = self.windowing.as_ref().and_then(Windowing::open);
        let window = window.map(|open| Window { open: open.clone(), is_final });
        let (lane, exponent, is_alone) = (self.number, self.exponent, self.is_alone);
        Ok(Some(Work {
            lane,
            records,
            entries,
            exponent,
            end,
            is_resumed,
            is_alone,
            stream,
            shard,
            window,
        }))
    }

    /// Whether all records of a batch that was taken over are in one window; opens it.
    fn is_within_window(&mut self, records: &Selection) -> bool {
        let Some(windowing) = &mut self.windowing else { return true };
        let times = [0, records.len().saturating_sub(1)]
            .map(|i| records.get(i).map_or(0, |(batch, index)| batch.timestamp(index)));
        let [first, last] = times;
        let is_in_time =
            |windowing: &Windowing| windowing.open().is_some_and(|open| last < open.end);
        if windowing.open().is_none() {
            windowing.admit(first);
        }
        is_in_time(windowing)
    }

    /// Gives a batch up that was formed when windows had another width; its records come again.
    fn form_again(&mut self) -> Result<Option<Work>> {
        self.cursor = self.source.cursor(self.checkpoint, Position::default())?;
        self.open = None;
        self.seen_end = None;
        if let Some(windowing) = &mut self.windowing {
            windowing.reset();
        }
        Ok(None)
    }

    /// Goes on behind a batch of which no record is left.
    fn pass_over(&mut self) -> Result<Option<Work>> {
        let Some(open) = &self.open else { return Ok(None) };
        if self.source.visible_end() < open.end {
            // Records that were in flight come back; they are not gone.
            self.rest = Some(Deadline::after(CHECKPOINT_INTERVAL));
            return Ok(None);
        }
        self.settle(self.exponent)?;
        Ok(None)
    }

    fn skip_lost(&mut self, lost_to: SequenceNumber) -> Result<()> {
        self.cursor = self.source.cursor_behind(lost_to)?;
        if let Some(open) = &mut self.open {
            open.entries.retain(|entry| entry.last > lost_to);
            for entry in &mut open.entries {
                entry.first = entry.first.max(lost_to + 1);
            }
            open.end = open.end.max(lost_to + 1);
            open.records = None;
            open.from = self.cursor;
            open.after = Some(self.cursor);
        }
        Ok(())
    }

    /// Lets go of the records of a resting batch if the runner's budget needs their bytes.
    fn put_by(&mut self) {
        let Some(open) = &mut self.open else { return };
        open.is_resumed = true;
        let bytes = open.records.as_ref().map_or(0, Selection::bytes);
        self.count_waiting(bytes);
        if self.around.is_over_budget() {
            self.count_waiting(0);
            if let Some(open) = &mut self.open {
                open.records = None;
            }
        }
    }

    fn count_waiting(&mut self, bytes: usize) {
        let total = &self.around.waiting_bytes;
        total.fetch_add(bytes, Ordering::Relaxed);
        total.fetch_sub(self.waiting_bytes, Ordering::Relaxed);
        self.waiting_bytes = bytes;
    }

    /// Moves the checkpoint up to the lowest record that is open.
    fn advance(&mut self, lowest: SequenceNumber) -> Result<()> {
        if lowest <= self.checkpoint {
            return Ok(());
        }
        let records = self.open.as_ref().and_then(|open| open.records.as_ref());
        let found = records.and_then(|records| records.get(records.search(lowest).ok()?));
        let hint = found.map(|(batch, _)| batch.position()).unwrap_or_default();
        let shard_epoch = self.source.shard_epoch();
        self.write_checkpoint(Place { next_seq: lowest, hint, shard_epoch })
    }

    fn write_checkpoint(&mut self, place: Place) -> Result<()> {
        if self.windowing.is_some() {
            return self.write_windows(place, Windowing::advanced);
        }
        self.file.checkpoint(self.share.slot, place, self.around.clock.now())?;
        self.checkpoint = place.next_seq;
        Ok(())
    }

    /// Writes a position and the windows as they stand there.
    fn write_windows(&mut self, place: Place, windows: fn(&Windowing) -> Windows) -> Result<()> {
        let Some(windowing) = &mut self.windowing else { return Ok(()) };
        let windows = windows(windowing);
        let (slot, now) = (self.share.slot, self.around.clock.now());
        self.file.checkpoint_windows(slot, place, &windows, now)?;
        windowing.wrote(windows);
        self.barrier = None;
        self.checkpoint = place.next_seq;
        Ok(())
    }

    /// Writes what of the batch is open, and whether the function is being called with it.
    pub(super) fn write_slot(&mut self, is_calling: bool) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let entries = shorten(&open.entries, open.end);
        // WHY: a state that a crash takes back must take the slot with it, or records that the slot
        // leaves out would be missing in both. So the slot of a window stands on its last pair.
        let formed_at = if self.windowing.is_some() { self.checkpoint } else { open.formed_at };
        self.put_in_flight(formed_at, open.end, is_calling, entries)
    }

    fn put_in_flight(
        &mut self,
        formed_at: SequenceNumber,
        end: SequenceNumber,
        is_calling: bool,
        entries: Vec<Entry>,
    ) -> Result<()> {
        let rest = self.rest.filter(|rest| !rest.is_past());
        let in_flight = InFlight {
            boot_id: self.around.boot_id,
            worker: self.taker.worker,
            runner: self.taker.runner,
            generation: self.generation,
            formed_at,
            end,
            is_calling,
            worker_deaths: self.worker_deaths,
            is_alone: self.is_alone,
            is_exclusive: self.taker.is_exclusive,
            is_final: self.open.as_ref().is_some_and(|open| open.is_final),
            exponent: self.exponent,
            not_before: rest.map_or(0, Deadline::shared_millis),
            entries,
        };
        self.file.put_in_flight(self.share.slot, &in_flight)?;
        self.slot_exponent = self.exponent;
        Ok(())
    }
}

fn nothing_open(lane: u32) -> Error {
    Error::config("lane", format!("lane {lane} has no batch to settle"))
}
