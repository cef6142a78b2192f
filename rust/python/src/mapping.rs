//! `Mapping`, the status of its lanes, the editor of a lane's in-flight slot, and a worker's
//! membership.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use streamfn_core::checkpoint::membership::parse_uuid;
use streamfn_core::checkpoint::removal::remove_mapping;
use streamfn_core::checkpoint::rename::rename_mapping;
use streamfn_core::checkpoint::{self as core, Cause, RecordRange};
use streamfn_core::lane::after_worker_death;
use streamfn_core::lane::in_flight_editor::{InFlightEdit, InFlightEditor};
use streamfn_core::sync::Mutex;
use streamfn_core::{sys, Error, ShardId};

use crate::error::{into_py, IntoPy};
use crate::filter::Filter;
use crate::log::Log;
use crate::reader::parse_start;
use crate::stream::shard_id;
use crate::wait::patiently;

/// `on_failure` of a function that keeps its own dead letters.
const DEAD_LETTERS: &str = "dlq";

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("REPLAY_MARK", core::slot::REPLAY_MARK)?;
    m.add("SLOT_ENTRIES_MAX", core::SLOT_ENTRIES_MAX)?;
    m.add("WORKER_DEATHS_MAX", streamfn_core::lane::WORKER_DEATHS_MAX)?;
    m.add_class::<Entry>()?;
    m.add_class::<InFlight>()?;
    m.add_class::<LaneStatus>()?;
    m.add_class::<Mapping>()?;
    m.add_class::<LaneJudge>()?;
    m.add_class::<Membership>()
}

/// A worker's uuid from its 32 hexadecimal digits.
pub(crate) fn worker_uuid(text: &str) -> PyResult<[u8; 16]> {
    parse_uuid(text)
        .ok_or_else(|| PyValueError::new_err(format!("`{text}` is not a worker's uuid")))
}

/// A range of a lane's records that is still open.
#[pyclass(frozen, eq, module = "streamfn._core", from_py_object)]
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    inner: core::Entry,
}

impl Entry {
    pub(crate) fn new_from(inner: core::Entry) -> Self {
        Self { inner }
    }

    /// The core's entries of a Python sequence.
    pub(crate) fn unwrap_all(entries: &Bound<'_, PyAny>) -> PyResult<Vec<core::Entry>> {
        entries.try_iter()?.map(|entry| Ok(entry?.cast::<Self>()?.get().inner)).collect()
    }
}

#[pymethods]
impl Entry {
    #[new]
    #[pyo3(signature = (first, last, attempts = 0, joined = false, cause = 0, detail = 0, first_failed_us = 0))]
    fn new(
        first: u64,
        last: u64,
        attempts: u32,
        joined: bool,
        cause: u8,
        detail: i32,
        first_failed_us: u64,
    ) -> PyResult<Self> {
        let cause = Cause::from_number(cause).ok_or_else(|| {
            let causes = "0 none, 1 crashed, 2 timed out, 3 out of memory";
            PyValueError::new_err(format!("{cause} is not a cause: {causes}"))
        })?;
        let is_joined = joined;
        let first_failed = first_failed_us;
        Ok(Self {
            inner: core::Entry { first, last, attempts, is_joined, cause, detail, first_failed },
        })
    }

    #[getter]
    fn first(&self) -> u64 {
        self.inner.first
    }

    #[getter]
    fn last(&self) -> u64 {
        self.inner.last
    }

    #[getter]
    fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    #[getter]
    fn joined(&self) -> bool {
        self.inner.is_joined
    }

    #[getter]
    fn cause(&self) -> u8 {
        self.inner.cause.number()
    }

    #[getter]
    fn detail(&self) -> i32 {
        self.inner.detail
    }

    #[getter]
    fn first_failed_us(&self) -> u64 {
        self.inner.first_failed
    }

    fn __repr__(&self) -> String {
        let entry = &self.inner;
        let joined = if entry.is_joined { " joined" } else { "" };
        format!(
            "<Entry {}..{} attempts={} cause={:?}{joined}>",
            entry.first, entry.last, entry.attempts, entry.cause
        )
    }
}

/// What an in-flight slot says.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct InFlight {
    inner: core::InFlight,
}

#[pymethods]
impl InFlight {
    #[getter]
    fn worker(&self) -> String {
        sys::hex(&self.inner.worker)
    }

    #[getter]
    fn runner(&self) -> u32 {
        self.inner.runner
    }

    #[getter]
    fn is_calling(&self) -> bool {
        self.inner.is_calling
    }

