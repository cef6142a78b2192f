//! Records as in AWS Lambda's events for a Kinesis stream: dicts in AWS's own shape.
//!
//! Built in Rust, because a handler that uses all of it needs thirteen entries a record.

use base64_simd::STANDARD;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};
use streamfn_core::lane::selection::Selection;
use streamfn_core::DecodedBatch;

/// The value of `Records` in a Lambda event. `shared` holds what all of them have in common.
pub(crate) fn kinesis_records<'py>(
    selection: &Selection,
    shared: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyList>> {
    let py = shared.py();
    let _pause = CollectorPause::begin(py)?;
    let mut records = Vec::with_capacity(selection.len());
    let mut data = String::new();
    // `shardId-000000000000:`, with the number behind it.
    let mut event_id = String::new();
    let mut number_at = 0;
    let mut digits = itoa::Buffer::new();
    for (batch, index) in selection.iter() {
        if event_id.is_empty() {
            event_id = format!("{}:", batch.shard());
            number_at = event_id.len();
        }
        let digits = digits.format(batch.base_seq() + u64::from(index));
        let number = PyString::new(py, digits);
        let kinesis = PyDict::new(py);
        kinesis.set_item(intern!(py, "kinesisSchemaVersion"), intern!(py, "1.0"))?;
        // WHY: Kinesis has no record without a key. Its own number is a key that no other has.
        let key = batch.key(index).map(|key| PyString::new(py, key));
        kinesis.set_item(intern!(py, "partitionKey"), key.as_ref().unwrap_or(&number))?;
        kinesis.set_item(intern!(py, "sequenceNumber"), &number)?;
        data.clear();
        STANDARD.encode_append(batch.value(index), &mut data);
        kinesis.set_item(intern!(py, "data"), PyString::new(py, &data))?;
        kinesis
            .set_item(intern!(py, "approximateArrivalTimestamp"), arrival_seconds(batch, index))?;
        let record = shared.copy()?;
        event_id.truncate(number_at);
        event_id.push_str(digits);
        record.set_item(intern!(py, "eventID"), PyString::new(py, &event_id))?;
        record.set_item(intern!(py, "kinesis"), kinesis)?;
        records.push(record);
    }
    PyList::new(py, records)
}

/// Python's cycle collector is off while this lives.
///
/// WHY: two dicts a record make it examine everything new again and again, and none of it is
/// garbage: that was a quarter of the time.
struct CollectorPause<'py>(Option<Bound<'py, PyModule>>);

impl<'py> CollectorPause<'py> {
    fn begin(py: Python<'py>) -> PyResult<Self> {
        let collector = py.import(intern!(py, "gc"))?;
        let is_on = collector.call_method0(intern!(py, "isenabled"))?.is_truthy()?;
        if is_on {
            collector.call_method0(intern!(py, "disable"))?;
        }
        Ok(Self(is_on.then_some(collector)))
    }
}

impl Drop for CollectorPause<'_> {
    fn drop(&mut self) {
        if let Some(collector) = &self.0 {
            // It takes no argument and raises nothing.
            let _ = collector.call_method0(intern!(collector.py(), "enable"));
        }
    }
}

/// Seconds since the epoch with AWS's three decimals.
#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
fn arrival_seconds(batch: &DecodedBatch, index: u32) -> f64 {
    (batch.timestamp(index) / 1000) as f64 / 1000.0
}
