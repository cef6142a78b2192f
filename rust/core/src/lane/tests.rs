//! A runner's lanes on a real log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

use super::in_flight_editor::InFlightEdit;
use super::*;
use crate::checkpoint::{Cause, InFlight};
use crate::clock::Patience;
use crate::stream::{OpenOptions, StreamConfig};
use crate::types::{Durability, SequenceNumber, Start};

const SHARD: ShardId = ShardId(0);
const WORKER: [u8; 16] = [7; 16];
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

/// A log with the stream `orders` of one shard, and the mapping `shop.total`.
struct World {
    _folder: tempfile::TempDir,
    log: Arc<Log>,
    mapping: Mapping,
}

impl World {
    fn new(factor: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let config = StreamConfig { durability: Durability::Process, ..StreamConfig::default() };
        log.create_stream("orders", &config, &Patience::of(LONG)).unwrap();
        let mapping = Mapping::register(&log, "shop.total", factor, Start::TrimHorizon).unwrap();
        mapping.prepare("orders").unwrap();
        Self { _folder: folder, log, mapping }
    }

    /// Appends records `key:number`; each call is one record batch on disk.
    fn put(&self, keys: &[&str]) {
        let stream = self.log.stream("orders").unwrap();
        let mut put = stream.begin_put().unwrap();
        for (number, key) in keys.iter().enumerate() {
            put.push(format!("{key}:{number}").as_bytes(), Some(key), std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
    }

    /// Appends `count` records of `bytes` bytes without a key.
    fn put_sized(&self, count: usize, bytes: usize) {
        let stream = self.log.stream("orders").unwrap();
        let mut put = stream.begin_put().unwrap();
        // Nothing that compresses well: what is decoded has to be as large as what was put.
        let mut noise = 1_u64;
        let mut data = vec![0; bytes];
        for _ in 0..count {
            for byte in &mut data {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = noise.to_le_bytes()[7];
            }
            put.push(&data, None, std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
    }

    fn set(&self, runner: u32) -> Arc<LaneSet> {
        LaneSet::new(&self.log, WORKER, runner, BUDGET_BYTES_DEFAULT).unwrap()
    }

    /// A set of runner 1 that has lane 0.
    fn with_lane(&self, size: usize) -> Arc<LaneSet> {
        let set = self.set(1);
        assert_eq!(Added::Ok, set.add(&self.mapping, &request(0, size)).unwrap());
        set
    }

    fn checkpoint(&self, slot: u32) -> SequenceNumber {
        self.mapping.lanes(Some("orders")).unwrap()[slot as usize].checkpoint
    }

    /// The in-flight slot of lane 0, as far as it counts.
    fn in_flight(&self) -> Option<InFlight> {
        self.mapping.lanes(Some("orders")).unwrap()[0].in_flight.clone()
    }

    /// Has the slot of lane 0 say something else, as another process would.
    fn rewrite(&self, change: impl FnOnce(&mut InFlight)) {
        let file = self.mapping.lanes_file("orders", SHARD).unwrap();
        let view = file.take(0).unwrap().unwrap();
        let mut in_flight = view.in_flight.unwrap();
        change(&mut in_flight);
        file.put_in_flight(0, &in_flight).unwrap();
        file.give_back(0).unwrap();
    }
}

fn request(slot: u32, size: usize) -> Request {
    let limits = Limits { size, window: Duration::ZERO, bytes: 6 << 20, tumbling: None };
    Request {
        lane: slot,
        stream: "orders".into(),
        shard: SHARD,
        slot,
        limits,
        filtering: None,
        is_alone: false,
        is_exclusive: false,
        passes_damage: false,
    }
}

fn numbers(work: &Work) -> Vec<SequenceNumber> {
    (0..work.records.len()).filter_map(|i| work.records.sequence_number(i)).collect()
}

fn next(set: &LaneSet) -> Work {
    set.next(LONG).unwrap().expect("a batch")
}

mod batches {
    use super::*;

    #[test]
    fn they_come_in_order_and_as_large_as_they_may() {
        let world = World::new(1);
        world.put(&["a"; 5]);
        world.put(&["a"; 5]);
        let set = world.with_lane(4);

        let mut got = Vec::new();
        for _ in 0..3 {
            let work = next(&set);
            assert_eq!((work.entries[0].attempts, work.is_resumed), (0, false));
            got.push(numbers(&work));
            set.settle(0, 0).unwrap();
        }

        assert_eq!(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]], got);
        assert!(set.next(Duration::from_millis(5)).unwrap().is_none());
        assert_eq!(10, world.checkpoint(0));
    }

    #[test]
    fn a_lane_has_one_batch_in_flight() {
        let world = World::new(1);
        world.put(&["a"; 4]);
        let set = world.with_lane(2);
        next(&set);

        assert!(set.next(Duration::from_millis(20)).unwrap().is_none());
        assert!(!set.is_idle());
        set.settle(0, 0).unwrap();
        assert_eq!(vec![2, 3], numbers(&next(&set)));
    }

    #[test]
    fn a_window_gathers_records_until_it_is_over() {
        let world = World::new(1);
        let set = world.set(1);
        let window = Duration::from_millis(500);
        let limits = Limits { size: 100, window, bytes: 1000, tumbling: None };
        set.add(&world.mapping, &Request { limits, ..request(0, 1) }).unwrap();
        world.put(&["a"]);
        assert!(set.next(Duration::from_millis(20)).unwrap().is_none());
        world.put(&["a"]);

        assert_eq!(vec![0, 1], numbers(&next(&set)));
        set.settle(0, 0).unwrap();
        set.set_burst(true);
        world.put(&["a"]);
        let watch = crate::clock::Stopwatch::start();
        assert_eq!(vec![2], numbers(&next(&set)));
        assert!(watch.elapsed() < window, "in a burst nothing waits for a window");
    }

    #[test]
    fn bytes_close_a_batch() {
        let world = World::new(1);
        world.put_sized(3, 1000);
        let set = world.set(1);
        let limits = Limits { size: 100, window: LONG, bytes: 2500, tumbling: None };
        set.add(&world.mapping, &Request { limits, ..request(0, 1) }).unwrap();

        assert_eq!(vec![0, 1], numbers(&next(&set)));
    }

    #[test]
    fn a_put_wakes_a_runner_that_waits() {
        let world = World::new(1);
        let set = world.with_lane(10);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| next(&set));
            std::thread::sleep(Duration::from_millis(30));
            world.put(&["a"]);
            assert_eq!(vec![0], numbers(&waiting.join().unwrap()));
        });
    }

    /// As with `async` functions: one thread takes the lanes, others wait for the calls.
    #[test]
    fn a_thread_that_sleeps_hears_of_a_lane_that_another_lets_go() {
        let world = World::new(1);
        world.put(&["a"; 20]);
        let set = world.with_lane(1);
        let patience = Deadline::after(SECOND); // a nap each turn would take twice as long
        std::thread::scope(|scope| {
            let (taken, takes) = mpsc::channel();
            let set = &set;
            scope.spawn(move || (0..20).for_each(|_| taken.send(next(set)).unwrap()));
            for turn in 0..20 {
                assert_eq!(vec![turn], numbers(&takes.recv().unwrap()));
                std::thread::sleep(Duration::from_millis(5)); // the other one goes to sleep
                set.settle(0, 0).unwrap();
                set.pass_on();
            }
        });
        assert!(!patience.is_past());
    }

    #[test]
    fn a_thread_that_sleeps_hears_when_a_lane_that_another_looked_at_is_due() {
        let world = World::new(1);
        world.put(&["a"; 3]);
        let set = world.set(1);
        let mut request = request(0, 2);
        request.limits.window = Duration::from_millis(10);
        set.add(&world.mapping, &request).unwrap();
        assert_eq!(vec![0, 1], numbers(&next(&set)));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| numbers(&next(&set)));
            while set.sleepers.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            set.settle(0, 0).unwrap();
            let before = world.log.wake_word();

            assert!(set.next_of(0).unwrap().is_none(), "its window is open");

            assert_ne!(before, world.log.wake_word());
            assert_eq!(vec![2], sleeper.join().unwrap());
        });
    }

    #[test]
    fn of_one_lane_it_comes_before_those_that_wait_for_longer() {
        let world = World::new(2);
        let slots = ["a", "b", "c", "d", "e"].map(|key| (key, slot_of(Some(key), 0, 2)));
        let key = |slot| slots.iter().find(|(_, other)| *other == slot).unwrap().0;
        world.put(&[key(0), key(0), key(1)]);
        let set = world.with_lane(1);
        set.add(&world.mapping, &request(1, 1)).unwrap();
        assert_eq!(vec![0], numbers(&next(&set)));
        assert!(set.next_of(0).unwrap().is_none(), "it is in hands");
        set.settle(0, 0).unwrap();

        assert_eq!(vec![1], numbers(&set.next_of(0).unwrap().unwrap()));
        set.settle(0, 0).unwrap();
        assert!(set.next_of(0).unwrap().is_none(), "it has no more");
        assert!(set.next_of(7).unwrap().is_none(), "there is no such lane");
        assert_eq!(vec![2], numbers(&next(&set)));
        world.put(&[key(0)]);
        assert_eq!(vec![3], numbers(&next(&set)), "it is in the queue again");
        set.settle(0, 0).unwrap();
        world.put(&[key(0)]);
        set.stop();
        assert!(set.next_of(0).unwrap().is_none(), "the set is stopped");
    }

    #[test]
    fn a_stopped_set_hands_out_nothing() {
        let world = World::new(1);
        let set = world.with_lane(10);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| set.next(LONG).unwrap());
            std::thread::sleep(Duration::from_millis(30));
            set.stop();
            assert!(waiting.join().unwrap().is_none());
        });
        world.put(&["a"]);
        assert!(set.next(LONG).unwrap().is_none());
    }
}

