//! A file system in memory that records every change, knows what a power cut can leave of it
//! ([`disk`]), and fails when it is told to.
//!
//! Reading and writing go through the loops of [`streamfn_core::fs`], so what is failed here is the
//! call of the operating system below the seam.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::cast_possible_truncation, reason = "places within a sector")]

pub(crate) mod disk;
pub(crate) mod ledger;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use streamfn_core::clock::ManualClock;
use streamfn_core::fs::{read_fully, uninterrupted, write_fully, File, Fs, Lock, Open};
use streamfn_core::{Log, OpenOptions, Result};

use disk::{folder_of, name_of};
#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use disk::{Bound, Change, Crasher, Disk, Garbage};

/// When a log is opened by who does not care: 14 November 2023.
pub(crate) const NOW: u64 = 1_700_000_000_000_000;

const EINTR: i32 = 4;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// A call of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Make,
    Mkdir,
    List,
    Exists,
    Rename,
    Remove,
    SyncDir,
    Statfs,
    Read,
    Write,
    Length,
    Truncate,
    Allocate,
    Sync,
    Lock,
    Identity,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// With this error, and nothing done.
    Errno(i32),
    /// A read or a write does half of what it was asked to.
    Short,
    /// A write does half, and the next call finds the disk full.
    ShortThenFull,
}

