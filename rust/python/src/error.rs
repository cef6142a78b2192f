//! Errors of the core as the classes of `streamfn.errors`.

use pyo3::prelude::*;
use streamfn_core::Error;

pub(crate) mod classes {
    use pyo3::import_exception;

    import_exception!(streamfn.errors, ConfigError);
    import_exception!(streamfn.errors, Corruption);
    import_exception!(streamfn.errors, StorageIO);
    import_exception!(streamfn.errors, UnsupportedFormat);
    import_exception!(streamfn.errors, LogFull);
    import_exception!(streamfn.errors, LockTimeout);
    import_exception!(streamfn.errors, ForkedHandle);
    import_exception!(streamfn.errors, StoragePoisoned);
    import_exception!(streamfn.errors, StreamNotFound);
    import_exception!(streamfn.errors, StreamExists);
    import_exception!(streamfn.errors, StreamClosed);
    import_exception!(streamfn.errors, RecordTooLarge);
    import_exception!(streamfn.errors, SequenceTrimmed);
    import_exception!(streamfn.errors, LeaseLost);
    import_exception!(streamfn.errors, CheckpointConflict);
}

/// The Python exception for an error of the core; the fields go in by position.
pub(crate) fn into_py(error: Error) -> PyErr {
    use classes as c;
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match error {
        Error::Config { field, reason } => c::ConfigError::new_err((field, reason)),
        Error::Corruption { path, position, first, last, reason } => {
            c::Corruption::new_err((text(&path), position, first, last, reason))
        }
        Error::Io { path, source } => {
            let errno = source.raw_os_error().unwrap_or(libc_eio());
            c::StorageIO::new_err((errno, text(&path), source.to_string()))
        }
        Error::UnsupportedFormat { path, found, supported } => {
            c::UnsupportedFormat::new_err((text(&path), found, supported))
        }
        Error::LogFull { path } => c::LogFull::new_err(text(&path)),
        Error::LockTimeout { path, holder } => c::LockTimeout::new_err((text(&path), holder)),
        Error::ForkedHandle { path } => c::ForkedHandle::new_err(text(&path)),
        Error::StoragePoisoned { path, errno } => c::StoragePoisoned::new_err((text(&path), errno)),
        Error::StreamNotFound { name } => c::StreamNotFound::new_err(name),
        Error::StreamExists { name } => c::StreamExists::new_err(name),
        Error::StreamClosed { name } => c::StreamClosed::new_err(name),
        Error::RecordTooLarge { size, limit, what, index } => {
            c::RecordTooLarge::new_err((size, limit, what, index))
        }
        Error::SequenceTrimmed { lost_from, lost_to } => {
            c::SequenceTrimmed::new_err((lost_from, lost_to))
        }
        Error::LeaseLost { lane, owner } => c::LeaseLost::new_err((lane, owner)),
        Error::CheckpointConflict { path, reason } => {
            c::CheckpointConflict::new_err((text(&path), reason))
        }
        // `wait::patiently` raises the signal's own exception; this is for a call without one.
        Error::Interrupted => pyo3::exceptions::PyInterruptedError::new_err("interrupted"),
        other => pyo3::exceptions::PyRuntimeError::new_err(other.to_string()),
    }
}

/// `EIO`, for an error the operating system gave no number.
const fn libc_eio() -> i32 {
    5
}

/// `?` for results of the core.
pub(crate) trait IntoPy<T> {
    /// Turns the core's error into a Python exception.
    fn into_py(self) -> PyResult<T>;
}

impl<T> IntoPy<T> for streamfn_core::Result<T> {
    fn into_py(self) -> PyResult<T> {
        self.map_err(into_py)
    }
}
