//! Splits a shard in two, and merges two adjacent ones.
//!
//! ```text
//! manifest: children PENDING ──▶ CLOSE{children} in the parents, synced ──▶ manifest: parents closed,
//!                                └─ the first one is the commit point        children open
//! ```
//! Everything happens under `topology.lock`. The next process that takes it, or opens the log
//! alone, finishes an interrupted change. If the parents have no CLOSE, the children are dropped:
//! no process has written to them. With a CLOSE the remaining steps are done. So children are open
//! exactly if their parents have a CLOSE, and a producer that meets a CLOSE finishes the change
//! before it writes to a child.

use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::log::ShardLog;
use crate::types::ShardId;

use super::manifest::{Manifest, ShardMeta};
use super::topology::{self, Changing};
use super::{load, shard_config, Stream};

impl Stream {
    /// Splits a shard: one child gets its hash keys below `at`, the other those from `at` on.
    /// Without `at` each gets half.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such shard, if `at` is not inside it, or the log has too many
    /// shards; [`Error::StreamClosed`] if it was split or merged before; [`Error::LockTimeout`],
    /// [`Error::LogFull`], [`Error::Interrupted`]: nothing has changed. [`Error::StoragePoisoned`]: a
    /// sync failed, whether it was split is known after the log was repaired.
    ///
    /// # Durability
    /// Durable when it returns, at every level.
    pub fn split(
        &self,
        shard: ShardId,
        at: Option<u128>,
        patience: &Patience<'_>,
    ) -> Result<(ShardId, ShardId)> {
        let changing = self.topology.enter(patience)?;
        let manifest = self.settle(&changing, patience)?;
        let (first, last) = self.open_range(&manifest, shard)?;
        let at = at.unwrap_or_else(|| first + (last - first).div_ceil(2));
        if !(first < at && at <= last) {
            let reason = format!(
                "{shard} owns {first} to {last}: to split it, its second half has to begin above \
                 the first of these, not at {at}"
            );
            return Err(Error::config("hash_key", reason));
        }
        let ranges = [(first, at - 1), (at, last)];
        let children = self.replace(&changing, manifest, &[shard], &ranges, patience)?;
        match *children.as_slice() {
            [low, high] => Ok((low, high)),
            _ => unreachable!("one child for each range"),
        }
    }

    /// Merges two shards with adjacent hash keys into a new one.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no such shard or they are not adjacent; otherwise as
    /// [`Stream::split`].
    ///
    /// # Durability
    /// Durable when it returns, at every level.
    pub fn merge(&self, a: ShardId, b: ShardId, patience: &Patience<'_>) -> Result<ShardId> {
        let changing = self.topology.enter(patience)?;
        let manifest = self.settle(&changing, patience)?;
        let mut halves = [(self.open_range(&manifest, a)?, a), (self.open_range(&manifest, b)?, b)];
        halves.sort_unstable_by_key(|(range, _)| *range);
        let [((first, middle), low), ((next, last), high)] = halves;
        if middle.checked_add(1) != Some(next) {
            let reason = format!("the hash keys of {a} and {b} do not lie side by side");
            return Err(Error::config("shard", reason));
        }
        let children =
            self.replace(&changing, manifest, &[low, high], &[(first, last)], patience)?;
        match *children.as_slice() {
            [child] => Ok(child),
            _ => unreachable!("one child for each range"),
        }
    }

    fn open_range(&self, manifest: &Manifest, id: ShardId) -> Result<(u128, u128)> {
        match manifest.shards.iter().find(|shard| shard.id == id) {
            Some(shard) if shard.is_open => Ok(shard.hash_range),
            Some(_) => Err(Error::StreamClosed { name: format!("{}/{id}", self.name) }),
            None => Err(Error::config("shard", format!("stream `{}` has no {id}", self.name))),
        }
    }

