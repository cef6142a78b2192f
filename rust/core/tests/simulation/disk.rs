//! What a disk holds after a power cut.
//!
//! Since a file was last synced, each of its 512-byte sectors may be on the disk as it was after any
//! write to it, or as before; its length may be any it had; each unsynced change of a name may have
//! happened or not. All of these are independent of each other: that allows more than any file system
//! does, and so everything that one of them does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What a device writes as a whole.
pub(crate) const SECTOR: usize = 512;

type Sector = Arc<[u8; SECTOR]>;
/// An absolute path; cheaper to copy and to compare than a `PathBuf`.
pub(super) type Name = Arc<str>;

pub(super) fn name_of(path: &Path) -> Name {
    path.to_str().unwrap().into()
}

/// The folder a name is in.
pub(super) fn folder_of(name: &str) -> &str {
    match name.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

/// The name after a folder was renamed.
fn moved(name: &Name, from: &str, to: &str) -> Name {
    match name.strip_prefix(from) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{to}{rest}").into(),
        _ => name.clone(),
    }
}

/// Content of a file; a sector that is not there reads as zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(super) length: u64,
    sectors: BTreeMap<u64, Sector>,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let (number, within) = (place / SECTOR as u64, (place % SECTOR as u64) as usize);
            let count = (SECTOR - within).min(bytes.len() - at);
            let sector = self.sectors.entry(number).or_insert_with(|| Arc::new([0; SECTOR]));
            Arc::make_mut(sector)[within..within + count].copy_from_slice(&bytes[at..at + count]);
            at += count;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    fn truncate(&mut self, length: u64) {
        self.length = length;
        let (last, within) = (length / SECTOR as u64, (length % SECTOR as u64) as usize);
        self.sectors.split_off(&(last + 1));
        if within == 0 {
            self.sectors.remove(&last);
        } else if let Some(sector) = self.sectors.get_mut(&last) {
            if sector[within..].iter().any(|byte| *byte != 0) {
                Arc::make_mut(sector)[within..].fill(0);
            }
        }
    }

    fn set(&mut self, number: u64, sector: Option<&Sector>) {
        match sector {
            Some(sector) => self.sectors.insert(number, Arc::clone(sector)),
            None => self.sectors.remove(&number),
        };
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = usize::try_from(self.length.saturating_sub(offset)).unwrap().min(buffer.len());
        let mut at = 0;
        while at < count {
            let place = offset + at as u64;
            let within = (place % SECTOR as u64) as usize;
            let part = (SECTOR - within).min(count - at);
            match self.sectors.get(&(place / SECTOR as u64)) {
                Some(sector) => {
                    buffer[at..at + part].copy_from_slice(&sector[within..within + part]);
                }
                None => buffer[at..at + part].fill(0),
            }
            at += part;
        }
        count
    }
}

/// One change of the file system.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Mkdir(Name),
    Create(Name, u64),
    Write(u64, u64, Arc<[u8]>),
    Truncate(u64, u64),
    Sync(u64),
    Rename(Name, Name),
    Remove(Name),
    RemoveDir(Name),
    SyncDir(Name),
    /// A sync that failed: the kernel marks the pages clean, and what they held may never reach the
    /// disk, whatever a later sync says.
    SyncFailed(u64),
}

impl Change {
    /// Has a change in a folder be one in the folder's new name.
    fn follow(&mut self, from: &str, to: &str) {
        match self {
            Self::Mkdir(path)
            | Self::Create(path, _)
            | Self::Remove(path)
            | Self::RemoveDir(path) => *path = moved(path, from, to),
            Self::Rename(before, after) => {
                *before = moved(before, from, to);
                *after = moved(after, from, to);
            }
            _ => {}
        }
    }
}

/// Files, names and folders at one moment. Clones share what neither has changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(super) files: BTreeMap<u64, Arc<Content>>,
    pub(super) names: Arc<BTreeMap<Name, u64>>,
    pub(super) folders: Arc<BTreeSet<Name>>,
}

