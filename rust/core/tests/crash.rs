//! The machine stops after every single change of the file system, in many states of what was not
//! synced, and again inside recovery: nothing acknowledged is lost, no number is issued twice.
//!
//! `STREAMFN_CRASH_TORN` sets how many torn states are tried at each point.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod simulation;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use simulation::{Crasher, Disk, SimFs};
use streamfn_core::clock::ManualClock;
use streamfn_core::{
    Compression, Durability, Log, OpenOptions, Patience, ReadBuffer, ShardId, Start, Stream,
    StreamConfig,
};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn open(fs: &SimFs) -> Arc<Log> {
    let options = OpenOptions {
        fs: Arc::new(fs.clone()),
        clock: Arc::new(ManualClock::new(1_700_000_000_000_000)),
        housekeeping: false,
        ..OpenOptions::default()
    };
    Log::open(Path::new("/log"), &options).unwrap()
}

/// What one run of a workload did: the point at which each record was acknowledged.
#[derive(Default)]
struct History {
    /// Sequence number to value and the point at which it was acknowledged.
    put: BTreeMap<u64, (Vec<u8>, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Puts so many records of so many bytes.
    Put(usize, usize),
    /// Syncs what a `process` stream has not synced yet.
    Sync,
    /// Closes the log and opens it again.
    Reopen,
    /// Lets the log do what it does while nobody writes.
    Idle,
}

fn run(durability: Durability, compression: Compression, steps: &[Step]) -> (SimFs, History) {
    let fs = SimFs::new();
    let mut history = History::default();
    let mut log = open(&fs);
    let config =
        StreamConfig { durability, compression, segment_bytes: 1 << 20, ..StreamConfig::default() };
    log.create_stream("s", &config, &patience()).unwrap();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Put(count, size) => {
                let stream = log.stream("s").unwrap();
                let values: Vec<Vec<u8>> = (0..*count)
                    .map(|n| format!("{number} {n} {}", "x".repeat(*size)).into_bytes())
                    .collect();
                let mut put = stream.begin_put().unwrap();
                for value in &values {
                    put.push(value, Some("k"), std::iter::empty()).unwrap();
                }
                let places = put.commit(&patience()).unwrap().places();
                for ((_, seq), value) in places.into_iter().zip(values) {
                    history.put.insert(seq, (value, fs.point()));
                }
            }
            Step::Sync => log.sync().unwrap(),
            Step::Idle => (0..3).for_each(|_| log.tick()),
            Step::Reopen => {
                log.close().unwrap();
                log = open(&fs);
            }
        }
    }
    std::mem::forget(log); // the machine stops: nobody closes it
    (fs, history)
}

fn read(stream: &Stream) -> BTreeMap<u64, Vec<u8>> {
    let shard = stream.shard(ShardId(0)).unwrap();
    let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
    let mut buffer = ReadBuffer::default();
    let mut found = BTreeMap::new();
    while let Some((batch, after)) = shard.read(&cursor, &mut buffer).unwrap() {
        if batch.control().is_none() {
            for index in 0..batch.count() {
                let value = batch.value(index).to_vec();
                assert!(found.insert(batch.base_seq() + u64::from(index), value).is_none());
            }
        }
        cursor = after;
    }
    found
}

struct Check<'a> {
    history: &'a History,
    durability: Durability,
    /// Changes the machine had made when it stopped.
    point: usize,
}

