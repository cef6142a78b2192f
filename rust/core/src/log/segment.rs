//! The segment files of a shard: their names, and opening them only while they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use crate::sync::{Mutex, RwLock};

use crate::error::{Error, IoContext, Result};
use crate::format::record_batch::HEADER_BYTES;
use crate::format::segment_header::SEGMENT_HEADER_BYTES;
use crate::format::{Access, SegmentHeader};
use crate::fs::{File, Fs, Open};
use crate::types::{Micros, SequenceNumber};

use super::SEGMENT_START;

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) ordinal: u32,
    pub(crate) base_seq: SequenceNumber,
    path: PathBuf,
    /// Append time of its last batch, once it was looked up; only of a closed segment.
    pub(crate) last_time: OnceLock<Micros>,
    // WHY weak: a log of many segments must not hold as many descriptors; those who read or write
    // keep theirs open.
    open: Mutex<Option<Weak<dyn File>>>,
    /// What its header allows, once a whole header was seen.
    access: OnceLock<Access>,
}

impl Segment {
    fn new(folder: &Path, ordinal: u32, base_seq: SequenceNumber) -> Self {
        let path = folder.join(file_name(ordinal, base_seq));
        Self {
            ordinal,
            base_seq,
            path,
            last_time: OnceLock::new(),
            open: Mutex::default(),
            access: OnceLock::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file; opens it if it is not open.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if its header names a format or a feature without which it cannot
    /// be read; errors of opening it.
    pub(crate) fn open(&self, fs: &Arc<dyn Fs>) -> Result<Arc<dyn File>> {
        let mut open = self.open.lock();
        if let Some(file) = open.as_ref().and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = fs.open(&self.path, Open::Write).at(&self.path)?;
        if let Access::Refused(found) = self.access(&file)? {
            return Err(self.unsupported(found, "format 1 without features"));
        }
        *open = Some(Arc::downgrade(&file));
        Ok(file)
    }

    /// Whether the place of its first batch is empty.
    pub(crate) fn is_empty(&self, fs: &Arc<dyn Fs>) -> Result<bool> {
        let mut first = [0; HEADER_BYTES];
        fs.open(&self.path, Open::Read)
            .and_then(|file| file.read_at(&mut first, SEGMENT_START))
            .at(&self.path)?;
        Ok(first == [0; HEADER_BYTES])
    }

    /// `Ok` if it may be changed: appended to, sealed, removed.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] if its header names a feature that has to be known for writing;
    /// errors of reading.
    pub(crate) fn check_writable(&self, fs: &Arc<dyn Fs>) -> Result<()> {
        match self.access(&self.open(fs)?)? {
            Access::ReadOnly(features) => {
                let found = format!("a segment with features {features:#x} needed for writing");
                Err(self.unsupported(found, "it, and does not write it"))
            }
            _ => Ok(()),
        }
    }

    fn access(&self, file: &Arc<dyn File>) -> Result<Access> {
        if let Some(access) = self.access.get() {
            return Ok(access.clone());
        }
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        file.read_at(&mut bytes, 0).at(&self.path)?;
        // A header that is not there yet is looked at again: somebody may be making the file.
        Ok(SegmentHeader::access(&bytes)
            .map_or(Access::Full, |access| self.access.get_or_init(|| access).clone()))
    }

    fn unsupported(&self, found: String, supported: &str) -> Error {
        Error::UnsupportedFormat { path: self.path.clone(), found, supported: supported.into() }
    }
}

/// A segment and its open file.
pub(crate) type OpenSegment = (Arc<Segment>, Arc<dyn File>);

/// `00000000-00000000000000000000.seg`: ordinal (8 hex digits) and base sequence number (20 digits).
fn file_name(ordinal: u32, base_seq: SequenceNumber) -> String {
    format!("{ordinal:08x}-{base_seq:020}.seg")
}

fn parse_file_name(name: &str) -> Option<(u32, SequenceNumber)> {
    let (ordinal, base) = name.strip_suffix(".seg")?.split_once('-')?;
    let is_ours = ordinal.len() == 8 && base.len() == 20;
    let parsed = (u32::from_str_radix(ordinal, 16).ok()?, base.parse().ok()?);
    is_ours.then_some(parsed)
}

/// The segments of a shard, as far as this process has looked.
#[derive(Debug)]
pub(crate) struct Segments {
    fs: Arc<dyn Fs>,
    folder: PathBuf,
    known: RwLock<BTreeMap<u32, Arc<Segment>>>,
}

impl Segments {
    pub(crate) fn new(fs: Arc<dyn Fs>, folder: PathBuf) -> Self {
        Self { fs, folder, known: RwLock::default() }
    }

    /// Whether a file of this name is a segment.
    pub(crate) fn is_name(name: &str) -> bool {
        parse_file_name(name).is_some()
    }

    fn refresh(&self) -> Result<()> {
        let names = self.fs.list(&self.folder).at(&self.folder)?;
        let mut known = self.known.write();
        let mut found = BTreeMap::new();
        for (ordinal, base_seq) in names.iter().filter_map(|name| parse_file_name(name)) {
            let old = known.remove(&ordinal).filter(|segment| segment.base_seq == base_seq);
            let segment =
                old.unwrap_or_else(|| Arc::new(Segment::new(&self.folder, ordinal, base_seq)));
            found.insert(ordinal, segment);
        }
        *known = found;
        Ok(())
    }

    /// A segment by its ordinal; looks at the folder again if it is not known yet.
    pub(crate) fn get(&self, ordinal: u32) -> Result<Option<Arc<Segment>>> {
        if let Some(segment) = self.known.read().get(&ordinal) {
            return Ok(Some(Arc::clone(segment)));
        }
        self.refresh()?;
        Ok(self.known.read().get(&ordinal).cloned())
    }

    /// A segment and its open file; looks at the folder again if what was known is gone.
    pub(crate) fn open(&self, ordinal: u32) -> Result<Option<OpenSegment>> {
        for is_again in [false, true] {
            let Some(segment) = self.get(ordinal)? else { return Ok(None) };
            match segment.open(&self.fs) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    if !is_again {
                        self.refresh()?;
                    }
                }
                file => return Ok(Some((segment, file?))),
            }
        }
        Ok(None)
    }

