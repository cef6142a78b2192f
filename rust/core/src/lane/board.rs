//! The board: memory in which a runner notes its calls. Its supervisor reads it, even after the
//! runner's death. No system calls, no locks.
//!
//! ```text
//! word 0                        magic
//! word 8 + 8 c                  cell c, a cache line: mark | deadline | running | 0 ...
//! word 8 + 8 CELLS + 24 m       counters of mapping m
//! mark := call number << 32 | lane + 1, or only the call number between two calls
//! deadline := bits of an f64, or NO_DEADLINE
//! running := sequence number + 1, or 0
//! ```
//! One thread writes a cell. It stores the mark last when a call begins and clears it first when
//! the call ends, and no two calls of a thread have the same mark. So a reader that sees the same
//! mark before and after has read one call's values.

use std::os::fd::RawFd;
use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock::Stopwatch;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::memory::SharedMemory;
use crate::sys;
use crate::types::SequenceNumber;

/// Threads of a runner that can note a call.
pub const CELLS: usize = 256;
/// Mappings that can be counted.
pub const MAPPINGS: usize = 256;
pub use crate::counts::COUNTERS;
/// The counters of calls that succeeded, and of the records that they processed.
pub const SUCCEEDED: usize = 11;
/// See [`SUCCEEDED`].
pub const RECORDS_DONE: usize = 1;
/// The counters that lanes write: records that their filter took, that it did not take, and that it
/// could not take because their data is not JSON. The caller numbers the others.
pub const MATCHED: usize = 21;
/// See [`MATCHED`].
pub const FILTERED: usize = 22;
/// See [`MATCHED`].
pub const NOT_JSON: usize = 23;

const MAGIC: u64 = u64::from_le_bytes(*b"SFBOARD\x01");
const LINE: usize = 8;
const COUNTERS_START: usize = LINE + CELLS * LINE;
const WORDS: usize = COUNTERS_START + MAPPINGS * COUNTERS;
/// A NaN that no arithmetic makes.
const NO_DEADLINE: u64 = u64::MAX;
/// A cell whose calls begin and end faster than it can be read is skipped after so many tries.
const READS_MAX: u32 = 1000;

/// A call in progress.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The thread's cell.
    pub cell: usize,
    /// The lane whose batch it is.
    pub lane: u32,
    /// When it has to be over, on the monotonic clock; `None`: never.
    pub deadline: Option<f64>,
    /// The record being worked on, where the runner knows it.
    pub running: Option<SequenceNumber>,
}

/// Memory shared by a runner and its supervisor.
///
/// A child that a function forked writes nothing: the calls on the board are its parent's.
#[derive(Debug)]
pub struct Board {
    memory: SharedMemory,
    fork_generation: u64,
    /// The counts of each mapping that all processes share, where this process has them open.
    shared_counts: Box<[OnceLock<Arc<Counts>>]>,
    clock: Stopwatch,
    timers: Box<[Timer]>,
}

/// When a cell's call began, on the board's clock, and how long its last one took; nanoseconds. Only
/// this process reads it.
#[derive(Debug, Default)]
struct Timer {
    begun: AtomicU64,
    took: AtomicU64,
}

impl Board {
    /// Makes an empty board.
    ///
    /// # Errors
    /// [`Error::Config`] if the system gives no memory.
    pub fn create() -> Result<Self> {
        let memory = SharedMemory::create("streamfn-board", WORDS)?;
        memory.word(0).store(MAGIC, Ordering::Release);
        Ok(Self::of(memory))
    }

    /// Opens the board behind a descriptor that another process passed on.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not one.
    pub fn attach(fd: RawFd) -> Result<Self> {
        let memory = SharedMemory::attach(fd, WORDS)?;
        if memory.word(0).load(Ordering::Acquire) != MAGIC {
            return Err(Error::config("fd", "the descriptor is not a board's"));
        }
        Ok(Self::of(memory))
    }

    fn of(memory: SharedMemory) -> Self {
        sys::watch_forks();
        Self {
            memory,
            fork_generation: sys::fork_generation(),
            shared_counts: (0..MAPPINGS).map(|_| OnceLock::new()).collect(),
            clock: Stopwatch::start(),
            timers: (0..CELLS).map(|_| Timer::default()).collect(),
        }
    }

    /// Counts what is added for a mapping in its shared counts, too. The first ones given stay.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such mapping.
    pub fn count_in(&self, mapping: usize, counts: Arc<Counts>) -> Result<()> {
        let Some(place) = self.shared_counts.get(mapping) else {
            return Err(Error::config("mapping", format!("{mapping} is not below {MAPPINGS}")));
        };
        place.get_or_init(|| counts);
        Ok(())
    }

