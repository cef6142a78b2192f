//! Runners that work, fail, wait, die in a call, die with their worker, hand over and change the
//! factor, in any order: every record is done, each after the ones of its key before it, and only
//! what was in flight at a death is seen again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::{open, SimFs, NOW};
use proptest::prelude::*;
use streamfn_core::checkpoint::{Entry, Mapping};
use streamfn_core::lane::in_flight_editor::{InFlightEdit, InFlightEditor};
use streamfn_core::lane::{Added, LaneSet, Limits, Request, Work};
use streamfn_core::{Durability, Log, Patience, ShardId, Start, StreamConfig};

const SHARD: ShardId = ShardId(0);
const BUDGET_BYTES: usize = 16 * 1024;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Records with these keys; 0 has none.
    Put(Vec<u8>),
    /// The runner asks for a batch.
    Next,
    /// A call succeeds.
    Settle(usize),
    /// A call got that far, in percent; the rest is tried again, in two halves.
    Fail(usize, u64),
    /// The runner goes; what it calls is abandoned.
    HandOver,
    /// The runner dies; its supervisor counts an attempt for what it was calling.
    RunnerDies,
    /// The whole worker dies.
    WorkerDies,
    /// Another factor is wanted.
    Factor(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0_u8..9, 1..40).prop_map(Step::Put),
        8 => Just(Step::Next),
        6 => any::<usize>().prop_map(Step::Settle),
        3 => (any::<usize>(), 0_u64..100).prop_map(|(which, part)| Step::Fail(which, part)),
        1 => Just(Step::HandOver),
        2 => Just(Step::RunnerDies),
        1 => Just(Step::WorkerDies),
        1 => (1_u32..5).prop_map(Step::Factor),
    ];
    prop::collection::vec(step, 1..120)
}

/// What the model knows about a batch that is not settled.
#[derive(Clone, Debug)]
struct OpenBatch {
    entries: Vec<Entry>,
    records: Vec<u64>,
    end: u64,
    worker_deaths: u32,
}

struct World {
    log: Arc<Log>,
    mapping: Mapping,
    factor: u32,
    worker: u8,
    runner: u32,
    set: Arc<LaneSet>,
    is_exclusive: bool,
    /// Key of each record, by sequence number.
    keys: Vec<u8>,
    done: BTreeSet<u64>,
    /// Batches in the runner's hands, by lane.
    in_hands: BTreeMap<u32, OpenBatch>,
    /// Batches in nobody's hands that have to come back as they are.
    open: BTreeMap<u32, OpenBatch>,
    /// Records that may come again although they are done.
    may_repeat: BTreeSet<u64>,
}

impl World {
    fn new() -> Self {
        let log = open(&SimFs::new());
        let config = StreamConfig { durability: Durability::Process, ..StreamConfig::default() };
        log.create_stream("s", &config, &Patience::of(Duration::from_secs(9))).unwrap();
        let mapping = Mapping::register(&log, "app.f", 2, Start::TrimHorizon).unwrap();
        mapping.prepare("s").unwrap();
        let set = LaneSet::new(&log, [1; 16], 1, BUDGET_BYTES).unwrap();
        let mut world = Self {
            log,
            mapping,
            factor: 2,
            worker: 1,
            runner: 1,
            set,
            is_exclusive: false,
            keys: Vec::new(),
            done: BTreeSet::new(),
            in_hands: BTreeMap::new(),
            open: BTreeMap::new(),
            may_repeat: BTreeSet::new(),
        };
        world.take_lanes();
        world
    }

    fn slot(&self, seq: u64) -> u32 {
        let key = self.keys[usize::try_from(seq).unwrap()];
        let text = format!("key {key}");
        streamfn_core::lane::slot_of((key > 0).then_some(text.as_str()), seq, self.factor)
    }

    fn records(&self, slot: u32, entries: &[Entry]) -> Vec<u64> {
        let all = 0..self.keys.len() as u64;
        let covers = |seq: u64| entries.iter().any(|e| (e.first..=e.last).contains(&seq));
        all.filter(|&seq| self.slot(seq) == slot && covers(seq)).collect()
    }