mod lanes_of_a_shard {
    use super::*;

    #[test]
    fn they_see_each_record_once_and_keep_the_order_of_each_key() {
        let world = World::new(4);
        let keys: Vec<String> = (0..100).map(|i| format!("key{}", i % 13)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        for _ in 0..20 {
            world.put(&keys);
        }
        let set = world.set(1);
        for slot in 0..4 {
            assert_eq!(Added::Ok, set.add(&world.mapping, &request(slot, 7)).unwrap());
        }

        let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut lane_of: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        while let Some(work) = set.next(Duration::from_millis(20)).unwrap() {
            for (batch, i) in work.records.iter() {
                let key = batch.key(i).unwrap().to_owned();
                by_key.entry(key.clone()).or_default().push(batch.base_seq() + u64::from(i));
                lane_of.entry(key).or_default().insert(work.lane);
            }
            set.settle(work.lane, 0).unwrap();
        }

        let all: BTreeSet<u64> = by_key.values().flatten().copied().collect();
        assert_eq!((0..2000).collect::<BTreeSet<_>>(), all);
        assert_eq!(2000, by_key.values().map(Vec::len).sum::<usize>());
        assert!(by_key.values().all(|seen| seen.is_sorted()));
        assert!(lane_of.values().all(|lanes| lanes.len() == 1));
        assert_eq!(4, lane_of.values().flatten().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn a_lane_without_records_still_moves_on() {
        let world = World::new(2);
        let key = (0..99).map(|i| format!("k{i}")).find(|k| slot_of(Some(k), 0, 2) == 0).unwrap();
        world.put(&[key.as_str(); 50]);
        let set = world.set(1);
        set.add(&world.mapping, &request(1, 10)).unwrap();

        assert!(set.next(Duration::from_millis(250)).unwrap().is_none());
        assert_eq!((0, 50), (world.checkpoint(0), world.checkpoint(1)));

        set.set_burst(true);
        world.put(&[key.as_str(); 50]);
        assert!(set.next(Duration::from_millis(1)).unwrap().is_none());
        assert_eq!(100, world.checkpoint(1), "at once in a burst");
    }

    #[test]
    fn one_that_is_further_on_hides_nothing_from_another() {
        let world = World::new(2);
        let key_of = |slot| {
            let mut keys = (0..99).map(|i| format!("k{i}"));
            keys.find(|key| slot_of(Some(key), 0, 2) == slot).unwrap()
        };
        let (zero, one) = (key_of(0), key_of(1));
        world.put(&[&zero]);
        world.put(&[&one]);
        // Lane 0 has read both batches, and goes on with the first after a hand-over.
        let first = world.with_lane(10);
        let work = next(&first);
        assert_eq!((vec![0], 2), (numbers(&work), work.end));
        first.wait(0, work.entries, 0, Duration::ZERO).unwrap();
        first.close(SECOND).unwrap();
        let second = world.set(2);
        second.add(&world.mapping, &request(0, 10)).unwrap();
        next(&second);
        second.settle(0, 0).unwrap();
        world.put(&[&zero]);
        assert_eq!(vec![2], numbers(&next(&second)));

        second.add(&world.mapping, &request(1, 10)).unwrap();
        assert_eq!(vec![1], numbers(&next(&second)));
    }

    #[test]
    fn one_that_lags_behind_costs_no_memory_and_misses_nothing() {
        let world = World::new(2);
        for _ in 0..30 {
            world.put_sized(100, 2000);
        }
        let budget = 1 << 20;
        let set = LaneSet::new(&world.log, WORKER, 1, budget).unwrap();
        set.add(&world.mapping, &request(0, 10)).unwrap();
        set.add(&world.mapping, &request(1, 10)).unwrap();

        // Lane 0 is in hands for as long as lane 1 has anything to do.
        let held = next(&set);
        assert_eq!(0, held.lane);
        let mut seen = [numbers(&held), Vec::new()];
        while let Some(work) = set.next(Duration::from_millis(20)).unwrap() {
            assert_eq!(1, work.lane);
            assert!(set.cached_bytes() <= budget);
            seen[1].extend(numbers(&work));
            set.settle(1, 0).unwrap();
        }
        set.settle(0, 0).unwrap();
        while let Some(work) = set.next(Duration::from_millis(20)).unwrap() {
            assert!(set.cached_bytes() <= budget);
            seen[0].extend(numbers(&work));
            set.settle(0, 0).unwrap();
        }

        let evens: Vec<u64> = (0..3000).filter(|n| n % 2 == 0).collect();
        let odds: Vec<u64> = (0..3000).filter(|n| n % 2 == 1).collect();
        assert_eq!([evens, odds], seen);
    }
}

mod outcomes {
    use super::*;

    #[test]
    fn what_is_held_is_in_the_slot_and_what_is_done_below_the_checkpoint() {
        let world = World::new(1);
        world.put(&["a"; 8]);
        let set = world.with_lane(8);
        let work = next(&set);
        assert_eq!(vec![Entry::fresh(0, 7)], world.in_flight().unwrap().entries);

        let rest = vec![Entry { attempts: 1, ..Entry::fresh(4, 5) }, Entry::fresh(6, 7)];
        set.hold(0, rest.clone(), 2).unwrap();

        let in_flight = world.in_flight().unwrap();
        assert_eq!(rest, in_flight.entries);
        assert_eq!((0, work.end, 2), (in_flight.formed_at, in_flight.end, in_flight.exponent));
        assert!(in_flight.is_calling);
        assert_eq!((WORKER, 1), (in_flight.worker, in_flight.runner));
        assert_eq!(4, world.checkpoint(0));

        set.settle(0, 0).unwrap();
        assert_eq!((None, 8), (world.in_flight(), world.checkpoint(0)));
        assert!(set.is_idle());
    }

    #[test]
    fn a_list_too_long_for_the_slot_is_held_as_one_range() {
        let world = World::new(1);
        world.put(&["a"; 30]);
        let set = world.with_lane(30);
        next(&set);
        set.hold(0, (5..30).map(|n| Entry::fresh(n, n)).collect(), 0).unwrap();

        assert_eq!(vec![Entry::fresh(5, 29)], world.in_flight().unwrap().entries);
    }

    #[test]
    fn entries_outside_of_the_batch_are_refused() {
        let world = World::new(1);
        world.put(&["a"; 8]);
        let set = world.with_lane(4);
        next(&set);
        for entries in [vec![], vec![Entry::fresh(3, 4)], vec![Entry::fresh(3, 2)]] {
            let refused = set.hold(0, entries, 0);
            assert!(matches!(refused, Err(Error::Config { field: "entries", .. })));
        }
        set.settle(0, 0).unwrap();
        assert!(matches!(set.settle(0, 0), Err(Error::Config { field: "lane", .. })));
    }

    #[test]
    fn a_lane_that_waits_comes_back_with_what_is_open() {
        let world = World::new(1);
        world.put(&["a"; 8]);
        let set = world.with_lane(8);
        next(&set);
        let rest = vec![Entry { attempts: 1, ..Entry::fresh(6, 6) }, Entry::fresh(2, 3)];
        let watch = crate::clock::Stopwatch::start();
        set.wait(0, rest.clone(), 1, Duration::from_millis(80)).unwrap();
        assert!(!world.in_flight().unwrap().is_calling);
        assert!(!set.is_idle());

        let work = next(&set);
        assert!(watch.elapsed() >= Duration::from_millis(80));
        assert_eq!(
            (vec![2, 3, 6], rest, 1, true),
            (numbers(&work), work.entries, work.exponent, work.is_resumed)
        );
        assert!(world.in_flight().unwrap().is_calling);
        set.settle(0, 0).unwrap();
        assert_eq!(0, world.mapping.lanes(None).unwrap()[0].end - world.checkpoint(0));
    }

    #[test]
    fn a_batch_that_waits_for_its_turn_is_not_being_called() {
        let world = World::new(1);
        world.put(&["a"; 8]);
        let set = world.with_lane(8);
        let work = next(&set);
        let written = world.in_flight().unwrap();

        set.set_calling(0, false).unwrap();
        let waiting = world.in_flight().unwrap();
        assert_eq!(InFlight { is_calling: false, ..written.clone() }, waiting);
        assert!(set.next(Duration::ZERO).unwrap().is_none(), "it stays in hands");

        set.set_calling(0, true).unwrap();
        assert_eq!(Some(written), world.in_flight());
        set.settle(0, 0).unwrap();
        assert_eq!(work.end, world.checkpoint(0));
    }

    #[test]
    fn only_who_has_a_lane_in_hands_says_whether_it_is_called() {
        let world = World::new(1);
        let set = world.with_lane(8);

        let refused = set.set_calling(0, false);

        assert!(matches!(refused, Err(Error::Config { field: "lane", .. })));
    }

    #[test]
    fn the_exponent_survives_a_settled_batch() {
        let world = World::new(1);
        world.put(&["a"; 2]);
        let set = world.with_lane(1);
        next(&set);
        set.settle(0, 3).unwrap();
        drop(set);

        let set = world.set(2);
        set.add(&world.mapping, &request(0, 1)).unwrap();
        assert_eq!(3, next(&set).exponent);
        set.settle(0, 0).unwrap();
        drop(set);
        world.put(&["a"]);
        assert_eq!(0, next(&world.with_lane(1)).exponent);
    }
}

mod hand_over {
    use super::*;

    #[test]
    fn a_lane_has_one_owner() {
        let world = World::new(1);
        let first = world.with_lane(1);
        let second = world.set(2);
        assert_eq!(Added::Held, second.add(&world.mapping, &request(0, 1)).unwrap());
        assert!(world.mapping.lanes(None).unwrap()[0].is_leased);

        assert!(first.remove(0, SECOND).unwrap());
        assert!(!world.mapping.lanes(None).unwrap()[0].is_leased);
        assert_eq!(Added::Ok, second.add(&world.mapping, &request(0, 1)).unwrap());
    }

    #[test]
    fn what_was_settled_is_not_seen_again() {
        let world = World::new(1);
        world.put(&["a"; 6]);
        let first = world.with_lane(2);
        next(&first);
        first.settle(0, 0).unwrap();
        first.remove(0, SECOND).unwrap();

        assert_eq!(vec![2, 3], numbers(&next(&world.with_lane(2))));
    }

    #[test]
    fn a_lane_in_hands_is_given_back_once_it_is_let_go() {
        let world = World::new(1);
        world.put(&["a"; 2]);
        let set = world.with_lane(2);
        next(&set);
        assert!(!set.remove(0, Duration::from_millis(10)).unwrap());
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| set.remove(0, LONG).unwrap());
            std::thread::sleep(Duration::from_millis(30));
            set.settle(0, 0).unwrap();
            assert!(removing.join().unwrap());
        });
        assert!(set.lanes().is_empty());
    }

