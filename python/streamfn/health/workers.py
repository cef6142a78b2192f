"""The living workers of a log: what they announce, and what they report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from streamfn import _core
from streamfn._core import Membership

from .state import State
from .worker_report import WorkerReport, read_reports


@dataclass(frozen=True, slots=True)
class Worker:
    """A living worker."""

    uuid: str
    pid: int | None
    """None: it is starting, or the disk is full, so it has not announced itself."""
    mappings: frozenset[str]
    """The functions on streams that it announces to run."""
    report: WorkerReport | None
    """Its last report; None: there is none yet, or the disk is full."""
    by_request: frozenset[str] = frozenset()
    """The functions that it announces to call by request."""

    @property
    def state(self) -> str:
        """A word for the worker: the worst state of its functions, `starting` or `draining`."""
        if self.report is None:
            return "starting"
        return "draining" if self.report.is_draining else str(self.report.state)

    @property
    def runs(self) -> frozenset[str]:
        """The functions that it runs, as it announces or reports."""
        announced = self.mappings | self.by_request
        if announced or self.report is None or self.report.is_draining:
            return announced
        return frozenset(each.name for each in self.report.functions)

    def reported_state(self, function: str) -> State | None:
        """Return the state of a function as this worker sees it."""
        functions = self.report.functions if self.report else ()
        return next((each.state for each in functions if each.name == function), None)


def living_workers(log: _core.Log) -> dict[str, frozenset[str]]:
    """Return the mappings of each live worker, by UUID; empty for a worker that is starting."""
    return {uuid: each.mappings for uuid, each in _announced(log).items()}


def read_workers(log: _core.Log) -> Sequence[Worker]:
    """Return the living workers with their reports, by UUID."""
    announced = _announced(log)
    reports = read_reports(log, announced)
    return [
        Worker(uuid, each.pid, each.mappings, reports.get(uuid), each.by_request)
        for uuid, each in sorted(announced.items())
    ]


class _Announcement(NamedTuple):
    pid: int | None
    mappings: frozenset[str]
    by_request: frozenset[str]


def _announced(log: _core.Log) -> dict[str, _Announcement]:
    """Return what each live worker announces."""
    living: dict[str, _Announcement] = {}
    for uuid, body in Membership.living(log).items():
        try:
            fields = orjson.loads(body)
            mappings, requests = fields["mappings"], fields.get("by_request", ())
            living[uuid] = _Announcement(fields["pid"], frozenset(mappings), frozenset(requests))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            living[uuid] = _Announcement(None, frozenset(), frozenset())
    return living
