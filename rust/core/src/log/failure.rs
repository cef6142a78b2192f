//! The `failed` file of a shard: a sync failed, and nothing is written until the shard is repaired.
//!
//! ```text
//! errno 5 in boot 0123456789abcdef0123456789abcdef: /log/streams/…/….seg: Input/output error
//! ```
//! Processes that have the log open see the failure in the shard's page; later processes see this
//! file. The text after the boot id is only for people.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::fs::{self, Fs, Open};
use crate::sys;

use super::Directory;

const NAME: &str = "failed";
const BEFORE_BOOT: &str = " in boot ";

/// What is known of a sync that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FailedSync {
    /// The boot in which it failed; `None` if an earlier version noted it, or the disk did not take
    /// the text.
    pub(super) boot_id: Option<[u8; 16]>,
}

impl FailedSync {
    /// What is noted about a shard; `None` if no sync of it has failed.
    ///
    /// # Errors
    /// Errors of looking: then it is unknown.
    pub(super) fn load(fs: &Arc<dyn Fs>, folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        if !fs.exists(&path).at(&path)? {
            return Ok(None);
        }
        // That the file is there is enough. If it cannot be read, the boot is unknown.
        let text = fs::read(&**fs, &path).unwrap_or_default();
        Ok(Some(Self::decode(&String::from_utf8_lossy(&text))))
    }

    fn decode(text: &str) -> Self {
        let boot = text.split_once(BEFORE_BOOT).and_then(|(_, after)| after.split_once(':'));
        Self { boot_id: boot.and_then(|(boot, _)| sys::parse_uuid(boot)) }
    }

    /// Notes that a sync failed now. If the disk does not even take the file, the next opening
    /// meets the same disk.
    pub(super) fn note(directory: &Directory, folder: &Path, errno: i32, error: &Error) {
        let (fs, path) = (directory.fs(), folder.join(NAME));
        let (staged, boot) = (folder.join("failed.new"), sys::hex(&directory.boot_id()));
        let text = format!("errno {errno}{BEFORE_BOOT}{boot}: {error}\n");
        // WHY: one that a power cut left names another boot, and may be what is read if this write fails.
        let _ = fs.remove(&staged);
        if let Ok(file) = fs.open(&staged, Open::Create) {
            let _ = file.write_at(&[text.as_bytes()], 0).and_then(|()| file.sync_data());
            // WHY a new name: a power cut leaves no file without its boot. WHY whatever came of the
            // flush: those who open the log in this boot have to find the file all the same.
            let _ = fs.rename(&staged, &path);
            let _ = fs.sync_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FailedSync;

    const BOOT: [u8; 16] = [0xab; 16];

    #[test]
    fn the_boot_is_read_from_the_text() {
        let text = format!("errno 5 in boot {}: /log/in boot 7: EIO\n", "ab".repeat(16));
        assert_eq!(FailedSync { boot_id: Some(BOOT) }, FailedSync::decode(&text));
    }

    #[test]
    fn a_text_without_a_whole_boot_names_none() {
        let whole = format!("errno 5 in boot {}: EIO\n", "ab".repeat(16));
        for cut in 0..whole.find(": ").unwrap() {
            assert_eq!(FailedSync::default(), FailedSync::decode(&whole[..cut]), "cut at {cut}");
        }
        assert_eq!(FailedSync::default(), FailedSync::decode("errno 5: /log/state: EIO\n"));
        assert_eq!(FailedSync::default(), FailedSync::decode(&"\0".repeat(80)));
    }
}
