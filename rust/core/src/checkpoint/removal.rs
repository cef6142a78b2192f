//! Removing a stream together with what mappings remember of it.

use std::sync::Arc;

use super::mapping::Mapping;
use crate::clock::Patience;
use crate::error::{Error, Result};
use crate::stream::Log;

/// Removes a stream. Mappings that have read it keep it, unless `is_forced`: then they forget it, so
/// that a new stream of that name is new to them. Their dead letters stay.
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
        for mapping in Mapping::names(log)? {
            if let Some(mapping) = Mapping::open(log, &mapping)? {
                if mapping.has_begun(name)? || mapping.owns(name) {
                    readers.push(mapping);
                }
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
        }
        log.remove_stream(name, patience)
    })
}
