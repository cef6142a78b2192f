//! Removes a mapping, or a stream together with what mappings store about it.

use std::sync::Arc;
use std::time::Duration;

use super::mapping::Mapping;
use super::slot::replayed;
use crate::clock::Patience;
use crate::counts;
use crate::error::{Error, Result};
use crate::stream::Log;

/// Longer than a supervisor keeps the lease of a lane to write a verdict.
const BRIEFLY: Duration = Duration::from_millis(200);

/// Removes a mapping: its positions, batches in flight and settings. False if there is none.
///
/// Its replays go with it. Its dead letters stay, and so do queued redrives, which the next mapping
/// of that name reads. Redrives that are done are trimmed.
///
/// # Errors
/// [`Error::LockTimeout`] naming the owner of a lane that is leased (nothing has changed), or of the
/// lock; [`Error::Io`]. After an error that came in the middle it is there, or gone, as a whole.
///
/// # Durability
/// Durable when it returns.
pub fn remove_mapping(log: &Arc<Log>, name: &str, patience: &Patience<'_>) -> Result<bool> {
    let is_there = || Ok::<_, Error>(Mapping::names(log)?.iter().any(|known| known == name));
    if !is_there()? {
        return Ok(false);
    }
    Mapping::alone(log, patience, || {
        if !is_there()? {
            return Ok(false);
        }
        let is_of_it = |other: &&String| other.as_str() == name || replayed(other) == Some(name);
        let names = Mapping::names(log)?;
        let all: Vec<_> = names.iter().filter(is_of_it).map(|one| Mapping::at(log, one)).collect();
        let taken = all.iter().map(|one| one.every_lease(&Patience::of(BRIEFLY)));
        let leases = taken.collect::<Result<Vec<_>>>()?;
        trim_redrives(log, name, patience)?;
        // Its replays first: without the function nobody would end them.
        all.iter().rev().try_for_each(Mapping::erase)?;
        counts::remove(log, name)?;
        drop(leases);
        log.bump();
        Ok(true)
    })
}

/// Trims redriven records that are done, so that no function is called with them again.
fn trim_redrives(log: &Arc<Log>, name: &str, patience: &Patience<'_>) -> Result<()> {
    let redrives = format!("{name}.redrive");
    let mapping = Mapping::at(log, name);
    let stream = match log.stream(&redrives) {
        Err(Error::StreamNotFound { .. }) => return Ok(()),
        other => other?,
    };
    for (_, shard) in mapping.shards_on_disk()?.into_iter().filter(|(of, _)| *of == redrives) {
        let file = mapping.lanes_file(&redrives, shard)?;
        // What cannot be read is kept: it comes again.
        let Ok(lanes) = file.lanes() else { continue };
        let done = lanes.iter().map(|lane| lane.checkpoint.next_seq).min().unwrap_or(0);
        // WHY: a checkpoint that a power cut takes back would ask for records that are gone.
        file.sync_all()?;
        stream.shard(shard)?.trim(done, patience)?;
    }
    Ok(())
}

/// Removes a stream. If mappings have read it, it is refused unless `is_forced`: then they forget
/// it, so that a new stream of that name is new to them. Their dead letters stay.
///
/// # Errors
/// [`Error::StreamNotFound`]; [`Error::Config`] if a mapping has read it, if it holds the dead
/// letters or redrives of one, or, even if forced, while a lane of it is leased;
/// [`Error::LockTimeout`], errors of the file system. After an error that came in the middle the
/// stream is there, or gone, as a whole; call it again.
///
/// # Durability
/// Durable when it returns.
pub fn remove_stream(
    log: &Arc<Log>,
    name: &str,
    is_forced: bool,
    patience: &Patience<'_>,
) -> Result<()> {
    log.stream(name)?;
    Mapping::alone(log, patience, || {
        let mut readers = Vec::new();
        for mapping in Mapping::all(log)? {
            if mapping.has_begun(name)? || mapping.owns(name) {
                readers.push(mapping);
            }
        }
        if !is_forced && !readers.is_empty() {
            let names: Vec<_> = readers.iter().map(|one| format!("`{}`", one.name())).collect();
            let reason = format!("`{name}` belongs to functions: {}", names.join(", "));
            return Err(Error::config("stream", reason));
        }
        // INVARIANT: first forgotten, then removed. A crash between them lets functions read the
        // stream again; the other way round they would skip records of the next one of its name.
        for mapping in &readers {
            mapping.forget(name)?;
            if mapping.is_replay() {
                mapping.erase()?;
            }
        }
        log.remove_stream(name, patience)
    })
}
