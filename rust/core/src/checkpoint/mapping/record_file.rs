//! The file with the record of a mapping: two slots of 4096 bytes, the newer valid one counts.

use std::io::ErrorKind;
use std::sync::Arc;

use super::folder::has_folders;
use super::{Mapping, LOCK_PATIENCE};
use crate::checkpoint::lanes::LanesFile;
use crate::checkpoint::resume_point::ResumePoint;
use crate::checkpoint::slot::{
    replay_name, LaneLayout, MappingRecord, OnFailure, RecordRange, MAPPING_BYTES,
};
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::fs::{self, Open};
use crate::types::Start;

const STRIDE: u64 = MAPPING_BYTES as u64;
/// Behind the two slots of the record.
pub(crate) const RANGES_START: usize = 2 * MAPPING_BYTES;

impl Mapping {
    pub(super) fn record(&self) -> Result<MappingRecord> {
        self.log.check()?;
        self.load()?.ok_or_else(|| {
            Error::config("mapping", format!("`{}` was removed while it was open", self.name))
        })
    }

    /// The newer valid slot; `None` if the mapping was never made, or is no longer there.
    pub(super) fn load(&self) -> Result<Option<MappingRecord>> {
        let path = self.record_path();
        let file = match self.log.fs().open(&path, Open::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.at(&path)?,
        };
        let found = self.found.get_or_init(|| Arc::clone(&file));
        if found.identity().at(&path)? != file.identity().at(&path)? {
            return Ok(None);
        }
        let bytes = fs::read_all(file.as_ref()).at(&path)?;
        if self.is_replay() && self.ranges.get().is_none() {
            let ranges = bytes.get(RANGES_START..).unwrap_or_default();
            let ranges = RecordRange::decode_all(ranges)
                .map_err(|damage| self.damaged(&format!("its ranges: {}", damage.0)))?;
            // Another thread may have read the same meanwhile.
            let _ = self.ranges.set(ranges);
        }
        let newest = bytes
            .chunks(MAPPING_BYTES)
            .take(2)
            .filter_map(|slot| MappingRecord::decode(slot).ok())
            .max_by_key(|record| record.counter);
        newest.map(Some).ok_or_else(|| self.damaged("both slots of the record are damaged"))
    }

    fn damaged(&self, what: &str) -> Error {
        let reason = format!("{what}: remove it with `streamfn fn rm {}`", self.name);
        Error::CheckpointConflict { path: self.record_path(), reason }
    }

    pub(super) fn create(&self, record: &MappingRecord) -> Result<()> {
        self.create_folder()?;
        self.commit(&[record.encode(), vec![0; MAPPING_BYTES]].concat())
    }

    /// Gives out the name of the next replay, which none had before; call it under the lock.
    pub(in crate::checkpoint) fn next_replay(&self) -> Result<String> {
        let (mut record, names) = (self.record()?, Self::names(&self.log)?);
        let name = loop {
            record.replays += 1;
            let name = replay_name(&self.name, record.replays);
            // WHY: a record that was worked out again from the lanes has forgotten the number.
            if !names.contains(&name) {
                break name;
            }
        };
        self.store(record)?;
        Ok(name)
    }

    /// Makes a replay with lanes of the `wanted` layout, where its ranges begin; call it under the
    /// lock.
    pub(in crate::checkpoint) fn create_replay(
        &self,
        stream: &str,
        wanted: LaneLayout,
        ranges: &[RecordRange],
    ) -> Result<()> {
        self.create_folder()?;
        let (fs, folder) = (self.log.fs(), self.stream_folder(stream));
        fs.create_dir(&folder).at(&folder)?;
        for range in ranges {
            let place = ResumePoint { next_seq: range.first, ..ResumePoint::default() };
            let (path, now) = (self.lanes_path(stream, range.shard), self.log.clock().now());
            LanesFile::create(fs, &path, wanted, place, now)?;
        }
        let record = MappingRecord {
            counter: 1,
            wanted_factor: wanted.factor,
            wants_windows: wanted.is_windowed,
            is_paused: false,
            start: Start::TrimHorizon,
            begun: vec![stream.to_owned()],
            replays: 0,
            on_failure: OnFailure::default(),
        };
        let slots = [record.encode(), vec![0; MAPPING_BYTES], RecordRange::encode_all(ranges)];
        self.commit(&slots.concat())
    }

    fn create_folder(&self) -> Result<()> {
        // WHY: lanes of one that was removed, or never wholly made, are not this one's.
        Self::sweep(&self.log)?;
        let fs = self.log.fs();
        if !fs.exists(&self.folder).at(&self.folder)? {
            return fs.create_dir(&self.folder).at(&self.folder);
        }
        if has_folders(fs, &self.folder, &fs.list(&self.folder).at(&self.folder)?)? {
            let reason =
                "the record is missing, the positions are there: `streamfn fsck --repair` \
                          writes it again"
                    .to_owned();
            return Err(Error::CheckpointConflict { path: self.record_path(), reason });
        }
        Ok(())
    }

    /// Writes the record: from now on it is there, with all that is in its folder.
    fn commit(&self, bytes: &[u8]) -> Result<()> {
        let path = self.record_path();
        self.log.fs().sync_dir(&self.folder).at(&self.folder)?;
        fs::replace(self.log.fs().as_ref(), &path, bytes).at(&path)?;
        self.sync_names()
    }

    /// Makes the record's name durable, and those of the folders it is in, which may be new.
    pub(super) fn sync_names(&self) -> Result<()> {
        let folders = [self.folder.as_path(), fs::parent(&self.folder), self.log.root()];
        folders.into_iter().try_for_each(|folder| self.log.fs().sync_dir(folder).at(folder))
    }

    /// Changes the record, durably.
    pub(in crate::checkpoint) fn change(
        &self,
        change: impl FnOnce(&mut MappingRecord),
    ) -> Result<()> {
        let lock = self.lock_file()?;
        let _locked = lock.lock(&Patience::of(LOCK_PATIENCE))?;
        let mut record = self.record()?;
        change(&mut record);
        self.store(record)
    }

    /// Writes the slot that does not count; call it under the lock.
    pub(super) fn store(&self, mut record: MappingRecord) -> Result<()> {
        record.counter += 1;
        let path = self.record_path();
        let file = self.log.fs().open(&path, Open::Write).at(&path)?;
        // INVARIANT: counters rise by one from the 1 in slot 0.
        let position = (record.counter - 1) % 2 * STRIDE;
        file.write_at(&[&record.encode()], position).at(&path)?;
        file.sync_data().at(&path)
    }
}