impl Check<'_> {
    /// Opens what a crash left and looks at everything that was promised.
    fn disk(&self, disk: Disk) -> SimFs {
        let fs = SimFs::on(disk);
        let log = open(&fs);
        let Ok(stream) = log.stream("s") else {
            let acknowledged = self.history.put.values().any(|(_, at)| *at <= self.point);
            assert!(!acknowledged, "the stream is gone at point {}", self.point);
            return fs;
        };
        let found = read(&stream);
        self.records(&found);
        let recovered = fs.clone();
        let changes = recovered.changes();
        let after_recovery = recovered.disk();
        // Recovery again, of what it made, finds the same.
        let again = open(&SimFs::on(after_recovery));
        assert_eq!(
            found,
            read(&again.stream("s").unwrap()),
            "recovery twice, point {}",
            self.point
        );
        drop(again);
        // A number is never issued twice.
        let mut put = stream.begin_put().unwrap();
        put.push(b"after the crash", Some("k"), std::iter::empty()).unwrap();
        let seq = put.commit(&patience()).unwrap().places()[0].1;
        let issued = self.history.put.range(seq..).any(|(_, (_, at))| *at <= self.point);
        assert!(!issued, "number {seq} was issued before, point {}", self.point);
        assert_eq!(found.len() + 1, read(&stream).len());
        assert!(changes.len() <= fs.point());
        fs
    }

    fn records(&self, found: &BTreeMap<u64, Vec<u8>>) {
        for (seq, value) in found {
            let (written, _) = &self.history.put[seq];
            assert!(written == value, "record {seq} is another, point {}", self.point);
        }
        let contiguous = self.history.put.keys().zip(found.keys()).all(|(a, b)| a == b);
        assert!(contiguous, "not a prefix, point {}", self.point);
        if self.durability == Durability::Group {
            for (seq, (_, at)) in &self.history.put {
                assert!(
                    *at > self.point || found.contains_key(seq),
                    "record {seq} is lost, point {}",
                    self.point
                );
            }
        }
    }
}

#[derive(Default, Debug)]
struct Figures {
    points: usize,
    states: usize,
    inside_recovery: usize,
}

fn enumerate(durability: Durability, steps: &[Step], torn: u64, figures: &mut Figures) {
    let (fs, history) = run(durability, Compression::None, steps);
    let changes = fs.changes();
    let mut crasher = Crasher::on(SimFs::new().disk());
    for point in 0..=changes.len() {
        if point > 0 {
            crasher.step(&changes[point - 1]);
        }
        figures.points += 1;
        let check = Check { history: &history, durability, point };
        for (variant, disk) in crasher.states(point as u64, torn).into_iter().enumerate() {
            figures.states += 1;
            let recovered = check.disk(disk.clone());
            if (point + variant) % 5 == 0 {
                inside_recovery(&check, disk, &recovered, figures);
            }
        }
    }
}

/// The machine stops again, after each change that recovery made.
fn inside_recovery(check: &Check<'_>, disk: Disk, recovered: &SimFs, figures: &mut Figures) {
    let mut crasher = Crasher::on(disk);
    for (number, change) in recovered.changes().iter().enumerate() {
        crasher.step(change);
        // What `check` itself put after recovery is not in its history.
        if crasher_has_new_record(recovered, number) {
            break;
        }
        for disk in crasher.states(number as u64, 1) {
            figures.inside_recovery += 1;
            check.disk(disk);
        }
    }
}

fn crasher_has_new_record(recovered: &SimFs, number: usize) -> bool {
    let wanted = b"after the crash";
    recovered.changes()[..=number].iter().any(|change| match change {
        simulation::Change::Write(_, _, bytes) => {
            bytes.windows(wanted.len()).any(|window| window == wanted)
        }
        _ => false,
    })
}

fn workloads() -> Vec<Vec<Step>> {
    use Step::{Idle, Put, Reopen, Sync};
    vec![
        vec![Put(1, 10), Idle, Put(2, 900), Sync, Idle, Put(1, 2_000), Put(1, 10), Sync, Idle],
        vec![Put(1, 10), Put(3, 100), Put(1, 600), Put(2, 2_000), Sync, Put(1, 10)],
        vec![Put(2, 50), Reopen, Put(2, 50), Reopen, Put(1, 5_000)],
        vec![
            Put(1, 400_000),
            Put(1, 400_000),
            Put(1, 400_000),
            Put(1, 10),
            Sync,
            Put(1, 600_000),
            Put(1, 600_000),
        ],
        vec![Put(1, 700_000), Reopen, Put(1, 700_000), Put(1, 30)],
    ]
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_stops() {
    let torn = std::env::var("STREAMFN_CRASH_TORN").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut figures = Figures::default();
    for durability in [Durability::Group, Durability::Process] {
        for steps in workloads() {
            enumerate(durability, &steps, torn, &mut figures);
        }
    }
    println!("crash points {figures:?}");
    assert!(figures.points > 200 && figures.inside_recovery > 1_000, "{figures:?}");
}
