//! `Record` and `Records`: what a function receives. Values become Python objects when asked for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PySlice, PyString};
use streamfn_core::format::body::{encode_headers, IN_MEMORY_BYTES_MAX};
use streamfn_core::lane::selection::Selection;
use streamfn_core::{DecodedBatch, Error, RecordBuilder, ShardId};

use crate::arguments::{each, owned_headers, wrong_type};
use crate::arrow::ArrowBatch;
use crate::board::Board;
use crate::error::{into_py, IntoPy};
use crate::iteration::{RecordIterator, RunningIterator};
use crate::lambda_event;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Record>()?;
    m.add_class::<Records>()?;
    m.add_class::<ArrowBatch>()
}

/// An attribute of a module, looked up once.
fn cached<'py>(
    cell: &'static PyOnceLock<Py<PyAny>>,
    py: Python<'py>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let object =
        cell.get_or_try_init(py, || py.import(module)?.getattr(name).map(Bound::unbind))?;
    Ok(object.bind(py))
}

fn json_loads(py: Python<'_>) -> PyResult<&'_ Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    cached(&LOADS, py, "orjson", "loads")
}

/// Microseconds since the epoch as an aware `datetime` in UTC.
pub(crate) fn utc(py: Python<'_>, micros: u64) -> PyResult<Bound<'_, PyAny>> {
    static EPOCH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static DELTA: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let epoch = EPOCH.get_or_try_init(py, || {
        let datetime = py.import("datetime")?;
        let utc = datetime.getattr("timezone")?.getattr("utc")?;
        datetime.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc)).map(Bound::unbind)
    })?;
    let delta = cached(&DELTA, py, "datetime", "timedelta")?.call1((0, 0, micros))?;
    epoch.bind(py).add(delta)
}

/// One record; a reference into the record batch it came in.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Record {
    batch: Arc<DecodedBatch>,
    index: AtomicU32,
    /// False for a record that was made by hand without a number; it gets one in a batch.
    is_numbered: bool,
}

impl Record {
    pub(crate) fn at(batch: &Arc<DecodedBatch>, index: u32) -> Self {
        Self { batch: Arc::clone(batch), index: AtomicU32::new(index), is_numbered: true }
    }

    /// Makes this object another record of its batch; false if it is of another batch than `batch`.
    /// Only for a caller that knows that no other code has the object.
    pub(crate) fn become_at(&self, batch: &Arc<DecodedBatch>, index: u32) -> bool {
        let is_same = Arc::ptr_eq(&self.batch, batch);
        if is_same {
            self.index.store(index, Ordering::Relaxed);
        }
        is_same
    }

    fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }
}

