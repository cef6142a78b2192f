//! A file system in memory: a log without a disk, for tests of functions.
//!
//! To the engine it behaves like the operating system's: each open file has its own lock, which is
//! released when the last reference to the open file is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use crate::fs::{File, Fs, Lock, Open};
use crate::sync::{Mutex, RwLock};
use crate::sys;

/// `TMPFS_MAGIC` of Linux's `magic.h`: local, and gone with the machine.
const MAGIC: u64 = 0x0102_1994;
/// No device of the system has this number.
const DEVICES_START: u64 = 1 << 48;

/// A file system inside this process; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryFs {
    device: u64,
    names: Arc<Mutex<Names>>,
}

#[derive(Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, Arc<Inode>>,
    /// Folders can be opened too, so that their identities can be compared.
    folders: BTreeMap<PathBuf, Arc<Inode>>,
    inodes: u64,
}

impl Names {
    fn new_inode(&mut self) -> Arc<Inode> {
        self.inodes += 1;
        Arc::new(Inode { number: self.inodes, ..Inode::default() })
    }
}

#[derive(Debug, Default)]
struct Inode {
    number: u64,
    bytes: RwLock<Vec<u8>>,
    locks: Mutex<Locks>,
    is_removed: AtomicBool,
}

/// Which open files hold the lock of a file, by number.
#[derive(Debug, Default)]
struct Locks {
    exclusive: Option<u64>,
    shared: BTreeSet<u64>,
}

#[derive(Debug)]
struct Opened {
    device: u64,
    inode: Arc<Inode>,
    number: u64,
}

impl Default for MemoryFs {
    fn default() -> Self {
        static DEVICES: AtomicU64 = AtomicU64::new(DEVICES_START);
        let device = DEVICES.fetch_add(1, Ordering::Relaxed);
        Self { device, names: Arc::default() }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("{} is not there", path.display()))
}

