//! The `state` file of a shard. Written only under `append.lock` or the exclusive lock of the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::format::state::{ShardState, STATE_SLOT_BYTES, STATE_SLOT_STRIDE};
use crate::fs::{File, Fs, Open};

#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    file: Arc<dyn File>,
}

impl StateFile {
    /// Makes the file with both slots in place, synced, so that a full disk cannot stop progress.
    pub(crate) fn create(fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
        let file = fs.open(path, Open::Create).at(path)?;
        file.allocate(STATE_SLOT_STRIDE + STATE_SLOT_BYTES as u64).at(path)?;
        for counter in [1, 2] {
            let state = ShardState { counter, ..ShardState::fresh() };
            file.write_at(&[&state.encode()], Self::place(counter)).at(path)?;
        }
        file.sync_data().at(path)
    }

    pub(crate) fn open(fs: &Arc<dyn Fs>, path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: fs.open(path, Open::Write).at(path)? })
    }

    /// The whole file, with this state in both slots.
    pub(crate) fn both_slots(state: &ShardState) -> Vec<u8> {
        let mut slots = [state.counter, state.counter + 1]
            .map(|counter| (Self::place(counter), ShardState { counter, ..*state }.encode()));
        slots.sort_unstable_by_key(|(place, _)| *place);
        let mut bytes = Vec::new();
        for (place, slot) in slots {
            bytes.resize(usize::try_from(place).expect("0 or 4096"), 0);
            bytes.extend(slot);
        }
        bytes
    }

    fn place(counter: u64) -> u64 {
        (counter % 2) * STATE_SLOT_STRIDE
    }

    /// The newer valid slot.
    ///
    /// # Errors
    /// [`Error::Corruption`] if neither is valid.
    pub(crate) fn load(&self) -> Result<ShardState> {
        let mut newest: Option<ShardState> = None;
        for place in [0, STATE_SLOT_STRIDE] {
            let mut bytes = [0; STATE_SLOT_BYTES];
            self.file.read_at(&mut bytes, place).at(&self.path)?;
            if let Ok(state) = ShardState::decode(&bytes) {
                if newest.is_none_or(|other| other.counter < state.counter) {
                    newest = Some(state);
                }
            }
        }
        newest.ok_or_else(|| Error::Corruption {
            path: self.path.clone(),
            position: 0,
            first: 0,
            last: 0,
            reason: "both state slots are damaged".into(),
        })
    }

    /// Changes the state; durable when it returns.
    ///
    /// # Errors
    /// [`Error::LogFull`] if it could not be written; [`Error::Io`] also if it could not be synced.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ShardState)) -> Result<ShardState> {
        let mut state = self.load()?;
        change(&mut state);
        self.store(state)
    }

    /// Writes `state` into the older slot; durable when it returns.
    pub(crate) fn store(&self, mut state: ShardState) -> Result<ShardState> {
        state.counter += 1;
        self.file.write_at(&[&state.encode()], Self::place(state.counter)).at(&self.path)?;
        let synced = self.file.sync_data();
        synced.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(state)
    }
}