impl Fault {
    /// Whether a call can fail in this way at all.
    pub(crate) fn can_hit(self, call: Call) -> bool {
        use Call::{
            Allocate, List, Lock, Make, Mkdir, Open, Read, Rename, Sync, SyncDir, Truncate, Write,
        };
        match self {
            Self::Errno(EINTR) => {
                matches!(call, Open | Make | Read | Write | Truncate | Allocate | Sync | Lock)
            }
            Self::Errno(EMFILE) => matches!(call, Open | Make | List | SyncDir),
            Self::Errno(ENOSPC) => {
                matches!(call, Make | Mkdir | Rename | Write | Truncate | Allocate | Sync | SyncDir)
            }
            Self::Errno(_) => call != Lock,
            Self::Short => matches!(call, Read | Write),
            Self::ShortThenFull => call == Write,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    from: usize,
    /// How many calls, from that one on, it hits.
    count: usize,
    /// Only calls of this kind, and only one of them.
    only: Option<Call>,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    disk: Disk,
    changes: Vec<Change>,
    calls: Vec<Call>,
    next_inode: u64,
    plan: Option<Plan>,
    is_full: bool,
    /// Whether there is no room for anything new; what is there can be written over and synced.
    is_packed: bool,
    /// Room that files have beyond their end.
    reserved: BTreeMap<u64, u64>,
    /// What kind of file system it says it is; 0 is ext4.
    magic: u64,
    /// Files whose last sync failed and that were not written since: to sync them again would be to
    /// believe a success that never was.
    unsettled: BTreeMap<u64, usize>,
    /// Such files, and folders, by their names, that were synced again all the same.
    retried: Vec<String>,
    failed_syncs: Vec<String>,
    /// Which boot of the machine this is.
    boot: u64,
    /// What processes of this boot have mapped, by inode.
    mapped: BTreeMap<u64, Arc<OwnedFd>>,
}

/// The simulated file system; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimFs {
    state: Arc<Mutex<State>>,
    /// Which process this is: each finds folders of its own, so that none is given another's handle.
    process: u64,
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
    /// Calls made when it was opened.
    opened: usize,
    mapped: OnceLock<Arc<OwnedFd>>,
}

/// A number that no process and no boot has yet.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl SimFs {
    /// A machine that finds this on its disk.
    pub(crate) fn on(disk: Disk) -> Self {
        let next_inode = disk.files.keys().max().map_or(1, |inode| inode + 1);
        let state = State { disk, next_inode, boot: next_number(), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), process: next_number() }
    }

    /// An empty disk with the folder `/log`.
    pub(crate) fn new() -> Self {
        let mut disk = Disk::default();
        for folder in ["/", "/log"] {
            disk.apply(&Change::Mkdir(folder.into()));
        }
        Self::on(disk)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The same disk as another process sees it, which shares no handle with this one but what both
    /// have mapped.
    pub(crate) fn for_another_process(&self) -> Self {
        Self { state: Arc::clone(&self.state), process: next_number() }
    }

    /// The same disk after a restart of the machine: nothing that was mapped is left.
    pub(crate) fn for_the_next_boot(&self) -> Self {
        {
            let mut state = self.state();
            state.mapped.clear();
            state.boot = next_number();
        }
        self.for_another_process()
    }

    /// Number of changes so far: a point at which the machine may stop.
    pub(crate) fn point(&self) -> usize {
        self.state().changes.len()
    }

    /// All changes so far.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.state().changes.clone()
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// The disk as running programs see it.
    pub(crate) fn disk(&self) -> Disk {
        self.state().disk.clone()
    }

    /// Writes over a part of a file, behind everybody's back.
    pub(crate) fn patch(&self, path: &Path, offset: u64, bytes: &[u8]) {
        self.state().disk.patch(path, offset, bytes);
    }

    /// Has the `nth` call from now fail, and those after it, `count` in all.
    pub(crate) fn fail(&self, nth: usize, count: usize, fault: Fault) {
        let mut state = self.state();
        let from = state.calls.len() + nth;
        state.plan = Some(Plan { from, count, only: None, fault });
    }

    /// Has the next call of this kind fail.
    pub(crate) fn fail_next(&self, call: Call, fault: Fault) {
        let mut state = self.state();
        let from = state.calls.len();
        state.plan = Some(Plan { from, count: usize::MAX, only: Some(call), fault });
    }

    /// Takes the last free block of the disk, or gives some back.
    pub(crate) fn set_packed(&self, is_packed: bool) {
        self.state().is_packed = is_packed;
    }

    /// Says from now on that it is another kind of file system.
    pub(crate) fn set_magic(&self, magic: u64) {
        self.state().magic = magic;
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.plan = None;
        state.is_full = false;
    }

    /// Names of the files and folders whose sync failed, in their order.
    pub(crate) fn failed_syncs(&self) -> Vec<String> {
        self.state().failed_syncs.clone()
    }

    /// Files that were synced again after a sync of them had failed, without a write in between.
    pub(crate) fn retried_syncs(&self) -> Vec<String> {
        self.state().retried.clone()
    }

    /// Notes a call; says how it fails.
    fn call(&self, call: Call) -> Option<Fault> {
        let mut state = self.state();
        let number = state.calls.len();
        state.calls.push(call);
        if state.is_full && Fault::Errno(ENOSPC).can_hit(call) {
            return Some(Fault::Errno(ENOSPC));
        }
        let plan = state.plan?;
        let is_in = (plan.from..plan.from.saturating_add(plan.count)).contains(&number);
        let is_hit = is_in && plan.only.is_none_or(|only| only == call) && plan.fault.can_hit(call);
        if is_hit && plan.only.is_some() {
            state.plan = None;
        }
        is_hit.then_some(plan.fault)
    }

    /// A call that needs a new block of the disk.
    fn growing(&self, call: Call) -> io::Result<()> {
        if self.state().is_packed {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.whole(call)
    }

    /// A call that does all or nothing.
    fn whole(&self, call: Call) -> io::Result<()> {
        match self.call(call) {
            Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn change(&self, change: Change) {
        let mut state = self.state();
        state.disk.apply(&change);
        if let Change::Write(inode, ..) | Change::Truncate(inode, _) = change {
            state.unsettled.remove(&inode);
        }
        state.changes.push(change);
    }

    fn name_of(&self, inode: u64) -> String {
        let state = self.state();
        let name = state.disk.names.iter().find(|(_, other)| **other == inode);
        name.map_or_else(String::new, |(name, _)| name.to_string())
    }

    fn names_in(&self, path: &Path) -> io::Result<Vec<String>> {
        let (state, folder) = (self.state(), name_of(path));
        if !state.disk.folders.contains(&folder) {
            return Err(Self::missing());
        }
        let all = state.disk.names.keys().chain(state.disk.folders.iter());
        let inside = all.filter(|name| folder_of(name) == &*folder && ***name != *"/");
        let mut names: Vec<String> =
            inside.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn missing() -> io::Error {
        io::ErrorKind::NotFound.into()
    }
}

/// Opens the log of a disk; nothing in it happens by itself.
pub(crate) fn open_at(fs: &SimFs, clock: &Arc<ManualClock>) -> Result<Arc<Log>> {
    let options = OpenOptions {
        fs: Arc::new(fs.clone()),
        clock: Arc::clone(clock) as _,
        housekeeping: false,
        ..OpenOptions::default()
    };
    Log::open(Path::new("/log"), &options)
}

/// As [`open_at`], while time stands still.
pub(crate) fn try_open(fs: &SimFs) -> Result<Arc<Log>> {
    open_at(fs, &Arc::new(ManualClock::new(NOW)))
}

/// As [`try_open`], where nothing keeps it from being opened.
pub(crate) fn open(fs: &SimFs) -> Arc<Log> {
    try_open(fs).unwrap()
}

impl SimFile {
    /// Whether the file can grow to `length`.
    fn has_room(&self, length: u64) -> bool {
        let state = self.fs.state();
        !state.is_packed || state.reserved.get(&self.inode).is_some_and(|kept| length <= *kept)
    }

    fn content_length(&self) -> u64 {
        self.fs.state().disk.files.get(&self.inode).map_or(0, |file| file.length)
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        read_fully(buffer, position, |buffer, position| {
            let most = match self.fs.call(Call::Read) {
                Some(Fault::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(_) => buffer.len().div_ceil(2),
                None => buffer.len(),
            };
            let state = self.fs.state();
            if let Some(memory) = state.mapped.get(&self.inode) {
                return Ok(rustix::io::pread(memory, &mut buffer[..most], position)?);
            }
            let file = state.disk.files.get(&self.inode);
            Ok(file.map_or(0, |file| file.read(&mut buffer[..most], position)))
        })
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        write_fully(parts, position, |slices, position| {
            let mut bytes: Vec<u8> =
                slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let end = position + bytes.len() as u64;
            if end > self.content_length() && !self.has_room(end) {
                return Err(io::Error::from_raw_os_error(ENOSPC));
            }
            match self.fs.call(Call::Write) {
                Some(Fault::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                Some(fault) => {
                    bytes.truncate(bytes.len().div_ceil(2));
                    self.fs.state().is_full |= fault == Fault::ShortThenFull;
                }
                None => {}
            }
            let count = bytes.len();
            if let Some(memory) = self.fs.state().mapped.get(&self.inode) {
                rustix::io::pwrite(memory, &bytes, position)?;
            }
            self.fs.change(Change::Write(self.inode, position, bytes.into()));
            Ok(count)
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.fs.whole(Call::Length)?;
        Ok(self.content_length())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        uninterrupted(|| self.fs.whole(Call::Truncate))?;
        if let Some(memory) = self.fs.state().mapped.get(&self.inode) {
            rustix::fs::ftruncate(memory, length)?;
        }
        self.fs.change(Change::Truncate(self.inode, length));
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let is_there = length <= self.content_length();
        uninterrupted(|| {
            if is_there {
                self.fs.whole(Call::Allocate)
            } else {
                self.fs.growing(Call::Allocate)
            }
        })?;
        if !is_there {
            self.fs.change(Change::Truncate(self.inode, length));
        }
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        uninterrupted(|| self.fs.whole(Call::Allocate))?;
        if length > self.content_length() && !self.has_room(length) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.fs.state().reserved.insert(self.inode, length);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = uninterrupted(|| self.fs.whole(Call::Sync));
        let name = self.fs.name_of(self.inode);
        let mut state = self.fs.state();
        // A failed sync of a shard is noted in its folder for all who come later. That of a lanes file,
        // or a window file, only the process knows that was told.
        let is_of_lanes = name.contains(".lanes") || name.contains(".window.");
        let failed = state.unsettled.get(&self.inode);
        if failed.is_some_and(|at| self.opened < *at || !is_of_lanes) {
            state.retried.push(name.clone());
        }
        if synced.is_err() {
            let now = state.calls.len();
            state.unsettled.insert(self.inode, now);
            state.failed_syncs.push(name);
            state.changes.push(Change::SyncFailed(self.inode));
        } else {
            state.changes.push(Change::Sync(self.inode));
        }
        synced
    }

    fn try_lock(&self, _: Lock) -> io::Result<bool> {
        uninterrupted(|| self.fs.whole(Call::Lock))?;
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.fs.whole(Call::Identity)?;
        // A file is the same for all processes of all boots.
        Ok(if self.inode == 0 { (self.fs.process, 0) } else { (1, self.inode) })
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.fs.whole(Call::Identity)?;
        Ok(!self.fs.state().disk.names.values().any(|inode| *inode == self.inode))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let length = self.content_length();
        let make = || {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let memory = rustix::fs::memfd_create("mapped", flags).unwrap();
            rustix::fs::ftruncate(&memory, length).unwrap();
            Arc::new(memory)
        };
        let map = || Arc::clone(self.fs.state().mapped.entry(self.inode).or_insert_with(make));
        Some(self.mapped.get_or_init(map).as_fd())
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let name = name_of(path);
        let found = self.state().disk.names.get(&name).copied();
        let call = if found.is_none() && matches!(how, Open::Create | Open::CreateNew) {
            Call::Make
        } else {
            Call::Open
        };
        uninterrupted(|| match call {
            Call::Make => self.growing(call),
            _ => self.whole(call),
        })?;
        let inode = {
            let mut state = self.state();
            if state.disk.folders.contains(&name) {
                return Ok(Arc::new(SimFile {
                    fs: self.clone(),
                    inode: 0,
                    opened: 0,
                    mapped: OnceLock::new(),
                }));
            }
            if !state.disk.folders.contains(folder_of(&name)) {
                return Err(Self::missing());
            }
            state.next_inode += u64::from(found.is_none());
            state.next_inode
        };
        let inode = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Open::Read | Open::Write) => return Err(Self::missing()),
            (None, Open::Create | Open::CreateNew) => {
                self.change(Change::Create(name, inode));
                inode
            }
        };
        let opened = self.state().calls.len();
        Ok(Arc::new(SimFile { fs: self.clone(), inode, opened, mapped: OnceLock::new() }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let name = name_of(path);
        let is_there = self.state().disk.folders.contains(&name);
        if is_there {
            self.whole(Call::Mkdir)?;
        } else {
            self.growing(Call::Mkdir)?;
            self.change(Change::Mkdir(name));
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.whole(Call::List)?;
        self.names_in(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.whole(Call::Exists)?;
        let state = self.state();
        let name = name_of(path);
        Ok(state.disk.names.contains_key(&name) || state.disk.folders.contains(&name))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.whole(Call::Rename)?;
        let (from, to) = (name_of(from), name_of(to));
        let disk = self.state().disk.clone();
        if !disk.names.contains_key(&from) && !disk.folders.contains(&from) {
            return Err(Self::missing());
        }
        self.change(Change::Rename(from, to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.whole(Call::Remove)?;
        let name = name_of(path);
        if !self.state().disk.names.contains_key(&name) {
            return Err(Self::missing());
        }
        self.change(Change::Remove(name));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.whole(Call::Remove)?;
        if !self.names_in(path)?.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ENOTEMPTY));
        }
        self.change(Change::RemoveDir(name_of(path)));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if let Err(error) = uninterrupted(|| self.whole(Call::SyncDir)) {
            // Without a descriptor it was not even tried.
            if error.raw_os_error() != Some(EMFILE) {
                self.state().failed_syncs.push(path.display().to_string());
            }
            return Err(error);
        }
        self.state().changes.push(Change::SyncDir(name_of(path)));
        Ok(())
    }

    fn magic(&self, _: &Path) -> io::Result<u64> {
        self.whole(Call::Statfs)?;
        Ok(match self.state().magic {
            0 => 0xef53,
            other => other,
        })
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        Ok(u128::from(self.state().boot).to_le_bytes())
    }
}