    fn put(&mut self, keys: &[u8]) {
        let stream = self.log.stream("s").unwrap();
        let mut put = stream.begin_put().unwrap();
        for key in keys {
            let text = format!("key {key}");
            let key = (*key > 0).then_some(text.as_str());
            put.push(&[7; 100], key, std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(Duration::from_secs(9))).unwrap();
        self.keys.extend(keys);
    }

    fn request(&self, slot: u32) -> Request {
        let limits = Limits { size: 7, window: Duration::ZERO, bytes: 600, tumbling: None };
        Request {
            lane: slot,
            stream: "s".into(),
            shard: SHARD,
            slot,
            limits,
            filtering: None,
            is_alone: false,
            is_exclusive: self.is_exclusive,
            passes_damage: false,
        }
    }

    /// A new set takes all lanes, and asks for the worker for itself where it has to.
    fn take_lanes(&mut self) {
        for slot in 0..self.factor {
            let deaths = self.open.get(&slot).map_or(0, |open| open.worker_deaths);
            let added = self.set.add(&self.mapping, &self.request(slot)).unwrap();
            if deaths >= 2 && !self.is_exclusive {
                assert_eq!(Added::Exclusive, added);
                self.is_exclusive = true;
                assert_eq!(Added::Ok, self.set.add(&self.mapping, &self.request(slot)).unwrap());
                self.is_exclusive = false;
            } else {
                assert_eq!(Added::Ok, added);
            }
        }
        assert_eq!(Added::Stale, self.set.add(&self.mapping, &self.request(self.factor)).unwrap());
    }

    fn begin_set(&mut self) {
        self.set = LaneSet::new(&self.log, [self.worker; 16], self.runner, BUDGET_BYTES).unwrap();
        self.take_lanes();
    }

    fn next(&mut self) -> bool {
        let Some(work) = self.set.next(Duration::ZERO).unwrap() else { return false };
        let slot = work.lane;
        let got: Vec<u64> =
            (0..work.records.len()).map(|i| work.records.sequence_number(i).unwrap()).collect();
        assert!(!self.in_hands.contains_key(&slot), "one batch of a lane at a time");
        let batch = match self.open.remove(&slot) {
            Some(open) => {
                assert!(work.is_resumed);
                assert_eq!((&open.entries, open.end), (&work.entries, work.end));
                assert_eq!(open.records, got);
                open
            }
            None => self.fresh(&work, got),
        };
        self.in_hands.insert(slot, batch);
        true
    }

    fn fresh(&mut self, work: &Work, records: Vec<u64>) -> OpenBatch {
        assert!(!work.is_resumed);
        assert!(
            (1..=6).contains(&records.len()),
            "600 bytes are six records of 100 and their keys"
        );
        let whole = Entry::fresh(records[0], *records.last().unwrap());
        assert_eq!(vec![whole], work.entries);
        assert_eq!(records, self.records(work.lane, &[whole]), "no record of the lane is left out");
        for seq in &records {
            assert!(!self.done.contains(seq) || self.may_repeat.contains(seq), "{seq} came again");
        }
        let before = (0..records[0]).filter(|&seq| self.slot(seq) == work.lane);
        let undone: Vec<u64> = before.filter(|seq| !self.done.contains(seq)).collect();
        assert!(undone.is_empty(), "{undone:?} were passed over");
        OpenBatch { entries: vec![whole], records, end: work.end, worker_deaths: 0 }
    }

    fn choose(&self, which: usize) -> Option<u32> {
        let lanes: Vec<u32> = self.in_hands.keys().copied().collect();
        (!lanes.is_empty()).then(|| lanes[which % lanes.len()])
    }

    fn finish(&mut self, records: &[u64]) {
        for &seq in records {
            let key = self.keys[usize::try_from(seq).unwrap()];
            let is_before =
                |other: &u64| key > 0 && self.keys[usize::try_from(*other).unwrap()] == key;
            let earlier = (0..seq).filter(is_before).all(|other| self.done.contains(&other));
            assert!(earlier, "{seq} is done before an earlier record of its key");
            self.done.insert(seq);
        }
    }

    fn settle(&mut self, slot: u32) {
        let batch = self.in_hands.remove(&slot).unwrap();
        self.finish(&batch.records);
        self.set.settle(slot, 0).unwrap();
    }

    /// The first part of the call is done; what is left waits, in two calls.
    fn fail(&mut self, slot: u32, percent: u64) {
        let mut batch = self.in_hands.remove(&slot).unwrap();
        let done = batch.records.len() * usize::try_from(percent).unwrap() / 100;
        let left = batch.records.split_off(done);
        let finished = std::mem::replace(&mut batch.records, left);
        self.finish(&finished);
        let middle = batch.records.len() / 2;
        let halves = [&batch.records[..middle], &batch.records[middle..]];
        batch.entries = halves
            .into_iter()
            .filter_map(|half| Some(Entry::fresh(*half.first()?, *half.last()?)))
            .map(|entry| Entry { attempts: 1, ..entry })
            .collect();
        self.set.wait(slot, batch.entries.clone(), 1, Duration::ZERO).unwrap();
        self.open.insert(slot, batch);
    }

    fn hand_over(&mut self) {
        for (slot, batch) in std::mem::take(&mut self.in_hands) {
            self.set.wait(slot, batch.entries.clone(), 0, Duration::ZERO).unwrap();
            self.open.insert(slot, batch);
        }
        assert!(self.set.close(Duration::ZERO).unwrap());
        self.runner += 1;
        self.begin_set();
    }

    fn runner_dies(&mut self) {
        self.set = LaneSet::new(&self.log, [self.worker; 16], 0, BUDGET_BYTES).unwrap();
        self.runner += 1;
        for (slot, mut batch) in std::mem::take(&mut self.in_hands) {
            let request = self.request(slot);
            assert_eq!(Added::Judge, self.set.add(&self.mapping, &request).unwrap());
            let mut editor =
                InFlightEditor::take(&self.mapping, "s", SHARD, slot, None).unwrap().unwrap();
            let found = editor.in_flight().unwrap().clone();
            assert_eq!(batch.entries, found.entries);
            assert_eq!(batch.records, self.records(slot, &found.entries));
            let (first, last) = (found.entries[0].first, found.entries[0].last);
            assert_eq!(
                self.records(slot, &found.entries[..1]),
                editor.records(first, last).unwrap()
            );
            batch.entries[0].attempts += 1;
            let edit = InFlightEdit {
                entries: batch.entries.clone(),
                worker: [self.worker; 16],
                worker_deaths: found.worker_deaths,
                ..InFlightEdit::default()
            };
            editor.write(edit).unwrap();
            editor.release().unwrap();
            self.open.insert(slot, batch);
        }
        self.begin_set();
    }

    fn worker_dies(&mut self) {
        self.worker += 1;
        self.runner = 1;
        for (slot, mut batch) in std::mem::take(&mut self.in_hands) {
            let file = self.mapping.lanes_file("s", SHARD).unwrap();
            let found = file.lane(slot).unwrap().unwrap().in_flight.unwrap();
            batch.worker_deaths += 1;
            if found.is_exclusive {
                batch.entries[0].detail = 9; // the signal of a process killed whole
                batch.entries[0].cause = streamfn_core::checkpoint::Cause::Crashed;
                batch.entries[0].first_failed = NOW;
            }
            self.open.insert(slot, batch);
        }
        self.begin_set();
    }

    fn change_factor(&mut self, factor: u32) {
        for (slot, batch) in std::mem::take(&mut self.in_hands) {
            self.set.wait(slot, batch.entries.clone(), 0, Duration::ZERO).unwrap();
            self.open.insert(slot, batch);
        }
        assert!(self.set.close(Duration::ZERO).unwrap());
        Mapping::register(&self.log, "app.f", factor, Start::TrimHorizon).unwrap();
        let is_changed = self.mapping.change_factor("s", SHARD).unwrap();
        assert_eq!(self.open.is_empty() || factor == self.factor, is_changed);
        if is_changed && factor != self.factor {
            self.factor = factor;
            let lanes = self.mapping.lanes(Some("s")).unwrap();
            let lowest = lanes[0].checkpoint;
            assert!(lanes.iter().all(|lane| lane.checkpoint == lowest && lane.factor == factor));
            assert!((0..lowest).all(|seq| self.done.contains(&seq)), "a gap");
            self.may_repeat.extend(lowest..self.keys.len() as u64);
        }
        self.runner += 1;
        self.begin_set();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(keys) => self.put(keys),
            Step::Next => drop(self.next()),
            Step::Settle(which) => {
                self.choose(*which).into_iter().for_each(|slot| self.settle(slot));
            }
            Step::Fail(which, percent) => {
                self.choose(*which).into_iter().for_each(|slot| self.fail(slot, *percent));
            }
            Step::HandOver => self.hand_over(),
            Step::RunnerDies => self.runner_dies(),
            Step::WorkerDies => self.worker_dies(),
            Step::Factor(factor) => self.change_factor(*factor),
        }
    }

    fn drain(&mut self) {
        loop {
            while let Some(slot) = self.choose(0) {
                self.settle(slot);
            }
            if !self.next() {
                break;
            }
        }
        assert_eq!((0..self.keys.len() as u64).collect::<BTreeSet<_>>(), self.done);
        assert!(self.open.is_empty() && self.set.is_idle());
        self.set.set_burst(true);
        assert!(self.set.next(Duration::ZERO).unwrap().is_none());
        let lanes = self.mapping.lanes(None).unwrap();
        assert!(lanes.iter().all(|lane| lane.checkpoint == lane.end && lane.in_flight.is_none()));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_out_of_order_and_only_what_was_in_flight_comes_again(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.drain();
    }
}
