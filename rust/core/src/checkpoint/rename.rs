//! Gives a mapping another name.

use std::sync::Arc;
use std::time::Duration;

use super::mapping::{Mapping, OWN_STREAMS};
use super::slot::replayed;
use crate::clock::Patience;
use crate::error::{Error, IoContext, Result};
use crate::stream::Log;
use crate::types::is_valid_name;

/// Longer than a supervisor keeps the lease of a lane to write a verdict.
const BRIEFLY: Duration = Duration::from_millis(200);

/// Gives a mapping another name. It keeps its positions, batches in flight, windows, settings,
/// replays, dead letters and queued redrives.
///
/// # Errors
/// [`Error::Config`]: field `name` if a name cannot be, `mapping` if there is none of the old name or
/// one of the new, `stream` if there are dead letters or redrives of the new name.
/// [`Error::LockTimeout`] naming the owner of a lane that is leased (nothing has changed), or of the
/// lock; [`Error::CheckpointConflict`], [`Error::Io`]. After an error that came in the middle the
/// mapping has one of the two names; the next change of any mapping finishes the renaming.
///
/// # Durability
/// Durable when it returns.
pub fn rename_mapping(log: &Arc<Log>, old: &str, new: &str, patience: &Patience<'_>) -> Result<()> {
    for name in [old, new] {
        if !is_mapping_name(name) {
            return Err(Error::config("name", format!("`{name}` is not a function's name")));
        }
    }
    Mapping::alone(log, patience, || {
        if !Mapping::names(log)?.iter().any(|name| name == old) {
            return Err(Error::config("mapping", format!("there is no function `{old}`")));
        }
        if Mapping::has_folder(log, new)? {
            return Err(Error::config("mapping", format!("there is a function `{new}` already")));
        }
        for stream in OWN_STREAMS.map(|suffix| format!("{new}{suffix}")) {
            let folder = log.root().join("streams").join(&stream);
            if log.fs().exists(&folder).at(&folder)? {
                let reason = format!("`{new}` has dead letters of its own, in `{stream}`");
                return Err(Error::config("stream", reason));
            }
        }
        let is_of_it = |name: &&String| name.as_str() == old || replayed(name) == Some(old);
        let names = Mapping::names(log)?;
        let all: Vec<_> = names.iter().filter(is_of_it).map(|one| Mapping::at(log, one)).collect();
        let taken = all.iter().map(|one| one.every_lease(&Patience::of(BRIEFLY)));
        let leases = taken.collect::<Result<Vec<_>>>()?;
        Mapping::at(log, old).begin_renaming(new)?;
        Mapping::finish_renaming(log, patience)?;
        drop(leases);
        log.bump();
        Ok(())
    })
}

/// A mapping's name is `<app>.<function>`; the names of replays, and of the streams that belong to a
/// mapping, are not.
fn is_mapping_name(name: &str) -> bool {
    name.split_once('.')
        .is_some_and(|(app, function)| is_valid_name(app) && is_valid_name(function))
}
