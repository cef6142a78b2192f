//! A file system in memory that knows what a crash can leave of it.
//!
//! Every change is recorded. [`Disk::after`] then tells what the disk may hold if the machine stopped
//! after some of them: what was synced is there; of the rest, any part can be there or not.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::cast_possible_truncation, reason = "places within a sector")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use streamfn_core::fs::{File, Fs, Lock, Open};

/// What a device writes as a whole.
pub(crate) const SECTOR: usize = 512;

type Sector = Arc<[u8; SECTOR]>;

/// Content of a file; a sector that is not there reads as zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    length: u64,
    sectors: BTreeMap<u64, Sector>,
}

impl Content {
    fn write(&mut self, offset: u64, bytes: &[u8], keep: impl Fn(u64) -> bool) {
        let mut at = 0;
        while at < bytes.len() {
            let place = offset + at as u64;
            let (number, within) = (place / SECTOR as u64, (place % SECTOR as u64) as usize);
            let count = (SECTOR - within).min(bytes.len() - at);
            if keep(number) {
                let sector = self.sectors.entry(number).or_insert_with(|| Arc::new([0; SECTOR]));
                Arc::make_mut(sector)[within..within + count]
                    .copy_from_slice(&bytes[at..at + count]);
            }
            at += count;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    fn truncate(&mut self, length: u64) {
        self.length = length;
        let (last, within) = (length / SECTOR as u64, (length % SECTOR as u64) as usize);
        self.sectors.split_off(&(last + 1));
        if let Some(sector) = self.sectors.get_mut(&last) {
            Arc::make_mut(sector)[within..].fill(0);
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
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
    Mkdir(PathBuf),
    Create(PathBuf, u64),
    Write(u64, u64, Arc<[u8]>),
    Truncate(u64, u64),
    Sync(u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveDir(PathBuf),
    SyncDir(PathBuf),
    /// A sync that failed: the kernel marks the pages clean, and what they held never reaches the
    /// disk, whatever a later sync says.
    SyncFailed(u64),
}

/// Files, names and folders at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    folders: BTreeSet<PathBuf>,
}

/// What of an unsynced change reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Lost,
    /// All of it.
    Kept,
    /// Of a write: only that the file grew.
    LengthOnly,
    /// Of a write: something else than what was there or what was written.
    Garbage,
    /// Of a write: the sectors whose bit, by a hash of seed and number, is set.
    Torn(u64),
}

fn coin(seed: u64, number: u64) -> bool {
    let mixed =
        (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 33) & 1 == 1
}

impl Disk {
    fn apply(&mut self, change: &Change, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        match change {
            Change::Mkdir(path) => {
                self.folders.insert(path.clone());
            }
            Change::Create(path, inode) => {
                self.names.insert(path.clone(), *inode);
                self.files.entry(*inode).or_default();
            }
            Change::Write(inode, offset, bytes) => {
                let file = self.files.entry(*inode).or_default();
                match fate {
                    Fate::LengthOnly => file.write(*offset, bytes, |_| false),
                    Fate::Garbage => file.write(*offset, &vec![0xa5; bytes.len()], |_| true),
                    Fate::Torn(seed) => file.write(*offset, bytes, |sector| coin(seed, sector)),
                    _ => file.write(*offset, bytes, |_| true),
                }
            }
            Change::Truncate(inode, length) => {
                self.files.entry(*inode).or_default().truncate(*length);
            }
            Change::Rename(from, to) => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                }
            }
            Change::Remove(path) => {
                self.names.remove(path);
            }
            Change::RemoveDir(path) => {
                self.folders.remove(path);
            }
            Change::Sync(_) | Change::SyncDir(_) | Change::SyncFailed(_) => {}
        }
    }
}

/// Follows the changes one by one, and knows at each point what is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crasher {
    durable: Disk,
    pending: Vec<Change>,
}

impl Crasher {
    pub(crate) fn on(disk: Disk) -> Self {
        Self { durable: disk, pending: Vec::new() }
    }

    /// Goes past one more change.
    pub(crate) fn step(&mut self, change: &Change) {
        let settles = |pending: &Change| match (change, pending) {
            (Change::Sync(inode), Change::Write(other, ..) | Change::Truncate(other, _)) => {
                inode == other
            }
            (
                Change::SyncDir(folder),
                Change::Mkdir(path)
                | Change::Create(path, _)
                | Change::Remove(path)
                | Change::RemoveDir(path),
            ) => path.parent() == Some(folder),
            (Change::SyncDir(folder), Change::Rename(_, to)) => to.parent() == Some(folder),
            _ => false,
        };
        match change {
            Change::Sync(_) | Change::SyncDir(_) => {
                let (settled, open) =
                    std::mem::take(&mut self.pending).into_iter().partition(settles);
                self.pending = open;
                for change in settled {
                    self.durable.apply(&change, Fate::Kept);
                }
            }
            Change::SyncFailed(inode) => {
                self.pending.retain(
                    |pending| !matches!(pending, Change::Write(other, ..) if other == inode),
                );
            }
            other => self.pending.push(other.clone()),
        }
    }

    /// The disk if each unsynced change, by its index and their number, met this fate.
    pub(crate) fn disk(&self, fate: impl Fn(usize, usize, &Change) -> Fate) -> Disk {
        let mut disk = self.durable.clone();
        for (index, change) in self.pending.iter().enumerate() {
            disk.apply(change, fate(index, self.pending.len(), change));
        }
        disk
    }

