//! The one error type of the crate. Each variant is a sentence and its cause.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::types::SequenceNumber;

/// Result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, with the place and the numbers a person needs to act.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value given by the user cannot be used.
    Config {
        /// Name of the setting.
        field: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Bytes on disk are not what was written.
    Corruption {
        /// The damaged file.
        path: PathBuf,
        /// Byte offset of the damage.
        position: u64,
        /// First sequence number affected, as far as known.
        first: SequenceNumber,
        /// Last sequence number affected, as far as known.
        last: SequenceNumber,
        /// What did not fit.
        reason: String,
    },
    /// The operating system refused.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file was written by a version, or with a feature, that this one does not know.
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// What the file says.
        found: String,
        /// What this version reads.
        supported: String,
    },
    /// No room on the disk; nothing was written, and the log stays usable.
    LogFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A lock was not free in time; nothing was written.
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// The holder, as far as the system knows it.
        holder: String,
    },
    /// The handle was made before a `fork`; the child must open the log again.
    ForkedHandle {
        /// The log directory.
        path: PathBuf,
    },
    /// An earlier sync failed: nothing is acknowledged any more on this shard.
    StoragePoisoned {
        /// The shard's folder.
        path: PathBuf,
        /// The `errno` of the failed sync.
        errno: i32,
    },
    /// There is no such stream.
    StreamNotFound {
        /// Its name.
        name: String,
    },
    /// A stream of that name exists already.
    StreamExists {
        /// Its name.
        name: String,
    },
    /// The log was closed by this process; or the shard, because it was split or merged.
    StreamClosed {
        /// Path of the log, or `stream/shard`.
        name: String,
    },
    /// A record is over a limit; nothing of its call was written.
    RecordTooLarge {
        /// Its size in the unit of the limit.
        size: usize,
        /// The limit.
        limit: usize,
        /// What was measured, with its unit: `record bytes`, `partition key characters`.
        what: &'static str,
        /// Its index in the call.
        index: usize,
    },
    /// The records asked for are no longer kept.
    SequenceTrimmed {
        /// First one lost.
        lost_from: SequenceNumber,
        /// Last one lost.
        lost_to: SequenceNumber,
    },
    /// Another runner owns the lane now.
    LeaseLost {
        /// The lane, `mapping stream shard slot`.
        lane: String,
        /// The epoch found on disk.
        owner: String,
    },
    /// Both checkpoint slots of a lane are damaged.
    CheckpointConflict {
        /// The lanes file.
        path: PathBuf,
        /// What was found, and how to continue.
        reason: String,
    },
    /// The caller asked to stop waiting (a signal arrived).
    Interrupted,
}

impl Error {
    /// Wraps an operating-system error with its path; a full disk becomes [`Error::LogFull`].
    pub fn io(path: &Path, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::LogFull { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// The same error again, for another caller whose records shared the failing write.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::LogFull { path } => Self::LogFull { path: path.clone() },
            Self::LockTimeout { path, holder } => {
                Self::LockTimeout { path: path.clone(), holder: holder.clone() }
            }
            Self::StoragePoisoned { path, errno } => {
                Self::StoragePoisoned { path: path.clone(), errno: *errno }
            }
            Self::UnsupportedFormat { path, found, supported } => Self::UnsupportedFormat {
                path: path.clone(),
                found: found.clone(),
                supported: supported.clone(),
            },
            Self::ForkedHandle { path } => Self::ForkedHandle { path: path.clone() },
            Self::StreamClosed { name } => Self::StreamClosed { name: name.clone() },
            Self::StreamNotFound { name } => Self::StreamNotFound { name: name.clone() },
            Self::Corruption { path, position, first, last, reason } => Self::Corruption {
                path: path.clone(),
                position: *position,
                first: *first,
                last: *last,
                reason: reason.clone(),
            },
            Self::Io { path, source } => {
                let source = source.raw_os_error().map_or_else(
                    || io::Error::other(source.to_string()),
                    io::Error::from_raw_os_error,
                );
                Self::Io { path: path.clone(), source }
            }
            other => Self::Io { path: PathBuf::new(), source: io::Error::other(other.to_string()) },
        }
    }

    /// A wrong setting.
    pub fn config(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { field, reason: reason.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { field, reason } => write!(f, "`{field}`: {reason}"),
            Self::Corruption { path, position, first, last, reason } => write!(
                f,
                "{} is damaged at byte {position} (sequence numbers {first} to {last}): {reason}",
                path.display()
            ),
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::UnsupportedFormat { path, found, supported } => write!(
                f,
                "{} has {found}, this version reads {supported}",
                path.display()
            ),
            Self::LogFull { path } => write!(f, "no space left for {}", path.display()),
            Self::LockTimeout { path, holder } => {
                write!(f, "{} was not free in time, held by {holder}", path.display())
            }
            Self::ForkedHandle { path } => write!(
                f,
                "this handle on {} belongs to the parent process: open the log again after a fork",
                path.display()
            ),
            Self::StoragePoisoned { path, errno } => write!(
                f,
                "an earlier sync of {} failed ({}), the outcome of unacknowledged writes is unknown",
                path.display(),
                io::Error::from_raw_os_error(*errno)
            ),
            Self::StreamNotFound { name } => write!(f, "no stream `{name}`"),
            Self::StreamExists { name } => write!(f, "stream `{name}` exists"),
            Self::StreamClosed { name } => write!(f, "`{name}` was closed"),
            Self::RecordTooLarge { size, limit, what, index } => {
                write!(f, "entry {index}: {size} {what}, the limit is {limit}")
            }
            Self::SequenceTrimmed { lost_from, lost_to } => {
                write!(f, "records {lost_from} to {lost_to} are no longer kept")
            }
            Self::LeaseLost { lane, owner } => {
                write!(f, "the lease on {lane} is now held by {owner}")
            }
            Self::CheckpointConflict { path, reason } => {
                write!(f, "{}: {reason}", path.display())
            }
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Attaches the path to an operating-system error.
pub(crate) trait IoContext<T> {
    /// Turns an `io::Error` into [`Error::Io`] or [`Error::LogFull`].
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(path, source))
    }
}
