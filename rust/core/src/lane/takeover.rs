//! Whether a runner may continue a batch that another runner had in flight, and what counts as an
//! attempt. Pure.
//!
//! ```text
//! no call was in progress, or it is our slot  -> take it as it stands
//! another runner of ours was calling         -> our supervisor writes its verdict first
//! a live worker's runner was calling         -> its supervisor writes its verdict first
//! a dead worker's runner was calling         -> one worker death more; no attempt counts,
//!                                               unless nothing else ran in its worker
//! ```

use crate::checkpoint::{Cause, InFlight};
use crate::types::Micros;

/// Worker deaths in a row after which a batch runs with nothing else in its worker.
pub const WORKER_DEATHS_MAX: u32 = 2;

/// The runner that asks for the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// Uuid of its worker.
    pub worker: [u8; 16],
    /// Its number within the worker.
    pub runner: u32,
    /// Whether nothing else runs in its worker.
    pub is_exclusive: bool,
}

/// What becomes of a batch in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeoverVerdict {
    /// The taker continues with this.
    Take(InFlight),
    /// A live supervisor has to write its verdict on the runner's death first.
    Judge,
    /// Nothing else may run in the taker's worker.
    Exclusive,
}

/// Decides about a batch in flight with at least one entry.
///
/// # Errors
/// That of `is_alive`, which says whether a worker lives.
pub fn verdict<E>(
    mut in_flight: InFlight,
    taker: &Taker,
    now: Micros,
    is_alive: impl FnOnce([u8; 16]) -> Result<bool, E>,
) -> Result<TakeoverVerdict, E> {
    let is_ours = in_flight.worker == taker.worker;
    if in_flight.is_calling && !(is_ours && in_flight.runner == taker.runner) {
        if is_ours || is_alive(in_flight.worker)? {
            return Ok(TakeoverVerdict::Judge);
        }
        in_flight = after_worker_death(in_flight, now);
    }
    if in_flight.worker_deaths >= WORKER_DEATHS_MAX && !taker.is_exclusive {
        return Ok(TakeoverVerdict::Exclusive);
    }
    Ok(TakeoverVerdict::Take(in_flight))
}

/// The slot as it must read after the whole worker died during its call.
///
/// No attempt counts, because anything may have killed the worker (a stopped container, no memory).
/// The exception is a batch that ran with nothing else in its worker, after earlier deaths.
#[must_use]
pub fn after_worker_death(mut in_flight: InFlight, now: Micros) -> InFlight {
    in_flight.worker_deaths = in_flight.worker_deaths.saturating_add(1);
    in_flight.is_alone |= in_flight.worker_deaths >= WORKER_DEATHS_MAX;
    if in_flight.is_exclusive {
        // A cause is a verdict that is not counted yet: the runner of the batch counts the attempt.
        for entry in in_flight.first_call() {
            entry.cause = Cause::Crashed;
            // No process was left to see the signal; a worker that dies whole was killed.
            entry.detail = libc::SIGKILL;
            if entry.first_failed == 0 {
                entry.first_failed = now;
            }
        }
    }
    in_flight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Entry;
    use std::convert::Infallible;

    const OURS: [u8; 16] = [1; 16];
    const OTHER: [u8; 16] = [2; 16];
    const TAKER: Taker = Taker { worker: OURS, runner: 1, is_exclusive: false };

    fn calling(worker: [u8; 16], runner: u32) -> InFlight {
        let entries = vec![
            Entry { attempts: 1, ..Entry::fresh(0, 4) },
            Entry { is_joined: true, ..Entry::fresh(5, 5) },
            Entry::fresh(6, 9),
        ];
        InFlight { worker, runner, is_calling: true, entries, ..InFlight::default() }
    }

    fn decide(in_flight: &InFlight, taker: &Taker, lives: bool) -> TakeoverVerdict {
        let is_alive = |_| Ok::<bool, Infallible>(lives);
        verdict(in_flight.clone(), taker, 77, is_alive).unwrap()
    }

    #[test]
    fn what_nobody_was_calling_is_taken_as_it_stands() {
        for worker in [OURS, OTHER] {
            let waiting = InFlight { is_calling: false, ..calling(worker, 9) };
            assert_eq!(TakeoverVerdict::Take(waiting.clone()), decide(&waiting, &TAKER, true));
            assert_eq!(TakeoverVerdict::Take(waiting.clone()), decide(&waiting, &TAKER, false));
        }
    }

    #[test]
    fn the_supervisor_of_a_living_worker_judges_first() {
        assert_eq!(TakeoverVerdict::Judge, decide(&calling(OTHER, 1), &TAKER, true));
        assert_eq!(TakeoverVerdict::Judge, decide(&calling(OURS, 2), &TAKER, true));
        assert_eq!(TakeoverVerdict::Judge, decide(&calling(OURS, 2), &TAKER, false));
        assert_eq!(
            TakeoverVerdict::Take(calling(OURS, 1)),
            decide(&calling(OURS, 1), &TAKER, true)
        );
    }

    #[test]
    fn the_death_of_a_worker_is_no_attempt() {
        let expected = InFlight { worker_deaths: 1, ..calling(OTHER, 1) };
        assert_eq!(TakeoverVerdict::Take(expected), decide(&calling(OTHER, 1), &TAKER, false));
    }

    #[test]
    fn after_two_deaths_in_a_row_the_batch_wants_a_worker_for_itself() {
        let once = InFlight { worker_deaths: 1, ..calling(OTHER, 1) };
        let exclusive = Taker { is_exclusive: true, ..TAKER };
        assert_eq!(TakeoverVerdict::Exclusive, decide(&once, &TAKER, false));

        let expected = InFlight { worker_deaths: 2, is_alone: true, ..calling(OTHER, 1) };
        assert_eq!(TakeoverVerdict::Take(expected.clone()), decide(&once, &exclusive, false));
        let judged = InFlight { is_calling: false, ..expected };
        assert_eq!(TakeoverVerdict::Exclusive, decide(&judged, &TAKER, true));
    }

    #[test]
    fn a_death_with_nothing_else_in_the_worker_counts_for_the_call_that_ran() {
        let before = InFlight { worker_deaths: 2, is_exclusive: true, ..calling(OTHER, 1) };
        let exclusive = Taker { is_exclusive: true, ..TAKER };
        let TakeoverVerdict::Take(after) = decide(&before, &exclusive, false) else {
            panic!("taken")
        };

        let attempts: Vec<u32> = after.entries.iter().map(|entry| entry.attempts).collect();
        assert_eq!(vec![1, 0, 0], attempts, "who runs it counts");
        assert_eq!((Cause::Crashed, 77), (after.entries[0].cause, after.entries[1].first_failed));
        assert_eq!(Cause::None, after.entries[2].cause);
    }
}
