//! What the machine was doing when it stopped, and what it had promised by then.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::ledger::Ledger;
use crate::simulation::{open_at, Change, SimFs, NOW};
use streamfn_core::checkpoint::retention::retain_all;
use streamfn_core::checkpoint::{
    LaneLayout, Mapping, OpenWindow, RecordRange, ResumePoint, StateKind, WindowState, Windows,
};
use streamfn_core::clock::ManualClock;
use streamfn_core::format::record_batch::HeaderRead;
use streamfn_core::format::BatchHeader;
use streamfn_core::fs::{Fs, Open};
use streamfn_core::log::Keep;
use streamfn_core::{
    Compression, Control, DecodedBatch, Durability, Error, Log, Patience, ReadBuffer, Result,
    Retention, ShardId, Start, StreamConfig,
};

pub(crate) const STREAM: &str = "s";
pub(crate) const MAPPING: &str = "app.f";
const SECTOR_BYTES: u64 = 512;
/// Old enough for a segment to be closed by its age.
const STEP_US: u64 = 600_000_000;

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

/// Opens what is on a disk, as the next boot does.
pub(crate) fn open(fs: &SimFs) -> Result<Arc<Log>> {
    open_at(fs, &Arc::new(ManualClock::new(NOW + 100 * STEP_US)))
}

/// By shard: the trim horizon, and the records by their numbers.
pub(crate) type Found = BTreeMap<ShardId, (u64, BTreeMap<u64, Vec<u8>>)>;

/// Everything that can be read. Damage is an error unless `is_expected` of the shard and the numbers.
pub(crate) fn read(
    log: &Arc<Log>,
    is_expected: impl Fn(ShardId, Range<u64>) -> bool,
) -> Result<Found> {
    let stream = log.stream(STREAM)?;
    let mut found = Found::new();
    for meta in stream.shards()? {
        let shard = stream.shard(meta.id)?;
        let mut cursor = shard.cursor(Start::TrimHorizon)?;
        let mut buffer = ReadBuffer::default();
        let mut records = BTreeMap::new();
        let horizon = cursor.next_seq;
        let mut is_closed = false;
        loop {
            let (batch, after) = match shard.read(&cursor, &mut buffer) {
                Ok(Some(read)) => read,
                Ok(None) => break,
                // As a lane with on_corruption="skip" does; what is missing then is looked at later.
                Err(Error::Corruption { first, last, .. })
                    if is_expected(meta.id, first..last.saturating_add(1)) =>
                {
                    let behind = shard.skip_damage(&cursor)?.cursor;
                    assert!(behind != cursor, "no way on from {cursor:?}");
                    cursor = behind;
                    continue;
                }
                Err(error) => return Err(error),
            };
            assert!(!is_closed, "something follows CLOSE");
            is_closed = matches!(batch.control(), Some(Control::Close { .. }));
            if batch.control().is_none() {
                for index in 0..batch.count() {
                    let seq = batch.base_seq() + u64::from(index);
                    if seq >= horizon {
                        let value = batch.value(index).to_vec();
                        assert!(records.insert(seq, value).is_none(), "{seq} is read twice");
                    }
                }
            }
            cursor = after;
        }
        for seq in records.keys() {
            // By the index, where there is one.
            let cursor = shard.cursor(Start::AtSequence(*seq))?;
            let batch = shard.read(&cursor, &mut buffer)?;
            let holds = |batch: &DecodedBatch| (batch.base_seq()..batch.next_seq()).contains(seq);
            assert!(batch.is_some_and(|(batch, _)| holds(&batch)), "{seq} is not found");
        }
        found.insert(meta.id, (horizon, records));
    }
    Ok(found)
}

/// The shards that take records, by their hash keys.
pub(crate) fn open_shards(log: &Arc<Log>) -> Result<Vec<ShardId>> {
    let mut open = log.stream(STREAM)?.shards()?;
    open.retain(|meta| meta.is_open);
    open.sort_by_key(|meta| meta.hash_range);
    Ok(open.iter().map(|meta| meta.id).collect())
}

