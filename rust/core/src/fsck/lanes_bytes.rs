//! Reads the bytes of a lanes file and its window files, as far as they are whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finding::{Finding, Kind};
use crate::checkpoint::lanes::{LANES_START, LANE_BYTES, STRIDE};
use crate::checkpoint::mapping::stream_of;
use crate::checkpoint::slot::{Checkpoint, Head, CHECKPOINT_BYTES, HEAD_BYTES};
use crate::checkpoint::window::Pair;
use crate::error::{IoContext, Result};
use crate::fs::{self, Fs};
use crate::types::{SequenceNumber, ShardId};

pub(super) const LANES_SUFFIX: &str = ".lanes";
pub(super) const WINDOW_EXTENSIONS: [&str; 2] = ["window.a", "window.b"];

/// A lanes file being examined.
pub(super) struct Lanes<'a> {
    pub(super) path: &'a Path,
    pub(super) stream: &'a str,
    pub(super) shard: ShardId,
    pub(super) bytes: Vec<u8>,
    /// The window files beside it.
    pub(super) windows: [(Slot, Option<Pair>); 2],
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Valid,
    /// All zeros: it has not been written yet.
    Unused,
    Damaged,
}

/// What became of a slot with these bytes.
pub(super) fn state_of(bytes: &[u8], is_valid: impl Fn(&[u8]) -> bool) -> Slot {
    match bytes {
        _ if is_valid(bytes) => Slot::Valid,
        [_, ..] if bytes.iter().all(|byte| *byte == 0) => Slot::Unused,
        _ => Slot::Damaged,
    }
}

/// The two window files beside a lanes file; a lane without windows has none.
fn read_windows(fs: &Arc<dyn Fs>, lanes: &Path) -> Result<[(Slot, Option<Pair>); 2]> {
    let read = |extension: &str| {
        let path = lanes.with_extension(extension);
        if !fs.exists(&path).at(&path)? {
            return Ok((Slot::Unused, None));
        }
        let bytes = read_file(fs, &path)?;
        Ok(match Pair::decode(&bytes) {
            Ok(pair) => (Slot::Valid, Some(pair)),
            Err(_) if bytes.iter().all(|byte| *byte == 0) => (Slot::Unused, None),
            Err(_) => (Slot::Damaged, None),
        })
    };
    let [a, b] = WINDOW_EXTENSIONS;
    Ok([read(a)?, read(b)?])
}

impl<'a> Lanes<'a> {
    pub(super) fn read(
        fs: &Arc<dyn Fs>,
        path: &'a Path,
        stream: &'a str,
        shard: ShardId,
    ) -> Result<Self> {
        Ok(Self {
            path,
            stream,
            shard,
            bytes: read_file(fs, path)?,
            windows: read_windows(fs, path)?,
        })
    }

    pub(super) fn slot(&self, at: u64, length: usize) -> &[u8] {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(length).min(self.bytes.len());
        self.bytes.get(from..to).unwrap_or_default()
    }

    pub(super) fn finding(&self, kind: Kind, detail: impl Into<String>) -> Finding {
        Finding::new(kind, self.path, detail).of(self.stream, Some(self.shard))
    }

    /// How many lanes there is room for.
    pub(super) fn room(&self) -> u32 {
        let bytes = (self.bytes.len() as u64).saturating_sub(LANES_START);
        u32::try_from(bytes / LANE_BYTES).unwrap_or(0)
    }

    pub(super) fn pair(&self, number: u32) -> [Option<Checkpoint>; 2] {
        let start = LANES_START + u64::from(number) * LANE_BYTES;
        [start, start + STRIDE].map(|at| Checkpoint::decode(self.slot(at, CHECKPOINT_BYTES)).ok())
    }

    pub(super) fn checkpoints(&self) -> impl Iterator<Item = Checkpoint> + '_ {
        (0..self.room()).flat_map(|number| self.pair(number)).flatten()
    }

    pub(super) fn head(&self) -> Option<Head> {
        let heads = [0, STRIDE].map(|at| Head::decode(self.slot(at, HEAD_BYTES)).ok());
        heads.into_iter().flatten().max_by_key(|head| head.counter)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = &Pair> {
        self.windows.iter().filter_map(|(_, pair)| pair.as_ref())
    }
}

/// By stream and shard: the highest checkpoint and the highest segment that any lane names.
pub(super) fn furthest(
    fs: &Arc<dyn Fs>,
    root: &Path,
) -> Result<BTreeMap<(String, ShardId), (SequenceNumber, u32)>> {
    let mut found = BTreeMap::new();
    for (path, stream, shard) in lanes_files(fs, root)? {
        let lanes = Lanes::read(fs, &path, &stream, shard)?;
        let most = found.entry((stream.clone(), shard)).or_insert((0, 0));
        let places = lanes.pairs().map(|pair| (pair.place.next_seq, pair.place.hint));
        for (next_seq, hint) in lanes.checkpoints().map(|c| (c.next_seq, c.hint)).chain(places) {
            *most = (most.0.max(next_seq), most.1.max(hint.segment));
        }
    }
    Ok(found)
}

pub(super) fn read_file(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    fs::read(&**fs, path).at(path)
}

/// Nothing if nothing is there.
pub(super) fn read_if_there(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<u8>> {
    match fs::read(&**fs, path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        bytes => bytes.at(path),
    }
}

/// Names in a folder; none if it is a file, or nothing is there.
pub(super) fn names_in(fs: &Arc<dyn Fs>, path: &Path) -> Result<Vec<String>> {
    Ok(fs::names_in(&**fs, path).at(path)?.unwrap_or_default())
}

/// All lanes files of a log, with stream and shard.
pub(super) fn lanes_files(
    fs: &Arc<dyn Fs>,
    root: &Path,
) -> Result<Vec<(PathBuf, String, ShardId)>> {
    let mut found = Vec::new();
    let mappings = root.join("mappings");
    for mapping in names_in(fs, &mappings)? {
        let mapping = mappings.join(mapping);
        for stream in names_in(fs, &mapping)? {
            let folder = mapping.join(&stream);
            for name in names_in(fs, &folder)? {
                if let Some(shard) = name.strip_suffix(LANES_SUFFIX).and_then(ShardId::parse) {
                    found.push((folder.join(name), stream_of(&stream).to_owned(), shard));
                }
            }
        }
    }
    Ok(found)
}
