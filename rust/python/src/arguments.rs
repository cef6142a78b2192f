//! Checks and converts arguments, and says what is wrong with one: which it is, and how to fix it.
//!
//! If `PyO3` converts an argument as a whole, `PyO3` makes the error: it names the type in the
//! message and the argument in a note.

use std::borrow::Cow;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyString};
use streamfn_core::Error;

use crate::error::into_py;

/// The entry of `put_many` that a value is in; `None` for the only value of its call.
pub(crate) type EntryIndex = Option<usize>;

fn prefix(entry: EntryIndex) -> String {
    entry.map(|entry| format!("entry {entry}: ")).unwrap_or_default()
}

/// A `TypeError` about a value: what it should be, and what it is.
pub(crate) fn wrong_type(
    entry: EntryIndex,
    what: &str,
    value: &Bound<'_, PyAny>,
    fix: &str,
) -> PyErr {
    let entry = prefix(entry);
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
fn text<'a>(
    text: &'a Bound<'_, PyString>,
    field: &'static str,
    entry: EntryIndex,
) -> PyResult<&'a str> {
    text.to_str().map_err(|_| {
        let entry = prefix(entry);
        let shown = text.repr().map(|shown| shown.to_string()).unwrap_or_default();
        let reason = format!("{entry}{shown} has half a surrogate pair, which is no text");
        into_py(Error::config(field, reason))
    })
}

/// A partition key.
pub(crate) fn key_of<'a>(
    key: &'a Bound<'_, PyAny>,
    entry: EntryIndex,
) -> PyResult<Option<&'a str>> {
    if key.is_none() {
        return Ok(None);
    }
    match key.cast::<PyString>() {
        Ok(key) => text(key, "partition_key", entry).map(Some),
        Err(_) => Err(wrong_type(entry, "a partition key is a str or None", key, "")),
    }
}

/// Names and values of a header mapping, copied so that they can be lent to the core.
pub(crate) fn owned_headers(
    headers: Option<&Bound<'_, PyAny>>,
    entry: EntryIndex,
) -> PyResult<Vec<(String, Vec<u8>)>> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    let items = if let Ok(dict) = headers.cast::<PyDict>() {
        dict.items()
    } else {
        let Some(items) = headers.getattr_opt("items")? else {
            return Err(wrong_type(entry, "headers are a mapping of str to bytes", headers, ""));
        };
        let items = items.call0()?.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        PyList::new(headers.py(), items)?
    };
    items.iter().map(|item| header(&item, entry)).collect()
}

fn header(item: &Bound<'_, PyAny>, entry: EntryIndex) -> PyResult<(String, Vec<u8>)> {
    let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    let Ok(name) = name.cast::<PyString>() else {
        return Err(wrong_type(entry, "the name of a header is a str", &name, ""));
    };
    let name = text(name, "headers", entry)?;
    let value = bytes_of(&value, entry, || format!("header `{name}` is bytes"))?;
    Ok((name.to_owned(), value.into_owned()))
}

/// The bytes of a value: borrowed if it is `bytes`, copied from anything else with a buffer. The
/// error for a value without one says `what` it should be.
#[inline]
pub(crate) fn bytes_of<'a>(
    value: &'a Bound<'_, PyAny>,
    entry: EntryIndex,
    what: impl FnOnce() -> String,
) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if let Ok(buffer) = PyBuffer::<u8>::get(value) {
        return Ok(Cow::Owned(buffer.to_vec(value.py())?));
    }
    let fix = if value.is_instance_of::<PyString>() { ": encode it (`.encode()`)" } else { "" };
    Err(wrong_type(entry, &what(), value, fix))
}
