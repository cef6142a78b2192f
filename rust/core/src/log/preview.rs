//! What retention or a trim would remove, without removing it.

use crate::clock::Patience;
use crate::error::{IoContext, Result};
use crate::types::{SequenceNumber, Start};

use super::retention::Keep;
use super::ShardLog;

/// What would be removed from a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removable {
    /// The trim horizon afterwards: records below it would be gone.
    pub horizon: SequenceNumber,
    /// Segment files that would be removed.
    pub segments: usize,
    /// Bytes of them.
    pub bytes: u64,
}

impl ShardLog {
    /// What [`ShardLog::retain`] would remove now.
    ///
    /// # Errors
    /// [`crate::Error::LockTimeout`] if writers are busy, errors of the file system.
    pub fn removable(&self, keep: &Keep, patience: &Patience<'_>) -> Result<Removable> {
        self.directory.check()?;
        let _writer = self.exclude_writers();
        let _locked = self.append_lock.lock(patience)?;
        let horizon = self.horizon(keep)?;
        self.removable_below(horizon)
    }

    /// What [`ShardLog::trim`] would remove now.
    ///
    /// # Errors
    /// As [`ShardLog::removable`].
    pub fn trimmable(&self, seq: SequenceNumber, patience: &Patience<'_>) -> Result<Removable> {
        self.directory.check()?;
        let _writer = self.exclude_writers();
        let _locked = self.append_lock.lock(patience)?;
        let horizon = seq.min(self.visible_end()).max(self.trim_horizon()?);
        self.removable_below(horizon)
    }

    /// The number of the first record at a position.
    ///
    /// # Errors
    /// As [`ShardLog::cursor`]; a sequence number is returned as it is.
    pub fn sequence_number(&self, position: Start) -> Result<SequenceNumber> {
        match position {
            Start::AtSequence(seq) => Ok(seq),
            other => Ok(self.cursor(other)?.next_seq),
        }
    }

    fn removable_below(&self, horizon: SequenceNumber) -> Result<Removable> {
        let mut found = Removable { horizon, ..Removable::default() };
        for segment in self.whole_below(horizon)? {
            let file = segment.open(self.directory.fs())?;
            found.bytes += file.length().at(segment.path())?;
            found.segments += 1;
        }
        Ok(found)
    }
}
