//! `LaneSet`: the lanes of a runner, and the work they hand out.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use streamfn_core::checkpoint::window::STATE_BYTES_MAX;
use streamfn_core::checkpoint::{StateKind, WindowState};
use streamfn_core::lane::{self as core, Added, Filtering, Limits, Request};
use streamfn_core::Deadline;

use crate::board::Board;
use crate::error::{into_py, IntoPy};
use crate::filter::Filter;
use crate::log::Log;
use crate::mapping::{worker_uuid, Entry, Mapping};
use crate::records::Records;
use crate::stream::shard_id;
use crate::wait::{seconds, SLICE};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("STATE_BYTES_MAX", STATE_BYTES_MAX)?;
    m.add_class::<Work>()?;
    m.add_class::<WorkWindow>()?;
    m.add_class::<LaneSet>()?;
    m.add_function(wrap_pyfunction!(slot_of, m)?)?;
    m.add_function(wrap_pyfunction!(exit_when_closed, m)?)
}

/// A batch of a lane to be called.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Work {
    inner: core::Work,
}

#[pymethods]
impl Work {
    #[getter]
    fn lane(&self) -> u32 {
        self.inner.lane
    }

    #[getter]
    fn records(&self) -> Records {
        Records::from_selection(self.inner.records.clone())
    }

    #[getter]
    fn entries(&self) -> Vec<Entry> {
        self.inner.entries.iter().copied().map(Entry::new_from).collect()
    }

    #[getter]
    fn exponent(&self) -> u32 {
        self.inner.exponent
    }

    #[getter]
    fn end(&self) -> u64 {
        self.inner.end
    }

    #[getter]
    fn is_resumed(&self) -> bool {
        self.inner.is_resumed
    }

    #[getter]
    fn is_alone(&self) -> bool {
        self.inner.is_alone
    }

    #[getter]
    fn stream(&self) -> &str {
        &self.inner.stream
    }

    #[getter]
    fn shard_id(&self) -> String {
        self.inner.shard.to_string()
    }

    #[getter]
    fn window(&self) -> Option<WorkWindow> {
        self.inner.window.clone().map(|inner| WorkWindow { inner })
    }

    fn __repr__(&self) -> String {
        format!("<Work lane {} {:?}>", self.inner.lane, self.inner.records)
    }
}

/// The tumbling window that work is handed out in.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct WorkWindow {
    inner: core::Window,
}

#[pymethods]
impl WorkWindow {
    #[getter]
    fn start_us(&self) -> u64 {
        self.inner.open.start
    }

    #[getter]
    fn end_us(&self) -> u64 {
        self.inner.open.end
    }

    #[getter]
    fn state_kind(&self) -> u8 {
        self.inner.open.state.kind.number()
    }

    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner.open.state.bytes)
    }

    #[getter]
    fn is_final(&self) -> bool {
        self.inner.is_final
    }

    #[getter]
    fn is_ended_early(&self) -> bool {
        self.inner.open.is_ended_early
    }

    fn __repr__(&self) -> String {
        format!("<WorkWindow {} to {}>", self.inner.open.start, self.inner.open.end)
    }
}

/// The lanes one runner holds.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct LaneSet {
    inner: Arc<core::LaneSet>,
}

impl LaneSet {
    /// Repeats `step`, which waits for a limited time, until it is done; checks for signals in
    /// between.
    fn until_done(
        py: Python<'_>,
        step: impl Fn(Duration) -> streamfn_core::Result<bool> + Sync + Send,
    ) -> PyResult<()> {
        while !py.detach(|| step(SLICE)).into_py()? {
            py.check_signals()?;
        }
        Ok(())
    }
}

#[pymethods]
impl LaneSet {
    #[new]
    #[pyo3(signature = (log, *, worker, runner, budget_bytes = core::BUDGET_BYTES_DEFAULT))]
    fn new(log: &Log, worker: &str, runner: u32, budget_bytes: usize) -> PyResult<Self> {
        let inner = core::LaneSet::new(log.inner()?, worker_uuid(worker)?, runner, budget_bytes)
            .into_py()?;
        Ok(Self { inner })
    }