/// Puts a record with each key; returns where they are.
pub(crate) fn put(log: &Arc<Log>, value: &str) -> Result<Vec<(ShardId, u64)>> {
    let stream = log.stream(STREAM)?;
    let mut put = stream.begin_put()?;
    for key in KEYS {
        put.push(value.as_bytes(), Some(key), std::iter::empty())?;
    }
    Ok(put.commit(&patience())?.places())
}

/// One for each half of the ring.
const KEYS: [&str; 2] = ["a", "b"];

/// A record that was put, between two points.
pub(crate) struct Put {
    pub(crate) value: Vec<u8>,
    /// Before this point nothing of it was written.
    pub(crate) begun: usize,
    /// From this point on it was acknowledged.
    pub(crate) done: usize,
}

/// A batch that rotted.
struct Rotten {
    shard: ShardId,
    numbers: Range<u64>,
    /// Before this point it was whole.
    begun: usize,
}

/// A replay that was made, and perhaps finished, between two points each.
pub(crate) struct Replayed {
    pub(crate) name: String,
    pub(crate) ranges: Vec<RecordRange>,
    pub(crate) made: (usize, usize),
    pub(crate) finished: Option<(usize, usize)>,
}

/// The windows of a lane at a position: the state says which.
pub(crate) fn windows_at(position: u64) -> Windows {
    let text = format!("{position};").repeat(1 + usize::try_from(position * 7919 % 900).unwrap());
    let state = WindowState { kind: StateKind::Bytes, bytes: text.into_bytes().into() };
    let open = OpenWindow { start: 60, end: 120, state, is_ended_early: false };
    Windows { open: Some(open), closed_to: 60 }
}

/// What one run of a workload did.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) created: usize,
    pub(crate) puts: BTreeMap<(ShardId, u64), Put>,
    pub(crate) lanes: BTreeMap<ShardId, Ledger>,
    /// The open shards, from a point on.
    pub(crate) reshaped: Vec<(Vec<ShardId>, usize)>,
    /// Whether retention lets go of what is consumed.
    pub(crate) is_consumed: bool,
    pub(crate) replay: Option<Replayed>,
    rotten: Vec<Rotten>,
    /// Where a trim horizon may be from a point on.
    horizons: Vec<(ShardId, u64, usize)>,
}

impl History {
    /// The highest trim horizon that may be found at a point.
    pub(crate) fn horizon(&self, shard: ShardId, point: usize) -> u64 {
        let begun = self.horizons.iter().filter(|(of, _, begun)| *of == shard && *begun <= point);
        begun.map(|(_, horizon, _)| *horizon).max().unwrap_or(0)
    }

    /// Whether all these numbers may have rotted by a point.
    pub(crate) fn are_rotten(&self, shard: ShardId, numbers: &Range<u64>, point: usize) -> bool {
        self.rotten.iter().any(|it| {
            let is_within = it.numbers.start <= numbers.start && numbers.end <= it.numbers.end;
            it.shard == shard && it.begun <= point && is_within
        })
    }

    /// Whether a record may have rotted by a point.
    pub(crate) fn is_rotten(&self, shard: ShardId, seq: u64, point: usize) -> bool {
        self.are_rotten(shard, &(seq..seq + 1), point)
    }
}

