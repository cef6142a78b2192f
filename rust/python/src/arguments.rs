//! Arguments that are taken apart here, and what is said of wrong ones: which, what it is, the fix.
//!
//! Of an argument that `PyO3` takes as a whole, it names the type in its message and the argument in a
//! note.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyString};
use streamfn_core::Error;

use crate::error::into_py;

/// Where a value stands: alone in its call, or in an entry of `put_many`.
pub(crate) type Place = Option<usize>;

/// A `TypeError` about a value: what it should be, and what it is.
pub(crate) fn wrong_type(place: Place, what: &str, value: &Bound<'_, PyAny>, fix: &str) -> PyErr {
    let entry = place.map(|place| format!("entry {place}: ")).unwrap_or_default();
    match value.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!("{entry}{what}, not `{kind}`{fix}")),
        Err(error) => error,
    }
}

/// Goes through an argument with several values.
pub(crate) fn each<'py>(
    values: &Bound<'py, PyAny>,
    name: &str,
    of: &str,
) -> PyResult<Bound<'py, PyIterator>> {
    let iterator = values.try_iter();
    // WHY not of any error: `__iter__` of somebody's own class may raise what it likes.
    let is_not_iterable = |error: &PyErr| {
        error.is_instance_of::<PyTypeError>(values.py())
            && !values.hasattr("__iter__").unwrap_or(true)
    };
    match iterator {
        Err(error) if is_not_iterable(&error) => {
            Err(wrong_type(None, &format!("`{name}` is a sequence of {of}"), values, ""))
        }
        other => other,
    }
}

/// The text of a `str`; `field` is what it is for.
fn text<'a>(text: &'a Bound<'_, PyString>, field: &'static str, place: Place) -> PyResult<&'a str> {
    text.to_str().map_err(|_| {
        let entry = place.map(|place| format!("entry {place}: ")).unwrap_or_default();
        let shown = text.repr().map(|shown| shown.to_string()).unwrap_or_default();
        let reason = format!("{entry}{shown} has half a surrogate pair, which is no text");
        into_py(Error::config(field, reason))
    })
}

/// A partition key.
pub(crate) fn key_of<'a>(key: &'a Bound<'_, PyAny>, place: Place) -> PyResult<Option<&'a str>> {
    if key.is_none() {
        return Ok(None);
    }
    match key.cast::<PyString>() {
        Ok(key) => text(key, "partition_key", place).map(Some),
        Err(_) => Err(wrong_type(place, "a partition key is a str or None", key, "")),
    }
}

/// Names and values of a header mapping, copied so that they can be lent to the core.
pub(crate) fn owned_headers(
    headers: Option<&Bound<'_, PyAny>>,
    place: Place,
) -> PyResult<Vec<(String, Vec<u8>)>> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    let items = if let Ok(dict) = headers.cast::<PyDict>() {
        dict.items()
    } else {
        let Some(items) = headers.getattr_opt("items")? else {
            return Err(wrong_type(place, "headers are a mapping of str to bytes", headers, ""));
        };
        let items = items.call0()?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        PyList::new(headers.py(), items)?
    };
    items.iter().map(|item| header(&item, place)).collect()
}

fn header(item: &Bound<'_, PyAny>, place: Place) -> PyResult<(String, Vec<u8>)> {
    let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    let Ok(name) = name.cast::<PyString>() else {
        return Err(wrong_type(place, "the name of a header is a str", &name, ""));
    };
    let name = text(name, "headers", place)?;
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok((name.to_owned(), bytes.as_bytes().to_vec()));
    }
    if let Ok(buffer) = PyBuffer::<u8>::get(&value) {
        return Ok((name.to_owned(), buffer.to_vec(value.py())?));
    }
    let fix = if value.is_instance_of::<PyString>() { ": encode it (`.encode()`)" } else { "" };
    Err(wrong_type(place, &format!("header `{name}` is bytes"), &value, fix))
}
