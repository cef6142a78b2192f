//! The lanes of a shard that is new to a mapping: where they begin, and when.

use super::{Mapping, LOCK_PATIENCE};
use crate::checkpoint::lanes::{LaneView, LanesFile};
use crate::checkpoint::resume_point::ResumePoint;
use crate::checkpoint::slot::{MappingRecord, STREAMS_MAX};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::stream::{ShardMeta, Stream};
use crate::types::{ShardId, Start};

impl Mapping {
    /// Makes sure that each shard of a stream has a lanes file; returns the shards.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`], [`Error::LogFull`], [`Error::Io`], [`Error::LockTimeout`].
    ///
    /// # Durability
    /// All starts are durable when it returns.
    pub fn prepare(&self, stream: &str) -> Result<Vec<ShardId>> {
        if self.is_replay() {
            return Ok(self.ranges()?.iter().map(|range| range.shard).collect());
        }
        let source = self.log.stream(stream)?;
        let shards: Vec<ShardId> = source.shards()?.iter().map(|meta| meta.id).collect();
        let is_begun = |record: &MappingRecord| record.begun.iter().any(|name| name == stream);
        if is_begun(&self.record()?) && self.missing(stream, &shards)?.is_empty() {
            return Ok(shards);
        }
        let lock = self.lock_file()?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
        let mut record = self.record()?;
        let folder = self.stream_folder(stream);
        self.log.fs().create_dir(&folder).at(&folder)?;
        self.log.fs().sync_dir(&self.folder).at(&self.folder)?;
        // What is redriven came from this mapping itself; none of it may be skipped but what was done
        // before it was removed.
        let is_own = stream.strip_prefix(self.name.as_str()) == Some(".redrive");
        let is_new = !is_begun(&record);
        for shard in self.missing(stream, &shards)? {
            let is_first = is_new && !self.has_more_before(&source, shard)?;
            let start = match (is_own, is_first) {
                (true, _) => Start::TrimHorizon,
                (false, true) => record.start,
                (false, false) => Start::AtSequence(0),
            };
            let place = resolve(&source, shard, start)?;
            let (path, now) = (self.lanes_path(stream, shard), self.log.clock().now());
            LanesFile::create(self.log.fs(), &path, record.wanted(), place, now)?;
        }
        if !is_begun(&record) {
            if record.begun.len() == STREAMS_MAX {
                let reason = format!("`{}` reads {STREAMS_MAX} streams already", self.name);
                return Err(Error::config("stream", reason));
            }
            record.begun.push(stream.to_owned());
            self.store(record)?;
        }
        Ok(shards)
    }

    /// Whether it begins before the end of a shard that this one came from, as when it was split
    /// between two tries to prepare: then nothing of this one may be skipped.
    fn has_more_before(&self, stream: &Stream, shard: ShardId) -> Result<bool> {
        let metas = stream.shards()?;
        let parents = metas.iter().filter(|meta| meta.id == shard).flat_map(|meta| &meta.parents);
        for &parent in parents {
            if !self.missing(stream.name(), &[parent])?.is_empty() {
                continue;
            }
            let lanes = self.lanes_file(stream.name(), parent)?.lanes()?;
            let end = stream.shard(parent)?.visible_end();
            if lanes.iter().any(|lane| lane.checkpoint.next_seq < end) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn missing(&self, stream: &str, shards: &[ShardId]) -> Result<Vec<ShardId>> {
        let mut missing = Vec::new();
        for &shard in shards {
            let path = self.lanes_path(stream, shard);
            if !self.log.fs().exists(&path).at(&path)? {
                missing.push(shard);
            }
        }
        Ok(missing)
    }

    /// Whether all lanes of a shard's parents have passed its end, for good.
    ///
    /// # Errors
    /// [`Error::CheckpointConflict`], [`Error::Io`].
    pub fn is_past_parents(&self, stream: &Stream, shard: &ShardMeta) -> Result<bool> {
        if self.is_replay() {
            return self.is_past_ancestors(stream, shard);
        }
        for &parent in &shard.parents {
            let Some(meta) = stream.shards()?.into_iter().find(|meta| meta.id == parent) else {
                // Retention has taken it whole.
                continue;
            };
            if !self.missing(stream.name(), &[parent])?.is_empty() {
                return Ok(false);
            }
            let end = stream.shard(parent)?.visible_end();
            let file = self.lanes_file(stream.name(), parent)?;
            // A window that is open at the end of its shard still has its final call to come.
            let is_past =
                |view: &LaneView| view.checkpoint.next_seq >= end && view.window().is_none();
            if meta.is_open || !file.lanes()?.iter().all(is_past) {
                return Ok(false);
            }
            // WHY: the children's records must not be done before the parent's are known to be.
            file.sync_all()?;
        }
        Ok(true)
    }
}

/// Where a shard's lanes begin.
pub(in crate::checkpoint) fn resolve(
    stream: &Stream,
    shard: ShardId,
    start: Start,
) -> Result<ResumePoint> {
    let log = stream.shard(shard)?;
    if start == Start::AtSequence(0) {
        return Ok(ResumePoint { shard_epoch: log.epoch(), ..ResumePoint::default() });
    }
    let cursor = log.cursor(start)?;
    Ok(ResumePoint { next_seq: cursor.next_seq, hint: cursor.position, shard_epoch: log.epoch() })
}
