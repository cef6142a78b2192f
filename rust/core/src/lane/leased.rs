//! One lane whose lease a runner has: it reads, forms batches, and knows which records are open.
//!
//! ```text
//! forming --a batch closes: slot written--> open, handed out --settle: checkpoint--> forming
//!                                            |          ^
//!                                 keep: slot v          | handed out again: slot written
//!                                            open, resting
//! ```
//! A lane with tumbling windows also closes a batch at the end of a window. When a window is over
//! and everything read of it is settled, its final call is made: a batch without records, whose one
//! entry stands for the call.

mod forming;
mod handing_out;
mod writing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::batching::{Limits, Tally};
use super::lane_filter::LaneFilter;
use super::selection::{Builder, Selection};
use super::share::Share;
use super::source::{AtDamage, Source};
use super::takeover::Taker;
use super::windowing::Windowing;
use super::work::Work;
use super::CHECKPOINT_INTERVAL;
use crate::checkpoint::window::STATE_BYTES_MAX;
use crate::checkpoint::{Entry, InFlight, LanesFile, Lease, WindowState};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, Result};
use crate::log::Cursor;
use crate::types::SequenceNumber;

/// Bytes of batches that a lane looks through before other lanes have their turn.
const TURN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a lane that could not continue rests before it tries again.
const REST_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a lane rests when a writer has the lock that it needs for a moment.
const REST_AFTER_BUSY: Duration = Duration::from_millis(5);
/// How long a lane that met damage rests before it looks again, as the file may be repaired by
/// then.
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
pub(super) struct LaneOpening {
    pub(super) number: u32,
    pub(super) slot: u32,
    /// Of a replay: where it ends.
    pub(super) until: Option<SequenceNumber>,
    pub(super) taker: Taker,
    pub(super) is_alone: bool,
    pub(super) at_damage: AtDamage,
    pub(super) limits: Limits,
    pub(super) filter: Option<LaneFilter>,
    pub(super) file: Arc<LanesFile>,
    pub(super) lease: Lease,
    pub(super) source: Arc<Source>,
    pub(super) around: Arc<Surroundings>,
    /// What the in-flight slot says, as far as it is not void.
    pub(super) in_flight: Option<InFlight>,
}

/// A batch that is forming: its records so far, waiting for a limit.
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
    /// Where reading continues behind it, unless the lane's cursor is there already.
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
pub(super) struct LeasedLane {
    number: u32,
    share: Share,
    at_damage: AtDamage,
    generation: u64,
    taker: Taker,
    limits: Limits,
    /// None: the function sees every record.
    filter: Option<LaneFilter>,
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
    /// No turn before this, because of a back-off or an error.
    rest: Option<Deadline>,
    /// When a position without a batch is written again.
    persist: Deadline,
    /// Met while opening; the first turn returns it.
    trouble: Option<Error>,
}

impl Drop for LeasedLane {
    fn drop(&mut self) {
        self.count_waiting(0);
        self.source.leave();
    }
}

impl LeasedLane {
    /// Opens a lane whose lease is held; `None` if the factor in force has no such lane.
    pub(super) fn open(opening: LaneOpening) -> Result<Option<Self>> {
        let LaneOpening {
            number, slot, taker, limits, filter, file, lease, source, around, ..
        } = opening;
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
            filter,
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

    /// Whether a turn now would achieve something.
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

    /// When a turn will achieve something even if nothing is appended.
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

    /// Whether the lane continues behind damage; otherwise it stops there.
    pub(super) fn passes_damage(&self) -> bool {
        self.at_damage == AtDamage::Pass
    }

    /// Notes which records of the batch are still open. `rest`: no thread works on them for that
    /// long.
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
    pub(super) fn keep_state(&mut self, state: WindowState, is_ended_early: bool) -> Result<()> {
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

    /// Releases the lane, with its checkpoint durable.
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

    fn count_waiting(&mut self, bytes: usize) {
        let total = &self.around.waiting_bytes;
        total.fetch_add(bytes, Ordering::Relaxed);
        total.fetch_sub(self.waiting_bytes, Ordering::Relaxed);
        self.waiting_bytes = bytes;
    }
}

fn nothing_open(lane: u32) -> Error {
    Error::config("lane", format!("lane {lane} has no batch to settle"))
}