/// One thing that is done to the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Puts so many records of so many bytes, in one call.
    Put(usize, usize),
    /// Syncs what a `process` stream has not synced yet.
    Sync,
    /// Closes the log and opens it again.
    Reopen,
    /// The process dies, and another opens the log.
    Die,
    /// Lets the log do what it does while nobody writes.
    Idle,
    /// Begins a new segment in each shard.
    Roll,
    /// Gives closed segments their index.
    Seal,
    /// Lets go of all segments but the last.
    Retain,
    /// Raises the trim horizon above the first record.
    Trim,
    /// Lets go of what every lane has consumed.
    RetainConsumed,
    /// Makes a mapping with so many lanes a shard.
    Map(u32),
    /// Takes all lanes, as new owners do.
    Take,
    /// Moves all lanes to the end, unsynced.
    Checkpoint,
    /// Syncs the lanes.
    SyncLanes,
    /// Opens the lanes of the shards whose parents are done, as their owners do.
    Begin,
    /// Changes the number of lanes.
    Factor(u32),
    /// Splits the first open shard.
    Split,
    /// Merges the first two open shards.
    Merge,
    /// Has one lane a shard, with tumbling windows.
    Windows,
    /// One bit rots in the body of the first batch that is larger than two sectors; something behind
    /// it says that it was on disk.
    Rot,
    /// Makes a replay of all that can be read.
    Replay,
    /// Moves the lanes of the replay to their ends, and removes it.
    FinishReplay,
}

/// A short story of a log.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) durability: Durability,
    pub(crate) shards: u32,
    pub(crate) steps: Vec<Step>,
}

impl Workload {
    /// Does it all; the machine stops at the end, and nobody closes the log.
    pub(crate) fn run(&self) -> (SimFs, History) {
        let fs = SimFs::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let log = open_at(&fs, &clock).unwrap();
        let config = StreamConfig {
            durability: self.durability,
            compression: Compression::None,
            shards: self.shards,
            segment_bytes: 1 << 20,
            retention: Retention { is_consumed: true, ..Retention::default() },
            ..StreamConfig::default()
        };
        log.create_stream(STREAM, &config, &patience()).unwrap();
        let created = fs.point();
        let reshaped = vec![(open_shards(&log).unwrap(), created)];
        let history = History { created, reshaped, ..History::default() };
        let mut run = Run { fs, clock, now: NOW, log, mapping: None, history };
        for (number, step) in self.steps.iter().enumerate() {
            run.step(number, *step);
        }
        let Run { fs, history, log, mapping, .. } = run;
        std::mem::forget((log, mapping));
        (fs, history)
    }
}

struct Run {
    fs: SimFs,
    clock: Arc<ManualClock>,
    now: u64,
    log: Arc<Log>,
    mapping: Option<Mapping>,
    history: History,
}

impl Run {
    fn step(&mut self, number: usize, step: Step) {
        match step {
            Step::Put(count, size) => self.put(number, count, size),
            Step::Sync => self.log.sync().unwrap(),
            Step::Idle => (0..3).for_each(|_| self.log.tick()),
            Step::Reopen => {
                self.mapping = None;
                self.log.close().unwrap();
                self.open();
            }
            Step::Die => {
                // A dead process closes nothing; its locks, which are not simulated, go with it.
                std::mem::forget(self.mapping.take());
                self.fs = self.fs.for_another_process();
                let next = open_at(&self.fs, &self.clock).unwrap();
                std::mem::forget(std::mem::replace(&mut self.log, next));
            }
            Step::Roll => self.roll(),
            Step::Seal => self.seal(),
            Step::Retain => self.retain(&Keep { bytes: Some(0), ..Keep::default() }),
            Step::Trim => self.trim(),
            Step::RetainConsumed => self.retain_consumed(),
            Step::Map(factor) => self.map(factor.into()),
            Step::Windows => self.change_factor(LaneLayout::WINDOWED),
            Step::Rot => self.rot(),
            Step::Replay => self.replay(),
            Step::FinishReplay => self.finish_replay(),
            Step::Take => self.each_lane(|run, shard, slot| {
                let file = run.mapping().lanes_file(STREAM, shard).unwrap();
                file.take(slot).unwrap().unwrap();
                run.history.lanes.get_mut(&shard).unwrap().note_synced(run.fs.point());
            }),
            Step::Checkpoint => self.each_lane(|run, shard, slot| {
                let next_seq = run.log.stream(STREAM).unwrap().shard(shard).unwrap().visible_end();
                let ledger = run.history.lanes.get_mut(&shard).unwrap();
                ledger.write(slot, next_seq, run.fs.point() + 1);
                let file = run.mapping().lanes_file(STREAM, shard).unwrap();
                let place = ResumePoint { next_seq, ..ResumePoint::default() };
                let written = if file.head().unwrap().is_windowed {
                    file.checkpoint_windows(slot, place, &windows_at(next_seq), run.now)
                } else {
                    file.checkpoint(slot, place, run.now)
                };
                written.unwrap();
            }),
            Step::SyncLanes => {
                for shard in self.shards_with_lanes() {
                    self.mapping().lanes_file(STREAM, shard).unwrap().sync().unwrap();
                    let point = self.fs.point();
                    self.history.lanes.get_mut(&shard).unwrap().note_synced(point);
                }
            }
            Step::Begin => self.begin_children(),
            Step::Factor(factor) => self.change_factor(factor.into()),
            Step::Split => {
                let open = self.open_shards();
                let stream = self.log.stream(STREAM).unwrap();
                stream.split(open[0], None, &patience()).unwrap();
                self.history.reshaped.push((self.open_shards(), self.fs.point()));
            }
            Step::Merge => {
                let open = self.open_shards();
                let stream = self.log.stream(STREAM).unwrap();
                stream.merge(open[0], open[1], &patience()).unwrap();
                self.history.reshaped.push((self.open_shards(), self.fs.point()));
            }
        }
    }

