//! Keeps streams within their retention, in every process that has the log open.
//!
//! Several processes may do it at once: each pass takes the shard's append lock, and sees what
//! earlier passes did.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::Mutex;

use super::mapping::{LaneStatus, Mapping};
use crate::clock::{Patience, Stopwatch};
use crate::error::Result;
use crate::log::{Keep, Removable, Trimmed};
use crate::stream::{Housekeeper, Log, Retention, Stream};
use crate::types::{SequenceNumber, ShardId};

/// Between two passes over all streams.
const PASS_INTERVAL: Duration = Duration::from_secs(1);

/// Runs retention for a log, about once a second, as long as it lives.
#[derive(Debug)]
pub struct Retainer {
    log: Weak<Log>,
    last: Mutex<Option<Stopwatch>>,
}

impl Retainer {
    /// Begins; the log's housekeeping calls it.
    pub fn start(log: &Arc<Log>) -> Arc<Self> {
        let retainer = Arc::new(Self { log: Arc::downgrade(log), last: Mutex::default() });
        let weak: Weak<Self> = Arc::downgrade(&retainer);
        log.on_housekeeping(weak);
        retainer
    }
}

impl Housekeeper for Retainer {
    fn tick(&self) {
        let Some(log) = self.log.upgrade() else { return };
        let mut last = self.last.lock();
        if last.is_some_and(|last| last.elapsed() < PASS_INTERVAL) {
            return;
        }
        *last = Some(Stopwatch::start());
        drop(last);
        // What fails now is tried again in a second; a disk that fails for good is told to those
        // who write.
        let _ = retain_all(&log);
    }
}

/// One pass over all streams that have a retention.
///
/// # Errors
/// The first error met; the other streams and shards are done.
pub fn retain_all(log: &Arc<Log>) -> Result<Trimmed> {
    let mut total = Ok(Trimmed::default());
    for name in log.streams()? {
        total = add(total, retain_stream(log, &name));
    }
    total
}

fn retain_stream(log: &Arc<Log>, name: &str) -> Result<Trimmed> {
    let stream = log.stream(name)?;
    // WHY first: another process may have changed the retention.
    let shards = stream.refresh()?;
    let retention = stream.config().retention;
    if retention.age_us.is_none() && retention.bytes.is_none() && !retention.is_consumed {
        return Ok(Trimmed::default());
    }
    shards.iter().map(|meta| retain_shard(log, &stream, meta.id)).fold(Ok(Trimmed::default()), add)
}

/// WHY not the first error alone: damage in one place must not have the disk fill up in another.
fn add(total: Result<Trimmed>, more: Result<Trimmed>) -> Result<Trimmed> {
    let (total, more) = (total?, more?);
    Ok(Trimmed { segments: total.segments + more.segments, bytes: total.bytes + more.bytes })
}

fn retain_shard(log: &Arc<Log>, stream: &Stream, shard: ShardId) -> Result<Trimmed> {
    let keep = keep(log, stream, shard, &stream.config().retention)?;
    stream.shard(shard)?.retain(&keep)
}

/// What a pass with this retention would remove from a shard.
///
/// # Errors
/// As [`crate::log::ShardLog::removable`]; a lanes file cannot be read.
pub fn removable(
    log: &Arc<Log>,
    stream: &Stream,
    shard: ShardId,
    retention: &Retention,
    patience: &Patience<'_>,
) -> Result<Removable> {
    let keep = keep(log, stream, shard, retention)?;
    stream.shard(shard)?.removable(&keep, patience)
}

fn keep(log: &Arc<Log>, stream: &Stream, shard: ShardId, retention: &Retention) -> Result<Keep> {
    let from = if retention.is_consumed { consumed(log, stream, shard)? } else { None };
    let since = retention.age_us.map(|age| log.clock().now().saturating_sub(age));
    Ok(Keep { since, bytes: retention.bytes, from })
}

/// The lowest checkpoint of all mappings on a shard, including mappings whose record is lost;
/// `None` while no mapping reads it.
///
/// # Errors
/// A lanes file cannot be read: then nothing is known to be consumed.
pub fn consumed(log: &Arc<Log>, stream: &Stream, shard: ShardId) -> Result<Option<SequenceNumber>> {
    let mut lowest: Option<SequenceNumber> = None;
    for mapping in Mapping::all(log)? {
        if let Some(done) = consumed_by(&mapping, stream.name(), shard)? {
            lowest = Some(lowest.map_or(done, |other| other.min(done)));
        }
    }
    Ok(lowest)
}

fn consumed_by(mapping: &Mapping, stream: &str, shard: ShardId) -> Result<Option<SequenceNumber>> {
    let lanes = mapping.lanes(Some(stream))?;
    // A replay asks for nothing behind its end.
    let has_need =
        |lane: &&LaneStatus| lane.shard == shard && !(mapping.is_replay() && lane.is_finished);
    let checkpoints = lanes.iter().filter(has_need).map(|lane| lane.checkpoint);
    let Some(lowest) = checkpoints.min() else {
        // A shard that came up while the mapping did not run: it has all of it to come.
        let has_all_to_come = !mapping.is_replay() && mapping.has_begun(stream)?;
        return Ok(has_all_to_come.then_some(0));
    };
    // WHY: a checkpoint that a power cut takes back would ask for records that are gone.
    // Those read above are durable after this, whoever wrote them.
    mapping.lanes_file(stream, shard)?.sync_all()?;
    Ok(Some(lowest))
}
