//! `Log`: an open log directory.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use streamfn_core::types::{is_valid_internal_name, Compression, Durability};
use streamfn_core::{Error, OpenOptions, Patience, Retention, StreamConfig};

use crate::error::{into_py, IntoPy};
use crate::stream::Stream;
use crate::wait::{patiently, seconds, SLICE};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Log>()
}

/// An open log directory.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Log {
    inner: Arc<streamfn_core::Log>,
}

impl Log {
    pub(crate) fn inner(&self) -> &Arc<streamfn_core::Log> {
        &self.inner
    }
}

fn durability(text: &str) -> PyResult<Durability> {
    Durability::parse(text).ok_or_else(|| {
        into_py(Error::config("durability", format!("`{text}` is not `group` or `process`")))
    })
}

fn compression(text: &str) -> PyResult<Compression> {
    Compression::parse(text).ok_or_else(|| {
        into_py(Error::config("compression", format!("`{text}` is not `zstd` or `none`")))
    })
}

#[pymethods]
impl Log {
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from a Python object")]
    #[pyo3(signature = (path, *, durability = "group", create = true))]
    fn open(py: Python<'_>, path: PathBuf, durability: &str, create: bool) -> PyResult<Self> {
        let options = OpenOptions {
            create,
            durability: self::durability(durability)?,
            ..OpenOptions::default()
        };
        let inner = py.detach(|| streamfn_core::Log::open(&path, &options)).into_py()?;
        Ok(Self { inner })
    }

    #[getter]
    fn path(&self) -> String {
        self.inner.root().to_string_lossy().into_owned()
    }

    #[getter]
    fn uuid(&self) -> String {
        streamfn_core::sys::hex(&self.inner.uuid())
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.inner.durability().as_str()
    }

    #[pyo3(signature = (name, *, shards = 1, durability = None, retention_seconds = None, retention_bytes = None,
        retention_consumed = false, compression = "zstd", exist_ok = false, internal = false))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python method")]
    fn create_stream(
        &self,
        py: Python<'_>,
        name: &str,
        shards: u32,
        durability: Option<&str>,
        retention_seconds: Option<f64>,
        retention_bytes: Option<u64>,
        retention_consumed: bool,
        compression: &str,
        exist_ok: bool,
        internal: bool,
    ) -> PyResult<Stream> {
        let durability = durability.map(self::durability).transpose()?;
        let config = StreamConfig {
            shards,
            durability: if internal {
                Durability::Group
            } else {
                durability.unwrap_or(self.inner.durability())
            },
            retention: Retention {
                age_us: retention_seconds
                    .map(|s| u64::try_from(seconds(s).as_micros()).unwrap_or(u64::MAX)),
                bytes: retention_bytes,
                is_consumed: retention_consumed,
            },
            is_internal: internal && is_valid_internal_name(name),
            compression: self::compression(compression)?,
            ..StreamConfig::default()
        };
        let made = patiently(py, None, |patience: &Patience<'_>| {
            match self.inner.create_stream(name, &config, patience) {
                Err(Error::StreamExists { .. }) if exist_ok => self.inner.stream(name),
                other => other,
            }
        })?;
        Ok(Stream::new(made, Arc::clone(&self.inner)))
    }

    fn stream(&self, py: Python<'_>, name: &str) -> PyResult<Stream> {
        let stream = py.detach(|| self.inner.stream(name)).into_py()?;
        Ok(Stream::new(stream, Arc::clone(&self.inner)))
    }

    #[pyo3(signature = (*, internal = false))]
    fn streams(&self, py: Python<'_>, internal: bool) -> PyResult<Vec<String>> {
        let mut names = py.detach(|| self.inner.streams()).into_py()?;
        if !internal {
            names.retain(|name| !name.contains('.'));
        }
        Ok(names)
    }

    fn wake(&self) -> PyResult<u32> {
        self.inner.check().into_py()?;
        Ok(self.inner.wake_word())
    }

    fn wait(&self, py: Python<'_>, seen: u32, timeout: f64) -> PyResult<u32> {
        self.inner.check().into_py()?;
        let deadline = streamfn_core::Deadline::after(seconds(timeout));
        loop {
            let word = py.detach(|| self.inner.wait(seen, deadline.left().min(SLICE)));
            if word != seen || deadline.is_past() {
                return Ok(word);
            }
            py.check_signals()?;
        }
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.sync()).into_py()
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.close()).into_py()
    }

    fn __repr__(&self) -> String {
        format!("<Log {}>", self.inner.root().display())
    }
}
