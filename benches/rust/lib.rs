//! The two paths of a record through the core, as the benches walk them.
//!
//! A log in a folder of its own, one stream of one shard, `durability="process"`: what is measured
//! is the core, not the disk.

use std::sync::Arc;
use std::time::Duration;

use streamfn_core::checkpoint::Mapping;
use streamfn_core::lane::{Added, LaneSet, Limits, Request, BUDGET_BYTES_DEFAULT};
use streamfn_core::{
    Compression, Durability, Log, OpenOptions, Patience, Result, ShardId, Start, Stream,
    StreamConfig,
};

/// Records of one append, and of one batch that a lane hands out.
pub const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 6 << 20;
const STREAM: &str = "bench";

/// A stream, and the records that go into it again and again.
#[derive(Debug)]
pub struct Bench {
    log: Arc<Log>,
    stream: Arc<Stream>,
    records: Vec<Vec<u8>>,
    lane_sets: u32,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A new stream under the temporary folder, and `BATCH_RECORDS` events of `record_bytes` bytes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(record_bytes: usize, compression: Compression) -> Result<Self> {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let log = Log::open(folder.path(), &OpenOptions::default())?;
        let config = StreamConfig {
            durability: Durability::Process,
            compression,
            ..StreamConfig::default()
        };
        let stream = log.create_stream(STREAM, &config, &patience())?;
        let records = (0..BATCH_RECORDS).map(|number| event(number, record_bytes)).collect();
        Ok(Self { log, stream, records, lane_sets: 0, _folder: folder })
    }

    /// Appends all records once, as `put_many` does.
    ///
    /// # Errors
    /// Those of a put.
    pub fn append(&self) -> Result<usize> {
        let mut put = self.stream.begin_put()?;
        for record in &self.records {
            put.push(record, None, std::iter::empty())?;
        }
        Ok(put.commit(&patience())?.len())
    }

    /// A lane that begins at the first record, in a runner of its own.
    ///
    /// # Errors
    /// Those of a lane.
    pub fn lane(&mut self) -> Result<Arc<LaneSet>> {
        self.lane_sets += 1;
        let name = format!("bench.f{}", self.lane_sets);
        let mapping = Mapping::register(&self.log, &name, 1, Start::TrimHorizon)?;
        mapping.prepare(STREAM)?;
        let lanes = LaneSet::new(&self.log, [7; 16], 0, BUDGET_BYTES_DEFAULT)?;
        let limits = Limits {
            size: BATCH_RECORDS,
            window: Duration::ZERO,
            bytes: BATCH_BYTES,
            tumbling: None,
        };
        let request = Request {
            lane: 0,
            stream: STREAM.to_owned(),
            shard: ShardId(0),
            slot: 0,
            limits,
            filtering: None,
            is_alone: false,
            is_exclusive: false,
            passes_damage: false,
        };
        let added = lanes.add(&mapping, &request)?;
        assert_eq!(Added::Ok, added, "nobody else has this lane");
        Ok(lanes)
    }
}

/// Takes the next batch of a lane, looks at each record, and settles it; how many there were.
///
/// # Errors
/// Those of a lane.
pub fn consume(lanes: &LaneSet) -> Result<usize> {
    let Some(work) = lanes.next(Duration::ZERO)? else { return Ok(0) };
    let mut total = 0;
    for (batch, index) in work.records.iter() {
        total += batch.value(index).len();
    }
    std::hint::black_box(total);
    lanes.settle(work.lane, work.exponent)?;
    Ok(work.records.len())
}

/// A small event in JSON, filled up with text that looks random and is the same in every run.
fn event(number: usize, record_bytes: usize) -> Vec<u8> {
    let mut event =
        format!("{{\"id\":{number},\"user\":\"u{}\",\"note\":\"", number % 97).into_bytes();
    let mut noise = number as u64 + 1;
    while event.len() + 2 < record_bytes {
        noise =
            noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        event.push(b'a' + noise.to_le_bytes()[7] % 16);
    }
    event.extend_from_slice(b"\"}");
    event
}

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}
