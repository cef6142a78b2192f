//! `Stream`: putting records, and what its shards are.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};
use streamfn_core::checkpoint::retention::removable;
use streamfn_core::stream::{Put, PutOutcome};
use streamfn_core::{SequenceNumber, SettingsChange, ShardId};

use crate::arguments::{bytes_of, each, key_of, owned_headers, EntryIndex};
use crate::error::IntoPy;
use crate::log::{compression, retention, Handle};
use crate::memory_prefetch::MemoryPrefetch;
use crate::reader::{parse_start, ShardReader};
use crate::wait::patiently;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Stream>()?;
    m.add_class::<ShardInfo>()?;
    m.add_class::<PutResults>()
}

/// A stream of an open log.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Stream {
    inner: Arc<streamfn_core::Stream>,
    // Keeps the log open as long as anyone can reach a stream of it.
    log: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(inner: Arc<streamfn_core::Stream>, log: Arc<Handle>) -> Self {
        Self { inner, log }
    }
}

pub(crate) fn shard_id(text: &str) -> PyResult<ShardId> {
    ShardId::parse(text).ok_or_else(|| {
        let reason = format!("`{text}` is not a shard id like `shardId-000000000000`");
        crate::error::into_py(streamfn_core::Error::config("shard", reason))
    })
}

/// Adds one record to a call, borrowing `bytes` and copying anything else with a buffer.
fn push(
    put: &mut Put<'_>,
    data: &Bound<'_, PyAny>,
    key: Option<&str>,
    headers: Option<&Bound<'_, PyAny>>,
    entry: EntryIndex,
) -> PyResult<()> {
    let headers = owned_headers(headers, entry)?;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), &**value));
    let data = bytes_of(data, entry, || "data is bytes or has a buffer of bytes".to_owned())?;
    put.push(&data, key, headers).into_py()
}

/// A list unchanged, anything else with items as a list; checked to have one entry for each record.
fn entries<'py>(
    what: &str,
    values: &Bound<'py, PyAny>,
    count: Option<usize>,
) -> PyResult<Bound<'py, PyList>> {
    let list = match values.cast::<PyList>() {
        Ok(list) => list.clone(),
        Err(_) if values.is_instance_of::<PyBytes>() || values.is_instance_of::<PyString>() => {
            return Err(PyTypeError::new_err(format!(
                "`{what}` is a sequence of values, not one value"
            )));
        }
        Err(_) => {
            let items = each(values, what, "values")?.collect::<PyResult<Vec<_>>>()?;
            PyList::new(values.py(), items)?
        }
    };
    match count {
        Some(count) if list.len() != count => Err(PyValueError::new_err(format!(
            "`{what}` has {} entries for {count} records",
            list.len()
        ))),
        _ => Ok(list),
    }
}

#[pymethods]
impl Stream {
    #[getter]
    fn name(&self) -> &str {
        self.inner.name()
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.inner.config().durability.as_str()
    }

