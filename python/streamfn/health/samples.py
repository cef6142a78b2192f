"""The values of all metrics of a log at this moment."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from streamfn import _core
from streamfn._core import __version__
from streamfn.clock import SystemClock
from streamfn.engine.deadletter import DeadLetters
from streamfn.errors import StreamfnError, StreamNotFound
from streamfn.log import Log
from streamfn.model.mapping import function_of
from streamfn.telemetry.counters import Counter, Counters, read_counters
from streamfn.telemetry.metrics import Sample
from streamfn.units import to_microseconds

from .functions import read_health
from .gauges import gauges

OUTCOMES: Final = {
    "ok": Counter.SUCCEEDED,
    "partial": Counter.PARTIAL,
    "error": Counter.ERRORS,
    "timeout": Counter.TIMEOUTS,
    "crash": Counter.CRASHES,
}
THROTTLED: Final = {"throttled": Counter.THROTTLED}
FILTER_OUTCOMES: Final = {
    "matched": Counter.MATCHED,
    "filtered": Counter.FILTERED,
    "not_json": Counter.NOT_JSON,
}
REASONS: Final = {
    "retries_exhausted": Counter.EXHAUSTED,
    "too_old": Counter.TOO_OLD,
    "rejected": Counter.REJECTED,
    "damaged": Counter.LOST,
}
DESTINATIONS: Final = {"dead_letters": Counter.DEAD_LETTERS, "none": Counter.DROPPED}
_PLAIN: Final = {
    "streamfn_records_processed_total": Counter.RECORDS_DONE,
    "streamfn_retries_total": Counter.RETRIES,
    "streamfn_bisects_total": Counter.BISECTS,
    "streamfn_redriven_records_total": Counter.REDRIVEN_OK,
}
_BY_LABEL: Final = (
    ("streamfn_invocations_total", "outcome", OUTCOMES),
    ("streamfn_records_filtered_total", "outcome", FILTER_OUTCOMES),
    ("streamfn_discarded_records_total", "reason", REASONS),
    ("streamfn_destination_deliveries_total", "destination", DESTINATIONS),
)


def log_samples(log: Log) -> Iterator[Sample]:
    """Return the samples of all functions and streams of a log.

    A function or stream that is removed meanwhile, or cannot be read, is left out.
    """
    versions = {"version": __version__, "python": platform.python_version()}
    yield Sample("streamfn_build_info", versions, 1)
    health = read_health(log.core, to_microseconds(SystemClock().now()))
    requests = {each.name for each in health.functions if each.request is not None}
    for name in sorted(_core.Mapping.names(log.core)):
        if function_of(name) != name or name in requests:
            continue
        try:
            yield from [*counter_samples(name, read_counters(log.core, name)), *_now(log, name)]
        except StreamfnError:
            continue
    for name in sorted(requests):
        with suppress(StreamfnError):
            yield from request_samples(name, read_counters(log.core, name))
    yield from gauges(health)
    for name in sorted(log.core.streams(internal=True)):
        try:
            shards = log.stream(name).info().shards
        except StreamNotFound:
            continue
        for shard in shards:
            labels = {"stream": name, "shard": shard.shard_id}
            yield Sample("streamfn_records_appended_total", labels, shard.end)
            yield Sample("streamfn_log_size_bytes", labels, shard.bytes)
            yield Sample("streamfn_segments", labels, shard.segments)


def counter_samples(function: str, counters: Counters) -> Iterator[Sample]:
    """Return the samples of what was counted for a function."""
    labels = {"function": function}
    for name, label, values in _BY_LABEL:
        for value, counter in values.items():
            yield Sample(name, {**labels, label: value}, counters[counter])
    for name, counter in _PLAIN.items():
        yield Sample(name, labels, counters[counter])
    yield Sample("streamfn_records_delivered_total", labels, counters.delivered)
    yield Sample("streamfn_invocation_duration_seconds", labels, counters.durations)
    yield Sample("streamfn_batch_size_records", labels, counters.sizes)


def request_samples(function: str, counters: Counters) -> Iterator[Sample]:
    """Return the samples of what was counted for a function by request."""
    for outcome, counter in (OUTCOMES | THROTTLED).items():
        if outcome != "partial":
            labels = {"function": function, "outcome": outcome}
            yield Sample("streamfn_invocations_total", labels, counters[counter])
    labels = {"function": function}
    yield Sample("streamfn_invocation_duration_seconds", labels, counters.durations)


def _now(log: Log, function: str) -> Iterator[Sample]:
    """Return the samples of what waits for a function."""
    mapping = _core.Mapping.open(log.core, function)
    if mapping is None:
        return
    lanes, letters = mapping.lanes(), DeadLetters(log, function)
    labels = {"function": function}
    in_flight = sum(lane.is_leased and lane.in_flight is not None for lane in lanes)
    yield Sample("streamfn_in_flight_batches", labels, in_flight)
    for state in ("open", "queued"):
        count = len(letters.entries() if state == "open" else letters.entries("queued"))
        yield Sample("streamfn_dlq_records", {**labels, "state": state}, count)
