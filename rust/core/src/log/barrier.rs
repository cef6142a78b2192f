//! A moment in a shard's log: what was appended before it, and what can only come later.

use crate::control::WriterState;
use crate::error::Result;
use crate::types::SequenceNumber;

use super::ShardLog;

impl ShardLog {
    /// Takes `append.lock` and releases it once. Every record appended before has a number below
    /// the returned one, and every record appended later has an append time that is not before now.
    /// `None` if a writer has the lock.
    ///
    /// # Errors
    /// [`crate::Error::Corruption`] if the shard holds more than a dead writer can have left;
    /// errors of the file system.
    pub fn barrier(&self) -> Result<Option<SequenceNumber>> {
        self.directory.check()?;
        let Some(_writer) = self.try_exclude_writers() else { return Ok(None) };
        let Some(_locked) = self.append_lock.try_lock()? else { return Ok(None) };
        if self.page().state() == WriterState::Writing {
            // WHY: a batch that a dead writer left whole is adopted, with the time it was given then.
            self.repair_tail()?;
        }
        Ok(Some(self.page().next_seq()))
    }
}