    #[test]
    fn a_lane_can_go_while_a_thread_waits_for_it() {
        let world = World::new(1);
        let set = world.with_lane(2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| set.next(Duration::from_millis(300)).unwrap());
            std::thread::sleep(Duration::from_millis(30));
            assert!(set.remove(0, SECOND).unwrap());
            world.put(&["a"]);
            assert!(waiting.join().unwrap().is_none());
        });
    }

    #[test]
    fn what_a_runner_yields_another_goes_on_with() {
        let world = World::new(1);
        world.put(&["a"; 4]);
        let first = world.with_lane(4);
        next(&first);
        let open = vec![Entry { attempts: 2, ..Entry::fresh(1, 3) }];
        first.wait(0, open.clone(), 4, Duration::ZERO).unwrap();
        assert!(first.close(SECOND).unwrap());

        let second = world.set(2);
        assert_eq!(Added::Ok, second.add(&world.mapping, &request(0, 4)).unwrap());
        let work = next(&second);
        assert_eq!(
            (open, vec![1, 2, 3], 4, true),
            (work.entries.clone(), numbers(&work), work.exponent, work.is_resumed)
        );
        second.settle(0, 0).unwrap();
        assert_eq!(4, world.checkpoint(0));
        world.put(&["a"; 2]);
        assert_eq!(vec![4, 5], numbers(&next(&second)), "reading goes on behind what was resumed");
    }

    #[test]
    fn what_waits_before_a_retry_goes_on_waiting_in_another_runner() {
        let world = World::new(1);
        world.put(&["a"; 4]);
        let first = world.with_lane(4);
        next(&first);
        let watch = crate::clock::Stopwatch::start();
        let wait = Duration::from_millis(150);
        first.wait(0, vec![Entry { attempts: 1, ..Entry::fresh(0, 3) }], 1, wait).unwrap();
        assert!(first.close(SECOND).unwrap());

        let second = world.set(2);
        assert_eq!(Added::Ok, second.add(&world.mapping, &request(0, 4)).unwrap());
        assert_eq!(vec![0, 1, 2, 3], numbers(&next(&second)));
        assert!(watch.elapsed() >= wait);
        assert!(watch.elapsed() < 2 * wait, "it does not wait anew");
        assert_eq!(0, world.in_flight().unwrap().not_before, "it is called");
    }

    #[test]
    fn an_old_owner_cannot_write_any_more() {
        let world = World::new(1);
        world.put(&["a"; 4]);
        let set = world.with_lane(2);
        next(&set);
        // Somebody takes the lane although its owner lives: a forked child's copy of the lock, say.
        let other = Mapping::open(&world.log, "shop.total").unwrap().unwrap();
        other.lanes_file("orders", SHARD).unwrap().take(0).unwrap().unwrap();

        assert!(matches!(set.settle(0, 0), Err(Error::LeaseLost { .. })));
        assert!(set.lanes().is_empty());
        assert_eq!(0, world.checkpoint(0));
    }

    #[test]
    fn a_slot_above_the_factor_is_stale() {
        let world = World::new(2);
        assert_eq!(Added::Stale, world.set(1).add(&world.mapping, &request(2, 1)).unwrap());
    }
}

