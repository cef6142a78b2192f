"""Which functions by request a log knows: they have no files but their counts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from streamfn import _core
from streamfn.telemetry.history import METRICS_FOLDER

from .workers import Worker

COUNTS: Final = ".counts"
HISTORY: Final = ".history"


def functions_by_request(log: _core.Log, workers: Iterable[Worker]) -> set[str]:
    """Return the functions that workers call by request, or have called.

    Args:
        log: The log.
        workers: The living workers.
    """
    counted = {path.name.removesuffix(COUNTS) for path in _folder(log).glob(f"*{COUNTS}")}
    return counted.difference(_core.Mapping.names(log)) | called_by(workers)


def called_by(workers: Iterable[Worker]) -> set[str]:
    """Return the functions that living workers call by request."""
    found = set[str]()
    for worker in workers:
        found |= worker.by_request
        if worker.report is not None:
            found |= {each.name for each in worker.report.functions if each.request is not None}
    return found


def forget(log: _core.Log, name: str) -> None:
    """Remove the counts and the history of a function by request that no worker calls.

    Raises:
        OSError: They cannot be removed.
    """
    for suffix in (COUNTS, HISTORY):
        (_folder(log) / f"{name}{suffix}").unlink(missing_ok=True)


def _folder(log: _core.Log) -> Path:
    return Path(log.path) / METRICS_FOLDER
