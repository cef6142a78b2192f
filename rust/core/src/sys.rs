//! What the operating system offers besides files: forks, futexes, the boot id, limits.

#![allow(clippy::disallowed_methods, reason = "reads /proc, which is not part of a log")]

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use crate::sync::{Mutex, MutexGuard};
use rustix::thread::futex;

/// Rises in the child at every fork, and when other code has closed our descriptors. A handle that
/// was made under another value must not be used any more.
static FORK_GENERATION: AtomicU64 = AtomicU64::new(0);
static DESCRIPTORS: OnceLock<Mutex<HashSet<RawFd>>> = OnceLock::new();
static AT_FORK: Once = Once::new();
/// Held while a log is opened: a fork waits, so that no child finds an opening half done.
static OPENING: Mutex<()> = Mutex::new(());

/// How often this process came out of a fork or lost its descriptors, including its ancestors since
/// they loaded the crate.
pub fn fork_generation() -> u64 {
    FORK_GENERATION.load(Ordering::Relaxed)
}

/// Makes [`fork_generation`] rise at forks from now on.
pub fn watch_forks() {
    AT_FORK.call_once(install_fork_hooks);
}

/// Excludes other openings, and forks, until the guard is dropped.
pub(crate) fn begin_opening() -> MutexGuard<'static, ()> {
    watch_forks();
    OPENING.lock()
}

fn table() -> &'static Mutex<HashSet<RawFd>> {
    DESCRIPTORS.get_or_init(Mutex::default)
}

/// The descriptors that a forked child has to close. No fork happens while the guard is held.
pub(crate) fn descriptors() -> MutexGuard<'static, HashSet<RawFd>> {
    watch_forks();
    table().lock()
}

/// Makes every open handle of this process invalid, because a new file has the number of a
/// descriptor that we opened and did not close. WHY: other code closed our descriptors
/// (`os.closerange`). What we write through a stale number would land in the file that has the
/// number now.
pub(crate) fn invalidate_descriptors(open: &mut HashSet<RawFd>) {
    FORK_GENERATION.fetch_add(1, Ordering::Relaxed);
    open.clear();
}

thread_local! {
    /// What the forking thread holds during the fork, in parent and child.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

type Held = (MutexGuard<'static, ()>, MutexGuard<'static, HashSet<RawFd>>);

extern "C" fn before_fork() {
    // WHY: another thread may hold a lock at the moment of the fork, and would hold it for ever in
    // the child.
    let held = (OPENING.lock(), table().lock());
    HELD.with(|cell| cell.replace(Some(held)));
}

fn unlock_after_fork() {
    HELD.with(RefCell::take);
}

extern "C" fn after_fork_in_parent() {
    unlock_after_fork();
}

extern "C" fn after_fork_in_child() {
    FORK_GENERATION.fetch_add(1, Ordering::Relaxed);
    unlock_after_fork();
    let mut open = table().lock();
    for fd in open.iter() {
        // WHY: a flock lives until its last descriptor is closed; a surviving child would keep the
        // lease of a dead worker. Closing does not unlock: the parent has its own descriptor.
        #[expect(unsafe_code, reason = "only `close` is allowed in a forked child")]
        // SAFETY: the numbers are ours, and the handles that own them never close them again in
        // this process (`RealFile::drop` looks at the fork generation).
        unsafe {
            libc::close(*fd);
        }
    }
    open.clear();
}

fn install_fork_hooks() {
    #[expect(unsafe_code, reason = "libc has no safe wrapper for pthread_atfork")]
    // SAFETY: the three functions are `extern "C"`, live for ever and do not unwind.
    let result = unsafe {
        libc::pthread_atfork(
            Some(before_fork),
            Some(after_fork_in_parent),
            Some(after_fork_in_child),
        )
    };
    assert_eq!(result, 0, "pthread_atfork only fails without memory");
}

/// Moves a descriptor away from the numbers 0, 1 and 2. WHY: they are free if a program was started
/// without them or closed them. What is printed later would then overwrite the file.
pub(crate) fn above_stdio(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(&fd, libc::STDERR_FILENO + 1)
}

/// Sleeps until `word` no longer has the value `seen`, a wake comes, or `most` has passed.
pub fn futex_wait(word: &AtomicU32, seen: u32, most: Duration) {
    let timeout = rustix::thread::Timespec {
        tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    };
    // Any outcome (woken, value changed, signal, time-out) sends the caller back to look again.
    let _ = futex::wait(word, futex::Flags::empty(), seen, Some(&timeout));
}

/// Wakes every sleeper on `word`, in all processes.
pub fn futex_wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX.cast_unsigned());
}

