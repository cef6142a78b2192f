//! Records as AWS Lambda shows those of a Kinesis stream: dicts in AWS's own shape.
//!
//! Built here, for a handler that wants all of it makes thirteen entries a record.

use base64::prelude::{Engine as _, BASE64_STANDARD};
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
    let records = PyList::empty(py);
    let mut data = String::new();
    let mut shard = String::new();
    for (batch, index) in selection.iter() {
        if shard.is_empty() {
            shard = batch.shard().to_string();
        }
        let number = (batch.base_seq() + u64::from(index)).to_string();
        let kinesis = PyDict::new(py);
        kinesis.set_item(intern!(py, "kinesisSchemaVersion"), intern!(py, "1.0"))?;
        // WHY: Kinesis has no record without a key. Its own number is a key that no other has.
        kinesis.set_item(
            intern!(py, "partitionKey"),
            PyString::new(py, batch.key(index).unwrap_or(&number)),
        )?;
        let sequence_number = PyString::new(py, &number);
        kinesis.set_item(intern!(py, "sequenceNumber"), sequence_number)?;
        data.clear();
        BASE64_STANDARD.encode_string(batch.value(index), &mut data);
        kinesis.set_item(intern!(py, "data"), PyString::new(py, &data))?;
        kinesis
            .set_item(intern!(py, "approximateArrivalTimestamp"), arrival_seconds(batch, index))?;
        let record = shared.copy()?;
        record.set_item(intern!(py, "eventID"), PyString::new(py, &format!("{shard}:{number}")))?;
        record.set_item(intern!(py, "kinesis"), kinesis)?;
        records.append(record)?;
    }
    Ok(records)
}

/// Seconds since the epoch with AWS's three decimals.
#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
fn arrival_seconds(batch: &DecodedBatch, index: u32) -> f64 {
    (batch.timestamp(index) / 1000) as f64 / 1000.0
}