    /// The next segment there is behind an ordinal.
    pub(crate) fn after(&self, ordinal: u32) -> Result<Option<Arc<Segment>>> {
        self.refresh()?;
        let known = self.known.read();
        Ok(known.range(ordinal.saturating_add(1)..).next().map(|(_, found)| Arc::clone(found)))
    }

    /// All segments, oldest first.
    pub(crate) fn list(&self) -> Result<Vec<Arc<Segment>>> {
        self.refresh()?;
        Ok(self.known.read().values().cloned().collect())
    }

    /// Makes a segment file with its header; durable, with its name, when it returns. An empty one
    /// that a dead writer left is reused. `fail_stop` is called if a sync fails.
    pub(crate) fn create(
        &self,
        ordinal: u32,
        base_seq: SequenceNumber,
        header: &SegmentHeader,
        fail_stop: impl Fn(Error) -> Error,
    ) -> Result<Arc<Segment>> {
        self.refresh()?;
        if let Some(left) = self.known.read().get(&ordinal) {
            // INVARIANT: whatever is wrong elsewhere, no batch goes because a new segment is wanted.
            if !left.is_empty(&self.fs)? {
                return Err(Error::Corruption {
                    path: left.path.clone(),
                    position: SEGMENT_START,
                    first: left.base_seq,
                    last: left.base_seq,
                    reason: "batches stand where a new segment is to be made".into(),
                });
            }
            if left.base_seq != base_seq {
                self.fs.remove(&left.path).at(&left.path)?;
            }
        }
        let segment = Arc::new(Segment::new(&self.folder, ordinal, base_seq));
        let file = self.fs.open(&segment.path, Open::Create).at(&segment.path)?;
        file.truncate(0).at(&segment.path)?;
        file.write_at(&[&header.encode()], 0).at(&segment.path)?;
        file.sync_data().at(&segment.path).map_err(&fail_stop)?;
        self.fs.sync_dir(&self.folder).at(&self.folder).map_err(&fail_stop)?;
        *segment.open.lock() = Some(Arc::downgrade(&file));
        self.known.write().insert(ordinal, Arc::clone(&segment));
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_ordinal_and_base_and_nothing_else_is_a_segment() {
        assert_eq!("0000000a-00000000000000000042.seg", file_name(10, 42));
        assert_eq!(Some((10, 42)), parse_file_name(&file_name(10, 42)));
        for other in [
            "state",
            "a-1.seg",
            "0000000a-00000000000000000042.seg.new",
            "zz00000a-00000000000000000042.seg",
        ] {
            assert_eq!(None, parse_file_name(other), "{other}");
        }
    }
}
