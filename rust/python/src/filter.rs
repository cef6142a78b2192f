//! `Filter`: event patterns, compiled.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use streamfn_core::filter::{self as core, Matcher, Verdict};

use crate::error::classes::ConfigError;
use crate::records::Records;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Filter>()
}

/// Field, what the pattern wants there, what the event has there.
type Failure = (String, String, String);

/// Event patterns, any of which may match.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Filter {
    inner: Arc<core::Filter>,
}

impl Filter {
    pub(crate) fn inner(&self) -> &Arc<core::Filter> {
        &self.inner
    }
}

fn rejected((number, rejected): core::Refusal) -> PyErr {
    let dot = if rejected.place.is_empty() { "" } else { "." };
    ConfigError::new_err((format!("filter[{number}]{dot}{}", rejected.place), rejected.reason))
}

fn is_match(verdict: Verdict) -> Option<bool> {
    match verdict {
        Verdict::Matched => Some(true),
        Verdict::Filtered => Some(false),
        Verdict::NotJson => None,
    }
}

#[pymethods]
impl Filter {
    #[new]
    #[pyo3(signature = (patterns, *, for_records = false))]
    fn new(patterns: &Bound<'_, PyAny>, for_records: bool) -> PyResult<Self> {
        let patterns: Vec<String> = patterns.extract()?;
        let make = if for_records { core::Filter::for_records } else { core::Filter::new };
        let inner = make(&patterns).map_err(rejected)?;
        Ok(Self { inner: Arc::new(inner) })
    }

    fn matches(&self, events: &Bound<'_, PyAny>) -> PyResult<Vec<Option<bool>>> {
        let mut matcher = Matcher::new(Arc::clone(&self.inner));
        let mut verdict = |event: &Bound<'_, PyAny>| {
            Ok(is_match(matcher.event(event.cast::<PyBytes>()?.as_bytes())))
        };
        events.try_iter()?.map(|event| verdict(&event?)).collect()
    }

    fn matches_records(&self, py: Python<'_>, records: &Records) -> Vec<Option<bool>> {
        let selection = records.selection();
        py.detach(|| {
            let mut matcher = Matcher::new(Arc::clone(&self.inner));
            selection.iter().map(|(batch, i)| is_match(matcher.record(batch, i))).collect()
        })
    }

    fn explain(&self, event: &[u8]) -> Option<Vec<Option<Vec<Failure>>>> {
        let failure = |failure: core::Failure| (failure.field, failure.wanted, failure.found);
        let patterns = self.inner.explain(event)?.patterns.into_iter();
        Some(patterns.map(|all| Some(all?.into_iter().map(failure).collect())).collect())
    }
}