mod deaths {
    use super::*;

    /// Leaves a batch of records 0 to 3 in flight, as a runner does that dies in a call.
    fn die_in_a_call(world: &World) {
        world.put(&["a"; 4]);
        let set = world.with_lane(4);
        next(&set);
        drop(set);
    }

    #[test]
    fn our_supervisor_judges_the_death_of_our_runner() {
        let world = World::new(1);
        die_in_a_call(&world);
        let set = world.set(2);
        assert_eq!(Added::Judge, set.add(&world.mapping, &request(0, 4)).unwrap());

        let mut editor =
            InFlightEditor::take(&world.mapping, "orders", SHARD, 0, None).unwrap().unwrap();
        assert!(InFlightEditor::take(&world.mapping, "orders", SHARD, 0, None).unwrap().is_none());
        assert_eq!(vec![Entry::fresh(0, 3)], editor.in_flight().unwrap().entries);
        assert_eq!(vec![1, 2], editor.records(1, 2).unwrap());
        let blamed = Entry { attempts: 1, cause: Cause::Crashed, detail: 11, ..Entry::fresh(0, 3) };
        let edit = InFlightEdit {
            entries: vec![blamed],
            worker: WORKER,
            is_alone: true,
            ..InFlightEdit::default()
        };
        editor.write(edit).unwrap();
        editor.release().unwrap();

        assert_eq!(Added::Ok, set.add(&world.mapping, &request(0, 4)).unwrap());
        let work = next(&set);
        assert_eq!((vec![blamed], true, true), (work.entries, work.is_resumed, work.is_alone));
        set.settle(0, 0).unwrap();
        world.put(&["a"]);
        assert!(!next(&set).is_alone, "the next batch is nobody's fault");
    }

    #[test]
    fn a_judge_that_leaves_nothing_open_ends_the_batch() {
        let world = World::new(1);
        die_in_a_call(&world);
        let mut editor =
            InFlightEditor::take(&world.mapping, "orders", SHARD, 0, None).unwrap().unwrap();
        editor.write(InFlightEdit { worker: WORKER, ..InFlightEdit::default() }).unwrap();
        assert!(editor.in_flight().is_none());
        drop(editor);

        assert_eq!((4, None), (world.checkpoint(0), world.in_flight()));
        let set = world.set(2);
        assert_eq!(Added::Ok, set.add(&world.mapping, &request(0, 4)).unwrap());
    }

    #[test]
    fn the_supervisor_of_another_living_worker_judges() {
        let world = World::new(1);
        die_in_a_call(&world);
        let other = Membership::join(&world.log, b"").unwrap();
        world.rewrite(|slot| slot.worker = other.uuid());
        let set = world.set(2);
        assert_eq!(Added::Judge, set.add(&world.mapping, &request(0, 4)).unwrap());

        world.rewrite(|slot| slot.is_calling = false);
        assert_eq!(Added::Ok, set.add(&world.mapping, &request(0, 4)).unwrap());
    }

    #[test]
    fn a_dead_worker_is_no_attempt_until_it_had_nothing_else_to_run() {
        let world = World::new(1);
        die_in_a_call(&world);
        world.rewrite(|slot| slot.worker = [8; 16]);
        let set = world.set(2);
        assert_eq!(Added::Ok, set.add(&world.mapping, &request(0, 4)).unwrap());
        assert_eq!(0, next(&set).entries[0].attempts);
        assert_eq!(1, world.in_flight().unwrap().worker_deaths);
        drop(set);

        world.rewrite(|slot| slot.worker = [9; 16]);
        let set = world.set(3);
        assert_eq!(Added::Exclusive, set.add(&world.mapping, &request(0, 4)).unwrap());
        let exclusive = Request { is_exclusive: true, ..request(0, 4) };
        assert_eq!(Added::Ok, set.add(&world.mapping, &exclusive).unwrap());
        let work = next(&set);
        assert_eq!((0, true), (work.entries[0].attempts, work.is_alone));
        let in_flight = world.in_flight().unwrap();
        assert_eq!((2, true), (in_flight.worker_deaths, in_flight.is_exclusive));
        drop(set);

        world.rewrite(|slot| slot.worker = [10; 16]);
        let set = world.set(4);
        assert_eq!(Added::Ok, set.add(&world.mapping, &exclusive).unwrap());
        let entry = next(&set).entries[0];
        assert_eq!((0, Cause::Crashed), (entry.attempts, entry.cause));
        set.settle(0, 0).unwrap();
        world.put(&["a"]);
        next(&set);
        assert_eq!(0, world.in_flight().unwrap().worker_deaths);
    }