fn place(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(io::Error::other)
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        static OPENINGS: AtomicU64 = AtomicU64::new(1);
        let mut names = self.names.lock();
        let found = names.files.get(path).or_else(|| names.folders.get(path));
        let inode = match (found, how) {
            (Some(_), Open::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => Arc::clone(inode),
            (None, Open::Read | Open::Write) => return Err(not_found(path)),
            (None, Open::Create | Open::CreateNew) => {
                let inode = names.new_inode();
                names.files.insert(path.to_owned(), Arc::clone(&inode));
                inode
            }
        };
        let number = OPENINGS.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Opened { device: self.device, inode, number }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names.lock();
        let inode = names.new_inode();
        names.folders.entry(path.to_owned()).or_insert(inode);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = self.names.lock();
        if !names.folders.contains_key(path) {
            return Err(not_found(path));
        }
        let inside = |found: &&PathBuf| found.parent() == Some(path);
        let found: BTreeSet<_> =
            names.files.keys().chain(names.folders.keys()).filter(inside).collect();
        let name = |found: &PathBuf| Some(found.file_name()?.to_str()?.to_owned());
        Ok(found.into_iter().filter_map(name).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let names = self.names.lock();
        Ok(names.files.contains_key(path) || names.folders.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut guard = self.names.lock();
        let names = &mut *guard;
        if names.folders.contains_key(from) {
            let moved = |path: &PathBuf| path.strip_prefix(from).ok().map(|rest| to.join(rest));
            for all in [&mut names.folders, &mut names.files] {
                let inside: Vec<_> =
                    all.keys().filter_map(|p| Some((p.clone(), moved(p)?))).collect();
                for (before, after) in inside {
                    if let Some(inode) = all.remove(&before) {
                        all.insert(after, inode);
                    }
                }
            }
            return Ok(());
        }
        let inode = names.files.remove(from).ok_or_else(|| not_found(from))?;
        if let Some(replaced) = names.files.insert(to.to_owned(), inode) {
            replaced.is_removed.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.names.lock().files.remove(path).ok_or_else(|| not_found(path))?;
        removed.is_removed.store(true, Ordering::Release);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.lock().folders.remove(path).map(|_| ()).ok_or_else(|| not_found(path))
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn magic(&self, _path: &Path) -> io::Result<u64> {
        Ok(MAGIC)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        sys::boot_id()
    }
}

impl File for Opened {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.inode.bytes.read();
        let rest = bytes.get(place(position)?..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let mut bytes = self.inode.bytes.write();
        let mut at = place(position)?;
        for part in parts {
            let end = at + part.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(to) = bytes.get_mut(at..end) {
                to.copy_from_slice(part);
            }
            at = end;
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.inode.bytes.read().len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.inode.bytes.write().resize(place(length)?, 0);
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut bytes = self.inode.bytes.write();
        let length = place(length)?.max(bytes.len());
        bytes.resize(length, 0);
        Ok(())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let mut locks = self.inode.locks.lock();
        let is_others = |holder: &u64| *holder != self.number;
        let is_refused = locks.exclusive.as_ref().is_some_and(is_others)
            || (lock == Lock::Exclusive && locks.shared.iter().any(is_others));
        if is_refused {
            return Ok(false);
        }
        locks.free(self.number);
        match lock {
            Lock::Exclusive => locks.exclusive = Some(self.number),
            Lock::Shared => drop(locks.shared.insert(self.number)),
        }
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inode.locks.lock().free(self.number);
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((self.device, self.inode.number))
    }

    fn is_removed(&self) -> io::Result<bool> {
        Ok(self.inode.is_removed.load(Ordering::Acquire))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Locks {
    fn free(&mut self, opening: u64) {
        self.shared.remove(&opening);
        self.exclusive = self.exclusive.filter(|holder| *holder != opening);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.inode.locks.lock().free(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(fs: &MemoryFs, path: &str) -> Arc<dyn File> {
        fs.open(Path::new(path), Open::Create).unwrap()
    }

    #[test]
    fn what_is_written_is_read_by_every_opening() {
        let fs = MemoryFs::default();
        file(&fs, "/a").write_at(&[b"ab", b"cd"], 2).unwrap();

        let mut bytes = [9; 8];
        assert_eq!(6, file(&fs, "/a").read_at(&mut bytes, 0).unwrap());
        assert_eq!([0, 0, b'a', b'b', b'c', b'd', 9, 9], bytes);
        assert_eq!(0, file(&fs, "/a").read_at(&mut bytes, 100).unwrap());
    }

    #[test]
    fn a_file_that_is_not_there_is_said_so() {
        let fs = MemoryFs::default();
        for how in [Open::Read, Open::Write] {
            assert_eq!(ErrorKind::NotFound, fs.open(Path::new("/a"), how).unwrap_err().kind());
        }
        file(&fs, "/a");
        let again = fs.open(Path::new("/a"), Open::CreateNew).unwrap_err();
        assert_eq!(ErrorKind::AlreadyExists, again.kind());
    }

    #[test]
    fn a_file_without_a_name_is_removed_and_can_still_be_read() {
        let fs = MemoryFs::default();
        let (removed, replaced, kept) = (file(&fs, "/a"), file(&fs, "/b"), file(&fs, "/c"));
        removed.write_at(&[b"a"], 0).unwrap();
        fs.remove(Path::new("/a")).unwrap();
        fs.rename(Path::new("/c"), Path::new("/b")).unwrap();

        let is_removed = [&removed, &replaced, &kept].map(|file| file.is_removed().unwrap());
        assert_eq!([true, true, false], is_removed);
        assert_eq!(1, removed.read_at(&mut [0; 8], 0).unwrap());
    }

    #[test]
    fn a_lock_belongs_to_an_opening_and_goes_with_it() {
        let fs = MemoryFs::default();
        let (first, second) = (file(&fs, "/a"), file(&fs, "/a"));
        assert!(first.try_lock(Lock::Shared).unwrap());
        assert!(second.try_lock(Lock::Shared).unwrap());
        assert!(!first.try_lock(Lock::Exclusive).unwrap());
        second.unlock().unwrap();
        assert!(first.try_lock(Lock::Exclusive).unwrap());
        assert!(!second.try_lock(Lock::Shared).unwrap());
        drop(first);
        assert!(second.try_lock(Lock::Exclusive).unwrap());
    }

    #[test]
    fn a_folder_lists_what_is_in_it_and_no_deeper() {
        let fs = MemoryFs::default();
        for folder in ["/l", "/l/b"] {
            fs.create_dir(Path::new(folder)).unwrap();
        }
        for path in ["/l/c", "/l/a", "/l/b/d"] {
            file(&fs, path);
        }
        assert_eq!(vec!["a", "b", "c"], fs.list(Path::new("/l")).unwrap());
        fs.rename(Path::new("/l/a"), Path::new("/l/z")).unwrap();
        fs.remove(Path::new("/l/c")).unwrap();
        assert_eq!(vec!["b", "z"], fs.list(Path::new("/l")).unwrap());
    }
}
