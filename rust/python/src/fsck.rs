//! `fsck`: examines a log directory, and repairs what can be derived.

use std::path::PathBuf;

use pyo3::prelude::*;
use streamfn_core::fsck as core;

use crate::error::IntoPy;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Finding>()?;
    m.add_class::<FsckReport>()?;
    m.add_function(wrap_pyfunction!(fsck, m)?)
}

/// One thing that an examination found.
#[pyclass(frozen, get_all, module = "streamfn._core")]
#[derive(Clone)]
pub(crate) struct Finding {
    code: &'static str,
    severity: &'static str,
    path: String,
    position: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    stream: Option<String>,
    shard_id: Option<String>,
    what: String,
    meaning: &'static str,
    action: &'static str,
    repaired: Option<String>,
}

impl From<core::Finding> for Finding {
    fn from(finding: core::Finding) -> Self {
        Self {
            code: finding.kind.code(),
            severity: finding.kind.severity().as_str(),
            path: finding.path.to_string_lossy().into_owned(),
            position: finding.position,
            first: finding.sequences.map(|(first, _)| first),
            last: finding.sequences.map(|(_, last)| last),
            stream: finding.stream,
            shard_id: finding.shard.map(|shard| shard.to_string()),
            what: finding.detail,
            meaning: finding.kind.meaning(),
            action: finding.kind.action(),
            repaired: finding.repaired,
        }
    }
}

#[pymethods]
impl Finding {
    fn __repr__(&self) -> String {
        format!("<Finding {} {}: {}>", self.code, self.path, self.what)
    }
}

/// What an examination, or a repair, found.
#[pyclass(frozen, get_all, module = "streamfn._core")]
pub(crate) struct FsckReport {
    findings: Vec<Finding>,
    is_damaged: bool,
    is_exclusive: bool,
    streams: u64,
    shards: u64,
    segments: u64,
    batches: u64,
    bytes: u64,
    mappings: u64,
}

impl From<core::Report> for FsckReport {
    fn from(report: core::Report) -> Self {
        let core::Checked { streams, shards, segments, batches, bytes, mappings } = report.checked;
        Self {
            is_damaged: report.is_damaged(),
            is_exclusive: report.is_exclusive,
            findings: report.findings.into_iter().map(Finding::from).collect(),
            streams,
            shards,
            segments,
            batches,
            bytes,
            mappings,
        }
    }
}

#[pymethods]
impl FsckReport {
    fn __repr__(&self) -> String {
        format!("<FsckReport of {} findings>", self.findings.len())
    }
}

/// Examines a log directory; with `repair`, repairs what can be derived.
#[pyfunction]
#[pyo3(signature = (path, *, deep = false, repair = false, progress = None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python objects")]
fn fsck(
    py: Python<'_>,
    path: PathBuf,
    deep: bool,
    repair: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<FsckReport> {
    let mut raised = None;
    let mut tell = |done: u64, total: u64| {
        let told = Python::attach(|py| {
            py.check_signals()?;
            progress.as_ref().map_or(Ok(()), |tell| tell.call1(py, (done, total)).map(drop))
        });
        raised = told.err();
        raised.is_none()
    };
    let options = core::Options { is_deep: deep, ..core::Options::default() };
    let work = if repair { core::repair } else { core::examine };
    let report = py.detach(|| work(&path, &options, &mut tell));
    match raised {
        Some(error) => Err(error),
        None => report.map(FsckReport::from).into_py(),
    }
}
