//! The `holes` file of a shard. Written only under the exclusive lock of the log.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::format::{holes, Hole};
use crate::fs::{self, Fs};

/// Name of the file in a shard's folder.
pub(crate) const FILE_NAME: &str = "holes";

/// The holes a shard is known to have, by their numbers.
///
/// # Errors
/// [`Error::Corruption`] if the list itself is damaged; [`Error::Io`].
pub(crate) fn load(fs: &Arc<dyn Fs>, folder: &Path) -> Result<Vec<Hole>> {
    let path = folder.join(FILE_NAME);
    let bytes = match fs::read(&**fs, &path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(&path)?,
    };
    holes::decode(&bytes).map_err(|damage| Error::Corruption {
        path,
        position: 0,
        first: 0,
        last: 0,
        reason: damage.to_string(),
    })
}

/// Replaces the list.
///
/// # Durability
/// Durable when it returns.
pub(crate) fn store(fs: &Arc<dyn Fs>, folder: &Path, list: &[Hole]) -> Result<()> {
    let path = folder.join(FILE_NAME);
    fs::replace(&**fs, &path, &holes::encode(list)).at(&path)
}

/// Adds what is not in the list yet; durable when it returns.
pub(crate) fn note(fs: &Arc<dyn Fs>, folder: &Path, found: &[Hole]) -> Result<()> {
    // WHY: a list that was damaged itself is begun anew from what is found now; holes outside of it
    // are found again by `fsck` and by every reader.
    let mut list = match load(fs, folder) {
        Err(Error::Corruption { .. }) => Vec::new(),
        other => other?,
    };
    let known = list.len();
    for hole in found {
        if !list.iter().any(|other| other.overlaps(hole)) {
            list.push(*hole);
        }
    }
    if list.len() == known {
        return Ok(());
    }
    list.sort_unstable();
    store(fs, folder, &list)
}
