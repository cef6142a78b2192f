//! Tumbling windows of a lane, on a simulated disk and with a clock that is set by hand: where batches
//! end, when the final call comes, what a runner that dies leaves to the next, and what survives a
//! machine that stops at any moment.
//!
//! The function of these tests counts records: its state is their number, as text.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open_at, SimFs};
use streamfn_core::checkpoint::{Entry, LaneLayout, Mapping, StateKind, WindowState};
use streamfn_core::clock::ManualClock;
use streamfn_core::lane::{Added, LaneSet, Limits, Request, Work};
use streamfn_core::{Durability, Error, Log, Patience, ShardId, Start, StreamConfig};

const SHARD: ShardId = ShardId(0);
const BUDGET_BYTES: usize = 1 << 20;
const LONG: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::ZERO;
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

struct World {
    fs: SimFs,
    clock: Arc<ManualClock>,
    log: Arc<Log>,
    mapping: Mapping,
    width: u64,
    runner: u32,
    set: Arc<LaneSet>,
}

impl World {
    /// A lane with windows of a minute; it is 10:00:00.
    fn new() -> Self {
        let mut world = Self::without_lane(LaneLayout::WINDOWED);
        assert_eq!(Added::Ok, world.take(Some(MINUTE)));
        world
    }

    fn without_lane(layout: LaneLayout) -> Self {
        let (fs, clock) = (SimFs::new(), Arc::new(ManualClock::new(600 * MINUTE)));
        let log = open_at(&fs, &clock).unwrap();
        let config = StreamConfig { durability: Durability::Process, ..StreamConfig::default() };
        log.create_stream("s", &config, &Patience::of(LONG)).unwrap();
        let mapping = Mapping::register(&log, "app.f", layout, Start::TrimHorizon).unwrap();
        mapping.prepare("s").unwrap();
        let set = LaneSet::new(&log, [1; 16], 1, BUDGET_BYTES).unwrap();
        Self { fs, clock, log, mapping, width: MINUTE, runner: 1, set }
    }

    fn take(&mut self, tumbling: Option<u64>) -> Added {
        let limits = Limits { size: 3, window: Duration::ZERO, bytes: 1 << 20, tumbling };
        let request = Request {
            lane: 0,
            stream: "s".into(),
            shard: SHARD,
            slot: 0,
            limits,
            is_alone: false,
            passes_damage: false,
            // After two deaths of a worker a batch asks for one of its own.
            is_exclusive: self.runner > 1,
            filtering: None,
        };
        self.set.add(&self.mapping, &request).unwrap()
    }

    /// Sets the clock to so many seconds after 10:00:00, and appends records.
    fn put(&self, seconds: u64, count: usize) {
        self.set_clock(seconds);
        let stream = self.log.stream("s").unwrap();
        let mut put = stream.begin_put().unwrap();
        for _ in 0..count {
            put.push(b"x", Some("k"), std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
    }

    fn set_clock(&self, seconds: u64) {
        self.clock.set(600 * MINUTE + seconds * SECOND);
    }

    fn next(&self) -> Work {
        self.set.next(LONG).unwrap().expect("a call")
    }

    fn is_idle(&self) -> bool {
        self.set.next(NOW).unwrap().is_none()
    }

    /// Makes the call and settles it: a batch is added to the state.
    fn call(&self) -> Call {
        let work = self.next();
        let call = seen(&work);
        if !call.is_final {
            self.count(&work, work.records.len());
        }
        self.set.settle(0, 0).unwrap();
        call
    }

    fn count(&self, work: &Work, records: usize) {
        let total = seen(work).state + records as u64;
        self.set.keep_state(0, number(total), false).unwrap();
    }

    /// The runner dies, and the next one of the same worker takes its lane.
    fn runner_dies(&mut self) {
        self.set.close(NOW).unwrap();
        let (log, mapping) = again(&self.fs, &self.clock);
        (self.log, self.mapping) = (log, mapping);
        self.runner += 1;
        // Another worker, whose predecessor is dead: nobody is there to judge.
        let worker = [u8::try_from(self.runner).unwrap(); 16];
        self.set = LaneSet::new(&self.log, worker, self.runner, BUDGET_BYTES).unwrap();
        assert_eq!(Added::Ok, self.take(Some(self.width)));
    }
}

fn again(fs: &SimFs, clock: &Arc<ManualClock>) -> (Arc<Log>, Mapping) {
    let log = open_at(fs, clock).unwrap();
    let mapping = Mapping::open(&log, "app.f").unwrap().unwrap();
    (log, mapping)
}

fn number(total: u64) -> WindowState {
    WindowState { kind: StateKind::Json, bytes: total.to_string().into_bytes().into() }
}

/// A call, as the function sees it; times are seconds after 10:00:00.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    window: (u64, u64),
    state: u64,
    records: usize,
    is_final: bool,
}

fn batch(window: (u64, u64), state: u64, records: usize) -> Call {
    Call { window, state, records, is_final: false }
}

fn closing(window: (u64, u64), state: u64) -> Call {
    Call { window, state, records: 0, is_final: true }
}

fn seen(work: &Work) -> Call {
    let window = work.window.as_ref().expect("the lane has windows");
    let after = |time: u64| (time - 600 * MINUTE) / SECOND;
    let state = std::str::from_utf8(&window.open.state.bytes).unwrap();
    Call {
        window: (after(window.open.start), after(window.open.end)),
        state: state.parse().unwrap_or(0),
        records: work.records.len(),
        is_final: window.is_final,
    }
}

mod boundaries {
    use super::*;