    fn open(&mut self) {
        self.log = open_at(&self.fs, &self.clock).unwrap();
    }

    fn shards(&self) -> Vec<ShardId> {
        let shards = self.log.stream(STREAM).unwrap().shards().unwrap();
        shards.iter().map(|meta| meta.id).collect()
    }

    /// The shards that take records, by their hash keys.
    fn open_shards(&self) -> Vec<ShardId> {
        open_shards(&self.log).unwrap()
    }

    fn shards_with_lanes(&self) -> Vec<ShardId> {
        self.history.lanes.keys().copied().collect()
    }

    fn put(&mut self, number: usize, count: usize, size: usize) {
        let stream = self.log.stream(STREAM).unwrap();
        let begun = self.fs.point();
        let mut put = stream.begin_put().unwrap();
        let values: Vec<Vec<u8>> =
            (0..count).map(|n| format!("{number} {n} {}", "x".repeat(size)).into_bytes()).collect();
        for (n, value) in values.iter().enumerate() {
            put.push(value, Some(KEYS[n % 2]), std::iter::empty()).unwrap();
        }
        let places = put.commit(&patience()).unwrap().places();
        let done = self.fs.point();
        for (place, value) in places.into_iter().zip(values) {
            self.history.puts.insert(place, Put { value, begun, done });
        }
    }

    fn roll(&mut self) {
        self.now += STEP_US;
        self.clock.set(self.now);
        // A segment is closed at an eighth of the age kept, and nothing is that old.
        self.retain(&Keep { since: Some(self.now - 4 * STEP_US), ..Keep::default() });
    }

    fn seal(&mut self) {
        let begun = self.fs.point();
        (0..3).for_each(|_| self.log.tick());
        let is_seal = |change: &Change| match change {
            Change::Write(_, _, bytes) => match BatchHeader::decode(bytes) {
                HeaderRead::Valid(header, _) => header.is_control && header.record_count == 0,
                _ => false,
            },
            _ => false,
        };
        assert!(self.fs.changes()[begun..].iter().any(is_seal), "nothing was sealed");
    }

    fn retain(&mut self, keep: &Keep) {
        for id in self.shards() {
            let begun = self.fs.point();
            let shard = self.log.stream(STREAM).unwrap().shard(id).unwrap();
            shard.retain(keep).unwrap();
            self.history.horizons.push((id, shard.trim_horizon().unwrap(), begun));
        }
    }

