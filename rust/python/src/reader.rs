//! `ShardReader`: reading one shard without a lease and without moving a checkpoint.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyInt;
use streamfn_core::lane::selection::Selection;
use streamfn_core::sync::Mutex;
use streamfn_core::{Cursor, Deadline, DecodedBatch, Error, ReadBuffer, ShardLog, Start};

use crate::arguments::wrong_type;
use crate::error::{into_py, IntoPy};
use crate::log::Handle;
use crate::records::Records;
use crate::wait::{seconds, SLICE};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<ShardReader>()
}

/// What `start` means: a word, a sequence number or an aware `datetime`.
pub(crate) fn parse_start(start: Option<&Bound<'_, PyAny>>) -> PyResult<Start> {
    let Some(start) = start.filter(|start| !start.is_none()) else { return Ok(Start::TrimHorizon) };
    if let Ok(word) = start.extract::<&str>() {
        return match word {
            "trim_horizon" => Ok(Start::TrimHorizon),
            "latest" => Ok(Start::Latest),
            other => {
                let reason =
                    format!("`{other}` is not `trim_horizon`, `latest`, a number or a datetime");
                Err(into_py(Error::config("start", reason)))
            }
        };
    }
    if let Ok(seq) = start.extract::<u64>() {
        return Ok(Start::AtSequence(seq));
    }
    if start.is_instance_of::<PyInt>() {
        let reason = format!("`{start}` is not a sequence number: 0 to {}", u64::MAX);
        return Err(into_py(Error::config("start", reason)));
    }
    let Some(timestamp) = start.getattr_opt("timestamp")? else {
        return Err(wrong_type(None, "start is a str, an int or a datetime", start, ""));
    };
    if start.getattr("tzinfo")?.is_none() {
        let reason = "the datetime has no time zone: give it one, for example `timezone.utc`";
        return Err(into_py(Error::config("start", reason)));
    }
    let since: f64 = timestamp.call0()?.extract()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 and up; saturates"
    )]
    let micros = (since.max(0.0) * 1e6).round() as u64;
    Ok(Start::AtTimestamp(micros))
}

/// Reads one shard in order.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct ShardReader {
    log: Arc<Handle>,
    shard: Arc<ShardLog>,
    place: Mutex<ReaderState>,
    skips_damage: bool,
}

/// The reader's position, and what it has read and not returned yet.
struct ReaderState {
    cursor: Cursor,
    buffer: ReadBuffer,
    /// Records of the last batch read that were not returned yet.
    rest: Selection,
    /// Damage that was passed over and not reported yet.
    skipped: Vec<Error>,
}

impl ShardReader {
    pub(crate) fn new(
        log: Arc<Handle>,
        shard: Arc<ShardLog>,
        cursor: Cursor,
        skips_damage: bool,
    ) -> Self {
        let place = ReaderState {
            cursor,
            buffer: ReadBuffer::default(),
            rest: Selection::default(),
            skipped: Vec::new(),
        };
        Self { log, shard, place: Mutex::new(place), skips_damage }
    }

    /// The next batch; with `skips_damage`, of those that can be read.
    fn read(
        &self,
        place: &mut ReaderState,
    ) -> streamfn_core::Result<Option<(Arc<DecodedBatch>, Cursor)>> {
        loop {
            match self.shard.read(&place.cursor, &mut place.buffer) {
                Err(error @ Error::Corruption { .. }) if self.skips_damage => {
                    place.cursor = self.shard.skip_damage(&place.cursor)?.cursor;
                    place.skipped.push(error);
                }
                other => return other,
            }
        }
    }

    /// What is there now, at most `limit` records and, beyond the first, `max_bytes`.
    fn take(&self, limit: usize, max_bytes: usize) -> streamfn_core::Result<Selection> {
        let mut place = self.place.lock();
        let mut taken = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < limit {
            if place.rest.is_empty() {
                let place = &mut *place;
                let (batch, after) = match self.read(place) {
                    Ok(Some(found)) => found,
                    Ok(None) => break,
                    // What was read before is handed out first; the next call meets the error again.
                    Err(_) if count > 0 => break,
                    Err(error) => return Err(error),
                };
                place.rest = Selection::of_batch(&batch).between(place.cursor.next_seq, u64::MAX);
                place.cursor = after;
                continue;
            }
            let mut fits = 0;
            for (batch, index) in place.rest.iter().take(limit - count) {
                let size = batch.record_bytes(index);
                if count + fits > 0 && bytes + size > max_bytes {
                    break;
                }
                bytes += size;
                fits += 1;
            }
            if fits == 0 {
                break;
            }
            taken.push(place.rest.slice(0..fits));
            place.rest = place.rest.slice(fits..place.rest.len());
            count += fits;
        }
        Ok(Selection::concat(&taken))
    }
}

#[pymethods]
impl ShardReader {
    #[getter]
    fn position(&self) -> u64 {
        let place = self.place.lock();
        place.rest.first().unwrap_or(place.cursor.next_seq)
    }

    #[getter]
    fn is_finished(&self) -> bool {
        let place = self.place.lock();
        place.rest.is_empty() && self.shard.is_finished(place.cursor.next_seq)
    }

    #[pyo3(signature = (limit, max_bytes = 6 * 1024 * 1024, wait = 0.0))]
    fn poll(&self, py: Python<'_>, limit: usize, max_bytes: usize, wait: f64) -> PyResult<Records> {
        let deadline = Deadline::after(seconds(wait));
        loop {
            let log = self.log.get()?;
            let seen = log.wake_word();
            let found = py.detach(|| self.take(limit, max_bytes)).into_py()?;
            if !found.is_empty() || deadline.is_past() {
                return Ok(Records::from_selection(found));
            }
            py.detach(|| log.wait(seen, deadline.left().min(SLICE)));
            py.check_signals()?;
        }
    }

    fn take_skipped(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let skipped = std::mem::take(&mut self.place.lock().skipped);
        skipped.into_iter().map(|error| into_py(error).into_value(py).into_any()).collect()
    }

    /// Frees nothing but memory; it is here so that all readers are used alike.
    fn close(&self) {
        let mut place = self.place.lock();
        place.buffer = ReadBuffer::default();
        place.rest = Selection::default();
    }
}
