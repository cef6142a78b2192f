//! One lanes file on a real disk. What a power cut leaves of it is in `tests/lanes_crash.rs`.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::checkpoint::{slot, Entry};
use crate::fs::RealFs;
use crate::types::{Position, SequenceNumber};

const BOOT: [u8; 16] = [5; 16];

struct World {
    _folder: tempfile::TempDir,
    fs: Arc<dyn Fs>,
    path: PathBuf,
}

impl World {
    /// A lanes file whose lanes begin at 100.
    fn new(factor: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shardId-000000000000.lanes");
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        LanesFile::create(&fs, &path, factor, at(100), 1).unwrap();
        Self { _folder: folder, fs, path }
    }

    /// As another process opens it.
    fn open(&self) -> LanesFile {
        LanesFile::open(&self.fs, &self.path, "shop.total orders shardId-000000000000".into())
            .unwrap()
    }

    fn next_seq(&self, slot: u32) -> SequenceNumber {
        self.open().lane(slot).unwrap().unwrap().checkpoint.next_seq
    }

    fn damage(&self, position: u64) {
        let file = self.fs.open(&self.path, Open::Write).unwrap();
        file.write_at(&[&[0xff; 64]], position).unwrap();
    }
}

fn at(next_seq: SequenceNumber) -> ResumePoint {
    ResumePoint { next_seq, hint: Position { segment: 1, offset: 4096 }, shard_epoch: 3 }
}

fn in_flight(view: &LaneView, end: SequenceNumber) -> InFlight {
    let formed_at = view.checkpoint.next_seq;
    InFlight {
        boot_id: BOOT,
        generation: view.head.generation,
        formed_at,
        end,
        entries: vec![Entry::fresh(formed_at, end - 1)],
        ..InFlight::default()
    }
}

#[test]
fn a_new_file_begins_every_lane_at_its_start() {
    let world = World::new(3);
    let lanes = world.open().lanes().unwrap();

    let starts: Vec<_> = lanes.iter().map(|lane| lane.checkpoint.next_seq).collect();
    assert_eq!(vec![100; 3], starts);
    assert!(lanes.iter().all(|lane| lane.still_open(BOOT).is_none()));
    assert!(world.open().lane(3).unwrap().is_none());
    assert_eq!(8192 + 3 * 12288, world.fs.open(&world.path, Open::Read).unwrap().length().unwrap());
}

#[test]
fn making_it_again_changes_nothing() {
    let world = World::new(1);
    let file = world.open();
    file.take(0).unwrap();
    file.checkpoint(0, at(150), 2).unwrap();
    LanesFile::create(&world.fs, &world.path, 4, at(7), 1).unwrap();

    assert_eq!((150, 1), (world.next_seq(0), world.open().head().unwrap().factor));
}

#[test]
fn everybody_sees_a_checkpoint_at_once_with_its_hint_and_times() {
    let world = World::new(2);
    let file = world.open();
    let epoch = file.take(1).unwrap().unwrap().checkpoint.lease_epoch;
    file.checkpoint(1, at(150), 77).unwrap();

    let seen = world.open().lane(1).unwrap().unwrap().checkpoint;
    assert_eq!(
        (150, at(0).hint, 77, 3),
        (seen.next_seq, seen.hint, seen.written, seen.shard_epoch)
    );
    assert_eq!(epoch, seen.lease_epoch);
    assert_eq!(100, world.next_seq(0));
}