    fn trim(&mut self) {
        for id in self.shards() {
            let begun = self.fs.point();
            let shard = self.log.stream(STREAM).unwrap().shard(id).unwrap();
            let first = shard.cursor(Start::TrimHorizon).unwrap().next_seq;
            shard.trim(first + 1, &patience()).unwrap();
            self.history.horizons.push((id, shard.trim_horizon().unwrap(), begun));
        }
    }

    fn retain_consumed(&mut self) {
        let begun = self.fs.point();
        retain_all(&self.log).unwrap();
        self.history.is_consumed = true;
        for id in self.shards() {
            let shard = self.log.stream(STREAM).unwrap().shard(id).unwrap();
            self.history.horizons.push((id, shard.trim_horizon().unwrap(), begun));
            let point = self.fs.point();
            if let Some(ledger) = self.history.lanes.get_mut(&id) {
                ledger.note_synced(point);
            }
        }
    }

    fn mapping(&self) -> &Mapping {
        self.mapping.as_ref().unwrap()
    }

    fn map(&mut self, layout: LaneLayout) {
        let (begun, factor) = (self.fs.point(), layout.factor);
        let mapping = Mapping::register(&self.log, MAPPING, layout, Start::TrimHorizon).unwrap();
        for shard in mapping.prepare(STREAM).unwrap() {
            let file = mapping.lanes_file(STREAM, shard).unwrap();
            let first = file.lane(0).unwrap().unwrap().checkpoint.next_seq;
            let since = self.fs.point();
            let ledger = || Ledger::begin(factor, first, begun, since);
            self.history.lanes.entry(shard).or_insert_with(ledger);
        }
        self.mapping = Some(mapping);
    }

    fn each_lane(&mut self, act: impl Fn(&mut Self, ShardId, u32)) {
        for shard in self.shards_with_lanes() {
            for slot in 0..self.mapping().factor(STREAM, shard).unwrap() {
                act(self, shard, slot);
            }
        }
    }

    fn rot(&mut self) {
        for id in self.shards() {
            let shard = self.log.stream(STREAM).unwrap().shard(id).unwrap();
            let mut cursor = shard.cursor(Start::TrimHorizon).unwrap();
            let mut found = None;
            while let Some((batch, after)) =
                shard.read(&cursor, &mut ReadBuffer::default()).unwrap()
            {
                let is_large = batch.header().stored_bytes() > 3 * SECTOR_BYTES;
                found = found.or(is_large.then(|| Arc::clone(&batch)));
                cursor = after;
            }
            let batch = found.expect("the workload puts a large one");
            assert!(batch.next_seq() < cursor.next_seq, "the workload puts another behind it");
            let names = self.fs.list(shard.folder()).unwrap();
            let name = names
                .iter()
                .find(|name| name.starts_with(&format!("{:08x}-", batch.position().segment)));
            let file = self.fs.open(&shard.folder().join(name.unwrap()), Open::Write).unwrap();
            // In a sector that holds nothing else: a stop in the middle of it spoils the whole sector.
            let place = batch.position().offset + batch.header().stored_bytes() / 2;
            let mut byte = [0];
            file.read_at(&mut byte, place).unwrap();
            let (numbers, begun) = (batch.base_seq()..batch.next_seq(), self.fs.point());
            file.write_at(&[&[byte[0] ^ 1]], place).unwrap();
            file.sync_data().unwrap();
            self.history.rotten.push(Rotten { shard: id, numbers, begun });
        }
    }

    fn replay(&mut self) {
        let begun = self.fs.point();
        let (mapping, latest) = (self.mapping(), Start::Latest);
        let ranges = mapping.plan_replay(STREAM, Start::TrimHorizon, latest, None).unwrap();
        let made = mapping.replay(STREAM, &ranges, &patience()).unwrap();
        let (name, made) = (made.name().to_owned(), (begun, self.fs.point()));
        self.history.replay = Some(Replayed { name, ranges, made, finished: None });
    }

