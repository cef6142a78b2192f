//! The file system behind one trait: the engine reads, writes, syncs, renames and locks only
//! through [`Fs`] and [`File`], so that a test can record, reorder and fail every call.
//!
//! [`RealFs`] is the operating system. Its descriptors are close-on-exec and are closed in a forked
//! child (see `sys`), because a `flock` lives until the last copy of its descriptor is closed.

#![allow(clippy::disallowed_methods, reason = "this is the room that the others go through")]

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;

use crate::sys;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must be there.
    Read,
    /// For reading and writing; it must be there.
    Write,
    /// For reading and writing; made empty if it is not there.
    Create,
    /// For reading and writing; it must not be there.
    CreateNew,
}

/// Kind of a file lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Held by any number of processes.
    Shared,
    /// Held by one.
    Exclusive,
}

/// An open file. Every method fails as the operating system does, except that a signal never ends a
/// call.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait File: Send + Sync + Debug {
    /// Reads at `position` until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `parts`, one after another, at `position`. On an error any part may be written.
    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) to `length`.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Extends the file to `length` and allocates its space on the disk; new bytes read as zeros.
    fn allocate(&self, length: u64) -> io::Result<()>;
    /// Allocates space on the disk up to `length`, but does not move the end of the file.
    fn reserve(&self, length: u64) -> io::Result<()>;
    /// Flushes data, and the metadata needed to read it, to the device.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the lock if it is free now; false if another open file has it.
    fn try_lock(&self, lock: Lock) -> io::Result<bool>;
    /// Releases the lock.
    fn unlock(&self) -> io::Result<()>;
    /// Device and inode: two paths with the same identity are the same file.
    fn identity(&self) -> io::Result<(u64, u64)>;
    /// Whether it has no name any more: its space is freed once no process has it open.
    fn is_removed(&self) -> io::Result<bool>;
    /// The descriptor, for mapping the control file; none in a simulation.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// A file system. Every method fails as the operating system does.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Makes a folder; not an error if it is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether anything is at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Renames over `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The file system's magic number (`statfs`), to refuse network file systems.
    fn magic(&self, path: &Path) -> io::Result<u64>;
    /// The boot of the machine. What another boot wrote and did not sync may be lost, and what can
    /// be read of it comes from the disk.
    fn boot_id(&self) -> io::Result<[u8; 16]>;
}

/// Replaces a small file: a crash leaves the old one or the new one, never a mixture.
///
/// # Errors
/// Any error of the four steps; after one the old file is still in place unless the rename was done.
///
/// # Durability
/// Durable when it returns.
pub fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let file = fs.open(&staged, Open::Create)?;
    file.truncate(0)?;
    file.write_at(&[bytes], 0)?;
    file.sync_data()?;
    fs.rename(&staged, path)?;
    // WHY: a rename is durable only with its folder.
    fs.sync_dir(parent(path))
}

/// Reads a whole file.
///
/// # Errors
/// Any error of opening or reading it.
pub fn read(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    read_all(fs.open(path, Open::Read)?.as_ref())
}

