//! `Board`: memory that a runner shares with its supervisor.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use streamfn_core::lane::board;

use crate::counts::Counts;
use crate::error::IntoPy;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Board>()
}

/// What the threads of a runner are doing, and what they have counted.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Board {
    inner: Arc<board::Board>,
}

impl Board {
    pub(crate) fn inner(&self) -> &Arc<board::Board> {
        &self.inner
    }
}

/// (cell, lane, deadline, running sequence number) of a call in progress.
type Call = (usize, u32, Option<f64>, Option<u64>);

#[pymethods]
impl Board {
    #[classattr]
    const CELLS: usize = board::CELLS;
    #[classattr]
    const MAPPINGS: usize = board::MAPPINGS;
    #[classattr]
    const COUNTERS: usize = board::COUNTERS;
    #[classattr]
    const SUCCEEDED: usize = board::SUCCEEDED;
    #[classattr]
    const RECORDS_DONE: usize = board::RECORDS_DONE;
    #[classattr]
    const MATCHED: usize = board::MATCHED;
    #[classattr]
    const FILTERED: usize = board::FILTERED;
    #[classattr]
    const NOT_JSON: usize = board::NOT_JSON;

    #[staticmethod]
    fn create() -> PyResult<Self> {
        Ok(Self { inner: Arc::new(board::Board::create().into_py()?) })
    }

    #[staticmethod]
    fn attach(fd: RawFd) -> PyResult<Self> {
        Ok(Self { inner: Arc::new(board::Board::attach(fd).into_py()?) })
    }

    #[getter]
    fn fd(&self) -> RawFd {
        self.inner.fd()
    }

    #[pyo3(signature = (cell, lane, deadline))]
    fn begin(&self, cell: usize, lane: u32, deadline: Option<f64>) -> PyResult<()> {
        self.inner.begin(cell, lane, deadline).into_py()
    }

    fn end(&self, cell: usize) -> PyResult<()> {
        self.inner.end(cell).into_py()
    }

    fn cells(&self) -> Vec<Call> {
        let calls = self.inner.calls().into_iter();
        calls.map(|call| (call.cell, call.lane, call.deadline, call.running)).collect()
    }

    fn add(&self, mapping: usize, counter: usize, amount: u64) -> PyResult<()> {
        self.inner.add(mapping, counter, amount).into_py()
    }

    fn count_in(&self, mapping: usize, counts: &Counts) -> PyResult<()> {
        self.inner.count_in(mapping, Arc::clone(counts.inner())).into_py()
    }

    fn time_calls(&self, cell: usize, mapping: usize, calls: u64, records: u64) -> PyResult<()> {
        self.inner.time_calls(cell, mapping, calls, records).into_py()
    }

    fn succeeded(&self, cell: usize, mapping: usize, calls: u64, records: u64) -> PyResult<()> {
        self.inner.succeeded(cell, mapping, calls, records).into_py()
    }

    fn counters(&self, mapping: usize) -> PyResult<Vec<u64>> {
        Ok(self.inner.counters(mapping).into_py()?.to_vec())
    }
}