    /// The states that are tried at one crash point; `seed` varies the torn ones.
    pub(crate) fn states(&self, seed: u64, torn: u64) -> Vec<Disk> {
        let mut states = vec![self.disk(|_, _, _| Fate::Lost)];
        if self.pending.is_empty() {
            return states;
        }
        states.push(self.disk(|_, _, _| Fate::Kept));
        states.push(self.disk(|_, _, change| match change {
            Change::Write(..) => Fate::LengthOnly,
            _ => Fate::Kept,
        }));
        states.push(
            self.disk(|index, count, _| if index + 1 == count { Fate::Kept } else { Fate::Lost }),
        );
        states.push(
            self.disk(|index, count, _| if index + 1 == count { Fate::Lost } else { Fate::Kept }),
        );
        for variant in 0..torn {
            let seed = seed.wrapping_mul(31).wrapping_add(variant);
            states.push(self.disk(|index, _, change| match change {
                Change::Write(..) => Fate::Torn(seed.wrapping_add(index as u64)),
                _ if coin(seed, index as u64 + 1_000) => Fate::Kept,
                _ => Fate::Lost,
            }));
        }
        states
    }
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    changes: Vec<Change>,
    next_inode: u64,
    /// After this many changes every further one fails with this error.
    fail_from: Option<(usize, i32, bool)>,
}

/// The simulated file system; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimFs {
    state: Arc<Mutex<State>>,
    device: u64,
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
}

impl SimFs {
    /// A machine that finds this on its disk.
    pub(crate) fn on(disk: Disk) -> Self {
        static DEVICES: AtomicU64 = AtomicU64::new(1 << 40);
        let next_inode = disk.files.keys().max().map_or(1, |inode| inode + 1);
        let state = State { disk, next_inode, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), device: DEVICES.fetch_add(1, Ordering::Relaxed) }
    }

    /// An empty disk with the folder `/log`.
    pub(crate) fn new() -> Self {
        let mut disk = Disk::default();
        for folder in ["/", "/log"] {
            disk.folders.insert(folder.into());
        }
        Self::on(disk)
    }

    /// Number of changes so far: a point at which the machine may stop.
    pub(crate) fn point(&self) -> usize {
        self.state.lock().unwrap().changes.len()
    }

    /// All changes so far.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.state.lock().unwrap().changes.clone()
    }

    /// The disk as running programs see it.
    pub(crate) fn disk(&self) -> Disk {
        self.state.lock().unwrap().disk.clone()
    }

    /// Has the `nth` change from now fail with `errno`; if `sticky`, all after it too.
    pub(crate) fn fail(&self, nth: usize, errno: i32, sticky: bool) {
        let mut state = self.state.lock().unwrap();
        state.fail_from = Some((state.changes.len() + nth, errno, sticky));
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().fail_from = None;
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Some((from, errno, sticky)) = state.fail_from {
            let now = state.changes.len();
            if now == from || (sticky && now > from) {
                if !sticky {
                    state.fail_from = None;
                }
                if let Change::Sync(inode) = change {
                    state.changes.push(Change::SyncFailed(inode));
                }
                return Err(io::Error::from_raw_os_error(errno));
            }
        }
        state.disk.apply(&change, Fate::Kept);
        state.changes.push(change);
        Ok(())
    }

    fn missing() -> io::Error {
        io::ErrorKind::NotFound.into()
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.fs.state.lock().unwrap();
        Ok(state.disk.files.get(&self.inode).map_or(0, |file| file.read(buffer, position)))
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        self.fs.change(Change::Write(self.inode, position, parts.concat().into()))
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.fs.state.lock().unwrap();
        Ok(state.disk.files.get(&self.inode).map_or(0, |file| file.length))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.fs.change(Change::Truncate(self.inode, length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        if self.length()? < length {
            self.fs.change(Change::Truncate(self.inode, length))?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.change(Change::Sync(self.inode))
    }

    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((self.fs.device, self.inode))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let (found, inode) = {
            let mut state = self.state.lock().unwrap();
            if state.disk.folders.contains(path) {
                return Ok(Arc::new(SimFile { fs: self.clone(), inode: 0 }));
            }
            if !path.parent().is_some_and(|folder| state.disk.folders.contains(folder)) {
                return Err(Self::missing());
            }
            let found = state.disk.names.get(path).copied();
            if found.is_none() {
                state.next_inode += 1;
            }
            (found, state.next_inode)
        };
        let inode = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::Read | Open::Write) => return Err(Self::missing()),
            (None, Open::Create | Open::CreateNew) => {
                self.change(Change::Create(path.to_owned(), inode))?;
                inode
            }
        };
        Ok(Arc::new(SimFile { fs: self.clone(), inode }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if self.exists(path)? {
            return Ok(());
        }
        self.change(Change::Mkdir(path.to_owned()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock().unwrap();
        if !state.disk.folders.contains(path) {
            return Err(Self::missing());
        }
        let all = state.disk.names.keys().chain(state.disk.folders.iter());
        let inside = all.filter(|name| name.parent() == Some(path) && name.as_path() != path);
        let mut names: Vec<String> =
            inside.map(|name| name.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock().unwrap();
        Ok(state.disk.names.contains_key(path) || state.disk.folders.contains(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.exists(from)? {
            return Err(Self::missing());
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Change::Remove(path.to_owned()))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
        }
        self.change(Change::RemoveDir(path.to_owned()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change(Change::SyncDir(path.to_owned()))
    }

    fn magic(&self, _: &Path) -> io::Result<u64> {
        Ok(0xef53)
    }
}
