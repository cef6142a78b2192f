//! `Counts`: what all processes have counted for a mapping.

use std::sync::Arc;

use pyo3::prelude::*;
use streamfn_core::counts::{self as core, CountsNow};

use crate::error::IntoPy;
use crate::log::Log;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Counts>()
}

/// The counts of a mapping, shared by all processes.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Counts {
    inner: Arc<core::Counts>,
}

impl Counts {
    pub(crate) fn inner(&self) -> &Arc<core::Counts> {
        &self.inner
    }
}

/// Sum, and the number of values in each bucket.
type Histogram = (u64, Vec<u64>);
/// Counters, durations, sizes.
type Values = (Vec<u64>, Histogram, Histogram);

fn values(now: CountsNow) -> Values {
    let CountsNow { counters, durations, sizes } = now;
    (counters.to_vec(), (durations.sum, durations.buckets), (sizes.sum, sizes.buckets))
}

#[pymethods]
impl Counts {
    #[classattr]
    const DURATION_BOUNDS_NS: [u64; core::DURATION_BOUNDS.len()] = core::DURATION_BOUNDS;
    #[classattr]
    const SIZE_BOUNDS: [u64; core::SIZE_BOUNDS.len()] = core::SIZE_BOUNDS;

    #[staticmethod]
    fn open(py: Python<'_>, log: &Log, mapping: &str) -> PyResult<Self> {
        let log = log.inner()?;
        let inner = py.detach(|| core::Counts::open(log, mapping)).into_py()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    #[staticmethod]
    fn read(py: Python<'_>, log: &Log, mapping: &str) -> PyResult<Option<Values>> {
        let log = log.inner()?;
        let now = py.detach(|| core::Counts::read(log, mapping)).into_py()?;
        Ok(now.map(values))
    }

    fn add(&self, counter: usize, amount: u64) -> PyResult<()> {
        self.inner.add(counter, amount).into_py()
    }

    fn values(&self) -> Values {
        values(self.inner.now())
    }
}