    #[getter]
    fn worker_deaths(&self) -> u32 {
        self.inner.worker_deaths
    }

    fn after_worker_death(&self, now_us: u64) -> Self {
        Self { inner: after_worker_death(self.inner.clone(), now_us) }
    }

    #[getter]
    fn is_alone(&self) -> bool {
        self.inner.is_alone
    }

    #[getter]
    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive
    }

    #[getter]
    fn is_final(&self) -> bool {
        self.inner.is_final
    }

    #[getter]
    fn formed_at(&self) -> u64 {
        self.inner.formed_at
    }

    #[getter]
    fn end(&self) -> u64 {
        self.inner.end
    }

    #[getter]
    fn exponent(&self) -> u32 {
        self.inner.exponent
    }

    #[getter]
    fn not_before(&self) -> f64 {
        Duration::from_millis(self.inner.not_before).as_secs_f64()
    }

    #[getter]
    fn entries(&self) -> Vec<Entry> {
        self.inner.entries.iter().copied().map(Entry::new_from).collect()
    }

    fn __repr__(&self) -> String {
        format!(
            "<InFlight to #{} by runner {}: {} entries>",
            self.inner.end,
            self.inner.runner,
            self.inner.entries.len()
        )
    }
}

/// The state of a lane, which any process can read.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct LaneStatus {
    inner: core::LaneStatus,
}

#[pymethods]
impl LaneStatus {
    #[getter]
    fn stream(&self) -> &str {
        &self.inner.stream
    }

    #[getter]
    fn shard_id(&self) -> String {
        self.inner.shard.to_string()
    }

    #[getter]
    fn slot(&self) -> u32 {
        self.inner.slot
    }

    #[getter]
    fn factor(&self) -> u32 {
        self.inner.factor
    }

    #[getter]
    fn checkpoint(&self) -> u64 {
        self.inner.checkpoint
    }

    #[getter]
    fn end(&self) -> u64 {
        self.inner.end
    }

    #[getter]
    fn behind(&self) -> u64 {
        self.inner.behind
    }

    #[getter]
    fn in_flight(&self) -> Option<InFlight> {
        self.inner.in_flight.clone().map(|inner| InFlight { inner })
    }

    #[getter]
    fn is_leased(&self) -> bool {
        self.inner.is_leased
    }

    #[getter]
    fn is_finished(&self) -> bool {
        self.inner.is_finished
    }

    #[getter]
    fn checkpoint_us(&self) -> u64 {
        self.inner.written
    }

    #[getter]
    fn is_windowed(&self) -> bool {
        self.inner.is_windowed
    }

    #[getter]
    fn window_us(&self) -> Option<(u64, u64)> {
        self.inner.window
    }

    fn __repr__(&self) -> String {
        let lane = &self.inner;
        format!(
            "<LaneStatus {}/{} slot {} at #{} of #{}>",
            lane.stream, lane.shard, lane.slot, lane.checkpoint, lane.end
        )
    }
}

/// The durable record of a mapping.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Mapping {
    inner: core::Mapping,
}

impl Mapping {
    pub(crate) fn inner(&self) -> &core::Mapping {
        &self.inner
    }
}

