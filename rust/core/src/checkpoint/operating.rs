//! Operations on a mapping: pause, resume, seek (removal is in `removal.rs`).
//!
//! ```text
//! seek    paused, durably ── all leases of the stream taken ── each shard's lanes begin anew ── as before
//! ```
//! A crash in the middle leaves the mapping paused, with some shards moved and none half moved;
//! seeking again finishes.

use std::path::Path;
use std::time::Duration;

use super::lease::{self, Lease};
use super::mapping::{resolve, Mapping};
use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::types::{SequenceNumber, ShardId, Start};

/// How often a draining mapping's leases are tried.
const DRAIN_STEP: Duration = Duration::from_millis(20);

impl Mapping {
    /// Pauses the mapping, or resumes it. Workers see it within about a tenth of a second: they
    /// finish the running calls and release the lanes.
    ///
    /// # Errors
    /// As [`Mapping::register`].
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn set_paused(&self, is_paused: bool) -> Result<()> {
        self.change(|record| record.is_paused = is_paused)?;
        self.log().bump();
        Ok(())
    }

    /// Waits until no lane is leased.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] naming an owner; [`Error::Interrupted`].
    pub fn wait_drained(&self, patience: &Patience<'_>) -> Result<()> {
        for (stream, shard) in self.shards()? {
            self.leases(&stream, shard, patience)?;
        }
        Ok(())
    }

    /// Makes all lanes of a stream, or of one of its shards, begin at `start`, whatever they have
    /// done or have in flight; returns where each of these shards begins now. Nothing is read beyond the visible end.
    ///
    /// # Errors
    /// [`Error::Config`] if the mapping has no lanes in the shard; [`Error::LockTimeout`] if a lane's
    /// owner does not release it (nothing has changed),
    /// [`Error::SequenceTrimmed`], [`Error::StreamNotFound`], errors of the lanes files.
    ///
    /// # Durability
    /// Durable when it returns.
    pub fn seek(
        &self,
        stream: &str,
        start: Start,
        only: Option<ShardId>,
        patience: &Patience<'_>,
    ) -> Result<Vec<(ShardId, SequenceNumber)>> {
        let mut shards = self.prepare(stream)?;
        if let Some(only) = only {
            shards.retain(|shard| *shard == only);
            if shards.is_empty() {
                let reason = format!("the function has no lanes in {only} of `{stream}`");
                return Err(Error::config("shard", reason));
            }
        }
        let source = self.log().stream(stream)?;
        let places = shards.iter().map(|&shard| {
            let mut place = resolve(&source, shard, start)?;
            place.next_seq = place.next_seq.min(source.shard(shard)?.visible_end());
            Ok((shard, place))
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        let was_paused = self.is_paused()?;
        self.set_paused(true)?;
        let taken = shards.iter().map(|&shard| self.leases(stream, shard, patience));
        let leases = match taken.collect::<Result<Vec<_>>>() {
            Ok(leases) => leases,
            Err(error) => {
                self.set_paused(was_paused)?;
                return Err(error);
            }
        };
        for (shard, place) in &places {
            let file = self.lanes_file(stream, *shard)?;
            file.restart(*place, self.log().clock().now())?;
        }
        drop(leases);
        self.set_paused(was_paused)?;
        Ok(places.into_iter().map(|(shard, place)| (shard, place.next_seq)).collect())
    }

    /// The leases of all its lanes, once their owners have released them; its record may be
    /// damaged.
    pub(super) fn every_lease(&self, patience: &Patience<'_>) -> Result<Vec<Lease>> {
        let mut all = Vec::new();
        for (stream, shard) in self.shards_on_disk()? {
            match self.leases(&stream, shard, patience) {
                // Nobody can run lanes that cannot be read.
                Err(Error::CheckpointConflict { .. }) => {}
                leases => all.extend(leases?),
            }
        }
        Ok(all)
    }

    /// The leases of all lanes of a shard, once their owners have released them.
    fn leases(&self, stream: &str, shard: ShardId, patience: &Patience<'_>) -> Result<Vec<Lease>> {
        let file = self.lanes_file(stream, shard)?;
        loop {
            let factor = file.head()?.factor;
            let leases = (0..factor).map(|slot| self.lease(&file.lease_path(slot), patience));
            let leases = leases.collect::<Result<Vec<_>>>()?;
            // A process that has them all is the only one that changes the factor; before, any could.
            if file.head()?.factor == factor {
                return Ok(leases);
            }
        }
    }

    fn lease(&self, path: &Path, patience: &Patience<'_>) -> Result<Lease> {
        loop {
            match Lease::try_take(self.log().fs(), path, "an operator") {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) => {}
                Err(error) => return Err(self.told_removed(error)),
            }
            if patience.deadline.is_past() {
                let (path, holder) = (path.to_owned(), lease::owner(self.log().fs(), path));
                return Err(Error::LockTimeout { path, holder });
            }
            if (patience.interrupted)() {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(DRAIN_STEP);
        }
    }
}

#[cfg(test)]
mod tests;