    /// W-3: windows come from the records' times, not from the time of the call.
    #[test]
    fn a_batch_never_crosses_the_end_of_a_window() {
        let world = World::new();
        world.put(50, 2);
        world.put(70, 1);
        world.put(200, 1);

        let calls: Vec<Call> = (0..5).map(|_| world.call()).collect();
        let expected = vec![
            batch((0, 60), 0, 2),
            closing((0, 60), 2),
            batch((60, 120), 0, 1),
            closing((60, 120), 1),
            batch((180, 240), 0, 1),
        ];
        assert_eq!(expected, calls);
        assert!(world.is_idle(), "the last window is open, and it is not over");
    }

    #[test]
    fn the_state_goes_from_call_to_call_of_a_window() {
        let world = World::new();
        world.put(10, 7);
        world.put(60, 1);

        let calls: Vec<Call> = (0..4).map(|_| world.call()).collect();
        let window = (0, 60);
        let expected =
            vec![batch(window, 0, 3), batch(window, 3, 3), batch(window, 6, 1), closing(window, 7)];
        assert_eq!(expected, calls);
    }

    /// W-4: without a later record, the clock closes the window.
    #[test]
    fn the_clock_closes_a_window_once_everything_before_its_end_was_read() {
        let world = World::new();
        world.put(10, 1);
        assert_eq!(batch((0, 60), 0, 1), world.call());
        world.set_clock(59);
        assert!(world.is_idle());
        world.put(59, 1);
        world.set_clock(60);

        assert_eq!(batch((0, 60), 1, 1), world.call(), "it was appended before the end");
        assert_eq!(closing((0, 60), 2), world.call());
        assert!(world.is_idle(), "once");
    }

    #[test]
    fn a_record_of_a_closed_window_counts_in_the_next_one() {
        let world = World::new();
        world.put(10, 1);
        world.call();
        world.set_clock(60);
        assert!(world.call().is_final);
        world.put(20, 1); // somebody set the clock back

        assert_eq!(batch((60, 120), 0, 1), world.call());
    }

    #[test]
    fn a_new_width_counts_from_the_next_window_on() {
        let mut world = World::new();
        world.put(5, 1);
        world.call();
        world.width = 10 * SECOND;
        world.runner_dies();
        world.put(55, 1);
        world.put(65, 1);

        let calls: Vec<Call> = (0..3).map(|_| world.call()).collect();
        let expected = vec![batch((0, 60), 1, 1), closing((0, 60), 2), batch((60, 70), 0, 1)];
        assert_eq!(expected, calls);
    }

    #[test]
    fn a_batch_in_flight_that_a_new_width_would_divide_is_formed_again() {
        let mut world = World::new();
        world.put(5, 1);
        world.put(15, 1);
        assert_eq!(2, world.next().records.len());
        world.width = 10 * SECOND;
        world.runner_dies();

        let calls: Vec<Call> = (0..3).map(|_| world.call()).collect();
        let expected = vec![batch((0, 10), 0, 1), closing((0, 10), 1), batch((10, 20), 0, 1)];
        assert_eq!(expected, calls);
    }

    /// W-2: a state that is too large closes the window; what follows in it begins afresh.
    #[test]
    fn a_window_that_ends_early_has_its_final_call_at_once() {
        let world = World::new();
        world.put(10, 4);
        let work = world.next();
        world.set.keep_state(0, number(3), true).unwrap();
        world.set.settle(0, 0).unwrap();
        assert_eq!(3, work.records.len());

        let work = world.next();
        assert!(work.window.as_ref().unwrap().open.is_ended_early);
        assert_eq!(closing((0, 60), 3), seen(&work));
        world.set.settle(0, 0).unwrap();
        assert_eq!(batch((0, 60), 0, 1), world.call());
        world.set_clock(60);
        assert_eq!(closing((0, 60), 1), world.call());
    }
}

mod deaths {
    use super::*;