    fn finish_replay(&mut self) {
        let replayed = self.history.replay.as_mut().unwrap();
        let replay = Mapping::open(&self.log, &replayed.name).unwrap().unwrap();
        for range in &replayed.ranges {
            let file = replay.lanes_file(STREAM, range.shard).unwrap();
            for slot in 0..file.head().unwrap().factor {
                file.take(slot).unwrap().unwrap();
                let place = ResumePoint { next_seq: range.until, ..ResumePoint::default() };
                file.checkpoint(slot, place, self.now).unwrap();
                file.give_back(slot).unwrap();
            }
        }
        let begun = self.fs.point();
        assert!(replay.finish_replay().unwrap());
        replayed.finished = Some((begun, self.fs.point()));
    }

    fn begin_children(&mut self) {
        let stream = self.log.stream(STREAM).unwrap();
        for meta in stream.shards().unwrap() {
            let is_past = self.mapping().is_past_parents(&stream, &meta).unwrap();
            assert!(is_past, "the workload puts the parents' lanes at their end");
            // From here on their records may be done: that the parents' are must be on the disk.
            let point = self.fs.point();
            for parent in meta.parents {
                self.history.lanes.get_mut(&parent).unwrap().note_synced(point);
            }
        }
    }

    fn change_factor(&mut self, layout: LaneLayout) {
        let (shards, factor) = (self.shards_with_lanes(), layout.factor);
        self.map(layout);
        for shard in shards {
            let head = self.mapping().lanes_file(STREAM, shard).unwrap().head().unwrap();
            if (head.factor, head.is_windowed) == (factor, layout.is_windowed) {
                continue;
            }
            let begun = self.fs.point();
            assert!(self.mapping().change_factor(STREAM, shard).unwrap());
            let since = self.fs.point();
            self.history.lanes.get_mut(&shard).unwrap().change_factor(factor, begun, since);
        }
    }
}

/// Records alone.
fn stories_of_records() -> Vec<Vec<Step>> {
    use Step::{Die, Idle, Merge, Put, Reopen, Retain, Roll, Rot, Seal, Split, Sync, Trim};
    vec![
        vec![Put(1, 10), Idle, Put(2, 900), Sync, Idle, Put(1, 2_000), Put(1, 10), Sync, Idle],
        vec![Put(1, 10), Put(3, 100), Put(1, 600), Put(2, 2_000), Sync, Put(1, 10)],
        vec![Put(2, 50), Reopen, Put(2, 50), Reopen, Put(1, 1_000)],
        vec![Put(1, 10), Sync, Put(2, 50), Die, Reopen, Put(1, 10), Die, Put(1, 10)],
        vec![Put(2, 50), Die, Put(2, 700), Die, Put(1, 20), Sync],
        vec![Put(1, 10), Roll, Put(2, 700), Roll, Roll, Put(1, 10), Sync, Put(1, 10)],
        vec![Put(1, 600), Sync, Roll, Reopen, Put(1, 10), Roll, Idle, Put(1, 10)],
        vec![Put(2, 10), Roll, Put(1, 10), Roll, Put(1, 10), Retain, Put(2, 300), Retain],
        vec![Put(1, 10), Roll, Put(1, 700), Roll, Seal, Put(1, 10), Roll, Seal, Put(1, 10)],
        vec![Put(2, 10), Roll, Seal, Die, Put(1, 10), Roll, Seal, Retain, Put(1, 10), Reopen],
        vec![Put(2, 10), Roll, Put(1, 10), Split, Seal, Put(2, 10), Merge, Seal, Put(1, 10)],
        vec![Put(2, 10), Split, Put(2, 600), Merge, Put(2, 10), Sync, Reopen, Put(2, 10)],
        vec![Put(2, 10), Roll, Split, Die, Put(2, 10), Roll, Merge, Retain, Put(2, 10)],
        vec![Put(3, 10), Trim, Put(1, 600), Roll, Trim, Put(1, 10), Retain, Reopen, Put(1, 10)],
        vec![Put(1, 10), Put(1, 2_000), Sync, Put(2, 10), Sync, Rot, Put(1, 10), Die, Put(1, 10)],
        vec![Put(1, 2_000), Sync, Put(1, 10), Sync, Rot, Reopen, Put(1, 10), Roll, Seal, Put(1, 9)],
        vec![Put(1, 2_000), Put(1, 10), Roll, Rot, Put(1, 10), Split, Put(2, 10), Retain, Die],
    ]
}

