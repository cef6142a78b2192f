"""The health of a log's functions as samples for the page of metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .functions import Health
from .state import State


class Sample(NamedTuple):
    """One value of a gauge."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(health: Health) -> Iterator[Sample]:
    """Yield the gauges; a value that is unknown is left out.

    `streamfn_function_state` is 1 for the state of a function and 0 for all other states.
    """
    for each in health.functions:
        own = {"function": each.name}
        for state in State:
            labels = {**own, "state": str(state)}
            yield Sample("streamfn_function_state", labels, float(state == each.state))
        yield Sample("streamfn_lag_records", own, each.records_behind)
        if each.iterator_age_seconds is not None:
            yield Sample("streamfn_iterator_age_seconds", own, each.iterator_age_seconds)
    yield Sample("streamfn_workers", {}, len(health.workers))
    runners = sum(len(each.report.runners) for each in health.workers if each.report)
    yield Sample("streamfn_worker_children", {}, runners)