    #[test]
    fn a_death_is_forgotten_once_its_batch_is_settled() {
        let world = World::new(1);
        die_in_a_call(&world);
        world.rewrite(|slot| slot.worker = [8; 16]);
        let set = world.set(2);
        set.add(&world.mapping, &request(0, 4)).unwrap();
        next(&set);
        set.settle(0, 0).unwrap();
        set.close(SECOND).unwrap();

        world.put(&["a"]);
        let set = world.set(3);
        set.add(&world.mapping, &request(0, 4)).unwrap();
        next(&set);
        assert_eq!(0, world.in_flight().unwrap().worker_deaths);
    }

    #[test]
    fn after_a_restart_of_the_machine_nobody_is_blamed() {
        let world = World::new(1);
        die_in_a_call(&world);
        world.rewrite(|slot| slot.boot_id = [0; 16]);
        let set = world.set(2);
        assert_eq!(Added::Ok, set.add(&world.mapping, &request(0, 4)).unwrap());
        let work = next(&set);
        assert_eq!((vec![0, 1, 2, 3], false), (numbers(&work), work.is_resumed));
    }
}

mod threads {
    use super::*;

    #[test]
    fn several_share_the_lanes_and_each_record_comes_once() {
        const LANES: u32 = 8;
        const RECORDS: u64 = 20_000;
        let count = |numbers: &Vec<u64>| numbers.len() as u64;
        let world = World::new(LANES);
        let set = world.set(1);
        for slot in 0..LANES {
            set.add(&world.mapping, &request(slot, 50)).unwrap();
        }
        let (seen, got) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (seen, set) = (seen.clone(), &set);
                scope.spawn(move || {
                    while let Some(work) = set.next(LONG).unwrap() {
                        seen.send((work.lane, numbers(&work))).unwrap();
                        if work.entries[0].attempts == 0 && work.entries[0].first % 7 == 0 {
                            // Now and then a batch fails once, and waits.
                            let entries = vec![Entry { attempts: 1, ..work.entries[0] }];
                            set.wait(work.lane, entries, 1, Duration::from_millis(1)).unwrap();
                        } else {
                            set.settle(work.lane, 0).unwrap();
                        }
                    }
                });
            }
            scope.spawn(|| {
                let keys: Vec<String> = (0..100).map(|i| format!("k{}", i * 31 % 97)).collect();
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                for _ in 0..RECORDS / 100 {
                    world.put(&keys);
                }
                set.set_burst(true);
                let deadline = Deadline::after(LONG);
                while (0..LANES).any(|slot| world.checkpoint(slot) < RECORDS) {
                    assert!(!deadline.is_past(), "all lanes reach the end");
                    std::thread::sleep(Duration::from_millis(5));
                }
                set.stop();
            });
        });
        drop(seen);

        let mut by_lane: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for (lane, numbers) in got {
            let all = by_lane.entry(lane).or_default();
            // A batch that failed comes again at once, whole.
            if all.last().is_none_or(|last| *last < numbers[0]) {
                all.extend(numbers);
            } else {
                assert!(all.ends_with(&numbers));
            }
        }
        assert!(by_lane.values().all(|numbers| numbers.is_sorted()));
        let all: BTreeSet<u64> = by_lane.values().flatten().copied().collect();
        assert_eq!((0..RECORDS).collect::<BTreeSet<_>>(), all);
        assert_eq!(RECORDS, by_lane.values().map(count).sum::<u64>());
        assert!(set.is_idle());
    }

    #[test]
    fn lanes_come_and_go_while_threads_work() {
        let world = World::new(4);
        let (one, two) = (world.set(1), world.set(2));
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for set in [&one, &two] {
                scope.spawn(|| {
                    while let Some(work) = set.next(LONG).unwrap() {
                        seen.lock().extend(numbers(&work));
                        set.settle(work.lane, 0).unwrap();
                    }
                });
            }
            for round in 0..40_u32 {
                world.put(&["a", "b", "c", "d", "e", "f", "g", "h"]);
                let (from, to) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
                for slot in 0..4 {
                    assert!(from.remove(slot, LONG).unwrap());
                    assert_eq!(Added::Ok, to.add(&world.mapping, &request(slot, 3)).unwrap());
                }
            }
            let deadline = Deadline::after(LONG);
            while (0..4).any(|slot| world.checkpoint(slot) < 320) && !deadline.is_past() {
                std::thread::sleep(Duration::from_millis(5));
            }
            one.stop();
            two.stop();
        });
        let mut seen = seen.into_inner();
        seen.sort_unstable();
        assert_eq!((0..320).collect::<Vec<u64>>(), seen);
    }
}

mod children {
    use super::*;
    use crate::stream::Manifest;

    /// Makes shard 1 a child of shard 0, as a split does that has ended shard 0 at its present end.
    fn split(world: &World, is_parent_open: bool) {
        let path = world.log.root().join("streams/orders/manifest.json");
        let mut manifest = Manifest::load(world.log.fs(), &path).unwrap();
        manifest.shards[0].is_open = is_parent_open;
        manifest.shards[1].parents = vec![SHARD];
        manifest.store(world.log.fs(), &path).unwrap();
    }

    #[test]
    fn their_lanes_open_when_all_lanes_of_the_parent_are_past_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        let config = StreamConfig { shards: 2, ..StreamConfig::default() };
        let stream = log.create_stream("orders", &config, &Patience::of(LONG)).unwrap();
        let keys = (0..).map(|i| format!("k{i}")).filter(|k| stream.shard_of(k).unwrap() == SHARD);
        let keys: Vec<String> = keys.take(40).collect();
        let mapping = Mapping::register(&log, "shop.total", 2, Start::TrimHorizon).unwrap();
        mapping.prepare("orders").unwrap();
        let world = World { _folder: folder, log, mapping };
        world.put(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let child = Request { lane: 9, shard: ShardId(1), ..request(0, 100) };
        let set = world.set(1);

        split(&world, true);
        assert_eq!(Added::Parents, set.add(&world.mapping, &child).unwrap());
        split(&world, false);
        set.set_burst(true);
        let mut settled = 0;
        for slot in 0..2 {
            assert_eq!(Added::Parents, set.add(&world.mapping, &child).unwrap());
            set.add(&world.mapping, &request(slot, 100)).unwrap();
            while let Some(work) = set.next(Duration::from_millis(20)).unwrap() {
                set.settle(work.lane, 0).unwrap();
                settled += work.records.len();
            }
        }

        assert_eq!(40, settled);
        assert_eq!(Added::Ok, set.add(&world.mapping, &child).unwrap());
    }
}

mod filters {
    use super::*;
    use crate::filter::Filter;

    fn filtering(pattern: &str) -> Filtering {
        Filtering { filter: Arc::new(Filter::for_records(&[pattern]).unwrap()), counts: None }
    }