#[pymethods]
impl Record {
    #[new]
    #[pyo3(signature = (data, partition_key = None, *, sequence_number = None, shard_id = "shardId-000000000000",
        stream = "", timestamp_us = 0, headers = None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python constructor")]
    fn new(
        data: &Bound<'_, PyBytes>,
        partition_key: Option<&str>,
        sequence_number: Option<u64>,
        shard_id: &str,
        stream: &str,
        timestamp_us: u64,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let shard = ShardId::parse(shard_id)
            .ok_or_else(|| PyValueError::new_err(format!("`{shard_id}` is not a shard id")))?;
        let data = data.as_bytes();
        let headers = owned_headers(headers, None)?;
        let encoded = encode_headers(headers.iter().map(|(name, value)| (name.as_str(), &**value)))
            .ok_or_else(|| PyValueError::new_err("the headers are too long"))?;
        let size = data.len() + encoded.len() + partition_key.map_or(0, str::len);
        if size > IN_MEMORY_BYTES_MAX {
            let (limit, what, index) = (IN_MEMORY_BYTES_MAX, "record bytes", 0);
            return Err(into_py(Error::RecordTooLarge { size, limit, what, index }));
        }
        let mut builder = RecordBuilder::default();
        builder.push(data, partition_key, &encoded);
        let number = sequence_number.unwrap_or(0);
        let batch = DecodedBatch::in_memory(&builder, number, timestamp_us, stream.into(), shard);
        let is_numbered = sequence_number.is_some();
        Ok(Self { batch: Arc::new(batch), index: AtomicU32::new(0), is_numbered })
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.batch.value(self.index()))
    }

    #[getter]
    fn partition_key(&self) -> Option<&str> {
        self.batch.key(self.index())
    }

    #[getter]
    fn sequence_number(&self) -> u64 {
        self.batch.base_seq() + u64::from(self.index())
    }

    #[getter]
    fn shard_id(&self) -> String {
        self.batch.shard().to_string()
    }

    #[getter]
    fn stream(&self) -> &str {
        self.batch.stream()
    }

    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        utc(py, self.timestamp_us())
    }

    #[getter]
    fn timestamp_us(&self) -> u64 {
        self.batch.timestamp(self.index())
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for (name, value) in self.batch.headers(self.index()) {
            headers.set_item(name, PyBytes::new(py, value))?;
        }
        Ok(headers)
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json_loads(py)?.call1((self.data(py),))
    }

    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        PyString::from_bytes(py, self.batch.value(self.index()))
    }

    fn as_type<'py>(&self, kind: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        static DECODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = kind.py();
        if let Some(validate) = kind.getattr_opt("model_validate_json")? {
            return validate.call1((self.data(py),));
        }
        let named = PyDict::new(py);
        named.set_item("type", kind)?;
        cached(&DECODE, py, "msgspec.json", "decode")?.call((self.data(py),), Some(&named))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            let other = other.get();
            if Arc::ptr_eq(&self.batch, &other.batch) {
                return self.index() == other.index();
            }
            self.sequence_number() == other.sequence_number()
                && self.batch.shard() == other.batch.shard()
                && self.batch.stream() == other.batch.stream()
                && self.timestamp_us() == other.timestamp_us()
                && self.partition_key() == other.partition_key()
                && self.batch.value(self.index()) == other.batch.value(other.index())
                && self.batch.headers(self.index()).eq(other.batch.headers(other.index()))
        })
    }

    fn __hash__(&self) -> u64 {
        self.sequence_number() ^ (u64::from(self.batch.shard().0) << 40)
    }

    fn __repr__(&self) -> String {
        let value = self.batch.value(self.index());
        let shown = value.get(..value.len().min(40)).unwrap_or_default();
        let dots = if shown.len() < value.len() { "…" } else { "" };
        format!(
            "<Record {}/{} #{} key={:?} data={:?}{dots}>",
            self.batch.stream(),
            self.batch.shard(),
            self.sequence_number(),
            self.partition_key(),
            String::from_utf8_lossy(shown),
        )
    }
}

/// Consecutive records of one lane.
#[pyclass(frozen, sequence, module = "streamfn._core")]
pub(crate) struct Records {
    selection: Selection,
}

impl Records {
    pub(crate) fn from_selection(selection: Selection) -> Self {
        Self { selection }
    }

    pub(crate) fn selection(&self) -> &Selection {
        &self.selection
    }

    fn place(&self, index: usize) -> PyResult<(&Arc<DecodedBatch>, u32)> {
        self.selection.get(index).ok_or_else(|| PyIndexError::new_err("record index out of range"))
    }
}

#[pymethods]
impl Records {
    #[new]
    fn new(records: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut parts = Vec::new();
        let mut next = Some(0);
        for (place, record) in each(records, "records", "`Record`")?.enumerate() {
            let record = record?;
            let Ok(record) = record.cast::<Record>() else {
                return Err(wrong_type(Some(place), "a batch has `Record`s", &record, ""));
            };
            let record = record.get();
            let part = if record.is_numbered {
                let index = record.index() as usize;
                Selection::of_batch(&record.batch).slice(index..index + 1)
            } else {
                let number = next.ok_or_else(|| {
                    let reason = format!("there is no sequence number left for record {place}");
                    into_py(Error::config("records", reason))
                })?;
                Selection::by_hand(&record.batch, number)
            };
            next = part.last().and_then(|last| last.checked_add(1));
            parts.push(part);
        }
        Ok(Self { selection: Selection::joined(&parts).into_py()? })
    }

