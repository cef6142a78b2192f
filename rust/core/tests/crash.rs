//! The machine stops after every single change of the file system, in every state of what was not
//! synced that the bound allows, and again inside recovery: nothing acknowledged is lost, no number is
//! issued twice, and to recover twice is to recover once.
//!
//! The workloads are short and many (`crash_workloads`): each pair of steps that touch the same files is in one
//! of them. A failure prints how to repeat its case alone. `STREAMFN_CRASH_FULL` (`make crash`) tries
//! more states at each point, and a second crash in more of them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "`make crash` prints its figures")]

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::crash_workloads::{
    all, open, open_shards, put, read, windows_at, Found, History, Workload, MAPPING, STREAM,
};
use crate::simulation::{Bound, Crasher, Disk, Garbage, SimFs};
use streamfn_core::checkpoint::{LaneView, Mapping, Windows};
use streamfn_core::{Durability, Error, Log, ShardId};

/// What is wrong with what a crash left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// It cannot be opened or read.
    Unreadable,
    /// Something acknowledged is not there.
    Lost,
    /// Something is there that was never put, or is another's, or in another order.
    Invented,
    /// A number that was told to somebody is given to another record.
    IssuedTwice,
    /// Recovering again finds something else.
    NotIdempotent,
    /// A lane is behind what was synced, or ahead of what was written.
    Lanes,
}

type Verdict<T> = Result<T, (Wrong, String)>;

fn wrong<T>(what: Wrong, why: impl Into<String>) -> Verdict<T> {
    Err((what, why.into()))
}

/// One crash of one workload.
struct Check<'a> {
    history: &'a History,
    workload: &'a Workload,
    /// Changes the machine had made when it stopped.
    point: usize,
}