    #[pyo3(signature = (lane, mapping, stream, shard_id, slot, *, batch_size, batch_window, batch_bytes,
        filter = None, board = None, index = 0, tumbling_window = None, alone = false, exclusive = false,
        skip_corruption = false))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python method")]
    fn add(
        &self,
        py: Python<'_>,
        lane: u32,
        mapping: &Mapping,
        stream: &str,
        shard_id: &str,
        slot: u32,
        batch_size: usize,
        batch_window: f64,
        batch_bytes: usize,
        filter: Option<&Filter>,
        board: Option<&Board>,
        index: usize,
        tumbling_window: Option<f64>,
        alone: bool,
        exclusive: bool,
        skip_corruption: bool,
    ) -> PyResult<&'static str> {
        let request = Request {
            lane,
            stream: stream.to_owned(),
            shard: self::shard_id(shard_id)?,
            slot,
            limits: Limits {
                size: batch_size,
                window: seconds(batch_window),
                bytes: batch_bytes,
                tumbling: tumbling_window.map(|width| micros(seconds(width))),
            },
            filtering: filter.map(|filter| Filtering {
                filter: Arc::clone(filter.inner()),
                counts: board.map(|board| (Arc::clone(board.inner()), index)),
            }),
            is_alone: alone,
            is_exclusive: exclusive,
            passes_damage: skip_corruption,
        };
        let added = py.detach(|| self.inner.add(mapping.inner(), &request)).into_py()?;
        Ok(match added {
            Added::Ok => "ok",
            Added::Held => "held",
            Added::Judge => "judge",
            Added::Stale => "stale",
            Added::Parents => "parents",
            Added::Exclusive => "exclusive",
        })
    }

    fn remove(&self, py: Python<'_>, lane: u32) -> PyResult<()> {
        Self::until_done(py, |most| self.inner.remove(lane, most))
    }

    fn next(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Work>> {
        let deadline = Deadline::after(seconds(timeout));
        loop {
            let work = py.detach(|| self.inner.next(deadline.left().min(SLICE))).into_py()?;
            if work.is_some() || deadline.is_past() || self.inner.has_damage() {
                return Ok(work.map(|inner| Work { inner }));
            }
            py.check_signals()?;
            if self.inner.is_stopped() {
                return Ok(None);
            }
        }
    }

    fn next_of(&self, py: Python<'_>, lane: u32) -> PyResult<Option<Work>> {
        let work = py.detach(|| self.inner.next_of(lane)).into_py()?;
        Ok(work.map(|inner| Work { inner }))
    }

    fn take_damage(&self, py: Python<'_>) -> Vec<(u32, u32, Py<PyAny>, bool)> {
        let met = self.inner.take_damage().into_iter();
        let error = |error| into_py(error).into_value(py).into_any();
        met.map(|met| (met.lane, met.slot, error(met.error), met.is_passed)).collect()
    }

    fn hold(
        &self,
        py: Python<'_>,
        lane: u32,
        entries: &Bound<'_, PyAny>,
        exponent: u32,
    ) -> PyResult<()> {
        let entries = Entry::unwrap_all(entries)?;
        py.detach(|| self.inner.hold(lane, entries, exponent)).into_py()
    }

    #[pyo3(signature = (lane, *, is_calling))]
    fn set_calling(&self, py: Python<'_>, lane: u32, is_calling: bool) -> PyResult<()> {
        py.detach(|| self.inner.set_calling(lane, is_calling)).into_py()
    }

    #[pyo3(signature = (lane, entries, exponent, seconds))]
    fn wait(
        &self,
        py: Python<'_>,
        lane: u32,
        entries: &Bound<'_, PyAny>,
        exponent: u32,
        seconds: f64,
    ) -> PyResult<()> {
        let entries = Entry::unwrap_all(entries)?;
        let rest = self::seconds(seconds);
        py.detach(|| self.inner.wait(lane, entries, exponent, rest)).into_py()
    }

    #[pyo3(signature = (lane, kind, data, *, ended_early))]
    fn keep_state(&self, lane: u32, kind: u8, data: &[u8], ended_early: bool) -> PyResult<()> {
        let kind = StateKind::from_number(kind).ok_or_else(|| {
            PyValueError::new_err(format!("{kind} is not a kind: 0 none, 1 JSON, 2 bytes"))
        })?;
        self.inner.keep_state(lane, WindowState { kind, bytes: data.into() }, ended_early).into_py()
    }

    #[pyo3(signature = (lane, exponent = 0))]
    fn settle(&self, py: Python<'_>, lane: u32, exponent: u32) -> PyResult<()> {
        py.detach(|| self.inner.settle(lane, exponent)).into_py()
    }

    fn yield_(
        &self,
        py: Python<'_>,
        lane: u32,
        entries: &Bound<'_, PyAny>,
        exponent: u32,
    ) -> PyResult<()> {
        let entries = Entry::unwrap_all(entries)?;
        py.detach(|| self.inner.wait(lane, entries, exponent, Duration::ZERO)).into_py()
    }

    fn pass_on(&self, py: Python<'_>) {
        py.detach(|| self.inner.pass_on());
    }

    fn set_burst(&self, on: bool) {
        self.inner.set_burst(on);
    }

    fn stop(&self) {
        self.inner.stop();
    }

    fn lanes(&self) -> Vec<u32> {
        self.inner.lanes()
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Self::until_done(py, |most| self.inner.close(most))
    }

    fn __repr__(&self) -> String {
        format!("<LaneSet {:?}>", self.inner.lanes())
    }
}

fn micros(width: Duration) -> u64 {
    u64::try_from(width.as_micros()).unwrap_or(u64::MAX)
}

/// The lane of a shard that a record goes to.
#[pyfunction]
fn slot_of(partition_key: Option<&str>, sequence_number: u64, factor: u32) -> u32 {
    core::slot_of(partition_key, sequence_number, factor)
}

/// Starts a native thread that ends this process with `code` when `fd` reaches its end, which means
/// that the process at the other end is gone.
#[pyfunction]
fn exit_when_closed(fd: i32, code: i32) -> PyResult<()> {
    streamfn_core::sys::exit_when_closed(fd, code)?;
    Ok(())
}