#[test]
fn between_two_syncs_one_slot_takes_all_writes_and_the_synced_one_is_left_alone() {
    let world = World::new(1);
    let file = world.open();
    file.take(0).unwrap();
    file.checkpoint(0, at(110), 1).unwrap();
    file.sync().unwrap();
    file.checkpoint(0, at(120), 1).unwrap();
    file.checkpoint(0, at(130), 1).unwrap();
    let synced_then_new = [0, STRIDE].map(|slot| {
        let mut bytes = [0; slot::CHECKPOINT_BYTES];
        world
            .fs
            .open(&world.path, Open::Read)
            .unwrap()
            .read_at(&mut bytes, LANES_START + slot)
            .unwrap();
        Checkpoint::decode(&bytes).unwrap().next_seq
    });

    let mut sorted = synced_then_new;
    sorted.sort_unstable();
    assert_eq!([110, 130], sorted);
    let newer = if synced_then_new[0] == 130 { 0 } else { STRIDE };
    world.damage(LANES_START + newer);
    assert_eq!(110, world.next_seq(0), "a torn write loses at most the newer one");
}

/// Tells a thread to stop, also when the test fails before that.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_durable_slot_of_a_lane_that_is_never_quiet_is_not_left_far_behind() {
    const SYNCS: usize = 60;
    let world = World::new(1);
    let file = world.open();
    file.take(0).unwrap();
    // Positions in the slot that is synced and in the one that is written.
    let slots = || {
        let state = file.state.lock();
        let _locked = file.lock(&state, Lock::Shared).unwrap();
        let pair = file.read_slots(0).unwrap().0.map(|slot| slot.unwrap().next_seq);
        let target = usize::try_from(state.held[&0].target).unwrap();
        (pair[1 - target], pair[target])
    };
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&is_done);
        scope.spawn(|| {
            for next_seq in 101.. {
                if is_done.load(Ordering::Relaxed) {
                    break;
                }
                file.checkpoint(0, at(next_seq), 1).unwrap();
            }
        });
        let mut newest_before = Vec::new();
        for number in 0..SYNCS {
            let (durable, written) = slots();
            newest_before.push(durable.max(written));
            file.sync().unwrap();
            let (durable, _) = slots();
            if let Some(behind) = number.checked_sub(RACED_SYNCS_MAX as usize + 1) {
                assert!(durable >= newest_before[behind], "sync {number}: {durable}");
            }
        }
    });
}

#[test]
fn a_lane_without_a_valid_slot_is_refused_and_says_how_to_go_on() {
    let world = World::new(2);
    world.damage(LANES_START);
    world.damage(LANES_START + STRIDE);

    let refused = world.open().take(0).unwrap_err();
    assert!(matches!(refused, Error::CheckpointConflict { .. }));
    assert!(refused.to_string().contains("streamfn fn seek shop.total"), "{refused}");
    assert!(world.open().take(1).unwrap().is_some(), "the other lane is as it was");
}

#[test]
fn a_file_without_a_valid_head_is_refused() {
    let world = World::new(1);
    world.damage(0);
    world.damage(STRIDE);

    assert!(matches!(world.open().head(), Err(Error::CheckpointConflict { .. })));
}

#[test]
fn writes_of_an_older_epoch_are_refused() {
    let world = World::new(2);
    let (old, new) = (world.open(), world.open());
    let view = old.take(0).unwrap().unwrap();
    old.take(1).unwrap();
    new.take(0).unwrap();

    let lost = old.checkpoint(0, at(200), 1);
    assert!(matches!(lost, Err(Error::LeaseLost { ref lane, .. }) if lane.ends_with(" 0")));
    let lost = old.put_in_flight(0, &in_flight(&view, 101));
    assert!(matches!(lost, Err(Error::LeaseLost { .. })));
    assert_eq!(100, world.next_seq(0));
    old.checkpoint(1, at(200), 1).unwrap();
    new.checkpoint(0, at(201), 1).unwrap();
}

#[test]
fn a_lane_that_was_given_back_is_not_written() {
    let world = World::new(1);
    let file = world.open();
    file.take(0).unwrap();
    file.give_back(0).unwrap();

    assert!(matches!(file.checkpoint(0, at(200), 1), Err(Error::LeaseLost { .. })));
}