/// Records and those who read them.
fn stories_of_lanes() -> Vec<Vec<Step>> {
    use Step::{
        Begin, Checkpoint, Factor, Map, Merge, Put, RetainConsumed, Roll, Split, SyncLanes, Take,
    };
    vec![
        vec![
            Put(2, 10),
            Map(2),
            Take,
            Put(2, 10),
            Checkpoint,
            SyncLanes,
            Checkpoint,
            Take,
            Put(1, 9),
        ],
        vec![
            Put(1, 10),
            Map(1),
            Take,
            Checkpoint,
            Factor(3),
            Take,
            Put(2, 10),
            Checkpoint,
            Factor(2),
        ],
        vec![
            Put(2, 10),
            Map(2),
            Roll,
            Take,
            Put(1, 10),
            Checkpoint,
            Roll,
            RetainConsumed,
            Put(1, 9),
        ],
        vec![
            Put(2, 10),
            Map(2),
            Take,
            Split,
            Checkpoint,
            Map(2),
            Begin,
            Take,
            Put(2, 10),
            Checkpoint,
            RetainConsumed,
        ],
        vec![
            Put(1, 10),
            Map(1),
            Split,
            Factor(2),
            Merge,
            Map(2),
            Take,
            Checkpoint,
            Begin,
            Put(1, 10),
            Checkpoint,
        ],
    ]
}

/// Records, windows and replays.
fn stories_of_windows_and_replays() -> Vec<Vec<Step>> {
    use Step::{
        Checkpoint, Die, FinishReplay, Map, Put, Replay, RetainConsumed, Roll, Split, SyncLanes,
        Take, Windows,
    };
    vec![
        vec![
            Put(2, 10),
            Windows,
            Take,
            Checkpoint,
            Put(1, 10),
            Checkpoint,
            SyncLanes,
            Put(1, 9),
            Checkpoint,
            Take,
            Put(1, 9),
            Checkpoint,
            RetainConsumed,
        ],
        vec![
            Put(1, 10),
            Map(2),
            Take,
            Checkpoint,
            Windows,
            Take,
            Put(2, 10),
            Checkpoint,
            Die,
            Windows,
            Take,
            Put(1, 9),
            Checkpoint,
        ],
        vec![
            Put(2, 10),
            Roll,
            Map(1),
            Take,
            Checkpoint,
            Replay,
            Put(1, 10),
            RetainConsumed,
            FinishReplay,
            RetainConsumed,
        ],
        vec![Put(2, 10), Map(2), Replay, Split, Map(2), Die, Put(1, 9), FinishReplay, Put(1, 9)],
    ]
}

/// The workloads; a case of a failure names them by their number.
pub(crate) fn all() -> Vec<Workload> {
    let logs = stories_of_records();
    let lanes = [stories_of_lanes(), stories_of_windows_and_replays()].concat();
    let both = [Durability::Group, Durability::Process];
    let mut workloads = Vec::new();
    for durability in both {
        let make = |(shards, steps): (u32, &Vec<Step>)| Workload {
            durability,
            shards,
            steps: steps.clone(),
        };
        workloads.extend(logs.iter().map(|steps| make((1, steps))));
        workloads.extend([&logs[1], &logs[4], &logs[6]].map(|steps| make((2, steps))));
        workloads.extend(lanes.iter().map(|steps| make((1, steps))));
    }
    // One with segments that are full.
    let large = [700_000, 400_000, 10, 600_000].map(|size| Step::Put(1, size)).to_vec();
    workloads.push(Workload { durability: Durability::Group, shards: 1, steps: large });
    workloads
}