    #[getter]
    fn compression(&self) -> &'static str {
        self.inner.config().compression.as_str()
    }

    #[getter]
    fn created_us(&self) -> u64 {
        self.inner.created()
    }

    #[getter]
    fn retention<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let retention = self.inner.config().retention;
        let dict = PyDict::new(py);
        #[allow(clippy::cast_precision_loss, reason = "a retention is no longer than centuries")]
        dict.set_item("seconds", retention.age_us.map(|us| us as f64 / 1e6))?;
        dict.set_item("bytes", retention.bytes)?;
        dict.set_item("consumed", retention.is_consumed)?;
        Ok(dict)
    }

    #[pyo3(signature = (data, partition_key = None, headers = None, timeout = None))]
    fn put(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        partition_key: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<(String, SequenceNumber)> {
        self.log.get()?;
        let mut put = self.inner.begin_put().into_py()?;
        let key = partition_key.map(|key| key_of(key, None)).transpose()?.flatten();
        push(&mut put, data, key, headers, None)?;
        let outcome = patiently(py, timeout, |patience| put.commit(patience))?;
        let place = outcome.places().first().copied();
        place
            .map(|(shard, seq)| (shard.to_string(), seq))
            .ok_or_else(|| PyIndexError::new_err("nothing was put"))
    }

    #[pyo3(signature = (data, partition_keys = None, headers = None, timeout = None))]
    fn put_many(
        &self,
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        partition_keys: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<PutResults> {
        let data = entries("data", data, None)?;
        let keys = partition_keys
            .map(|keys| entries("partition_keys", keys, Some(data.len())))
            .transpose()?;
        let headers =
            headers.map(|headers| entries("headers", headers, Some(data.len()))).transpose()?;
        self.log.get()?;
        let mut put = self.inner.begin_put().into_py()?;
        let mut prefetch = MemoryPrefetch::of(&data);
        for (index, item) in data.iter().enumerate() {
            prefetch.pass(index);
            let key = keys.as_ref().map(|keys| keys.get_item(index)).transpose()?;
            let header = headers.as_ref().map(|headers| headers.get_item(index)).transpose()?;
            let header = header.as_ref().filter(|header| !header.is_none());
            let key = key.as_ref().map(|key| key_of(key, Some(index))).transpose()?.flatten();
            push(&mut put, &item, key, header, Some(index))?;
        }
        let outcome = patiently(py, timeout, |patience| put.commit(patience))?;
        Ok(PutResults { outcome, places: OnceLock::new() })
    }

    fn shards(&self, py: Python<'_>) -> PyResult<Vec<ShardInfo>> {
        self.log.get()?;
        py.detach(|| {
            let metas = self.inner.shards()?;
            metas
                .iter()
                .map(|meta| ShardInfo::read(&self.inner, meta))
                .collect::<streamfn_core::Result<Vec<_>>>()
        })
        .into_py()
    }

    #[pyo3(signature = (shard_id, hash_key = None, timeout = None))]
    fn split(
        &self,
        py: Python<'_>,
        shard_id: &str,
        hash_key: Option<u128>,
        timeout: Option<f64>,
    ) -> PyResult<(String, String)> {
        let shard = self::shard_id(shard_id)?;
        self.log.get()?;
        let (low, high) =
            patiently(py, timeout, |patience| self.inner.split(shard, hash_key, patience))?;
        Ok((low.to_string(), high.to_string()))
    }

    #[pyo3(signature = (shard_id, other, timeout = None))]
    fn merge(
        &self,
        py: Python<'_>,
        shard_id: &str,
        other: &str,
        timeout: Option<f64>,
    ) -> PyResult<String> {
        let (shard, other) = (self::shard_id(shard_id)?, self::shard_id(other)?);
        self.log.get()?;
        let child = patiently(py, timeout, |patience| self.inner.merge(shard, other, patience))?;
        Ok(child.to_string())
    }

    #[pyo3(signature = (shard_id, before, timeout = None))]
    fn trim(
        &self,
        py: Python<'_>,
        shard_id: &str,
        before: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let shard = self::shard_id(shard_id)?;
        let before = parse_start(Some(before))?;
        self.log.get()?;
        patiently(py, timeout, |patience| {
            let shard = self.inner.shard(shard)?;
            Ok(shard.trim(shard.sequence_number(before)?, patience)?.bytes)
        })
    }

    #[pyo3(signature = (shard_id, before, timeout = None))]
    fn trimmable(
        &self,
        py: Python<'_>,
        shard_id: &str,
        before: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<(SequenceNumber, usize, u64)> {
        let shard = self::shard_id(shard_id)?;
        let before = parse_start(Some(before))?;
        self.log.get()?;
        patiently(py, timeout, |patience| {
            let shard = self.inner.shard(shard)?;
            let found = shard.trimmable(shard.sequence_number(before)?, patience)?;
            Ok((found.horizon, found.segments, found.bytes))
        })
    }

    #[pyo3(signature = (shard_id, *, retention_seconds = None, retention_bytes = None,
        retention_consumed = false, timeout = None))]
    fn removable(
        &self,
        py: Python<'_>,
        shard_id: &str,
        retention_seconds: Option<f64>,
        retention_bytes: Option<u64>,
        retention_consumed: bool,
        timeout: Option<f64>,
    ) -> PyResult<(SequenceNumber, usize, u64)> {
        let shard = self::shard_id(shard_id)?;
        let limits = retention(retention_seconds, retention_bytes, retention_consumed);
        let log = self.log.get()?;
        patiently(py, timeout, |patience| {
            let found = removable(log, &self.inner, shard, &limits, patience)?;
            Ok((found.horizon, found.segments, found.bytes))
        })
    }

    #[pyo3(signature = (*, compression = None, sets_retention = false, retention_seconds = None,
        retention_bytes = None, retention_consumed = false, timeout = None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python method")]
    fn set(
        &self,
        py: Python<'_>,
        compression: Option<&str>,
        sets_retention: bool,
        retention_seconds: Option<f64>,
        retention_bytes: Option<u64>,
        retention_consumed: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let limits = retention(retention_seconds, retention_bytes, retention_consumed);
        let change = SettingsChange {
            compression: compression.map(self::compression).transpose()?,
            retention: sets_retention.then_some(limits),
        };
        self.log.get()?;
        patiently(py, timeout, |patience| self.inner.set(&change, patience))
    }

    #[pyo3(signature = (shard_id, start = None, *, skip_corruption = false))]
    fn reader(
        &self,
        py: Python<'_>,
        shard_id: &str,
        start: Option<&Bound<'_, PyAny>>,
        skip_corruption: bool,
    ) -> PyResult<ShardReader> {
        let start = parse_start(start)?;
        let shard = self::shard_id(shard_id)?;
        self.log.get()?;
        py.detach(|| {
            let shard = self.inner.shard(shard)?;
            let cursor = shard.cursor(start)?;
            Ok(ShardReader::new(Arc::clone(&self.log), shard, cursor, skip_corruption))
        })
        .into_py()
    }

    fn __repr__(&self) -> String {
        format!("<Stream {}>", self.inner.name())
    }
}