    fn __len__(&self) -> usize {
        self.selection.len()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        let length = isize::try_from(self.selection.len())?;
        if let Ok(slice) = index.cast::<PySlice>() {
            let indices = slice.indices(length)?;
            if indices.step != 1 {
                return Err(PyValueError::new_err("records are sliced with step 1"));
            }
            let start = usize::try_from(indices.start)?;
            let stop = usize::try_from(indices.stop)?.max(start);
            let part = Self { selection: self.selection.slice(start..stop) };
            return Ok(Bound::new(py, part)?.into_any());
        }
        let index: isize = index.extract()?;
        let index = if index < 0 { index + length } else { index };
        let index = usize::try_from(index)
            .map_err(|_| PyIndexError::new_err("record index out of range"))?;
        let (batch, index) = self.place(index)?;
        Ok(Bound::new(py, Record::at(batch, index))?.into_any())
    }

    fn __iter__(&self) -> RecordIterator {
        RecordIterator::new(&self.selection)
    }

    fn running(&self, board: &Board, cell: usize) -> PyResult<RunningIterator> {
        if cell >= streamfn_core::lane::board::CELLS {
            return Err(PyIndexError::new_err("cell out of range"));
        }
        Ok(RunningIterator::new(&self.selection, Arc::clone(board.inner()), cell))
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(
            py,
            Lengthed(
                self.selection.len(),
                self.selection.values().map(|payload| PyBytes::new(py, payload)),
            ),
        )
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let loads = json_loads(py)?;
        let list = PyList::empty(py);
        for payload in self.selection.values() {
            list.append(loads.call1((PyBytes::new(py, payload),))?)?;
        }
        Ok(list)
    }

    fn to_arrow(&self) -> PyResult<ArrowBatch> {
        ArrowBatch::new(&self.selection)
    }

    fn kinesis_records<'py>(&self, shared: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyList>> {
        lambda_event::kinesis_records(&self.selection, shared)
    }

    fn partition_keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(
            py,
            Lengthed(
                self.selection.len(),
                self.selection.iter().map(|(batch, index)| batch.key(index)),
            ),
        )
    }

    fn sequence_numbers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let numbers =
            self.selection.iter().map(|(batch, index)| batch.base_seq() + u64::from(index));
        PyList::new(py, Lengthed(self.selection.len(), numbers))
    }

    fn index(&self, sequence_number: u64) -> PyResult<usize> {
        self.selection.search(sequence_number).map_err(|_| {
            PyValueError::new_err(format!("{sequence_number} is not among these records"))
        })
    }

    fn between(&self, first: u64, last: u64) -> Self {
        Self { selection: self.selection.between(first, last) }
    }

    #[staticmethod]
    fn concat(parts: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut selections = Vec::new();
        for part in each(parts, "parts", "`Records`")? {
            selections.push(part?.cast::<Self>()?.get().selection.clone());
        }
        Ok(Self { selection: Selection::joined(&selections).into_py()? })
    }

    #[getter]
    fn first(&self) -> PyResult<u64> {
        self.selection.first().ok_or_else(|| PyIndexError::new_err("no records"))
    }

    #[getter]
    fn last(&self) -> PyResult<u64> {
        self.selection.last().ok_or_else(|| PyIndexError::new_err("no records"))
    }

    #[getter]
    fn last_timestamp_us(&self) -> PyResult<u64> {
        let (batch, index) = self.place(self.selection.len().wrapping_sub(1))?;
        Ok(batch.timestamp(index))
    }

    #[getter]
    fn shard_id(&self) -> PyResult<String> {
        Ok(self.place(0)?.0.shard().to_string())
    }

    #[getter]
    fn stream(&self) -> PyResult<String> {
        Ok(self.place(0)?.0.stream().to_string())
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.selection.bytes()
    }

    fn __repr__(&self) -> String {
        match (self.selection.first(), self.selection.last()) {
            (Some(first), Some(last)) => {
                format!("<Records {} #{first}..#{last}>", self.selection.len())
            }
            _ => "<Records 0>".into(),
        }
    }
}

/// Gives an iterator the exact length that `PyList::new` wants.
struct Lengthed<I>(usize, I);

impl<I: Iterator> Iterator for Lengthed<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0 = self.0.saturating_sub(1);
        self.1.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0, Some(self.0))
    }
}

impl<I: Iterator> ExactSizeIterator for Lengthed<I> {}