impl Disk {
    pub(super) fn file(&mut self, inode: u64) -> &mut Content {
        Arc::make_mut(self.files.entry(inode).or_default())
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Mkdir(path) => {
                Arc::make_mut(&mut self.folders).insert(path.clone());
            }
            Change::Create(path, inode) => {
                Arc::make_mut(&mut self.names).insert(path.clone(), *inode);
                self.files.entry(*inode).or_default();
            }
            Change::Write(inode, offset, bytes) => self.file(*inode).write(*offset, bytes),
            Change::Truncate(inode, length) => self.file(*inode).truncate(*length),
            Change::Rename(from, to) if self.folders.contains(from) => self.move_folder(from, to),
            Change::Rename(from, to) => {
                let names = Arc::make_mut(&mut self.names);
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Change::Remove(path) => {
                Arc::make_mut(&mut self.names).remove(path);
            }
            Change::RemoveDir(path) => {
                Arc::make_mut(&mut self.folders).remove(path);
            }
            Change::Sync(_) | Change::SyncDir(_) | Change::SyncFailed(_) => {}
        }
    }

    fn move_folder(&mut self, from: &Name, to: &Name) {
        let folders = std::mem::take(Arc::make_mut(&mut self.folders));
        self.folders = Arc::new(folders.iter().map(|name| moved(name, from, to)).collect());
        let names = std::mem::take(Arc::make_mut(&mut self.names));
        let names = names.iter().map(|(name, inode)| (moved(name, from, to), *inode)).collect();
        self.names = Arc::new(names);
    }

    fn inode(&self, path: &Path) -> u64 {
        self.names[path.to_str().unwrap()]
    }

    /// Replaces what a file holds, behind everybody's back.
    pub(crate) fn put(&mut self, path: &Path, bytes: &[u8]) {
        let inode = self.inode(path);
        let file = self.file(inode);
        *file = Content::default();
        file.write(0, bytes);
    }

    /// Writes over a part of a file, behind everybody's back.
    pub(crate) fn patch(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        let inode = self.inode(path);
        self.file(inode).write(offset, bytes);
    }

    /// Cuts a file, behind everybody's back.
    pub(crate) fn cut(&mut self, path: &Path, length: u64) {
        let inode = self.inode(path);
        self.file(inode).truncate(length);
    }

    /// What a file holds.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let file = &self.files[&self.inode(path)];
        let mut bytes = vec![0; usize::try_from(file.length).unwrap()];
        file.read(&mut bytes, 0);
        bytes
    }
}

/// The unsynced part of one file.
#[derive(Clone, Debug, Default)]
struct Dirty {
    /// For each sector, what it was after each write since; `None` where it was cut away.
    sectors: BTreeMap<u64, Vec<Option<Sector>>>,
    lengths: Vec<u64>,
    /// Sectors of which a write covered a part only.
    in_part: BTreeSet<u64>,
    /// A sync of them failed: they may be on the disk or not, and no later sync settles it.
    lost_sectors: BTreeMap<u64, Vec<Option<Sector>>>,
    lost_lengths: Vec<u64>,
}

/// One thing that is not settled, and how many ways it can go; 0 is "as it was when last synced".
#[derive(Clone, Debug)]
enum Unit {
    Sector(u64, u64, Vec<Option<Sector>>),
    Length(u64, Vec<u64>),
    Name(usize),
}

impl Unit {
    fn ways(&self) -> usize {
        1 + match self {
            Self::Sector(_, _, versions) => versions.len(),
            Self::Length(_, lengths) => lengths.len(),
            Self::Name(_) => 1,
        }
    }
}

/// How many states are tried at one crash point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// If no more than this are possible, all of them are tried.
    pub(crate) exhaustive: usize,
    /// Otherwise the usual suspects, and so many drawn by lot.
    pub(crate) drawn: usize,
    /// Which sectors may also hold something that nobody ever wrote.
    pub(crate) garbage: Garbage,
}

/// Unsynced sectors that may hold what nobody ever wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// None: a device writes a sector wholly or not at all.
    No,
    /// Those that were only written as a whole: what else they held is not lost with them.
    Whole,
    /// Any.
    Any,
}

impl Bound {
    /// All states if they are a handful; otherwise the usual suspects, and `drawn` more.
    pub(crate) fn few(drawn: usize) -> Self {
        Self { exhaustive: 8, drawn, garbage: Garbage::No }
    }
}

/// A generator of numbers that always draws the same.
#[derive(Clone, Debug)]
pub(crate) struct Lot(u64);

