//! `streamfn._core`: the Python bindings of `streamfn-core`.
//!
//! A binding converts, releases the GIL and delegates. Rules, defaults and loops live in the core.

mod arguments;
mod arrow;
mod board;
mod counts;
mod error;
mod filter;
mod front;
mod fsck;
mod iteration;
mod lambda_event;
mod lanes;
mod log;
mod mapping;
mod memory_prefetch;
mod reader;
mod records;
mod stream;
mod wait;

use pyo3::prelude::*;
use streamfn_core::types;

/// The Rust core of streamfn; `_core.pyi` is its manual.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("RECORD_BYTES_MAX", types::RECORD_BYTES_MAX)?;
    m.add("PARTITION_KEY_CHARS_MAX", types::PARTITION_KEY_CHARS_MAX)?;
    m.add("NAME_BYTES_MAX", types::NAME_BYTES_MAX)?;
    m.add("BATCH_SIZE_MAX", types::BATCH_SIZE_MAX)?;
    m.add("FACTOR_MAX", types::FACTOR_MAX)?;
    m.add("DEAD_LETTER_BYTES_EXTRA", types::DEAD_LETTER_BYTES_EXTRA)?;
    records::register(m)?;
    filter::register(m)?;
    stream::register(m)?;
    log::register(m)?;
    reader::register(m)?;
    board::register(m)?;
    counts::register(m)?;
    mapping::register(m)?;
    lanes::register(m)?;
    front::register(m)?;
    fsck::register(m)?;
    m.add_function(wrap_pyfunction!(raise_file_limit, m)?)?;
    Ok(())
}

/// Raises this process's soft limit of open files to the hard one.
#[pyfunction]
fn raise_file_limit() {
    streamfn_core::sys::raise_file_limit();
}
