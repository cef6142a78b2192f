//! The live workers: each holds the lock of its file `workers/<uuid>.lock`.
//!
//! ```text
//! file := length u32 | crc32c u32 | body        the body is the worker's own, for other workers
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, IoContext, Result};
use crate::format::checksum::crc32c;
use crate::format::Bytes;
use crate::fs::{File, Fs, Lock, Open};
use crate::stream::Log;
use crate::sys;

/// Largest body of a membership file, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body that is being rewritten is whole again after a few of these.
const REREAD: Duration = Duration::from_millis(1);
const READS_MAX: u32 = 20;
/// Longer than a process that only looks keeps a lock.
const PROBE: Duration = Duration::from_micros(50);
/// The name is unique: only a process that removes the files of dead workers can hold its lock, for
/// a moment.
const JOINS_MAX: u32 = 100;

/// This worker's membership; it ends when dropped.
#[derive(Debug)]
pub struct Membership {
    uuid: [u8; 16],
    path: PathBuf,
    fs: Arc<dyn Fs>,
    file: Arc<dyn File>,
}

impl Membership {
    /// Announces this worker under a new uuid. On a full disk its body may stay empty until
    /// [`Membership::update`] finds space.
    ///
    /// # Errors
    /// [`Error::Config`] if the body is too long, [`Error::Io`].
    pub fn join(log: &Log, body: &[u8]) -> Result<Self> {
        log.check()?;
        let bytes = frame(body)?;
        let folder = folder(log);
        let fs = Arc::clone(log.fs());
        fs.create_dir(&folder).at(&folder)?;
        let uuid = sys::random_uuid().at(&folder)?;
        let path = path_of(log, uuid);
        for _ in 0..JOINS_MAX {
            let file = fs.open(&path, Open::Create).at(&path)?;
            // WHY: between making and locking it, somebody may have taken the file for a dead
            // worker's and removed it; a lock on a file without a name would tell nobody anything.
            if file.try_lock(Lock::Exclusive).at(&path)? && is_at(&fs, &file, &path)? {
                match file.write_at(&[&bytes], 0).at(&path) {
                    // What lives is told by the lock. A worker has to start on a full disk, for it is
                    // its checkpoints that let retention make room; its body is said later.
                    Ok(()) | Err(Error::LogFull { .. }) => {}
                    Err(error) => return Err(error),
                }
                return Ok(Self { uuid, path, fs, file });
            }
            std::thread::sleep(REREAD);
        }
        Err(Error::LockTimeout { path, holder: "somebody who clears up after dead workers".into() })
    }

    /// The worker's identity.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Changes the body.
    ///
    /// # Errors
    /// As [`Membership::join`]; [`Error::LogFull`]: others still see the old one.
    pub fn update(&self, body: &[u8]) -> Result<()> {
        self.file.write_at(&[&frame(body)?], 0).at(&self.path)
    }

    /// Bodies of all live workers by uuid; removes the files of dead ones.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn living(log: &Log) -> Result<BTreeMap<[u8; 16], Vec<u8>>> {
        log.check()?;
        let folder = folder(log);
        let fs = log.fs();
        let mut living = BTreeMap::new();
        if !fs.exists(&folder).at(&folder)? {
            return Ok(living);
        }
        for name in fs.list(&folder).at(&folder)? {
            let Some(uuid) = name.strip_suffix(".lock").and_then(parse_uuid) else { continue };
            let path = folder.join(&name);
            // Somebody else may have removed it since it was listed.
            let Ok(file) = fs.open(&path, Open::Write) else { continue };
            if !file.try_lock(Lock::Exclusive).at(&path)? {
                living.insert(uuid, read_body(&file));
            } else if is_at(fs, &file, &path)? {
                let _ = fs.remove(&path);
            }
        }
        Ok(living)
    }

    /// Whether the worker is alive: its lock is held.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn is_alive(log: &Log, uuid: [u8; 16]) -> Result<bool> {
        let path = path_of(log, uuid);
        if !log.fs().exists(&path).at(&path)? {
            return Ok(false);
        }
        let file = match log.fs().open(&path, Open::Read) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.at(&path)?,
        };
        if file.try_lock(Lock::Shared).at(&path)? {
            return Ok(false);
        }
        // Somebody who clears up may have the lock of a dead worker for a moment.
        std::thread::sleep(PROBE);
        Ok(!file.try_lock(Lock::Shared).at(&path)?)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // WHY: first the name, then (with the descriptor) the lock, so that nobody meets a file that
        // looks like a dead worker's. In a forked child the file is the parent's, not ours.
        if is_at(&self.fs, &self.file, &self.path).unwrap_or(false) {
            let _ = self.fs.remove(&self.path);
        }
    }
}

fn folder(log: &Log) -> PathBuf {
    log.root().join("workers")
}

fn path_of(log: &Log, uuid: [u8; 16]) -> PathBuf {
    folder(log).join(format!("{}.lock", sys::hex(&uuid)))
}

