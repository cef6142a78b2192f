"""The table of all metrics, and the page that Prometheus reads.

Source of the format: "Exposition formats", text format 0.0.4, in the Prometheus documentation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from .histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, what it measures, and its labels."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


METRICS: Final = (
    Metric("streamfn_build_info", "gauge", "1, with the versions as labels.",
           ("version", "python")),
    Metric("streamfn_invocations_total", "counter",
           "Calls of the function that have ended: ok, partial (some records failed), error, "
           "timeout, or crash (the process died). For functions by request also throttled: calls "
           "that were refused because too many ran.", ("function", "outcome")),
    Metric("streamfn_invocation_duration_seconds", "histogram",
           "Duration of calls; with one record per call, the mean of calls in a row.",
           ("function",)),
    Metric("streamfn_batch_size_records", "histogram", "Records of a call.", ("function",)),
    Metric("streamfn_records_delivered_total", "counter",
           "Records that the function was called with, each time that it was.", ("function",)),
    Metric("streamfn_records_processed_total", "counter",
           "Records that the function processed.", ("function",)),
    Metric("streamfn_records_filtered_total", "counter",
           "Records that the filter looked at: matched, filtered, or not_json.",
           ("function", "outcome")),
    Metric("streamfn_retries_total", "counter",
           "Waits before the same records are called again.", ("function",)),
    Metric("streamfn_bisects_total", "counter", "Batches that were split.", ("function",)),
    Metric("streamfn_discarded_records_total", "counter",
           "Records given up: retries_exhausted, too_old, rejected (by the function), or damaged "
           "(skipped).", ("function", "reason")),
    Metric("streamfn_destination_deliveries_total", "counter",
           "Records given up, by where they went: dead_letters, or none (dropped).",
           ("function", "destination")),
    Metric("streamfn_redriven_records_total", "counter",
           "Redriven dead letters that the function processed.", ("function",)),
    Metric("streamfn_dlq_records", "gauge",
           "Dead letters: open, or queued for another try.", ("function", "state")),
    Metric("streamfn_lag_records", "gauge",
           "Records that wait for the function, those in flight included.", ("function",)),
    Metric("streamfn_function_state", "gauge",
           "1 for the state that the function is in, 0 for the others.", ("function", "state")),
    Metric("streamfn_iterator_age_seconds", "gauge",
           "Age of the oldest record that is not processed; 0: there is none.", ("function",)),
    Metric("streamfn_in_flight_batches", "gauge",
           "Batches that a worker has begun and not finished.", ("function",)),
    Metric("streamfn_in_flight_calls", "gauge",
           "Calls by request that run, in all workers.", ("function",)),
    Metric("streamfn_queued_calls", "gauge",
           "Calls by request that wait for a process.", ("function",)),
    Metric("streamfn_workers", "gauge", "Living workers of the log."),
    Metric("streamfn_worker_children", "gauge", "Runner processes of these workers."),
    Metric("streamfn_records_appended_total", "counter",
           "Sequence numbers given to records of the shard; a crash of the machine skips some.",
           ("stream", "shard")),
    Metric("streamfn_log_size_bytes", "gauge", "Bytes on disk.", ("stream", "shard")),
    Metric("streamfn_segments", "gauge", "Segment files on disk.", ("stream", "shard")),
)  # fmt: skip
"""In the order of the page."""

BY_NAME: Final = {metric.name: metric for metric in METRICS}
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Sample(NamedTuple):
    """One value of a metric."""

    name: str
    labels: Mapping[str, str]
    value: float | Histogram


def page(samples: Iterable[Sample]) -> str:
    """Return the page of metrics; the samples of a metric keep their order.

    Raises:
        KeyError: A sample is not in the table.
        ValueError: The labels of a sample are not those of the table.
    """
    by_name: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if set(sample.labels) != set(BY_NAME[sample.name].labels):
            raise ValueError(f"`{sample.name}` has the labels {sorted(sample.labels)}")
        by_name[sample.name].append(sample)
    lines: list[str] = []
    for metric in METRICS:
        if metric.name in by_name:
            lines += _lines(metric, by_name[metric.name])
    return "".join(f"{line}\n" for line in lines)


def _lines(metric: Metric, samples: list[Sample]) -> list[str]:
    lines = [
        f"# HELP {metric.name} {metric.help.translate(_HELP_ESCAPES)}",
        f"# TYPE {metric.name} {metric.kind}",
    ]
    for sample in samples:
        if isinstance(sample.value, Histogram):
            lines += _histogram_lines(metric.name, sample.labels, sample.value)
        else:
            lines.append(f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}")
    return lines


def _histogram_lines(name: str, labels: Mapping[str, str], value: Histogram) -> list[str]:
    """Return the lines of a histogram, whose buckets count all values up to their bound."""
    reached = accumulate(value.buckets)
    bounds = (*value.bounds, math.inf)
    buckets = [
        f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {count}"
        for bound, count in zip(bounds, reached, strict=True)
    ]
    shown = _labels(labels)
    return [
        *buckets,
        f"{name}_sum{shown} {_number(value.sum)}",
        f"{name}_count{shown} {value.count}",
    ]


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