/// Where bytes that were ever written begin, at `position` or behind it; `None`: there are none.
///
/// # Errors
/// The file system does not know.
pub(crate) fn next_data(file: BorrowedFd<'_>, position: u64) -> io::Result<Option<u64>> {
    // The descriptor's own position is used by nobody.
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(position)) {
        Err(rustix::io::Errno::NXIO) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// The identity of this boot of the machine; other values mean that unsynced data may be gone.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_uuid(text.trim()).ok_or_else(|| io::Error::other("boot_id is not a uuid"))
}

/// A uuid from its 32 hexadecimal digits, with dashes or without.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32).map(u128_bytes)
}

#[allow(clippy::big_endian_bytes, reason = "a uuid is printed most significant digit first")]
fn u128_bytes(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}

/// A random (version 4) uuid.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random_uuid() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    let [.., a, _, b, _, _, _, _, _, _, _] = &mut bytes;
    *a = (*a & 0x0f) | 0x40;
    *b = (*b & 0x3f) | 0x80;
    Ok(bytes)
}

/// 32 hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name of a file system that several machines can share, from its `statfs` magic number;
/// `flock`, mapped pages and `fdatasync` cannot be relied on there.
pub fn network_file_system(magic: u64) -> Option<&'static str> {
    match magic & 0xffff_ffff {
        0x6969 => Some("NFS"),
        0x517b => Some("SMB"),
        0xff53_4d42 => Some("CIFS"),
        0xfe53_4d42 => Some("SMB2"),
        0x0102_1997 => Some("9p"),
        0x5346_414f | 0x6b41_4653 => Some("AFS"),
        0x7375_7245 => Some("Coda"),
        0x00c3_6400 => Some("Ceph"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0x1983_0326 => Some("BeeGFS"),
        0x2003_0528 => Some("OrangeFS"),
        0x0116_1970 => Some("GFS2"),
        0x7461_636f => Some("OCFS2"),
        0x786f_4256 => Some("a folder shared by VirtualBox"),
        0xbacb_acbc => Some("a folder shared by VMware"),
        0x6573_5546 => Some("FUSE"),
        _ => None,
    }
}

/// The holder of a `flock` on the file with this inode, for messages only.
pub fn lock_holder(inode: u64) -> String {
    let suffix = format!(":{inode}");
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return "unknown".into() };
    for line in locks.lines().filter(|line| line.contains("FLOCK") && !line.contains("->")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, _, pid, place, ..] = words.as_slice() {
            if place.ends_with(&suffix) {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                return format!("process {pid} ({})", name.trim());
            }
        }
    }
    "unknown".into()
}

/// Raises the soft limit of open files to the hard one.
pub fn raise_file_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // A refusal leaves the limit as it was; an open that meets it says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Starts a thread that waits for the end of `fd` and then ends the process with `code`, whatever
/// else the process is doing. The thread owns the descriptor.
///
/// If the process leads its process group, the whole group ends: no process of it survives.
///
/// # Errors
/// No thread could be started.
pub fn exit_when_closed(fd: RawFd, code: i32) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    std::thread::Builder::new()
        .name("streamfn-lifeline".into())
        .spawn(move || {
            #[expect(
                unsafe_code,
                reason = "the descriptor was inherited and is known by number only"
            )]
            // SAFETY: the caller gives the descriptor away; a number that is not open fails the read.
            let pipe = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
            let mut byte = [0; 1];
            // A byte has no meaning. An error other than EINTR says that there is no pipe to watch,
            // which is as good as its end.
            while matches!(
                rustix::io::read(pipe, &mut byte),
                Ok(1..) | Err(rustix::io::Errno::INTR)
            ) {}
            #[expect(unsafe_code, reason = "no destructor may run: the supervisor is gone")]
            // SAFETY: none of the four touches memory of this process.
            unsafe {
                if libc::getpgrp() == libc::getpid() {
                    libc::kill(0, libc::SIGKILL);
                }
                libc::_exit(code)
            }
        })
        .map(drop)
}