    /// Takes records of the key `a`; the others have `b` and `c`.
    fn of_a() -> Request {
        Request { filtering: Some(filtering("{\"partitionKey\":[\"a\"]}")), ..request(0, 3) }
    }

    fn keep_looking(set: &LaneSet, is_done: impl Fn() -> bool) {
        let deadline = Deadline::after(LONG);
        while !is_done() {
            assert!(!deadline.is_past(), "it never came to be");
            assert!(set.next(Duration::from_millis(10)).unwrap().is_none());
        }
    }

    #[test]
    fn a_batch_counts_matching_records_only() {
        let world = World::new(1);
        for _ in 0..3 {
            world.put(&["a", "b", "c", "a"]);
        }
        let set = world.set(1);
        set.add(&world.mapping, &of_a()).unwrap();

        assert_eq!(vec![0, 3, 4], numbers(&next(&set)));
        set.settle(0, 0).unwrap();
        assert_eq!(7, world.checkpoint(0)); // 5 and 6 do not match
        assert_eq!(vec![7, 8, 11], numbers(&next(&set)));
    }

    #[test]
    fn the_position_passes_what_does_not_match() {
        let world = World::new(1);
        world.put(&["b"; 5]);
        let set = world.set(1);
        set.add(&world.mapping, &of_a()).unwrap();

        keep_looking(&set, || world.checkpoint(0) == 5);
    }

    #[test]
    fn each_record_is_counted_once_whatever_the_batch_size() {
        let world = World::new(1);
        world.put(&["a", "b", "a", "a", "a", "c", "b", "a"]);
        let board = Arc::new(Board::create().unwrap());
        let counts = Some((Arc::clone(&board), 2));
        let set = world.set(1);
        let filtering = Filtering { counts, ..of_a().filtering.unwrap() };
        set.add(&world.mapping, &Request { filtering: Some(filtering), ..request(0, 1) }).unwrap();

        for _ in 0..5 {
            next(&set);
            set.settle(0, 0).unwrap();
        }

        let counters = board.counters(2).unwrap();
        let counted = [board::MATCHED, board::FILTERED, board::NOT_JSON].map(|i| counters[i]);
        assert_eq!([5, 3, 0], counted);
    }

    #[test]
    fn data_that_is_not_json_is_counted_as_such() {
        let world = World::new(1);
        world.put(&["a"; 3]); // `a:0` is not JSON
        let board = Arc::new(Board::create().unwrap());
        let counts = Some((Arc::clone(&board), 0));
        let filtering = Filtering { counts, ..filtering("{\"data\":{\"n\":[1]}}") };
        let set = world.set(1);
        set.add(&world.mapping, &Request { filtering: Some(filtering), ..request(0, 9) }).unwrap();

        keep_looking(&set, || world.checkpoint(0) == 3);
        assert_eq!(3, board.counters(0).unwrap()[board::NOT_JSON]);
    }

    #[test]
    fn lanes_of_a_shard_filter_their_own_shares() {
        let world = World::new(2);
        let keys = ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e"];
        world.put(&keys);
        let set = world.set(1);
        for slot in 0..2 {
            let filtering = filtering("{\"partitionKey\":[\"a\",\"b\",\"c\"]}");
            let request = Request { filtering: Some(filtering), ..request(slot, 9) };
            assert_eq!(Added::Ok, set.add(&world.mapping, &request).unwrap());
        }
        let mut seen = BTreeSet::new();
        while seen.len() < 6 {
            let work = next(&set);
            seen.extend(numbers(&work));
            set.settle(work.lane, 0).unwrap();
        }
        keep_looking(&set, || (0..2).all(|slot| world.checkpoint(slot) == 10));

        assert_eq!(BTreeSet::from([0, 1, 2, 5, 6, 7]), seen);
    }

    /// A worker may come back with another filter: records it does not take are gone from the batch.
    #[test]
    fn a_batch_in_flight_follows_the_filter_of_whoever_goes_on_with_it() {
        let world = World::new(1);
        world.put(&["a", "b", "c", "d"]);
        let set = world.with_lane(4);
        next(&set);
        let each = |n| Entry { attempts: 1, ..Entry::fresh(n, n) };
        set.yield_lane(vec![each(0), each(1), Entry::fresh(2, 3)]);

        let set = world.set(2);
        let filtering = filtering("{\"partitionKey\":[\"b\",\"d\"]}");
        set.add(&world.mapping, &Request { filtering: Some(filtering), ..request(0, 4) }).unwrap();
        let work = next(&set);

        assert_eq!(vec![1, 3], numbers(&work));
        assert_eq!(vec![each(1), Entry::fresh(2, 3)], work.entries);
        set.settle(0, 0).unwrap();
        assert_eq!(4, world.checkpoint(0));
    }

    #[test]
    fn a_batch_in_flight_of_which_nothing_is_left_is_passed() {
        let world = World::new(1);
        world.put(&["b", "b"]);
        let set = world.with_lane(4);
        next(&set);
        set.yield_lane(vec![Entry::fresh(0, 1)]);

        let set = world.set(2);
        set.add(&world.mapping, &of_a()).unwrap();

        keep_looking(&set, || world.checkpoint(0) == 2);
        assert!(world.in_flight().is_none_or(|slot| slot.entries.is_empty()));
    }

    #[test]
    fn a_judge_counts_what_the_filter_takes() {
        let world = World::new(1);
        world.put(&["a", "b", "a", "b"]);
        let set = world.with_lane(4);
        next(&set);
        set.yield_lane(vec![Entry::fresh(0, 3)]);

        let filter = of_a().filtering.map(|filtering| filtering.filter);
        let editor =
            InFlightEditor::take(&world.mapping, "orders", SHARD, 0, filter).unwrap().unwrap();

        assert_eq!(vec![0, 2], editor.records(0, 3).unwrap());
    }

    impl LaneSet {
        /// Puts lane 0 down with this work list, and gives it back.
        fn yield_lane(&self, entries: Vec<Entry>) {
            self.wait(0, entries, 0, Duration::ZERO).unwrap();
            assert!(self.close(LONG).unwrap());
        }
    }
}

mod damage {
    use super::*;
    use crate::fs::Open;
    use crate::log::ReadBuffer;

    fn passing(slot: u32) -> Request {
        Request { passes_damage: true, ..request(slot, 100) }
    }

    #[test]
    fn in_a_long_backlog_it_is_met_at_its_place() {
        let world = World::new(1);
        for _ in 0..60 {
            world.put_sized(50, 2000);
        }
        damage_body(&world, 2_020);
        let set = world.set(1);
        set.add(&world.mapping, &passing(0)).unwrap();

        let called = drain(&set);

        assert_eq!(vec![(0, true, 2_000, 2_049)], met(&set));
        assert_eq!((0..2_000).chain(2_050..3_000).collect::<Vec<_>>(), called[&0]);
    }