/// Whether `path` names this very file.
fn is_at(fs: &Arc<dyn Fs>, file: &Arc<dyn File>, path: &Path) -> Result<bool> {
    match fs.open(path, Open::Read) {
        Ok(named) => Ok(named.identity().at(path)? == file.identity().at(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(path, error)),
    }
}

fn frame(body: &[u8]) -> Result<Vec<u8>> {
    if body.len() > BODY_BYTES_MAX {
        let reason = format!("{} bytes, the limit is {BODY_BYTES_MAX}", body.len());
        return Err(Error::config("body", reason));
    }
    let length = u32::try_from(body.len()).expect("<= 64 KiB");
    Ok([&length.to_le_bytes(), &crc32c(body).to_le_bytes(), body].concat())
}

fn unframe(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut from = Bytes(bytes);
    let (length, crc) = (from.u32()?, from.u32()?);
    let body = from.take(length as usize)?;
    (crc32c(body) == crc).then(|| body.to_vec())
}

/// A live worker's body; empty if it is being rewritten at each attempt.
fn read_body(file: &Arc<dyn File>) -> Vec<u8> {
    for _ in 0..READS_MAX {
        let mut bytes = vec![0; BODY_BYTES_MAX + 8];
        if let Some(body) = file.read_at(&mut bytes, 0).ok().and_then(|_| unframe(&bytes)) {
            return body;
        }
        std::thread::sleep(REREAD);
    }
    Vec::new()
}

/// Reads 32 hexadecimal digits.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut uuid = [0; 16];
    for (byte, digits) in uuid.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::OpenOptions;
    use proptest::prelude::*;

    fn log() -> (tempfile::TempDir, Arc<Log>) {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), &OpenOptions::default()).unwrap();
        (folder, log)
    }

    #[test]
    fn the_living_are_known_with_their_bodies() {
        let (_folder, log) = log();
        let one = Membership::join(&log, b"one").unwrap();
        let two = Membership::join(&log, b"").unwrap();
        two.update(b"two, and more").unwrap();
        two.update(b"two").unwrap();

        let living = Membership::living(&log).unwrap();
        assert_eq!(
            BTreeMap::from([(one.uuid(), b"one".to_vec()), (two.uuid(), b"two".to_vec())]),
            living
        );
        assert!(Membership::is_alive(&log, one.uuid()).unwrap());
        drop(one);
        assert_eq!(
            vec![two.uuid()],
            Membership::living(&log).unwrap().into_keys().collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_file_of_a_dead_worker_is_cleared_up() {
        let (_folder, log) = log();
        let dead = [0xab; 16];
        log.fs().open(&path_of(&log, dead), Open::Create).unwrap();
        assert!(!Membership::is_alive(&log, dead).unwrap());
        assert!(log.fs().exists(&path_of(&log, dead)).unwrap());

        assert!(Membership::living(&log).unwrap().is_empty());
        assert!(!log.fs().exists(&path_of(&log, dead)).unwrap());
        assert!(!Membership::is_alive(&log, dead).unwrap());
    }

    #[test]
    fn joining_and_clearing_up_at_once_removes_nobody_who_lives() {
        let (_folder, log) = log();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let own = Membership::join(&log, b"body").unwrap();
                        assert!(Membership::is_alive(&log, own.uuid()).unwrap());
                        assert!(Membership::living(&log).unwrap().contains_key(&own.uuid()));
                    }
                });
            }
            scope.spawn(|| (0..300).for_each(|_| drop(Membership::living(&log).unwrap())));
        });
        assert!(Membership::living(&log).unwrap().is_empty());
    }

    #[test]
    fn a_body_that_is_too_long_is_refused() {
        let (_folder, log) = log();
        let refused = Membership::join(&log, &vec![0; BODY_BYTES_MAX + 1]);
        assert!(matches!(refused, Err(Error::Config { field: "body", .. })));
    }

    proptest! {
        #[test]
        fn a_body_comes_back_as_it_was(body: Vec<u8>, before: Vec<u8>) {
            let mut bytes = frame(&before).unwrap();
            let framed = frame(&body).unwrap();
            bytes.resize(bytes.len().max(framed.len()), 0);
            bytes[..framed.len()].copy_from_slice(&framed);
            prop_assert_eq!(Some(body), unframe(&bytes));
        }

        #[test]
        fn any_bytes_are_a_body_or_none(bytes: Vec<u8>) {
            unframe(&bytes);
        }

        #[test]
        fn a_uuid_is_32_hexadecimal_digits(uuid: [u8; 16], other in ".{0,40}") {
            prop_assert_eq!(Some(uuid), parse_uuid(&sys::hex(&uuid)));
            if let Some(uuid) = parse_uuid(&other) {
                prop_assert_eq!(other.to_lowercase(), sys::hex(&uuid));
            }
        }
    }
}