#[pymethods]
impl Mapping {
    #[staticmethod]
    #[pyo3(signature = (log, name, *, factor, start = None, windowed = false))]
    fn register(
        py: Python<'_>,
        log: &Log,
        name: &str,
        factor: u32,
        start: Option<&Bound<'_, PyAny>>,
        windowed: bool,
    ) -> PyResult<Self> {
        let start = parse_start(start)?;
        let log = log.inner()?;
        let wanted = core::LaneLayout { factor, is_windowed: windowed };
        let inner = py.detach(|| core::Mapping::register(log, name, wanted, start)).into_py()?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn open(py: Python<'_>, log: &Log, name: &str) -> PyResult<Option<Self>> {
        let log = log.inner()?;
        let inner = py.detach(|| core::Mapping::open(log, name)).into_py()?;
        Ok(inner.map(|inner| Self { inner }))
    }

    #[staticmethod]
    fn names(py: Python<'_>, log: &Log) -> PyResult<Vec<String>> {
        let log = log.inner()?;
        py.detach(|| core::Mapping::names(log)).into_py()
    }

    #[staticmethod]
    #[pyo3(signature = (log, name, *, timeout = None))]
    fn remove(py: Python<'_>, log: &Log, name: &str, timeout: Option<f64>) -> PyResult<bool> {
        let log = log.inner()?;
        patiently(py, timeout, |patience| remove_mapping(log, name, patience))
    }

    #[staticmethod]
    #[pyo3(signature = (log, old, new, *, timeout = None))]
    fn rename(
        py: Python<'_>,
        log: &Log,
        old: &str,
        new: &str,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let log = log.inner()?;
        patiently(py, timeout, |patience| rename_mapping(log, old, new, patience))
    }

    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    #[getter]
    fn wanted_factor(&self) -> PyResult<u32> {
        self.inner.wanted_factor().into_py()
    }

    #[getter]
    fn wants_windows(&self) -> PyResult<bool> {
        Ok(self.inner.wanted().into_py()?.is_windowed)
    }

    #[getter]
    fn is_paused(&self) -> PyResult<bool> {
        self.inner.is_paused().into_py()
    }

    fn prepare(&self, py: Python<'_>, stream: &str) -> PyResult<Vec<String>> {
        let shards = py.detach(|| self.inner.prepare(stream)).into_py()?;
        Ok(shards.iter().map(ShardId::to_string).collect())
    }

    fn factor(&self, stream: &str, shard_id: &str) -> PyResult<u32> {
        self.inner.factor(stream, self::shard_id(shard_id)?).into_py()
    }

    fn change_factor(&self, py: Python<'_>, stream: &str, shard_id: &str) -> PyResult<bool> {
        let shard = self::shard_id(shard_id)?;
        py.detach(|| self.inner.change_factor(stream, shard)).into_py()
    }

    fn set_paused(&self, py: Python<'_>, is_paused: bool) -> PyResult<()> {
        py.detach(|| self.inner.set_paused(is_paused)).into_py()
    }

    #[pyo3(signature = (timeout = None))]
    fn wait_drained(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        patiently(py, timeout, |patience| self.inner.wait_drained(patience))
    }

    #[pyo3(signature = (stream, start, *, shard_id = None, timeout = None))]
    fn seek(
        &self,
        stream: &str,
        start: &Bound<'_, PyAny>,
        shard_id: Option<&str>,
        timeout: Option<f64>,
    ) -> PyResult<BTreeMap<String, u64>> {
        let place = parse_start(Some(start))?;
        let shard = shard_id.map(self::shard_id).transpose()?;
        let sought = patiently(start.py(), timeout, |patience| {
            self.inner.seek(stream, place, shard, patience)
        })?;
        Ok(sought.into_iter().map(|(shard, seq)| (shard.to_string(), seq)).collect())
    }

    #[pyo3(signature = (stream, start, end, *, shard_id = None))]
    fn plan_replay(
        &self,
        stream: &str,
        start: &Bound<'_, PyAny>,
        end: &Bound<'_, PyAny>,
        shard_id: Option<&str>,
    ) -> PyResult<BTreeMap<String, (u64, u64)>> {
        let (from, to) = (parse_start(Some(start))?, parse_start(Some(end))?);
        let shard = shard_id.map(self::shard_id).transpose()?;
        let plan = start.py().detach(|| self.inner.plan_replay(stream, from, to, shard));
        plan.map(|stretches| by_shard(&stretches)).into_py()
    }

    #[pyo3(signature = (stream, stretches, *, timeout = None))]
    fn replay(
        &self,
        py: Python<'_>,
        stream: &str,
        stretches: BTreeMap<String, (u64, u64)>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        let stretch = |(shard, (first, until)): (String, (u64, u64))| {
            Ok(RecordRange { shard: shard_id(&shard)?, first, until })
        };
        let stretches = stretches.into_iter().map(stretch).collect::<PyResult<Vec<_>>>()?;
        let inner =
            patiently(py, timeout, |patience| self.inner.replay(stream, &stretches, patience))?;
        Ok(Self { inner })
    }

    fn finish_replay(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.inner.finish_replay()).into_py()
    }

    #[getter]
    fn on_failure(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let on_failure = py.detach(|| self.inner.on_failure()).into_py()?;
        Ok(match on_failure {
            core::OnFailure::DeadLetters => Some(DEAD_LETTERS.to_owned()),
            core::OnFailure::Dropped => None,
            core::OnFailure::Stream(name) => Some(name),
        })
    }

    fn note_on_failure(&self, py: Python<'_>, on_failure: Option<String>) -> PyResult<()> {
        let on_failure = match on_failure {
            None => core::OnFailure::Dropped,
            Some(word) if word == DEAD_LETTERS => core::OnFailure::DeadLetters,
            Some(name) => core::OnFailure::Stream(name),
        };
        py.detach(|| self.inner.note_on_failure(on_failure)).into_py()
    }

