//! What this process knows about the lanes whose leases it has.

use std::collections::BTreeMap;

use crate::checkpoint::window::Windows;
use crate::error::{Error, Result};
use crate::types::SequenceNumber;

/// What this process knows about a lane whose lease it has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) epoch: u64,
    pub(super) generation: u64,
    pub(super) counter: u64,
    pub(super) next_seq: SequenceNumber,
    /// Of a lane with windows, whose writes go to the window files.
    pub(super) windows: Option<Windows>,
    /// The slot, or window file, that is written until it is synced; the other one is durable.
    pub(super) target: u64,
    /// Whether it was written since it became the target.
    pub(super) is_dirty: bool,
    /// Syncs in a row during which it was written.
    pub(super) raced_syncs: u32,
}

impl Held {
    /// Notes that everything written is durable: from now on the other slot is written.
    pub(super) fn note_synced(&mut self) {
        if self.is_dirty {
            self.target = 1 - self.target;
            self.is_dirty = false;
        }
        self.raced_syncs = 0;
    }
}

/// What this process knows about the lanes of a file.
#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) held: BTreeMap<u32, Held>,
    /// `errno` of a failed sync: nothing is written any more.
    pub(super) failed: Option<i32>,
}

/// Notes a sync that failed: nothing is written after it.
pub(super) fn note_sync(state: &mut FileState, synced: Result<()>) -> Result<()> {
    synced.inspect_err(|error| {
        state.failed = Some(match error {
            Error::Io { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Error::LogFull { .. } => libc::ENOSPC,
            _ => libc::EIO,
        });
    })
}
