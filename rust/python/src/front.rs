//! The front of a worker, as the whole work of a process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;

/// Exit code of a front whose supervisor is gone; see `streamfn.worker.exit_codes`.
const EXIT_ORPHANED: i32 = 71;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(run_front, m)?)
}

/// Runs the front until it is drained; the process ends with its supervisor.
#[pyfunction]
fn run_front(py: Python<'_>, listener: i32, control: i32, lifeline: i32) -> PyResult<()> {
    streamfn_core::sys::exit_when_closed(lifeline, EXIT_ORPHANED)?;
    streamfn_core::sys::raise_file_limit();
    let (listener, control) = (owned(listener)?, owned(control)?);
    py.detach(|| streamfn_front::run(listener, control))?;
    Ok(())
}

fn owned(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    #[expect(unsafe_code, reason = "the descriptor was inherited and is known by number only")]
    // SAFETY: the caller gives the descriptor away; nothing else in this process uses its number.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned)
}