    #[pyo3(signature = (*, factor, windowed = false))]
    fn set_wanted(&self, py: Python<'_>, factor: u32, windowed: bool) -> PyResult<()> {
        let wanted = core::LaneLayout { factor, is_windowed: windowed };
        py.detach(|| self.inner.set_wanted(wanted)).into_py()
    }

    #[pyo3(signature = (stream = None))]
    fn lanes(&self, py: Python<'_>, stream: Option<&str>) -> PyResult<Vec<LaneStatus>> {
        let lanes = py.detach(|| self.inner.lanes(stream)).into_py()?;
        Ok(lanes.into_iter().map(|inner| LaneStatus { inner }).collect())
    }

    #[pyo3(signature = (stream, shard_id, slot, filter = None))]
    fn judge(
        &self,
        py: Python<'_>,
        stream: &str,
        shard_id: &str,
        slot: u32,
        filter: Option<&Filter>,
    ) -> PyResult<Option<LaneJudge>> {
        let shard = self::shard_id(shard_id)?;
        let filter = filter.map(|filter| Arc::clone(filter.inner()));
        let judge = py
            .detach(|| InFlightEditor::take(&self.inner, stream, shard, slot, filter))
            .into_py()?;
        Ok(judge.map(|judge| LaneJudge { inner: Mutex::new(judge) }))
    }

    fn __repr__(&self) -> String {
        format!("<Mapping {}>", self.inner.name())
    }
}

/// First and end of each range, by its shard.
fn by_shard(stretches: &[RecordRange]) -> BTreeMap<String, (u64, u64)> {
    let entry = |it: &RecordRange| (it.shard.to_string(), (it.first, it.until));
    stretches.iter().map(entry).collect()
}

/// A lane whose lease a supervisor has, to write a verdict; see
/// [`streamfn_core::lane::InFlightEditor`].
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct LaneJudge {
    inner: Mutex<InFlightEditor>,
}

#[pymethods]
impl LaneJudge {
    fn in_flight(&self) -> Option<InFlight> {
        self.inner.lock().in_flight().cloned().map(|inner| InFlight { inner })
    }

    #[pyo3(signature = (entries, *, worker, is_calling, worker_deaths, is_alone, is_exclusive))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python method")]
    fn write(
        &self,
        py: Python<'_>,
        entries: &Bound<'_, PyAny>,
        worker: &str,
        is_calling: bool,
        worker_deaths: u32,
        is_alone: bool,
        is_exclusive: bool,
    ) -> PyResult<()> {
        let entries = Entry::unwrap_all(entries)?;
        let worker = worker_uuid(worker)?;
        let edit =
            InFlightEdit { entries, worker, is_calling, worker_deaths, is_alone, is_exclusive };
        py.detach(|| self.inner.lock().write(edit)).into_py()
    }

    fn records(&self, py: Python<'_>, first: u64, last: u64) -> PyResult<Vec<u64>> {
        py.detach(|| self.inner.lock().records(first, last)).into_py()
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.lock().release()).into_py()
    }
}

/// The membership of a live worker; it ends with this object.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Membership {
    // `None` once left.
    inner: Mutex<Option<core::Membership>>,
    uuid: String,
    log: Arc<streamfn_core::Log>,
}

#[pymethods]
impl Membership {
    #[staticmethod]
    fn join(log: &Log, body: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let log = log.inner()?;
        let inner = core::Membership::join(log, body.as_bytes()).into_py()?;
        let uuid = sys::hex(&inner.uuid());
        Ok(Self { inner: Mutex::new(Some(inner)), uuid, log: Arc::clone(log) })
    }

    #[getter]
    fn uuid(&self) -> &str {
        &self.uuid
    }

    #[staticmethod]
    fn living<'py>(py: Python<'py>, log: &Log) -> PyResult<BTreeMap<String, Bound<'py, PyBytes>>> {
        let log = log.inner()?;
        let living = py.detach(|| core::Membership::living(log)).into_py()?;
        Ok(living.iter().map(|(uuid, body)| (sys::hex(uuid), PyBytes::new(py, body))).collect())
    }

    fn update(&self, body: &Bound<'_, PyBytes>) -> PyResult<()> {
        match &*self.inner.lock() {
            Some(inner) => inner.update(body.as_bytes()).into_py(),
            None => Err(into_py(Error::StreamClosed { name: format!("membership {}", self.uuid) })),
        }
    }

    fn leave(&self) {
        self.inner.lock().take();
        self.log.bump();
    }
}
