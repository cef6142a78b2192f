//! Memory that processes share: atomic words in a mapped file.
//!
//! [`SharedMemory`] is for a process and its children: a `memfd`, which has no name. The system frees
//! it when no process has it open or mapped any more.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::error::{Error, Result};
use crate::sys;

const WORD_BYTES: usize = 8;

/// The words of a mapped file.
#[derive(Debug)]
pub struct MappedWords {
    map: MmapRaw,
    words: usize,
}

impl MappedWords {
    /// Maps the first `words` words of a file that is at least so long, open for reading and
    /// writing. Nobody may cut the file: a store beyond its end kills the process.
    ///
    /// # Errors
    /// Those of the system.
    pub fn map(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(words * WORD_BYTES).map_raw(fd.as_raw_fd())?;
        Ok(Self { map, words })
    }

    /// Maps the words of a file that is open for reading only. Storing to them kills the process.
    ///
    /// # Errors
    /// Those of the system.
    pub fn map_for_reading(fd: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(words * WORD_BYTES).map_raw_read_only(fd.as_raw_fd())?;
        Ok(Self { map, words })
    }

    /// Words of this process alone, for a simulated file system, whose files cannot be mapped.
    ///
    /// # Errors
    /// Those of the system.
    pub fn anonymous(words: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(words * WORD_BYTES).map_anon()?.into();
        Ok(Self { map, words })
    }

    /// One word.
    ///
    /// # Panics
    /// If there is no such word.
    #[expect(unsafe_code, reason = "this room turns mapped bytes into atomics")]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "word {index} of {}", self.words);
        let first = self.map.as_mut_ptr();
        assert!(first.addr().is_multiple_of(WORD_BYTES), "a mapping begins at a page");
        #[expect(clippy::cast_ptr_alignment, reason = "just asserted")]
        let first = first.cast::<u64>();
        // SAFETY: in bounds (asserted; the file is as long as the mapping, and nobody cuts it) and
        // aligned (asserted); the mapping lives as long as `self`; the bytes are only ever reached
        // through atomics, in every process.
        unsafe { AtomicU64::from_ptr(first.add(index)) }
    }
}

/// A fixed number of 64-bit words, zero at first.
#[derive(Debug)]
pub struct SharedMemory {
    fd: OwnedFd,
    words: MappedWords,
}

impl SharedMemory {
    /// Makes new memory of `words` words. Its descriptor is close-on-exec.
    ///
    /// # Errors
    /// [`Error::Config`] if the system gives none.
    pub fn create(name: &str, words: usize) -> Result<Self> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .map_err(refused)?;
        let fd = sys::above_stdio(fd).map_err(refused)?;
        rustix::fs::ftruncate(&fd, (words * WORD_BYTES) as u64).map_err(refused)?;
        // WHY: a store beyond the end of a file that somebody cut would kill the process.
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(refused)?;
        Self::map(fd, words)
    }

    /// Maps memory that another process made, given by a descriptor it passed on; the descriptor is
    /// duplicated and stays the caller's.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not sealed memory of `words` words.
    #[expect(unsafe_code, reason = "a descriptor comes in as a number")]
    pub fn attach(fd: RawFd, words: usize) -> Result<Self> {
        if fd < 0 {
            return Err(Error::config("fd", format!("{fd} is not a descriptor")));
        }
        // SAFETY: it is only looked at until it is duplicated; a number that is no descriptor is
        // refused by the kernel.
        let passed = unsafe { BorrowedFd::borrow_raw(fd) };
        let fd =
            rustix::io::fcntl_dupfd_cloexec(passed, libc::STDERR_FILENO + 1).map_err(refused)?;
        let length = rustix::fs::fstat(&fd).map_err(refused)?.st_size;
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(refused)?;
        if usize::try_from(length) != Ok(words * WORD_BYTES) || !seals.contains(SealFlags::SHRINK) {
            return Err(Error::config("fd", "the descriptor is not a board's"));
        }
        Self::map(fd, words)
    }

    fn map(fd: OwnedFd, words: usize) -> Result<Self> {
        let words = MappedWords::map(fd.as_fd(), words)
            .map_err(|error| Error::config("fd", error.to_string()))?;
        Ok(Self { fd, words })
    }

    /// The descriptor, to be passed on.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// One word.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        self.words.word(index)
    }
}

fn refused(error: rustix::io::Errno) -> Error {
    Error::config("fd", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_one_writes_the_other_reads() {
        let ours = SharedMemory::create("test", 16).unwrap();
        let theirs = SharedMemory::attach(ours.fd(), 16).unwrap();

        ours.word(15).store(7, Ordering::Relaxed);

        assert_eq!(7, theirs.word(15).load(Ordering::Relaxed));
    }

    #[test]
    fn a_descriptor_of_anything_else_is_refused() {
        let ours = SharedMemory::create("test", 16).unwrap();
        let file = tempfile::tempfile().unwrap();

        for (fd, words) in [(ours.fd(), 17), (file.as_raw_fd(), 0), (-1, 16), (1 << 20, 16)] {
            let refused = SharedMemory::attach(fd, words);
            assert!(matches!(refused, Err(Error::Config { field: "fd", .. })), "{fd}");
        }
    }
}