    /// Takes what there is; by lane, the numbers that were called.
    fn drain(set: &LaneSet) -> BTreeMap<u32, Vec<SequenceNumber>> {
        let mut called: BTreeMap<u32, Vec<SequenceNumber>> = BTreeMap::new();
        let mut quiet = 0;
        while quiet < 3 {
            match set.next(Duration::from_millis(20)).unwrap() {
                Some(work) => {
                    called.entry(work.lane).or_default().extend(numbers(&work));
                    set.settle(work.lane, 0).unwrap();
                    quiet = 0;
                }
                None => quiet += 1,
            }
        }
        called
    }

    /// Lane, whether it passed, and the numbers of each damage that was met.
    fn met(set: &LaneSet) -> Vec<(u32, bool, SequenceNumber, SequenceNumber)> {
        let met = set.take_damage().into_iter().map(|met| match met.error {
            Error::Corruption { first, last, .. } => (met.lane, met.is_passed, first, last),
            error => panic!("{error}"),
        });
        let mut met: Vec<_> = met.collect();
        met.sort_unstable();
        met
    }

    fn damage_body(world: &World, seq: SequenceNumber) {
        let shard = world.log.stream("orders").unwrap().shard(SHARD).unwrap();
        let cursor = shard.cursor(Start::AtSequence(seq)).unwrap();
        let (batch, _) = shard.read(&cursor, &mut ReadBuffer::default()).unwrap().unwrap();
        let position = batch.position();
        let names = world.log.fs().list(shard.folder()).unwrap();
        let name = names.iter().find(|n| n.starts_with(&format!("{:08x}-", position.segment)));
        let file = world.log.fs().open(&shard.folder().join(name.unwrap()), Open::Write).unwrap();
        file.write_at(&[b"rot"], position.offset + 96).unwrap();
    }

    #[test]
    fn one_lane_stops_and_one_passes_and_each_says_so() {
        let world = World::new(2);
        for number in 0..10 {
            world.put(&[&format!("key {number}")]);
        }
        damage_body(&world, 5);
        let set = world.set(1);
        set.add(&world.mapping, &passing(0)).unwrap();
        set.add(&world.mapping, &request(1, 100)).unwrap();

        let called = drain(&set);

        assert_eq!(vec![(0, true, 5, 5), (1, false, 5, 5)], met(&set));
        assert!(called[&1].iter().all(|seq| *seq < 5), "{called:?}");
        assert!(called[&0].iter().any(|seq| *seq > 5) && !called[&0].contains(&5), "{called:?}");
        set.close(LONG).unwrap();
        assert_eq!(10, world.checkpoint(0));
        assert!(world.checkpoint(1) <= 5);
    }

    #[test]
    fn what_one_lane_read_behind_a_gap_hides_the_gap_from_no_other() {
        let mut world = World::new(2);
        let config = StreamConfig { segment_bytes: 1 << 20, ..StreamConfig::default() };
        world.log.create_stream("large", &config, &Patience::of(LONG)).unwrap();
        let stream = world.log.stream("large").unwrap();
        let mut noise = 1_u64;
        for _ in 0..12 {
            let data: Vec<u8> = std::iter::repeat_with(|| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                noise.to_le_bytes()[7]
            })
            .take(300_000)
            .collect();
            let mut put = stream.begin_put().unwrap();
            put.push(&data, None, std::iter::empty()).unwrap();
            put.commit(&Patience::of(LONG)).unwrap();
        }
        world.mapping = Mapping::register(&world.log, "shop.large", 2, Start::TrimHorizon).unwrap();
        world.mapping.prepare("large").unwrap();
        let folder = stream.shard(SHARD).unwrap().folder().to_owned();
        let names = world.log.fs().list(&folder).unwrap();
        let second = names.iter().find(|name| name.starts_with("00000001-")).unwrap();
        world.log.fs().remove(&folder.join(second)).unwrap();
        let set = world.set(1);
        set.add(&world.mapping, &Request { stream: "large".into(), ..passing(0) }).unwrap();
        drain(&set);
        let (first, last) = match met(&set)[..] {
            [(0, true, first, last)] => (first, last),
            ref other => panic!("{other:?}"),
        };
        set.add(&world.mapping, &Request { stream: "large".into(), ..request(1, 100) }).unwrap();

        let called = drain(&set);

        assert_eq!(vec![(1, false, first, last)], met(&set));
        assert!(called.get(&1).is_none_or(|seqs| seqs.iter().all(|seq| *seq < first)));
    }
}

mod replays {
    use super::*;
    use crate::checkpoint::RecordRange;

    /// A replay of shard 0 from `first` on, up to the record before `until`.
    fn replay(world: &World, first: SequenceNumber, until: SequenceNumber) -> Mapping {
        let range = RecordRange { shard: SHARD, first, until };
        world.mapping.replay("orders", &[range], &Patience::of(LONG)).unwrap()
    }

    /// Runs all of a set's lanes to their ends; returns the batches, as numbers.
    fn run(set: &LaneSet) -> Vec<Vec<SequenceNumber>> {
        let mut batches = Vec::new();
        while let Some(work) = set.next(Duration::from_millis(150)).unwrap() {
            batches.push(numbers(&work));
            set.settle(work.lane, 0).unwrap();
        }
        batches
    }

    fn checkpoints(mapping: &Mapping) -> Vec<SequenceNumber> {
        mapping.lanes(None).unwrap().iter().map(|lane| lane.checkpoint).collect()
    }

    #[test]
    fn it_hands_out_its_stretch_and_nothing_else() {
        let world = World::new(1);
        for _ in 0..3 {
            world.put(&["a"; 5]);
        }
        let set = world.set(1);
        for (first, until) in [(3, 12), (0, 15), (5, 10), (7, 8), (4, 5), (14, 15), (2, 5)] {
            let mapping = replay(&world, first, until);
            set.add(&mapping, &request(0, 4)).unwrap();

            let got = run(&set).concat();

            assert_eq!((first..until).collect::<Vec<_>>(), got);
            assert_eq!(vec![until], checkpoints(&mapping));
            set.remove(0, LONG).unwrap();
            assert!(mapping.finish_replay().unwrap());
        }
        assert_eq!(0, world.checkpoint(0), "the function is where it was");
    }

    #[test]
    fn its_last_batch_waits_for_nothing() {
        let world = World::new(1);
        world.put(&["a"; 5]);
        let limits = Limits { size: 100, window: LONG, bytes: 6 << 20, tumbling: None };
        let set = world.set(1);
        set.add(&replay(&world, 1, 4), &Request { limits, ..request(0, 1) }).unwrap();

        assert_eq!(vec![vec![1, 2, 3]], run(&set));
    }

    #[test]
    fn it_runs_beside_its_function_in_one_set() {
        let world = World::new(2);
        world.put(&["a", "b", "c", "d", "e", "f"]);
        let set = world.set(1);
        let mapping = replay(&world, 2, 5);
        for slot in 0..2 {
            set.add(&world.mapping, &request(slot, 100)).unwrap();
            set.add(&mapping, &Request { lane: 2 + slot, ..request(slot, 100) }).unwrap();
        }

        let mut got = run(&set).concat();

        got.sort_unstable();
        assert_eq!(vec![0, 1, 2, 2, 3, 3, 4, 4, 5], got);
        assert_eq!(vec![5, 5], checkpoints(&mapping));
        assert_eq!((6, 6), (world.checkpoint(0), world.checkpoint(1)));
    }

