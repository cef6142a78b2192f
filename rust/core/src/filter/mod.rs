//! Event patterns: which records a function wants to see. Pure: no I/O, no clock.
//!
//! ```text
//! patterns (JSON) -> combinations of constraints -> Filter, compiled once
//! record -> Event (values of the named fields, the rest skipped) -> Matcher -> Verdict
//! ```
//! The language is that of Amazon EventBridge; docs/filters.md is its manual. All patterns of a
//! filter share one pass over a record. One constraint of each combination is its trigger, and the
//! combination is tried only if its trigger holds. If the trigger is a list of values, a hash table
//! leads from the record's value to it. So a filter of many patterns costs about what a filter of
//! one costs.

mod compiled;
mod event;
pub mod explain;
mod fields;
mod json;
mod matching;
mod operator;
mod outcome;
mod pattern;
mod routes;

use std::fmt::Write;
use std::sync::Arc;

use crate::format::DecodedBatch;
use compiled::Metadata;
use event::{Event, NotJson};
use fields::{FieldId, EVENT};
use matching::{Memo, Round};

pub use compiled::{Filter, Refusal};
pub use explain::{Explanation, Failure};
pub use pattern::{Rejected, COMBINATIONS_MAX};

const DATA: &str = "data";
const PARTITION_KEY: &str = "partitionKey";
const SEQUENCE_NUMBER: &str = "sequenceNumber";
const ARRIVAL: &str = "approximateArrivalTimestamp";
const SCHEMA_VERSION: &str = "kinesisSchemaVersion";
/// The outermost fields that a pattern for records may name: those of Kinesis.
pub const RECORD_FIELDS: [&str; 5] =
    [DATA, PARTITION_KEY, SEQUENCE_NUMBER, ARRIVAL, SCHEMA_VERSION];

/// The verdict of a filter on a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A pattern matches.
    Matched,
    /// None does.
    Filtered,
    /// None does, and the data is not JSON although a pattern names it.
    NotJson,
}

/// A filter in use, with memory that is reused for each record.
#[derive(Debug)]
pub struct Matcher {
    filter: Arc<Filter>,
    event: Event,
    memo: Memo,
}

impl Matcher {
    /// A matcher of a compiled filter.
    pub fn new(filter: Arc<Filter>) -> Self {
        let (event, memo) = (Event::default(), Memo::new(&filter));
        Self { filter, event, memo }
    }

    /// Whether a pattern matches an event, a JSON object; [`Verdict::NotJson`] if it is not one.
    pub fn event(&mut self, event: &[u8]) -> Verdict {
        let Ok(text) = std::str::from_utf8(event) else { return Verdict::NotJson };
        self.event.clear(&self.filter.fields);
        if !is_object(text) || self.event.read(&self.filter.fields, EVENT, text).is_err() {
            return Verdict::NotJson;
        }
        if self.decide(text, true) {
            Verdict::Matched
        } else {
            Verdict::Filtered
        }
    }

    /// The verdict on a record.
    pub fn record(&mut self, batch: &DecodedBatch, index: u32) -> Verdict {
        let filter = &*self.filter;
        self.event.clear(&filter.fields);
        self.event.begin();
        for (field, kind) in &filter.metadata {
            add_metadata(&mut self.event, (*field, *kind), batch, index);
        }
        let (mut text, mut is_json) = ("", true);
        if let Some(data) = filter.data {
            let read =
                std::str::from_utf8(batch.value(index)).map_err(|_| NotJson).and_then(|all| {
                    text = all;
                    self.event.read(&filter.fields, data, text)
                });
            is_json = read.is_ok();
        }
        match (self.decide(text, is_json), is_json) {
            (true, _) => Verdict::Matched,
            (false, true) => Verdict::Filtered,
            (false, false) => Verdict::NotJson,
        }
    }

    fn decide(&mut self, text: &str, is_json: bool) -> bool {
        self.event.finish();
        self.memo.clear();
        let Self { filter, event, memo } = self;
        Round { filter, event, text, is_json, memo }.decide()
    }
}

/// Whether a text that is JSON is an object.
fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{')
}

fn add_metadata(
    event: &mut Event,
    (field, kind): (FieldId, Metadata),
    batch: &DecodedBatch,
    index: u32,
) {
    match kind {
        Metadata::PartitionKey => {
            if let Some(key) = batch.key(index) {
                event.add_text(field, |own| own.push_str(key));
            }
        }
        Metadata::SequenceNumber => {
            let number = batch.base_seq() + u64::from(index);
            event.add_text(field, |own| write!(own, "{number}").expect("strings take all"));
        }
        Metadata::Arrival => {
            #[allow(clippy::cast_precision_loss, reason = "microseconds are exact for 285 years")]
            let seconds = batch.timestamp(index) as f64 / 1e6;
            event.add_number(field, seconds);
        }
        Metadata::SchemaVersion => event.add_text(field, |own| own.push_str("1.0")),
    }
}

#[cfg(test)]
mod tests;
