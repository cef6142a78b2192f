//! Records as an Arrow record batch, handed over through the Arrow `PyCapsule` interface.
//!
//! ```text
//! data: binary | partition_key: utf8? | sequence_number: uint64 | timestamp: timestamp[us, UTC]
//! | headers: map<utf8, binary>
//! ```
//! SOURCE: <https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>

use std::sync::{Arc, LazyLock};

use arrow_array::builder::{BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{
    Array, BinaryArray, MapArray, RecordBatch, RecordBatchIterator, StringArray, StructArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use streamfn_core::lane::selection::{Picked, Selection};

/// Most bytes of one column: its offsets are 32-bit.
const COLUMN_BYTES_MAX: usize = i32::MAX as usize;

/// A record batch for Arrow libraries: `pyarrow.record_batch(x)`, `polars.DataFrame(x)`, …
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct ArrowBatch {
    batch: RecordBatch,
}

impl ArrowBatch {
    pub(crate) fn new(selection: &Selection) -> PyResult<Self> {
        if selection.bytes() > COLUMN_BYTES_MAX {
            let reason = format!(
                "{} bytes are more than an Arrow column of 32-bit offsets holds; lower batch_bytes",
                selection.bytes()
            );
            return Err(PyOverflowError::new_err(reason));
        }
        let batch = columns(selection).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { batch })
    }
}

#[pymethods]
impl ArrowBatch {
    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.batch.schema().as_ref()).map_err(refused)?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // A producer may hand over its own schema; the consumer casts.
        drop(requested_schema);
        let rows = StructArray::from(self.batch.clone());
        let array = FFI_ArrowArray::new(&rows.to_data());
        let array = PyCapsule::new_with_value(py, array, c"arrow_array")?;
        Ok((self.__arrow_c_schema__(py)?, array))
    }

    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let batches = RecordBatchIterator::new([Ok(self.batch.clone())], self.batch.schema());
        let stream = FFI_ArrowArrayStream::new(Box::new(batches));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }

    fn __repr__(&self) -> String {
        format!("<ArrowBatch of {} records>", self.batch.num_rows())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn refused(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn columns(selection: &Selection) -> Result<RecordBatch, ArrowError> {
    let count = selection.len();
    let has_keys = selection.pieces().any(|(batch, _)| batch.has_keys());
    let has_headers = selection.pieces().any(|(batch, _)| batch.has_headers());
    let keys = if has_keys { keys(selection) } else { StringArray::new_null(count) };
    let headers = if has_headers { headers(selection)? } else { no_headers(count)? };
    RecordBatch::try_new(
        Arc::clone(&SCHEMA),
        vec![
            Arc::new(data(selection)?),
            Arc::new(keys),
            Arc::new(numbers(selection)),
            Arc::new(times(selection)),
            Arc::new(headers),
        ],
    )
}

static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    let headers = MapBuilder::new(Some(map_names()), StringBuilder::new(), BinaryBuilder::new())
        .finish()
        .data_type()
        .clone();
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("data", DataType::Binary, false),
        Field::new("partition_key", DataType::Utf8, true),
        Field::new("sequence_number", DataType::UInt64, false),
        Field::new("timestamp", time, false),
        Field::new("headers", headers, false),
    ]))
});

fn map_names() -> MapFieldNames {
    MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }
}

/// The payloads. Those that lie behind one another in a batch are copied at once.
fn data(selection: &Selection) -> Result<BinaryArray, ArrowError> {
    let mut offsets: Vec<i32> = Vec::with_capacity(selection.len() + 1);
    let mut bytes: Vec<u8> = Vec::with_capacity(selection.bytes());
    let offset = |end: usize| i32::try_from(end).expect("at most COLUMN_BYTES_MAX");
    offsets.push(0);
    for (batch, picked) in selection.pieces() {
        match &picked {
            Picked::Range(range) => {
                let (run, ends) = batch.value_run(range);
                let before = bytes.len();
                offsets.extend(ends.map(|end| offset(before + end)));
                bytes.extend_from_slice(run);
            }
            Picked::List { .. } => {
                for index in (0..picked.len()).filter_map(|i| picked.get(i)) {
                    bytes.extend_from_slice(batch.value(index));
                    offsets.push(offset(bytes.len()));
                }
            }
        }
    }
    BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), None)
}

fn keys(selection: &Selection) -> StringArray {
    selection.iter().map(|(batch, index)| batch.key(index)).collect()
}

fn numbers(selection: &Selection) -> UInt64Array {
    let mut numbers: Vec<u64> = Vec::with_capacity(selection.len());
    for (batch, picked) in selection.pieces() {
        let number = |index| batch.base_seq() + u64::from(index);
        match &picked {
            // WHY each: behind the largest number there is none to end a range with.
            Picked::Range(range) => numbers.extend(range.clone().map(number)),
            Picked::List { .. } => {
                numbers.extend((0..picked.len()).filter_map(|i| picked.get(i)).map(number));
            }
        }
    }
    numbers.into()
}

fn times(selection: &Selection) -> TimestampMicrosecondArray {
    let mut times: Vec<i64> = Vec::with_capacity(selection.len());
    let signed = |time| i64::try_from(time).unwrap_or(i64::MAX);
    for (batch, picked) in selection.pieces() {
        match batch.common_timestamp() {
            Some(time) => times.resize(times.len() + picked.len(), signed(time)),
            None => times.extend(
                (0..picked.len())
                    .filter_map(|i| picked.get(i))
                    .map(|index| signed(batch.timestamp(index))),
            ),
        }
    }
    TimestampMicrosecondArray::from(times).with_timezone("UTC")
}

fn headers(selection: &Selection) -> Result<MapArray, ArrowError> {
    let mut headers =
        MapBuilder::new(Some(map_names()), StringBuilder::new(), BinaryBuilder::new());
    for (batch, index) in selection.iter() {
        for (name, value) in batch.headers(index) {
            headers.keys().append_value(name);
            headers.values().append_value(value);
        }
        headers.append(true)?;
    }
    Ok(headers.finish())
}

/// As many empty maps, all at once.
fn no_headers(count: usize) -> Result<MapArray, ArrowError> {
    let empty =
        MapBuilder::new(Some(map_names()), StringBuilder::new(), BinaryBuilder::new()).finish();
    let DataType::Map(entry, is_sorted) = empty.data_type() else { unreachable!("it is a map") };
    let offsets = OffsetBuffer::new_zeroed(count);
    MapArray::try_new(Arc::clone(entry), offsets, empty.entries().clone(), None, *is_sorted)
}