/// Reads a whole file that is open.
///
/// # Errors
/// Any error of reading it.
pub fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Repeats a call while signals interrupt it, so that no caller sees an interruption. Waits for
/// anything but the disk ask their `Patience` instead.
///
/// # Errors
/// Any other error of the call.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads until `buffer` is full or the file ends, however little one call of `read` returns.
///
/// # Errors
/// Any error of `read`.
pub fn read_fully(
    buffer: &mut [u8],
    position: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match uninterrupted(|| read(rest, position + done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Writes all of `parts`, however little one call of `write` takes.
///
/// # Errors
/// Any error of `write`, after which any part may be written.
pub fn write_fully(
    parts: &[&[u8]],
    position: u64,
    mut write: impl FnMut(&[io::IoSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut slices: Vec<io::IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| io::IoSlice::new(part)).collect();
    let mut rest: &mut [io::IoSlice<'_>] = &mut slices;
    let mut done = 0;
    while done < total {
        match uninterrupted(|| write(rest, position + done as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                done += count;
                io::IoSlice::advance_slices(&mut rest, count);
            }
        }
    }
    Ok(())
}

/// Names in a folder, sorted; `None` if `path` is a file, or nothing is there.
///
/// # Errors
/// Any other error of listing it: then it is unknown what is there.
pub fn names_in(fs: &dyn Fs, path: &Path) -> io::Result<Option<Vec<String>>> {
    unless_missing(fs.list(path))
}

/// What a call for a path found; `None` if nothing is there, or if a folder on the way is a file.
fn unless_missing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match found {
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        found => found.map(Some),
    }
}

/// The folder a path is in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// The operating system's file system.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile {
    /// Always there; an `Option` only so that [`Drop`] can release it without closing it.
    file: Option<std::fs::File>,
    fork_generation: u64,
}

impl RealFile {
    /// Opens a file; no fork can come between opening it and noting that a child has to close it.
    fn open(options: &std::fs::OpenOptions, path: &Path) -> io::Result<Self> {
        let mut open = sys::descriptors();
        let file = std::fs::File::from(sys::above_stdio(options.open(path)?.into())?);
        if !open.insert(file.as_raw_fd()) {
            sys::invalidate_descriptors(&mut open);
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(Self { file: Some(file), fork_generation: sys::fork_generation() })
    }

    /// The file. In a forked child its number may belong to another file by now.
    fn get(&self) -> io::Result<&std::fs::File> {
        let file = self.file.as_ref().filter(|_| self.fork_generation == sys::fork_generation());
        file.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }
}

impl Drop for RealFile {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if self.fork_generation == sys::fork_generation() {
            // Under the lock, so that no fork comes between: its child would keep the descriptor.
            let mut open = sys::descriptors();
            open.remove(&file.as_raw_fd());
            drop(file);
        } else {
            // WHY: the at-fork hook closed the child's copy, and its number may belong to another
            // file by now; closing it here would close that one.
            let _ = file.into_raw_fd();
        }
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let file = self.get()?;
        read_fully(buffer, position, |rest, position| file.read_at(rest, position))
    }

    fn write_at(&self, parts: &[&[u8]], position: u64) -> io::Result<()> {
        let file = self.get()?;
        write_fully(parts, position, |rest, position| {
            Ok(rustix::io::pwritev(file, rest, position)?)
        })
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.get()?.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let file = self.get()?;
        uninterrupted(|| file.set_len(length))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let file = self.get()?;
        let flags = rustix::fs::FallocateFlags::empty();
        match uninterrupted(|| Ok(rustix::fs::fallocate(file, flags, 0, length)?)) {
            // A file system without fallocate still works, without the promise.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.truncate(length.max(self.length()?))
            }
            other => other,
        }
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let file = self.get()?;
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        match uninterrupted(|| Ok(rustix::fs::fallocate(file, flags, 0, length)?)) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = self.get()?;
        // WHY no retry on an error: the kernel may have marked the pages clean, so a second call
        // would report a success that never happened. A signal is no error: it ends the wait before
        // the outcome was looked at, and the next call still learns of it.
        uninterrupted(|| file.sync_data())
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let operation = match lock {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let file = self.get()?;
        match uninterrupted(|| Ok(rustix::fs::flock(file, operation)?)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Ok(rustix::fs::flock(self.get()?, FlockOperation::Unlock)?)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.get()?.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn is_removed(&self) -> io::Result<bool> {
        Ok(self.get()?.metadata()?.nlink() == 0)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.get().ok().map(AsFd::as_fd)
    }
}

/// Gives a file that root made to the owner of its folder, so that one `sudo streamfn tail` does
/// not lock the worker out.
fn adopt_owner(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = std::fs::metadata(parent(path))?;
    if folder.uid() != 0 || folder.gid() != 0 {
        std::os::unix::fs::chown(path, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

/// Permission bits of a new file or folder: those of its folder, without "execute" for a file.
fn inherited_mode(path: &Path, is_dir: bool) -> u32 {
    let folder = std::fs::metadata(parent(path)).map_or(0o755, |m| m.mode() & 0o777);
    if is_dir {
        folder
    } else {
        folder & 0o666
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        if how != Open::Read {
            options.write(true);
        }
        if matches!(how, Open::Create | Open::CreateNew) {
            options.mode(inherited_mode(path, false));
            match RealFile::open(options.create_new(true), path) {
                Ok(file) => {
                    adopt_owner(path)?;
                    return Ok(Arc::new(file));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && how == Open::Create => {
                    options.create_new(false);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Arc::new(RealFile::open(&options, path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::DirBuilder::new().mode(inherited_mode(path, true)).create(path) {
            Ok(()) => adopt_owner(path),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path)? {
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(unless_missing(std::fs::metadata(path))?.is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let folder = std::fs::File::open(path)?;
        uninterrupted(|| folder.sync_all())
    }

    fn magic(&self, path: &Path) -> io::Result<u64> {
        let c_path =
            std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let stat = rustix::fs::statfs(c_path.as_c_str())?;
        #[allow(clippy::cast_sign_loss, reason = "a magic number, not a quantity")]
        Ok(stat.f_type as u64)
    }

    fn boot_id(&self) -> io::Result<[u8; 16]> {
        sys::boot_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupted<T>() -> io::Result<T> {
        Err(io::ErrorKind::Interrupted.into())
    }

    #[test]
    fn a_signal_is_invisible_and_an_error_is_not() {
        let mut answers = vec![Ok(7), interrupted(), interrupted()];
        assert_eq!(7, uninterrupted(|| answers.pop().unwrap()).unwrap());

        let mut answers = vec![Ok(7), Err(io::Error::from_raw_os_error(libc::EIO)), interrupted()];
        let error = uninterrupted(|| answers.pop().unwrap()).unwrap_err();
        assert_eq!((Some(libc::EIO), 1), (error.raw_os_error(), answers.len()));
    }

    #[test]
    fn short_reads_and_signals_still_fill_the_buffer() {
        let file = b"0123456789";
        let mut calls = 0;
        let mut buffer = [0; 7];
        let got = read_fully(&mut buffer, 2, |rest, position| {
            calls += 1;
            if calls % 2 == 0 {
                return interrupted();
            }
            let count = rest.len().min(3);
            let from = usize::try_from(position).unwrap();
            rest[..count].copy_from_slice(&file[from..][..count]);
            Ok(count)
        });
        assert_eq!((7, *b"2345678"), (got.unwrap(), buffer));
    }

    #[test]
    fn short_writes_and_signals_still_write_all_parts() {
        for most in 1..12 {
            let mut file = [0; 11];
            let mut calls = 0;
            let parts: [&[u8]; 4] = [b"abc", b"", b"defgh", b"ijk"];
            write_fully(&parts, 0, |slices, position| {
                calls += 1;
                if calls % 3 == 0 {
                    return interrupted();
                }
                let bytes = slices.iter().flat_map(|slice| slice.iter()).take(most);
                Ok(file[usize::try_from(position).unwrap()..]
                    .iter_mut()
                    .zip(bytes)
                    .map(|(to, from)| *to = *from)
                    .count())
            })
            .unwrap();
            assert_eq!(b"abcdefghijk", &file[..], "at most {most} bytes a call");
        }
    }

    #[test]
    fn a_write_that_takes_nothing_fails() {
        let error = write_fully(&[b"abc"], 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(io::ErrorKind::WriteZero, error.kind());
    }
}