    #[test]
    fn a_batch_in_flight_comes_again_with_the_state_before_it() {
        let mut world = World::new();
        world.put(10, 5);
        world.call();
        let work = world.next();
        world.count(&work, 2);
        world.runner_dies();

        let work = world.next();
        assert!(work.is_resumed);
        assert_eq!(batch((0, 60), 3, 2), seen(&work), "what was not settled does not count");
    }

    #[test]
    fn a_part_of_a_batch_that_is_done_is_in_the_state_and_does_not_come_again() {
        let mut world = World::new();
        world.put(10, 3);
        let work = world.next();
        world.count(&work, 1);
        world.set.hold(0, vec![Entry::fresh(1, 2)], 0).unwrap();
        world.runner_dies();

        assert_eq!(batch((0, 60), 1, 2), seen(&world.next()));
    }

    /// W-4: the final call is made at least once, each time with the same window and state.
    #[test]
    fn a_final_call_comes_again_with_the_same_window_and_state() {
        let mut world = World::new();
        world.put(10, 2);
        world.put(70, 1);
        world.call();
        assert_eq!(closing((0, 60), 2), seen(&world.next()));
        for _ in 0..3 {
            world.runner_dies();
            let work = world.next();
            assert_eq!((closing((0, 60), 2), true), (seen(&work), work.is_resumed));
        }
        world.set.settle(0, 0).unwrap();
        world.runner_dies();

        assert_eq!(batch((60, 120), 0, 1), seen(&world.next()), "not again once it is settled");
    }

    #[test]
    fn a_final_call_that_waits_keeps_its_attempts() {
        let mut world = World::new();
        world.put(10, 1);
        world.call();
        world.set_clock(60);
        let work = world.next();
        let entry = Entry { attempts: 2, ..work.entries[0] };
        world.set.wait(0, vec![entry], 1, NOW).unwrap();
        world.runner_dies();

        let work = world.next();
        assert_eq!((2, 1), (work.entries[0].attempts, work.exponent));
        assert_eq!(closing((0, 60), 1), seen(&work));
        world.set.settle(0, 1).unwrap();
        assert!(world.mapping.lanes(Some("s")).unwrap()[0].in_flight.is_none());
    }
}

mod files {
    use super::*;

    #[test]
    fn the_checkpoint_is_the_position_in_the_window_file() {
        let world = World::new();
        world.put(10, 2);
        world.call();

        let lane = &world.mapping.lanes(Some("s")).unwrap()[0];
        assert_eq!((2, 2, true), (lane.checkpoint, lane.end, lane.is_windowed));
        assert_eq!(Some((600 * MINUTE, 601 * MINUTE)), lane.window);
    }

    #[test]
    fn a_lane_whose_files_are_both_damaged_is_refused() {
        let world = World::new();
        world.put(10, 1);
        world.call();
        world.set.close(NOW).unwrap();
        for name in ["a", "b"] {
            let path = format!("/log/mappings/app.f/s/{SHARD}.window.{name}");
            let file = streamfn_core::fs::Fs::open(
                &world.fs,
                Path::new(&path),
                streamfn_core::fs::Open::Write,
            );
            file.unwrap().write_at(&[&[0xff; 200]], 0).unwrap();
        }

        let refused = world.mapping.lanes(Some("s"));
        assert!(matches!(refused, Err(Error::CheckpointConflict { .. })), "{refused:?}");
    }

    #[test]
    fn a_lane_gets_windows_and_loses_them_without_losing_its_place() {
        let mut world = World::without_lane(LaneLayout::from(2));
        world.put(10, 1);
        Mapping::register(&world.log, "app.f", LaneLayout::WINDOWED, Start::TrimHorizon).unwrap();
        assert_eq!(Added::Stale, world.take(Some(MINUTE)));
        assert!(world.mapping.change_factor("s", SHARD).unwrap());
        assert_eq!(Added::Stale, world.take(None));
        assert_eq!(Added::Ok, world.take(Some(MINUTE)));
        assert_eq!(batch((0, 60), 0, 1), world.call());
        world.set.remove(0, LONG).unwrap();

        Mapping::register(&world.log, "app.f", 1, Start::TrimHorizon).unwrap();
        assert!(world.mapping.change_factor("s", SHARD).unwrap());
        assert_eq!(Added::Ok, world.take(None));
        world.put(11, 1);
        let work = world.next();
        assert_eq!((Some(1), None), (work.records.first(), work.window));
    }

    #[test]
    fn several_lanes_cannot_have_windows() {
        let world = World::without_lane(LaneLayout::from(1));
        let layout = LaneLayout { factor: 2, is_windowed: true };

        let refused = Mapping::register(&world.log, "app.g", layout, Start::TrimHorizon);
        assert!(matches!(refused, Err(Error::Config { .. })), "{refused:?}");
    }
}
