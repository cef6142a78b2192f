"""The health of a log's functions as samples for the page of metrics."""

from __future__ import annotations

from collections.abc import Iterator

from streamfn.model.mapping import function_of
from streamfn.telemetry.metrics import Sample

from .functions import Health
from .state import State


def gauges(health: Health) -> Iterator[Sample]:
    """Yield the gauges of all functions, without replays; a value that is unknown is left out.

    `streamfn_function_state` is 1 for the state of a function and 0 for all other states.
    """
    for each in health.functions:
        if function_of(each.name) != each.name:
            continue
        own = {"function": each.name}
        for state in State:
            labels = {**own, "state": str(state)}
            yield Sample("streamfn_function_state", labels, float(state == each.state))
        if each.request is not None:
            yield Sample("streamfn_in_flight_calls", own, each.request.running)
            yield Sample("streamfn_queued_calls", own, each.request.queued)
            continue
        yield Sample("streamfn_lag_records", own, each.records_behind)
        if each.iterator_age_seconds is not None:
            yield Sample("streamfn_iterator_age_seconds", own, each.iterator_age_seconds)
    yield Sample("streamfn_workers", {}, len(health.workers))
    runners = sum(len(each.report.runners) for each in health.workers if each.report)
    yield Sample("streamfn_worker_children", {}, runners)