    #[test]
    fn its_filter_looks_at_its_stretch_only() {
        let world = World::new(1);
        world.put(&["a", "b", "a", "b", "a", "b"]);
        let board = Arc::new(Board::create().unwrap());
        let filter = crate::filter::Filter::for_records(&["{\"partitionKey\":[\"a\"]}"]).unwrap();
        let counts = Some((Arc::clone(&board), 0));
        let filtering = Some(Filtering { filter: Arc::new(filter), counts });
        let set = world.set(1);
        set.add(&replay(&world, 1, 4), &Request { filtering, ..request(0, 4) }).unwrap();

        assert_eq!(vec![vec![2]], run(&set));

        let counters = board.counters(0).unwrap();
        assert_eq!((1, 2), (counters[board::MATCHED], counters[board::FILTERED]));
    }

    #[test]
    fn the_window_that_is_open_at_its_end_has_its_final_call() {
        let world = World::new(1);
        world.put(&["a"; 6]);
        let day = 86_400_000_000;
        let limits =
            Limits { size: 2, window: Duration::ZERO, bytes: 6 << 20, tumbling: Some(day) };
        let wanted = Mapping::register(
            &world.log,
            "shop.total",
            crate::checkpoint::LaneLayout::WINDOWED,
            Start::TrimHorizon,
        );
        let range = RecordRange { shard: SHARD, first: 1, until: 4 };
        let mapping = wanted.unwrap().replay("orders", &[range], &Patience::of(LONG)).unwrap();
        let set = world.set(1);
        set.add(&mapping, &Request { limits, ..request(0, 1) }).unwrap();

        let mut calls = Vec::new();
        while let Some(work) = set.next(Duration::from_millis(50)).unwrap() {
            calls.push((numbers(&work), work.window.as_ref().unwrap().is_final));
            set.settle(0, 0).unwrap();
        }

        assert_eq!(vec![(vec![1, 2], false), (vec![3], false), (vec![], true)], calls);
        set.remove(0, LONG).unwrap();
        assert!(mapping.finish_replay().unwrap());
    }

    #[test]
    fn a_shard_begins_when_all_that_came_before_it_is_done() {
        let world = World::new(1);
        world.put(&["a"; 5]);
        let stream = world.log.stream("orders").unwrap();
        let child = stream.split(SHARD, None, &Patience::of(LONG)).unwrap().0;
        let grandchild = stream.split(child, None, &Patience::of(LONG)).unwrap().0;
        world.put(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let all = world.mapping.prepare("orders").map(|_| ()).and_then(|()| {
            world.mapping.plan_replay("orders", Start::TrimHorizon, Start::Latest, None)
        });
        let mapping = world.mapping.replay("orders", &all.unwrap(), &Patience::of(LONG)).unwrap();
        let set = world.set(1);
        let later = Request { lane: 9, shard: grandchild, ..request(0, 100) };
        // Of the shard between them nothing but CLOSE is replayed.
        let between = mapping.lanes_file("orders", child).unwrap();
        between.take(0).unwrap().unwrap();
        let place = crate::checkpoint::ResumePoint {
            next_seq: stream.shard(child).unwrap().visible_end(),
            ..crate::checkpoint::ResumePoint::default()
        };
        between.checkpoint(0, place, 1).unwrap();
        between.give_back(0).unwrap();
        assert_eq!(Added::Parents, set.add(&mapping, &later).unwrap());

        set.add(&mapping, &request(0, 100)).unwrap();
        run(&set);

        assert_eq!(Added::Ok, set.add(&mapping, &later).unwrap());
    }

    #[test]
    fn one_of_a_child_alone_waits_for_nobody() {
        let world = World::new(1);
        world.put(&["a"; 5]);
        let stream = world.log.stream("orders").unwrap();
        let child = stream.split(SHARD, None, &Patience::of(LONG)).unwrap().0;
        world.put(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        let plan = |shard| {
            world.mapping.plan_replay("orders", Start::TrimHorizon, Start::Latest, Some(shard))
        };
        let mapping = world.mapping.replay("orders", &plan(child).unwrap(), &Patience::of(LONG));

        let request = Request { shard: child, ..request(0, 100) };

        assert_eq!(Added::Ok, world.set(1).add(&mapping.unwrap(), &request).unwrap());
    }
}

mod reading {
    use super::*;
    use crate::log::ReadBuffer;
    use crate::stream::Stream;

    /// A log with eight MiB in the stream `large`, in batches of a record, of many, and of many MiB.
    fn world(segment_bytes: u64) -> (World, Arc<Stream>) {
        let mut world = World::new(1);
        let config = StreamConfig { segment_bytes, ..StreamConfig::default() };
        world.log.create_stream("large", &config, &Patience::of(LONG)).unwrap();
        let stream = world.log.stream("large").unwrap();
        for (count, bytes) in [(1, 10), (900, 100), (300, 500), (1, 3_000_000), (5, 40)].repeat(2) {
            for _ in 0..=(1_000_000 / (count * bytes)).min(30) {
                put_noise(&stream, count, bytes);
            }
        }
        world.mapping = Mapping::register(&world.log, "shop.large", 1, Start::TrimHorizon).unwrap();
        world.mapping.prepare("large").unwrap();
        (world, stream)
    }

    fn put_noise(stream: &Stream, count: usize, bytes: usize) {
        let mut noise = count as u64;
        let mut next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_le_bytes()[7]
        };
        let mut put = stream.begin_put().unwrap();
        for _ in 0..count {
            let data: Vec<u8> = std::iter::repeat_with(&mut next).take(bytes).collect();
            put.push(&data, None, std::iter::empty()).unwrap();
        }
        put.commit(&Patience::of(LONG)).unwrap();
    }

    fn read_by_itself(stream: &Stream) -> Vec<Vec<u8>> {
        let shard = stream.shard(SHARD).unwrap();
        let (mut cursor, mut payloads) = (shard.cursor(Start::TrimHorizon).unwrap(), Vec::new());
        // A buffer each time has nothing that was read before.
        while let Some((batch, after)) = shard.read(&cursor, &mut ReadBuffer::default()).unwrap() {
            payloads.extend((0..batch.count()).map(|index| batch.value(index).to_owned()));
            cursor = after;
        }
        payloads
    }

    #[test]
    fn it_is_what_is_on_disk() {
        for segment_bytes in [1 << 20, 256 << 20] {
            let (world, stream) = world(segment_bytes);
            let set = world.set(1);
            set.add(&world.mapping, &Request { stream: "large".into(), ..request(0, 70) }).unwrap();

            let mut payloads = Vec::new();
            while let Some(work) = set.next(Duration::from_millis(20)).unwrap() {
                let records = work.records.iter();
                payloads.extend(records.map(|(batch, index)| batch.value(index).to_owned()));
                set.settle(0, 0).unwrap();
            }

            assert!(read_by_itself(&stream) == payloads);
        }
    }
}
