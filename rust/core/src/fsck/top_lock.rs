//! The lock of a log that is examined or repaired.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::fs::{File, Fs, Lock, Open};
use crate::sys;

/// The lock of the log, held exclusively if no other process has the log open.
pub(super) struct TopLock {
    file: Option<Arc<dyn File>>,
    pub(super) is_held: bool,
}

impl TopLock {
    /// Takes the lock, or returns which process has the log open.
    pub(super) fn take(fs: &Arc<dyn Fs>, root: &Path) -> Result<Self> {
        let lock = Self::try_take(fs, root)?;
        if lock.is_held {
            return Ok(lock);
        }
        let path = root.join("lock");
        let identity = lock.file.as_ref().and_then(|file| file.identity().ok());
        let holder =
            identity.map_or_else(|| "unknown".into(), |(_, inode)| sys::lock_holder(inode));
        Err(Error::LockTimeout { path, holder })
    }

    pub(super) fn try_take(fs: &Arc<dyn Fs>, root: &Path) -> Result<Self> {
        let path = root.join("lock");
        // A backup may come without it. Without one that is held, somebody may open the log meanwhile.
        let is_log = fs.exists(&root.join("streams")).at(root)?;
        match fs.open(&path, if is_log { Open::Create } else { Open::Read }) {
            Ok(file) => {
                let is_held = file.try_lock(Lock::Exclusive).at(&path)?;
                Ok(Self { file: Some(file), is_held })
            }
            // There is no log.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { file: None, is_held: true })
            }
            // Looking is allowed where nothing may be written.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES)) => {
                Ok(Self { file: None, is_held: false })
            }
            Err(error) => Err(Error::io(&path, error)),
        }
    }
}

impl Drop for TopLock {
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_held) {
            // An unlock fails only for a descriptor that is not one; then there is no lock either.
            let _ = file.unlock();
        }
    }
}
