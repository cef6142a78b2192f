//! Records as an Arrow record batch, handed over through the Arrow `PyCapsule` interface.
//!
//! ```text
//! data: binary | partition_key: utf8? | sequence_number: uint64 | timestamp: timestamp[us, UTC]
//! | headers: map<utf8, binary>
//! ```
//! SOURCE: <https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html>

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder, TimestampMicrosecondBuilder,
    UInt64Builder,
};
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatch, RecordBatchIterator, StructArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use streamfn_core::lane::selection::Selection;

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
    let mut data = BinaryBuilder::with_capacity(count, selection.bytes());
    let mut keys = StringBuilder::with_capacity(count, 0);
    let mut numbers = UInt64Builder::with_capacity(count);
    let mut times = TimestampMicrosecondBuilder::with_capacity(count).with_timezone("UTC");
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for (batch, index) in selection.iter() {
        data.append_value(batch.value(index));
        keys.append_option(batch.key(index));
        numbers.append_value(batch.base_seq() + u64::from(index));
        times.append_value(batch.timestamp(index).try_into().unwrap_or(i64::MAX));
        for (name, value) in batch.headers(index) {
            headers.keys().append_value(name);
            headers.values().append_value(value);
        }
        headers.append(true)?;
    }
    let headers = headers.finish();
    let schema = Schema::new(vec![
        Field::new("data", DataType::Binary, false),
        Field::new("partition_key", DataType::Utf8, true),
        Field::new("sequence_number", DataType::UInt64, false),
        Field::new(
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            false,
        ),
        Field::new("headers", headers.data_type().clone(), false),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(data.finish()),
            Arc::new(keys.finish()),
            Arc::new(numbers.finish()),
            Arc::new(times.finish()),
            Arc::new(headers),
        ],
    )
}
