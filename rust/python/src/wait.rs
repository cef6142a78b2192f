//! Calls of the core that may wait: without the GIL, and ended by Ctrl-C within 100 ms.

use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use streamfn_core::{Deadline, Error, Patience};

use crate::error::into_py;

/// How long a call waits for a lock by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Seconds as Python gives them; negative, infinite and NaN values become bounds.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value.max(0.0)).unwrap_or(Duration::from_secs(86_400 * 365))
}

/// How long a call waits for each lock. A value that no deadline can be made of is refused first.
fn patience(timeout: Option<f64>) -> PyResult<Duration> {
    match timeout {
        None => Ok(DEFAULT_TIMEOUT),
        Some(given) if given.is_finite() => Ok(seconds(given)),
        Some(given) => {
            let given = given.to_string().to_lowercase();
            let reason = format!("`{given}` is not a number of seconds; leave it out for 30");
            Err(into_py(Error::config("timeout", reason)))
        }
    }
}

/// Runs `call` without the GIL. A signal whose handler raises ends its waits with that exception.
pub(crate) fn patiently<T: Send>(
    py: Python<'_>,
    timeout: Option<f64>,
    call: impl FnOnce(&Patience<'_>) -> streamfn_core::Result<T> + Send,
) -> PyResult<T> {
    let deadline = Deadline::after(patience(timeout)?);
    let raised: Mutex<Option<PyErr>> = Mutex::new(None);
    let result = py.detach(|| {
        #[allow(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general over lifetimes"
        )]
        let interrupted = || match Python::attach(|py| py.check_signals()) {
            Ok(()) => false,
            Err(error) => {
                if let Ok(mut slot) = raised.lock() {
                    *slot = Some(error);
                }
                true
            }
        };
        call(&Patience { deadline, interrupted: &interrupted })
    });
    result.map_err(|error| match (error, raised.into_inner()) {
        (Error::Interrupted, Ok(Some(raised))) => raised,
        (error, _) => into_py(error),
    })
}

/// Longest sleep between two looks at pending signals.
pub(crate) const SLICE: Duration = Duration::from_millis(100);
