//! The names in a mapping's folder, and what is done with whole folders.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::error::{IoContext, Result};
use crate::fs::{self, Fs};

/// Behind the number of the shard.
pub(super) const LANES_SUFFIX: &str = ".lanes";
/// The file with what a mapping wants.
pub(crate) const RECORD: &str = "mapping";
/// This file is in the folder of a mapping that is being removed.
pub(crate) const REMOVED: &str = "removed";

/// The name of a stream's folder in that of a mapping: no stream has a name with `@`, and two have the
/// names of files that stand there.
pub(crate) fn folder_of(stream: &str) -> Cow<'_, str> {
    match stream {
        RECORD | REMOVED => format!("@{stream}").into(),
        _ => stream.into(),
    }
}

/// The stream whose folder in that of a mapping has this name.
pub(crate) fn stream_of(folder: &str) -> &str {
    match folder.strip_prefix('@') {
        Some(stream @ (RECORD | REMOVED)) => stream,
        _ => folder,
    }
}

/// Removes a file, or a folder of files.
pub(super) fn remove_all(fs: &Arc<dyn Fs>, path: &Path) -> Result<()> {
    let Some(names) = fs::names_in(&**fs, path).at(path)? else {
        return fs.remove(path).at(path);
    };
    for name in names {
        let file = path.join(name);
        fs.remove(&file).at(&file)?;
    }
    remove_empty(fs, path)
}

/// Whether a mapping's folder has those of streams in it, where its positions are.
pub(super) fn has_folders(fs: &Arc<dyn Fs>, folder: &Path, names: &[String]) -> Result<bool> {
    for path in names.iter().map(|name| folder.join(name)) {
        if fs::names_in(&**fs, &path).at(&path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn remove_empty(fs: &Arc<dyn Fs>, folder: &Path) -> Result<()> {
    fs.sync_dir(folder).at(folder)?;
    fs.remove_dir(folder).at(folder)
}