#[test]
#[should_panic(expected = "went back")]
fn a_checkpoint_never_goes_back() {
    let world = World::new(1);
    let file = world.open();
    file.take(0).unwrap();
    let _ = file.checkpoint(0, at(99), 1);
}

mod factor {
    use super::*;

    fn positions(world: &World) -> Vec<SequenceNumber> {
        let lanes = world.open().lanes().unwrap();
        lanes.iter().map(|lane| lane.checkpoint.next_seq).collect()
    }

    fn move_to(world: &World, positions: &[SequenceNumber]) {
        let file = world.open();
        for (slot, &next_seq) in (0..).zip(positions) {
            file.take(slot).unwrap();
            file.checkpoint(slot, at(next_seq), 1).unwrap();
            file.give_back(slot).unwrap();
        }
    }

    #[test]
    fn every_new_lane_begins_at_the_lowest_old_one() {
        let world = World::new(2);
        move_to(&world, &[170, 150]);
        assert!(world.open().change_factor(4, BOOT, 9).unwrap());
        assert_eq!(vec![150; 4], positions(&world));

        move_to(&world, &[160, 190, 155, 180]);
        assert!(world.open().change_factor(1, BOOT, 9).unwrap());
        assert_eq!(vec![155], positions(&world));

        move_to(&world, &[200]);
        assert!(world.open().change_factor(3, BOOT, 9).unwrap());
        assert_eq!(vec![200; 3], positions(&world), "old slots of lanes 1 and 2 are ignored");
        assert_eq!(4, world.open().head().unwrap().generation);
    }

    #[test]
    fn a_batch_in_flight_holds_it_up() {
        let world = World::new(2);
        let file = world.open();
        let view = file.take(1).unwrap().unwrap();
        file.put_in_flight(1, &in_flight(&view, 120)).unwrap();

        assert!(!world.open().change_factor(4, BOOT, 9).unwrap());
        assert_eq!(vec![100; 2], positions(&world));
        assert!(world.open().change_factor(4, [6; 16], 9).unwrap(), "void in another boot");
    }

    #[test]
    fn what_was_in_flight_before_it_is_void() {
        let world = World::new(1);
        let file = world.open();
        let view = file.take(0).unwrap().unwrap();
        file.put_in_flight(0, &in_flight(&view, 120)).unwrap();
        file.checkpoint(0, at(120), 1).unwrap();
        file.give_back(0).unwrap();
        world.open().change_factor(2, BOOT, 9).unwrap();

        assert!(world.open().lanes().unwrap().iter().all(|lane| lane.still_open(BOOT).is_none()));
    }

    #[test]
    fn an_owner_from_before_it_cannot_write() {
        let world = World::new(2);
        let old = world.open();
        old.take(0).unwrap();
        world.open().change_factor(1, BOOT, 9).unwrap();

        assert!(matches!(old.checkpoint(0, at(200), 1), Err(Error::LeaseLost { .. })));
    }
}

#[test]
fn lanes_of_one_file_are_written_from_many_threads_and_handles() {
    const ROUNDS: u64 = 300;
    let world = World::new(8);
    let files = [world.open(), world.open()];
    std::thread::scope(|scope| {
        for slot in 0..8_u32 {
            let file = &files[slot as usize % 2];
            scope.spawn(move || {
                let view = file.take(slot).unwrap().unwrap();
                for round in 1..=ROUNDS {
                    file.put_in_flight(slot, &in_flight(&view, 100 + round)).unwrap();
                    file.checkpoint(slot, at(100 + round), round).unwrap();
                }
                file.give_back(slot).unwrap();
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                files[0].sync().unwrap();
                let lanes = world.open().lanes().unwrap();
                assert!(lanes
                    .iter()
                    .all(|lane| lane.in_flight.is_some() || lane.checkpoint.next_seq == 100));
            }
        });
    });
    assert!((0..8).all(|slot| world.next_seq(slot) == 100 + ROUNDS));
}
