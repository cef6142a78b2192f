//! Requests to a set of lanes, and the work that it hands out.

use std::sync::Arc;

use super::batching::Limits;
use super::lane_filter::Filtering;
use super::selection::Selection;
use crate::checkpoint::{Entry, OpenWindow};
use crate::error::Error;
use crate::types::{SequenceNumber, ShardId};

/// A batch of a lane to be called, or the open rest of one.
#[derive(Clone, Debug)]
pub struct Work {
    /// The lane's number in its set.
    pub lane: u32,
    /// All records that the entries cover.
    pub records: Selection,
    /// The work list, first call first; of a fresh batch one entry without attempts.
    pub entries: Vec<Entry>,
    /// The lane's back-off exponent.
    pub exponent: u32,
    /// The checkpoint once the list is empty.
    pub end: SequenceNumber,
    /// Whether it was in flight before: taken over, or back from a wait.
    pub is_resumed: bool,
    /// Whether it must run alone in its runner.
    pub is_alone: bool,
    /// Name of the stream that the lane reads.
    pub stream: Arc<str>,
    /// The shard that it reads.
    pub shard: ShardId,
    /// The window that the batch is in; `None` of a lane without windows.
    pub window: Option<Window>,
}

/// The tumbling window that a call is made in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its bounds, and the state that the last call that succeeded left.
    pub open: OpenWindow,
    /// Whether this is its final call, without records.
    pub is_final: bool,
}

/// A lane that a runner asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller's number for it.
    pub lane: u32,
    /// The stream it reads.
    pub stream: String,
    /// The shard it reads.
    pub shard: ShardId,
    /// Its number among the lanes of the shard.
    pub slot: u32,
    /// When its batches close.
    pub limits: Limits,
    /// Which of the records it takes; `None`: all.
    pub filtering: Option<Filtering>,
    /// Whether nothing else runs in the runner.
    pub is_alone: bool,
    /// Whether nothing else runs in the worker.
    pub is_exclusive: bool,
    /// Whether it continues behind damage, giving up what is lost; otherwise it stops there.
    pub passes_damage: bool,
}

/// Damage that a lane met.
#[derive(Debug)]
pub struct DamageMet {
    /// The lane's number in its set.
    pub lane: u32,
    /// Its number among the lanes of the shard.
    pub slot: u32,
    /// [`Error::Corruption`]: where, and which numbers.
    pub error: Error,
    /// Whether the lane continued behind it; otherwise it stopped, and looks again after a while.
    pub is_passed: bool,
}

/// The result of a request for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is leased and open.
    Ok,
    /// Another process has the lease.
    Held,
    /// A live supervisor has to write its verdict on the batch in flight first.
    Judge,
    /// The factor in force has no such lane, or its lanes have windows and the request has none, or
    /// the other way round.
    Stale,
    /// A parent shard is not finished.
    Parents,
    /// Its batch was in flight at two deaths of workers: ask again when nothing else runs in this
    /// worker.
    Exclusive,
}