    /// The descriptor, to be passed on.
    pub fn fd(&self) -> RawFd {
        self.memory.fd()
    }

    /// Notes that a call begins.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such cell.
    pub fn begin(&self, cell: usize, lane: u32, deadline: Option<f64>) -> Result<()> {
        let [mark, end, running] = self.cell(cell)?;
        if lane == u32::MAX {
            return Err(Error::config("lane", format!("{lane} is not a lane's number")));
        }
        if self.is_forked() {
            return Ok(());
        }
        let call = ((mark.load(Ordering::Relaxed) >> 32) + 1) << 32;
        mark.store(call, Ordering::Relaxed);
        fence(Ordering::Release);
        end.store(deadline.map_or(NO_DEADLINE, f64::to_bits), Ordering::Relaxed);
        running.store(0, Ordering::Relaxed);
        mark.store(call | (u64::from(lane) + 1), Ordering::Release);
        if let Some(timer) = self.timers.get(cell) {
            timer.begun.store(self.nanoseconds(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Notes which record is being worked on.
    pub fn run(&self, cell: usize, seq: SequenceNumber) {
        if let Ok([_, _, running]) = self.cell(cell) {
            running.store(seq.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Notes that the call has ended.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such cell.
    pub fn end(&self, cell: usize) -> Result<()> {
        let [mark, ..] = self.cell(cell)?;
        if self.is_forked() {
            return Ok(());
        }
        if let Some(timer) = self.timers.get(cell) {
            let took = self.nanoseconds().saturating_sub(timer.begun.load(Ordering::Relaxed));
            timer.took.store(took, Ordering::Relaxed);
        }
        let call = mark.load(Ordering::Relaxed) & !u64::from(u32::MAX);
        mark.store(call, Ordering::Release);
        Ok(())
    }

    /// Notes in the shared counts of a mapping, if there are any, how long the calls took that the
    /// cell noted last: `calls` calls, one after the other, with `records` records together.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such cell or mapping.
    pub fn time_calls(&self, cell: usize, mapping: usize, calls: u64, records: u64) -> Result<()> {
        self.cell(cell)?;
        self.counter(mapping, 0)?;
        if let (Some(counts), Some(timer)) = (self.shared(mapping), self.timers.get(cell)) {
            let took = Duration::from_nanos(timer.took.load(Ordering::Relaxed));
            if !self.is_forked() {
                counts.add_calls(calls, took, records);
            }
        }
        Ok(())
    }

    /// As [`Board::time_calls`], for calls that succeeded: counts them and their records, too.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such cell or mapping.
    pub fn succeeded(&self, cell: usize, mapping: usize, calls: u64, records: u64) -> Result<()> {
        self.time_calls(cell, mapping, calls, records)?;
        self.add(mapping, SUCCEEDED, calls)?;
        self.add(mapping, RECORDS_DONE, records)
    }

    fn shared(&self, mapping: usize) -> Option<&Counts> {
        self.shared_counts.get(mapping)?.get().map(|counts| &**counts)
    }

    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The calls in progress.
    pub fn calls(&self) -> Vec<Call> {
        (0..CELLS).filter_map(|cell| self.call(cell)).collect()
    }

    fn call(&self, cell: usize) -> Option<Call> {
        let [mark, end, running] = self.cell(cell).ok()?;
        for _ in 0..READS_MAX {
            let before = mark.load(Ordering::Acquire);
            let lane = u32::try_from((before & u64::from(u32::MAX)).checked_sub(1)?).ok()?;
            let (deadline, seq) = (end.load(Ordering::Relaxed), running.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if mark.load(Ordering::Relaxed) == before {
                let deadline = (deadline != NO_DEADLINE).then(|| f64::from_bits(deadline));
                return Some(Call { cell, lane, deadline, running: seq.checked_sub(1) });
            }
        }
        None
    }

    /// Adds to a counter of a mapping.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such mapping or counter.
    pub fn add(&self, mapping: usize, counter: usize, amount: u64) -> Result<()> {
        let ours = self.counter(mapping, counter)?;
        if self.is_forked() {
            return Ok(());
        }
        ours.fetch_add(amount, Ordering::Relaxed);
        match self.shared(mapping) {
            Some(shared) => shared.add(counter, amount),
            None => Ok(()),
        }
    }

    /// The counters of a mapping.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such mapping.
    pub fn counters(&self, mapping: usize) -> Result<[u64; COUNTERS]> {
        let mut counters = [0; COUNTERS];
        for (number, counter) in counters.iter_mut().enumerate() {
            *counter = self.counter(mapping, number)?.load(Ordering::Relaxed);
        }
        Ok(counters)
    }

    fn is_forked(&self) -> bool {
        self.fork_generation != sys::fork_generation()
    }

    fn cell(&self, cell: usize) -> Result<[&AtomicU64; 3]> {
        if cell >= CELLS {
            return Err(Error::config("cell", format!("{cell} is not below {CELLS}")));
        }
        let start = LINE + cell * LINE;
        Ok([0, 1, 2].map(|word| self.memory.word(start + word)))
    }

    fn counter(&self, mapping: usize, counter: usize) -> Result<&AtomicU64> {
        if mapping >= MAPPINGS || counter >= COUNTERS {
            let reason = format!("{mapping}, {counter} is not below {MAPPINGS}, {COUNTERS}");
            return Err(Error::config("mapping", reason));
        }
        Ok(self.memory.word(COUNTERS_START + mapping * COUNTERS + counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Log, OpenOptions};
    use std::sync::atomic::AtomicBool;

    #[test]
    fn the_supervisor_sees_the_calls_in_progress() {
        let runner = Board::create().unwrap();
        let supervisor = Board::attach(runner.fd()).unwrap();

        runner.begin(0, 7, Some(12.5)).unwrap();
        runner.begin(255, 0, None).unwrap();
        runner.run(255, 0);
        runner.begin(3, 9, None).unwrap();
        runner.end(3).unwrap();

        let calls = [
            Call { cell: 0, lane: 7, deadline: Some(12.5), running: None },
            Call { cell: 255, lane: 0, deadline: None, running: Some(0) },
        ];
        assert_eq!(calls.to_vec(), supervisor.calls());
    }

    #[test]
    fn a_new_call_has_forgotten_the_record_of_the_one_before() {
        let board = Board::create().unwrap();
        board.begin(0, 1, None).unwrap();
        board.run(0, 41);
        assert_eq!(Some(41), board.calls()[0].running);
        board.end(0).unwrap();
        board.begin(0, 1, None).unwrap();

        assert_eq!(None, board.calls()[0].running);
    }

    #[test]
    fn counters_add_up_from_both_sides() {
        let ours = Board::create().unwrap();
        let theirs = Board::attach(ours.fd()).unwrap();
        ours.add(255, 23, 2).unwrap();
        theirs.add(255, 23, 3).unwrap();

        assert_eq!(5, ours.counters(255).unwrap()[23]);
        assert_eq!([0; COUNTERS], ours.counters(0).unwrap());
    }

    #[test]
    fn what_is_added_is_in_the_shared_counts_too() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let counts = Arc::new(Counts::open(&log, "app.f").unwrap());
        let board = Board::create().unwrap();
        board.count_in(3, Arc::clone(&counts)).unwrap();
        board.add(3, 0, 2).unwrap();
        board.add(4, 0, 5).unwrap();
        board.begin(7, 1, None).unwrap();
        board.end(7).unwrap();
        board.time_calls(7, 3, 1, 100).unwrap();
        board.succeeded(7, 4, 1, 100).unwrap();
        assert_eq!(100, board.counters(4).unwrap()[RECORDS_DONE]);

        let now = counts.now();
        assert_eq!(2, now.counters[0]);
        assert_eq!(1, now.durations.buckets.iter().sum::<u64>());
        assert!(now.durations.sum > 0);
        assert_eq!(100, now.sizes.sum);
        assert!(board.count_in(MAPPINGS, counts).is_err());
    }

    #[test]
    fn numbers_beyond_the_board_are_refused() {
        let board = Board::create().unwrap();
        assert!(board.begin(CELLS, 0, None).is_err());
        assert!(board.end(CELLS).is_err());
        assert!(board.add(MAPPINGS, 0, 1).is_err());
        assert!(board.add(0, COUNTERS, 1).is_err());
        assert!(board.counters(MAPPINGS).is_err());
        assert!(board.time_calls(CELLS, 0, 1, 1).is_err());
        assert!(board.time_calls(0, MAPPINGS, 1, 1).is_err());
        board.run(CELLS, 0);
    }

    #[test]
    fn a_reader_never_mixes_two_calls() {
        let board = Board::create().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200_000_u32 {
                    board.begin(0, round % 1000, Some(f64::from(round % 1000))).unwrap();
                    board.run(0, u64::from(round % 1000));
                    board.end(0).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                for call in board.calls() {
                    assert_eq!(Some(f64::from(call.lane)), call.deadline);
                    assert!(call.running.is_none_or(|seq| seq == u64::from(call.lane)));
                }
            }
        });
    }
}