impl Check<'_> {
    /// Recovers what a crash left and looks at everything that was promised; returns the file system,
    /// and how many changes of it were recovery's.
    fn disk(&self, disk: Disk) -> Verdict<(SimFs, usize)> {
        let fs = SimFs::on(disk);
        let log = open(&fs).or_else(|error| wrong(Wrong::Unreadable, error.to_string()))?;
        let found = self.content(&log)?;
        let recovery = fs.point();
        let Some(found) = found else { return Ok((fs, recovery)) };
        let again = open(&SimFs::on(fs.disk()));
        let again = again.or_else(|error| wrong(Wrong::NotIdempotent, error.to_string()))?;
        if self.content(&again)?.as_ref() != Some(&found) {
            return wrong(Wrong::NotIdempotent, "the second recovery found something else");
        }
        self.go_on(&log, &found)?;
        Ok((fs, recovery))
    }

    /// All there is; damage only where the story had something rot.
    fn read(&self, log: &std::sync::Arc<Log>) -> Verdict<Found> {
        let is_rotten = |shard, numbers| self.history.are_rotten(shard, &numbers, self.point);
        read(log, is_rotten).or_else(|error| wrong(Wrong::Unreadable, error.to_string()))
    }

    /// What can be read, compared with what was promised; `None` if the stream was not made yet.
    fn content(&self, log: &std::sync::Arc<Log>) -> Verdict<Option<Found>> {
        match log.stream(STREAM) {
            Ok(_) => {}
            Err(Error::StreamNotFound { .. }) if self.history.created > self.point => {
                return Ok(None);
            }
            Err(error) => return wrong(Wrong::Lost, error.to_string()),
        }
        let found = self.read(log)?;
        self.records(&found)?;
        self.shards(log)?;
        self.lanes(log, &found)?;
        Ok(Some(found))
    }

    /// A change of the shards that returned stays; one that did not is all or nothing.
    fn shards(&self, log: &std::sync::Arc<Log>) -> Verdict<()> {
        let open = open_shards(log).or_else(|error| wrong(Wrong::Unreadable, error.to_string()))?;
        let changes = &self.history.reshaped;
        let done = changes.iter().rposition(|(_, at)| *at <= self.point).unwrap_or(0);
        if !changes[done..].iter().take(2).any(|(possible, _)| *possible == open) {
            return wrong(Wrong::Lost, format!("the open shards are {open:?}"));
        }
        Ok(())
    }

    fn records(&self, found: &Found) -> Verdict<()> {
        for (shard, (horizon, records)) in found {
            for (seq, value) in records {
                match self.history.puts.get(&(*shard, *seq)) {
                    Some(put) if put.begun <= self.point && put.value == *value => {}
                    _ => return wrong(Wrong::Invented, format!("{shard} {seq} was never put")),
                }
            }
            let written = self.history.puts.range((*shard, *horizon)..(*shard, u64::MAX));
            let written = written.filter(|((_, seq), _)| !self.is_excused(*shard, *seq, records));
            let is_prefix = written.zip(records.keys()).all(|(((_, a), _), b)| a == b);
            if !is_prefix {
                return wrong(Wrong::Lost, format!("{shard} has a hole"));
            }
            if *horizon > self.history.horizon(*shard, self.point) {
                return wrong(Wrong::Lost, format!("{shard} begins at {horizon}"));
            }
        }
        let is_promised = self.workload.durability == Durability::Group;
        for ((shard, seq), put) in &self.history.puts {
            let is_due = is_promised && put.done <= self.point;
            match found.get(shard) {
                None if is_due => return wrong(Wrong::Lost, format!("{shard} is gone")),
                Some((horizon, records))
                    if is_due
                        && seq >= horizon
                        && !records.contains_key(seq)
                        && !self.is_excused(*shard, *seq, records) =>
                {
                    return wrong(Wrong::Lost, format!("{shard} {seq}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a record is missing because it rotted.
    fn is_excused(&self, shard: ShardId, seq: u64, records: &BTreeMap<u64, Vec<u8>>) -> bool {
        !records.contains_key(&seq) && self.history.is_rotten(shard, seq, self.point)
    }

    fn lanes(&self, log: &std::sync::Arc<Log>, found: &Found) -> Verdict<()> {
        let mapping = Mapping::open(log, MAPPING).map_err(|e| (Wrong::Lanes, e.to_string()))?;
        for (shard, ledger) in &self.history.lanes {
            let file = mapping.as_ref().and_then(|it| it.lanes_file(STREAM, *shard).ok());
            let Some(file) = file else {
                if ledger.since() > self.point {
                    continue;
                }
                return wrong(Wrong::Lanes, format!("the lanes of {shard} are gone"));
            };
            let lanes = file.lanes().map_err(|error| (Wrong::Lanes, error.to_string()))?;
            ledger.check(&lanes, self.point).map_err(|why| (Wrong::Lanes, why))?;
            let is_state_of_another = |lane: &&LaneView| {
                let own = windows_at(lane.checkpoint.next_seq);
                lane.windows.as_ref().is_some_and(|it| *it != own && *it != Windows::default())
            };
            if let Some(lane) = lanes.iter().find(is_state_of_another) {
                return wrong(Wrong::Lanes, format!("the state at {:?}", lane.checkpoint));
            }
            let lowest = lanes.iter().map(|lane| lane.checkpoint.next_seq).min();
            let horizon = found.get(shard).map(|(horizon, _)| *horizon);
            if self.history.is_consumed && lowest < horizon {
                return wrong(Wrong::Lanes, format!("{lowest:?} is behind {horizon:?}"));
            }
        }
        self.replay(log)
    }

    /// A replay is there, with what it reads, or not, as a whole.
    fn replay(&self, log: &std::sync::Arc<Log>) -> Verdict<()> {
        let Some(replayed) = &self.history.replay else { return Ok(()) };
        let found = Mapping::open(log, &replayed.name);
        let found = found.map_err(|error| (Wrong::Lanes, error.to_string()))?;
        let (begun, made) = replayed.made;
        let (ending, gone) = replayed.finished.unwrap_or((usize::MAX, usize::MAX));
        let Some(replay) = found else {
            if (made..=ending).contains(&self.point) {
                return wrong(Wrong::Lanes, "the replay is gone");
            }
            return Ok(());
        };
        if self.point <= begun || self.point >= gone {
            return wrong(Wrong::Lanes, "there is a replay");
        }
        let told = |error: Error| (Wrong::Lanes, error.to_string());
        if replay.ranges().map_err(told)? != replayed.ranges {
            return wrong(Wrong::Lanes, "the replay reads something else");
        }
        for lane in replay.lanes(None).map_err(told)? {
            let range = replayed.ranges.iter().find(|it| it.shard == lane.shard).unwrap();
            if ![range.first, range.until].contains(&lane.checkpoint) {
                return wrong(Wrong::Lanes, format!("the replay is at {}", lane.checkpoint));
            }
        }
        Ok(())
    }

    /// Puts records into what was recovered: none of them may have a number that was told before.
    fn go_on(&self, log: &std::sync::Arc<Log>, found: &Found) -> Verdict<()> {
        let places = put(log, "after the crash").map_err(|e| (Wrong::Unreadable, e.to_string()))?;
        for place in &places {
            let told = self
                .history
                .puts
                .range(place..)
                .find(|((shard, _), put)| *shard == place.0 && put.done <= self.point);
            if let Some(((shard, seq), _)) = told {
                return wrong(Wrong::IssuedTwice, format!("{shard} {seq}, now {}", place.1));
            }
        }
        let count = |found: &Found| found.values().map(|(_, it)| it.len()).sum::<usize>();
        let now = self.read(log)?;
        if count(found) + places.len() != count(&now) {
            return wrong(Wrong::Lost, "what was put after the crash");
        }
        Ok(())
    }
}

/// A case: the workload, the point, the state of the disk there; and in recovery from that, if it is
/// a second crash, the same again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Case {
    workload: usize,
    first: (usize, usize),
    second: Option<(usize, usize)>,
}

impl Case {
    fn to_text(self) -> String {
        let Self { workload, first, second } = self;
        let mut numbers = vec![workload, first.0, first.1];
        numbers.extend(second.into_iter().flat_map(|(point, state)| [point, state]));
        numbers.iter().map(usize::to_string).collect::<Vec<_>>().join("/")
    }

    fn parse(text: &str) -> Self {
        let numbers: Vec<usize> = text.split('/').map(|n| n.parse().unwrap()).collect();
        let second = (numbers.len() > 3).then(|| (numbers[3], numbers[4]));
        Self { workload: numbers[0], first: (numbers[1], numbers[2]), second }
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
struct Effort {
    first: Bound,
    second: Bound,
    /// One of so many states gets a second crash, after each change of its recovery.
    recrash_every: usize,
    points_min: usize,
}

fn is_full() -> bool {
    std::env::var_os("STREAMFN_CRASH_FULL").is_some()
}

impl Effort {
    fn from_environment() -> Self {
        let bound = |exhaustive, drawn| Bound { exhaustive, drawn, garbage: Garbage::Whole };
        if is_full() {
            let (first, second) = (bound(128, 12), bound(8, 1));
            Self { first, second, recrash_every: 8, points_min: 1_000_000 }
        } else {
            let (first, second) = (bound(12, 2), bound(8, 1));
            Self { first, second, recrash_every: 96, points_min: 50_000 }
        }
    }
}

/// After so many failures the rest is not tried: each says how to repeat it.
const EXAMPLES_MAX: usize = 10;

#[derive(Default)]
struct Figures {
    points: AtomicUsize,
    states: AtomicUsize,
    inside_recovery: AtomicUsize,
    wrong: Mutex<BTreeMap<Wrong, usize>>,
    examples: Mutex<Vec<String>>,
}

impl Figures {
    fn count(&self, what: Wrong) -> usize {
        self.wrong.lock().unwrap().get(&what).copied().unwrap_or(0)
    }

    /// Whether enough is wrong to stop here.
    fn is_over(&self) -> bool {
        self.examples.lock().unwrap().len() >= EXAMPLES_MAX
    }

    fn note(&self, case: Case, (what, why): &(Wrong, String)) {
        *self.wrong.lock().unwrap().entry(*what).or_default() += 1;
        let mut examples = self.examples.lock().unwrap();
        if examples.len() < EXAMPLES_MAX {
            // The states of a point have their numbers by the effort.
            let effort = if is_full() { "STREAMFN_CRASH_FULL=1 " } else { "" };
            examples.push(format!(
                "{what:?}: {why}\n    {effort}STREAMFN_CRASH_CASE={} cargo test -p streamfn-core --test all nothing_acknowledged",
                case.to_text()
            ));
        }
    }

    fn print(&self, effort: &Effort) {
        let (states, inside) =
            (self.states.load(Ordering::Relaxed), self.inside_recovery.load(Ordering::Relaxed));
        println!("operations crashed after            {:>9}", self.points.load(Ordering::Relaxed));
        println!("crash points tried                  {:>9}", states + inside);
        println!("    of them inside a recovery       {inside:>9}");
        println!("acknowledged records lost           {:>9}", self.count(Wrong::Lost));
        println!("sequence numbers issued twice       {:>9}", self.count(Wrong::IssuedTwice));
        println!("recoveries that are not idempotent  {:>9}", self.count(Wrong::NotIdempotent));
        println!("records invented or out of order    {:>9}", self.count(Wrong::Invented));
        println!("lanes lost or ahead                 {:>9}", self.count(Wrong::Lanes));
        println!("logs that cannot be read            {:>9}", self.count(Wrong::Unreadable));
        let examples = self.examples.lock().unwrap();
        assert!(examples.is_empty(), "\n{}", examples.join("\n"));
        assert!(states + inside >= effort.points_min, "{} crash points", states + inside);
    }
}

/// A panic of the product is as wrong as an error.
fn judge<T>(check: impl FnOnce() -> Verdict<T>) -> Verdict<T> {
    catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|_| wrong(Wrong::Unreadable, "it panicked, see above"))
}

struct Enumeration<'a> {
    number: usize,
    workload: &'a Workload,
    effort: &'a Effort,
    figures: &'a Figures,
    /// Only this case, if there is one.
    only: Option<Case>,
}

impl Enumeration<'_> {
    fn is_wanted(&self, case: Case) -> bool {
        self.only.is_none_or(|only| {
            only.first == case.first && (case.second.is_none() || only.second == case.second)
        })
    }

    fn run(&self) {
        let (fs, history) = self.workload.run();
        let changes = fs.changes();
        let mut crasher = Crasher::on(SimFs::new().disk());
        let mut tried = 0;
        for point in 0..=changes.len() {
            if point > 0 {
                crasher.step(&changes[point - 1]);
            }
            self.figures.points.fetch_add(1, Ordering::Relaxed);
            let check = Check { history: &history, workload: self.workload, point };
            let states = crasher.states(point as u64, &self.effort.first);
            for (state, disk) in states.into_iter().enumerate() {
                if self.figures.is_over() {
                    return;
                }
                tried += 1;
                let case = Case { workload: self.number, first: (point, state), second: None };
                if !self.is_wanted(case) {
                    continue;
                }
                self.figures.states.fetch_add(1, Ordering::Relaxed);
                match judge(|| check.disk(disk.clone())) {
                    Err(what) => self.figures.note(case, &what),
                    Ok((recovered, changes)) if self.is_recrashed(tried) => {
                        self.inside_recovery(&check, case, disk, (&recovered, changes));
                    }
                    Ok(_) => {}
                }
            }
        }
    }

    fn is_recrashed(&self, tried: usize) -> bool {
        self.only.is_some_and(|only| only.second.is_some())
            || tried.is_multiple_of(self.effort.recrash_every)
    }

    /// The machine stops again, after each change that recovery made.
    fn inside_recovery(
        &self,
        check: &Check<'_>,
        case: Case,
        disk: Disk,
        (recovered, changes): (&SimFs, usize),
    ) {
        let mut crasher = Crasher::on(disk);
        for (point, change) in recovered.changes()[..changes].iter().enumerate() {
            crasher.step(change);
            let states = crasher.states(point as u64, &self.effort.second);
            for (state, disk) in states.into_iter().enumerate() {
                let case = Case { second: Some((point, state)), ..case };
                if !self.is_wanted(case) {
                    continue;
                }
                self.figures.inside_recovery.fetch_add(1, Ordering::Relaxed);
                if let Err(what) = judge(|| check.disk(disk)) {
                    self.figures.note(case, &what);
                }
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_machine_stops() {
    let mut effort = Effort::from_environment();
    let only = std::env::var("STREAMFN_CRASH_CASE").ok().map(|text| Case::parse(&text));
    if only.is_some() {
        effort.points_min = 0;
    }
    let figures = Figures::default();
    let workloads = all();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(workload) = workloads.get(number) else { return };
                if only.is_some_and(|only| only.workload != number) {
                    continue;
                }
                Enumeration { number, workload, effort: &effort, figures: &figures, only }.run();
            });
        }
    });
    figures.print(&effort);
}
