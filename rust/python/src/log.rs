//! `Log`: an open log directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use streamfn_core::checkpoint::removal::remove_stream;
use streamfn_core::checkpoint::retention::Retainer;
use streamfn_core::clock::{Clock, ManualClock};
use streamfn_core::fs::Fs as _;
use streamfn_core::memory_fs::MemoryFs;
use streamfn_core::types::{is_valid_internal_name, Compression, Durability};
use streamfn_core::{Error, OpenOptions, Patience, Retention, StreamConfig};

use crate::error::{into_py, IntoPy};
use crate::stream::Stream;
use crate::wait::{patiently, seconds, SLICE};

/// The path that a log in memory reports.
const MEMORY_ROOT: &str = "/memory";

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Log>()
}

/// One opening of a log directory. Streams and readers made from it keep a reference to it, so the
/// directory stays open as long as one of them exists, or until it is closed.
pub(crate) struct Handle {
    log: Arc<streamfn_core::Log>,
    /// Runs retention as long as this log is open.
    _retainer: Arc<Retainer>,
    /// Only of a log in memory: the clock that stamps its records.
    clock: Option<Arc<ManualClock>>,
    is_closed: AtomicBool,
}

impl Handle {
    /// The log, unless this handle was closed.
    pub(crate) fn get(&self) -> PyResult<&Arc<streamfn_core::Log>> {
        if self.is_closed.load(Ordering::Acquire) {
            let name = self.log.root().display().to_string();
            return Err(into_py(Error::StreamClosed { name }));
        }
        Ok(&self.log)
    }

    fn close(&self) -> streamfn_core::Result<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.log.close()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Nobody is left to be told; what was acknowledged is durable without it.
        let _ = self.close();
    }
}

/// An open log directory.
#[pyclass(frozen, module = "streamfn._core")]
pub(crate) struct Log {
    handle: Arc<Handle>,
}

impl Log {
    pub(crate) fn inner(&self) -> PyResult<&Arc<streamfn_core::Log>> {
        self.handle.get()
    }
}

fn durability(text: &str) -> PyResult<Durability> {
    Durability::parse(text).ok_or_else(|| {
        into_py(Error::config("durability", format!("`{text}` is not `group` or `process`")))
    })
}

pub(crate) fn compression(text: &str) -> PyResult<Compression> {
    Compression::parse(text).ok_or_else(|| {
        into_py(Error::config("compression", format!("`{text}` is not `zstd` or `none`")))
    })
}

pub(crate) fn retention(seconds: Option<f64>, bytes: Option<u64>, consumed: bool) -> Retention {
    let age_us = |s: f64| u64::try_from(crate::wait::seconds(s).as_micros()).unwrap_or(u64::MAX);
    Retention { age_us: seconds.map(age_us), bytes, is_consumed: consumed }
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
        let handle = Handle {
            _retainer: Retainer::start(&inner),
            log: inner,
            clock: None,
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { handle: Arc::new(handle) })
    }

    #[staticmethod]
    fn in_memory(now_us: u64) -> PyResult<Self> {
        let (fs, root) = (MemoryFs::default(), Path::new(MEMORY_ROOT));
        fs.create_dir(root)?;
        let clock = Arc::new(ManualClock::new(now_us));
        let options = OpenOptions {
            fs: Arc::new(fs),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            housekeeping: false,
            ..OpenOptions::default()
        };
        let inner = streamfn_core::Log::open(root, &options).into_py()?;
        let handle = Handle {
            _retainer: Retainer::start(&inner),
            log: inner,
            clock: Some(clock),
            is_closed: AtomicBool::new(false),
        };
        Ok(Self { handle: Arc::new(handle) })
    }

    fn set_time(&self, now_us: u64) -> PyResult<()> {
        let Some(clock) = &self.handle.clock else {
            let reason = "only a log in memory has a clock that can be set";
            return Err(PyRuntimeError::new_err(reason));
        };
        clock.set(now_us);
        Ok(())
    }

    #[getter]
    fn path(&self) -> String {
        self.handle.log.root().to_string_lossy().into_owned()
    }

    #[getter]
    fn uuid(&self) -> String {
        streamfn_core::sys::hex(&self.handle.log.uuid())
    }

    #[getter]
    fn durability(&self) -> &'static str {
        self.handle.log.durability().as_str()
    }

    #[pyo3(signature = (name, *, shards = 1, durability = None, retention_seconds = None, retention_bytes = None,
        retention_consumed = false, compression = "zstd", segment_bytes = None, exist_ok = false, internal = false))]
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
        segment_bytes: Option<u64>,
        exist_ok: bool,
        internal: bool,
    ) -> PyResult<Stream> {
        let log = self.inner()?;
        let durability = durability.map(self::durability).transpose()?;
        let config = StreamConfig {
            shards,
            durability: if internal {
                Durability::Group
            } else {
                durability.unwrap_or(log.durability())
            },
            retention: retention(retention_seconds, retention_bytes, retention_consumed),
            is_internal: internal && is_valid_internal_name(name),
            compression: self::compression(compression)?,
            segment_bytes: segment_bytes.unwrap_or(StreamConfig::default().segment_bytes),
        };
        let made = patiently(py, None, |patience: &Patience<'_>| {
            match log.create_stream(name, &config, patience) {
                Err(Error::StreamExists { .. }) if exist_ok => log.stream(name),
                other => other,
            }
        })?;
        Ok(Stream::new(made, Arc::clone(&self.handle)))
    }

    #[pyo3(signature = (name, *, force = false, timeout = None))]
    fn remove_stream(
        &self,
        py: Python<'_>,
        name: &str,
        force: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let log = self.inner()?;
        patiently(py, timeout, |patience| remove_stream(log, name, force, patience))
    }

    fn stream(&self, py: Python<'_>, name: &str) -> PyResult<Stream> {
        let log = self.inner()?;
        let stream = py.detach(|| log.stream(name)).into_py()?;
        Ok(Stream::new(stream, Arc::clone(&self.handle)))
    }

    #[pyo3(signature = (*, internal = false))]
    fn streams(&self, py: Python<'_>, internal: bool) -> PyResult<Vec<String>> {
        let log = self.inner()?;
        let mut names = py.detach(|| log.streams()).into_py()?;
        if !internal {
            names.retain(|name| !name.contains('.'));
        }
        Ok(names)
    }

    fn wake(&self) -> PyResult<u32> {
        let log = self.inner()?;
        log.check().into_py()?;
        Ok(log.wake_word())
    }

    fn wait(&self, py: Python<'_>, seen: u32, timeout: f64) -> PyResult<u32> {
        let log = self.inner()?;
        log.check().into_py()?;
        let deadline = streamfn_core::Deadline::after(seconds(timeout));
        loop {
            let word = py.detach(|| log.wait(seen, deadline.left().min(SLICE)));
            if word != seen || deadline.is_past() {
                return Ok(word);
            }
            py.check_signals()?;
        }
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let log = self.inner()?;
        py.detach(|| log.sync()).into_py()
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.handle.close()).into_py()
    }

    fn __repr__(&self) -> String {
        format!("<Log {}>", self.handle.log.root().display())
    }
}