impl Lot {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `most`.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

/// Follows the changes one by one, and knows at each point what is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crasher {
    /// What is on the disk for sure.
    durable: Disk,
    /// What running programs see.
    cache: Disk,
    dirty: BTreeMap<u64, Dirty>,
    /// Changes of names, in their order.
    names: Vec<Change>,
}

impl Crasher {
    pub(crate) fn on(disk: Disk) -> Self {
        Self { cache: disk.clone(), durable: disk, ..Self::default() }
    }

    /// Goes past one more change.
    pub(crate) fn step(&mut self, change: &Change) {
        match change {
            Change::Write(inode, offset, bytes) => {
                self.cache.apply(change);
                let end = offset + bytes.len() as u64;
                let (first, last) = (offset / SECTOR as u64, end.saturating_sub(1) / SECTOR as u64);
                self.note(*inode, first..=last);
                let in_part = &mut self.dirty.entry(*inode).or_default().in_part;
                in_part.extend((!offset.is_multiple_of(SECTOR as u64)).then_some(first));
                in_part.extend((!end.is_multiple_of(SECTOR as u64)).then_some(last));
            }
            Change::Truncate(inode, length) => {
                let before = self.cache.files.get(inode).map_or(0, |file| file.length);
                self.cache.apply(change);
                let (last, is_shorter) = (before / SECTOR as u64, *length < before);
                let first = if is_shorter { length / SECTOR as u64 } else { last + 1 };
                self.note(*inode, first..=last);
                self.dirty.entry(*inode).or_default().in_part.insert(first);
            }
            Change::Sync(inode) => self.settle(*inode),
            Change::SyncFailed(inode) => {
                let dirty = self.dirty.entry(*inode).or_default();
                dirty.lost_sectors.append(&mut dirty.sectors);
                dirty.lost_lengths.append(&mut dirty.lengths);
            }
            Change::SyncDir(folder) => {
                let is_in = |pending: &Change| match pending {
                    Change::Mkdir(path)
                    | Change::Create(path, _)
                    | Change::Remove(path)
                    | Change::RemoveDir(path) => folder_of(path) == &**folder,
                    Change::Rename(_, to) => folder_of(to) == &**folder,
                    _ => false,
                };
                let (settled, open): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.names).into_iter().partition(is_in);
                self.names = open;
                for change in &settled {
                    if let Change::Rename(from, to) = change {
                        if self.durable.folders.contains(from) {
                            self.names.iter_mut().for_each(|pending| pending.follow(from, to));
                        }
                    }
                    self.durable.apply(change);
                }
            }
            Change::Mkdir(_)
            | Change::Create(..)
            | Change::Rename(..)
            | Change::Remove(_)
            | Change::RemoveDir(_) => {
                self.cache.apply(change);
                if let Change::Create(_, inode) = change {
                    // The file is there; it is its name that may be lost.
                    self.durable.files.entry(*inode).or_default();
                }
                self.names.push(change.clone());
            }
        }
    }

    fn note(&mut self, inode: u64, sectors: std::ops::RangeInclusive<u64>) {
        let file = Arc::clone(self.cache.files.entry(inode).or_default());
        let dirty = self.dirty.entry(inode).or_default();
        for number in sectors {
            // A page that is written again is dirty again, with all that it holds.
            let lost = dirty.lost_sectors.remove(&number);
            let versions = dirty.sectors.entry(number).or_insert_with(|| lost.unwrap_or_default());
            versions.push(file.sectors.get(&number).cloned());
        }
        if dirty.lengths.last() != Some(&file.length) {
            dirty.lengths.append(&mut dirty.lost_lengths);
            dirty.lengths.push(file.length);
        }
    }

    fn settle(&mut self, inode: u64) {
        let Some(dirty) = self.dirty.get_mut(&inode) else { return };
        let file = Arc::make_mut(self.durable.files.entry(inode).or_default());
        for (number, versions) in std::mem::take(&mut dirty.sectors) {
            file.set(number, versions.last().and_then(Option::as_ref));
        }
        dirty.in_part.clear();
        if let Some(length) = std::mem::take(&mut dirty.lengths).last() {
            file.truncate(*length);
        }
        if dirty.lost_sectors.is_empty() && dirty.lost_lengths.is_empty() {
            self.dirty.remove(&inode);
        }
    }

    fn units(&self, garbage: Garbage) -> Vec<Unit> {
        let mut units: Vec<_> = (0..self.names.len()).map(Unit::Name).collect();
        for (inode, dirty) in &self.dirty {
            let durable = self.durable.files.get(inode).map_or(0, |file| file.length);
            let mut lengths = [&dirty.lost_lengths[..], &dirty.lengths].concat();
            lengths.retain(|length| *length != durable);
            lengths.dedup();
            if !lengths.is_empty() {
                units.push(Unit::Length(*inode, lengths));
            }
            for (number, versions) in dirty.lost_sectors.iter().chain(&dirty.sectors) {
                let mut versions = versions.clone();
                let is_whole = || !dirty.in_part.contains(number);
                if garbage == Garbage::Any || garbage == Garbage::Whole && is_whole() {
                    versions.insert(0, Some(Arc::new([0xa5; SECTOR])));
                }
                units.push(Unit::Sector(*inode, *number, versions));
            }
        }
        units
    }

    fn disk(&self, units: &[Unit], ways: &[usize]) -> Disk {
        let mut disk = self.durable.clone();
        let mut lengths = BTreeMap::new();
        for (unit, way) in units.iter().zip(ways) {
            match (unit, way.checked_sub(1)) {
                (Unit::Name(index), Some(_)) => disk.apply(&self.names[*index]),
                (Unit::Sector(inode, number, versions), Some(version)) => {
                    disk.file(*inode).set(*number, versions[version].as_ref());
                }
                (Unit::Length(inode, choices), Some(choice)) => {
                    lengths.insert(*inode, choices[choice]);
                }
                (_, None) => {}
            }
        }
        // What lies behind the end is not there.
        let written = units.iter().filter_map(|unit| match unit {
            Unit::Sector(inode, ..) | Unit::Length(inode, _) => Some(*inode),
            Unit::Name(_) => None,
        });
        for inode in written.collect::<BTreeSet<_>>() {
            let file = disk.file(inode);
            let length = lengths.get(&inode).copied().unwrap_or(file.length);
            file.truncate(length);
        }
        disk
    }

    /// The disks that are tried at one crash point: all that are possible if they are few, otherwise
    /// nothing, everything, everything but the data, each thing alone, all but each thing, and some
    /// drawn by `seed`.
    pub(crate) fn states(&self, seed: u64, bound: &Bound) -> Vec<Disk> {
        let units = self.units(bound.garbage);
        let ways: Vec<usize> = units.iter().map(Unit::ways).collect();
        let possible =
            ways.iter().try_fold(1_usize, |product, ways| product.checked_mul(*ways)).unwrap_or(0);
        if (1..=bound.exhaustive).contains(&possible) {
            return (0..possible).map(|number| self.disk(&units, &digits(number, &ways))).collect();
        }
        let newest: Vec<usize> = ways.iter().map(|ways| ways - 1).collect();
        let without_data: Vec<usize> = units
            .iter()
            .zip(&newest)
            .map(|(unit, newest)| if matches!(unit, Unit::Sector(..)) { 0 } else { *newest })
            .collect();
        let mut choices = vec![vec![0; units.len()], newest.clone(), without_data];
        let mut lot = Lot::new(seed);
        // Of a long write, a few sectors stand for all.
        let few: BTreeSet<usize> = if units.len() <= bound.exhaustive {
            (0..units.len()).collect()
        } else {
            (0..bound.exhaustive).map(|_| lot.below(units.len())).collect()
        };
        for index in few {
            let mut alone = vec![0; units.len()];
            alone[index] = newest[index];
            let mut without = newest.clone();
            without[index] = 0;
            choices.extend([alone, without]);
        }
        for _ in 0..bound.drawn {
            choices.push(ways.iter().map(|ways| lot.below(*ways)).collect());
        }
        choices.iter().map(|choice| self.disk(&units, choice)).collect()
    }

    /// The disk if everything that is not synced is lost.
    pub(crate) fn strict(&self) -> Disk {
        self.durable.clone()
    }
}

/// A number written with the `i`-th digit below `bases[i]`.
fn digits(mut number: usize, bases: &[usize]) -> Vec<usize> {
    bases
        .iter()
        .map(|base| {
            let digit = number % base;
            number /= base;
            digit
        })
        .collect()
}