/// The current state of a shard.
#[pyclass(frozen, get_all, module = "streamfn._core")]
pub(crate) struct ShardInfo {
    shard_id: String,
    hash_key_first: u128,
    hash_key_last: u128,
    parents: Vec<String>,
    is_open: bool,
    trim_horizon: u64,
    end: u64,
    bytes: u64,
    segments: usize,
    last_timestamp_us: u64,
}

impl ShardInfo {
    fn read(
        stream: &streamfn_core::Stream,
        meta: &streamfn_core::ShardMeta,
    ) -> streamfn_core::Result<Self> {
        let shard = stream.shard(meta.id)?;
        let (segments, bytes) = shard.size()?;
        Ok(Self {
            shard_id: meta.id.to_string(),
            hash_key_first: meta.hash_range.0,
            hash_key_last: meta.hash_range.1,
            parents: meta.parents.iter().map(ShardId::to_string).collect(),
            is_open: meta.is_open,
            trim_horizon: shard.trim_horizon()?,
            end: shard.visible_end(),
            bytes,
            segments,
            last_timestamp_us: shard.last_timestamp(),
        })
    }
}

/// Where the records of one `put_many` went; the places are computed on first use.
#[pyclass(frozen, sequence, module = "streamfn._core")]
pub(crate) struct PutResults {
    outcome: PutOutcome,
    places: OnceLock<Vec<(ShardId, SequenceNumber)>>,
}

#[pymethods]
impl PutResults {
    fn __len__(&self) -> usize {
        self.outcome.len()
    }

    fn __getitem__(&self, index: isize) -> PyResult<(String, SequenceNumber)> {
        let places = self.places.get_or_init(|| self.outcome.places());
        let length = isize::try_from(places.len())?;
        let index = if index < 0 { index + length } else { index };
        let place = usize::try_from(index).ok().and_then(|index| places.get(index));
        let (shard, seq) =
            place.ok_or_else(|| PyIndexError::new_err("result index out of range"))?;
        Ok((shard.to_string(), *seq))
    }
}
