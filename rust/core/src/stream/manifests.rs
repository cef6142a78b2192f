//! The manifests of all streams of a log, and the contents of their folders.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::fs::Fs;
use crate::log::{Directory, Segments, ShardConfig};
use crate::types::ShardId;

use super::manifest::Manifest;
use super::shard_config;
use super::topology::{manifest_path, stream_names};

/// The streams and their manifests, except streams whose manifest is damaged: opening one of those
/// reports it, and the others do not depend on it.
pub(super) fn whole_streams(directory: &Directory) -> Result<Vec<(String, Manifest)>> {
    let mut found = Vec::new();
    for name in stream_names(directory)? {
        match Manifest::load(directory.fs(), &manifest_path(directory, &name)) {
            Err(Error::Corruption { .. }) => {}
            manifest => found.push((name, manifest?)),
        }
    }
    Ok(found)
}

pub(super) fn for_each_shard(
    directory: &Arc<Directory>,
    mut visit: impl FnMut(&Path, &ShardConfig) -> Result<()>,
) -> Result<()> {
    for (name, manifest) in whole_streams(directory)? {
        let folder = directory.root().join("streams").join(&name);
        for meta in &manifest.shards {
            let stream = name.as_str().into();
            let config = shard_config(&stream, &manifest.config, meta, &manifest.shards);
            visit(&folder.join(meta.id.to_string()), &config)?;
        }
    }
    Ok(())
}

/// Whether the folder of a stream holds record batches: then it is not an unfinished creation.
pub(crate) fn holds_records(fs: &Arc<dyn Fs>, folder: &Path) -> Result<bool> {
    if !fs.exists(folder).at(folder)? {
        return Ok(false);
    }
    for name in fs.list(folder).at(folder)? {
        if ShardId::parse(&name).is_some() {
            let segments = Segments::new(Arc::clone(fs), folder.join(name));
            for segment in segments.list()? {
                if !segment.is_empty(fs)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