    /// Closes `parents` and opens a new shard for each range.
    fn replace(
        &self,
        changing: &Changing<'_>,
        mut manifest: Manifest,
        parents: &[ShardId],
        ranges: &[(u128, u128)],
        patience: &Patience<'_>,
    ) -> Result<Vec<ShardId>> {
        let pages = changing.pages(u32::try_from(ranges.len()).expect("one or two"))?;
        let next = manifest.shards.iter().map(|shard| shard.id.0 + 1).max().unwrap_or(0);
        let children = (next..).zip(pages).zip(ranges).map(|((id, page), range)| ShardMeta {
            id: ShardId(id),
            page,
            hash_range: *range,
            parents: parents.to_vec(),
            is_open: true,
            is_pending: true,
        });
        let children: Vec<ShardMeta> = children.collect();
        for child in &children {
            let config = shard_config(&self.name, &self.config(), child, &[]);
            ShardLog::create(&self.directory, &self.shard_folder(child.id), &config)?;
        }
        let ids: Vec<ShardId> = children.iter().map(|child| child.id).collect();
        manifest.shards.extend(children);
        topology::store(self.directory.fs(), &manifest, &self.manifest_path())?;
        // The first CLOSE decides; settling does what follows from it, or from its absence.
        let first = parents.first().copied().unwrap_or(ShardId(0));
        let closed = self.shard(first).and_then(|parent| parent.close(&ids, patience));
        let settled = self.settle(changing, patience);
        closed.and(settled).map(|_| ids)
    }

    /// Under `topology.lock`, or alone: finishes an interrupted split or merge, and returns the
    /// manifest, in which nothing is pending then.
    pub(super) fn settle(&self, _: &Changing<'_>, patience: &Patience<'_>) -> Result<Manifest> {
        let mut manifest = load(&self.directory, &self.name)?;
        let pending = || manifest.shards.iter().filter(|shard| shard.is_pending);
        let children: Vec<ShardId> = pending().map(|child| child.id).collect();
        let mut parents: Vec<ShardId> = pending().flat_map(|child| child.parents.clone()).collect();
        parents.sort_unstable();
        parents.dedup();
        if !children.is_empty() {
            let dropped: Vec<u32> = pending().map(|child| child.page).collect();
            let mut has_close = false;
            for parent in &parents {
                has_close |= self.shard(*parent)?.is_closed(patience)?;
            }
            if has_close {
                // INVARIANT: every CLOSE is on disk before a record goes to a child, or a crash
                // could drop a child that has acknowledged records.
                for parent in &parents {
                    self.shard(*parent)?.close(&children, patience)?;
                }
                for shard in &mut manifest.shards {
                    shard.is_pending = false;
                    shard.is_open &= !parents.contains(&shard.id);
                }
            } else {
                manifest.shards.retain(|shard| !shard.is_pending);
            }
            topology::store(self.directory.fs(), &manifest, &self.manifest_path())?;
            if !has_close {
                for page in dropped {
                    self.directory.control().page(page).disown();
                }
            }
            self.directory.control().wake();
        }
        self.learn(&manifest);
        Ok(manifest)
    }

    /// After a CLOSE was met in `closed`: the shards as they are now, every CLOSE durable.
    pub(super) fn follow(&self, closed: ShardId, patience: &Patience<'_>) -> Result<()> {
        let goes_on = |manifest: &Manifest| {
            let is_done =
                |shard: &ShardMeta| !shard.is_pending && (shard.id != closed || !shard.is_open);
            manifest.shards.iter().all(is_done)
        };
        let mut manifest = load(&self.directory, &self.name)?;
        if !goes_on(&manifest) {
            manifest = self.settle(&self.topology.enter(patience)?, patience)?;
        }
        if !goes_on(&manifest) {
            let reason = format!("{closed} has a CLOSE, but no shard goes on from it");
            let path = self.manifest_path();
            return Err(Error::Corruption { path, position: 0, first: 0, last: 0, reason });
        }
        self.learn(&manifest);
        Ok(())
    }

    fn learn(&self, manifest: &Manifest) {
        *self.known.lock() = visible(manifest).into();
    }
}

/// The shards of a manifest that callers may see: a pending shard may yet be dropped.
pub(super) fn visible(manifest: &Manifest) -> Vec<ShardMeta> {
    manifest.shards.iter().filter(|shard| !shard.is_pending).cloned().collect()
}
