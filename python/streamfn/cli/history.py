"""`streamfn fn history`: how a function was in the last hour, or the last day."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streamfn.units import format_duration

from .console import write_listing
from .functions import function_name
from .health_rows import TWO_FIGURES, short_seconds
from .params import Duration, json_option, log_dir_option, open_log, output_options
from .times import iso_microseconds

TENS_SECONDS: Final = 10
"""Seconds between the points of the day before the last hour."""

if TYPE_CHECKING:
    from streamfn.telemetry.history import Point


@click.command("history")
@click.argument("function", metavar="FN")
@click.option(
    "--last",
    type=Duration(),
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="How far to look back; 24h are kept.",
)
@click.option(
    "--every",
    type=Duration(),
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="Time of one line; at least 1s in the last hour, 10s before it.",
)
@json_option
@log_dir_option
@output_options
def history(
    *, function: str, last: timedelta, every: timedelta, as_json: bool, log_dir: str
) -> None:  # fmt: skip
    """Show how FN was: records in and out, calls, failures and their durations.

    IN and OUT are records a second: put into its stream, and processed. P50 and P99 are durations
    of calls: the middle of all seconds, and the worst of them. BEHIND is at the end of the time.
    There are no lines for times in which no worker with FN ran; what was put meanwhile is in the
    line after it.

    Of a function by request, only its calls are counted; BEHIND are calls that waited.
    """
    from streamfn.telemetry.history import METRICS_FOLDER, read_history, thinned

    with open_log(log_dir) as log:
        name = function_name(log, function)
    since = int(time.time() - last.total_seconds())
    points = read_history(Path(log_dir) / METRICS_FOLDER, name, since)
    # WHY the first point twice: it begins the first interval, and is perhaps not the last one in it
    ends = [*points[:1], *thinned(points, every)]
    rows = [
        _row(before, after, every)
        for before, after in pairwise(ends)
        if after.time > max(before.time, since)
    ]
    if not as_json:
        rows = [_shown(row) for row in rows]
    columns = {
        "time": "TIME", "in": "IN/S>", "out": "OUT/S>", "calls": "CALLS/S>", "failed": "FAILED>",
        "retries": "RETRIES>", "discarded": "GIVEN UP>", "p50": "P50>", "p99": "P99>",
        "behind": "BEHIND>",
    }  # fmt: skip
    hint = "a running worker writes it; --last looks back further"
    none = f"no history of `{name}` in the last {format_duration(last)} (hint: {hint})"
    write_listing(rows, columns, as_json=as_json, none=none)


def _row(before: Point, after: Point, every: timedelta) -> dict[str, Any]:
    """Return the JSON object of the time between two points.

    If no worker ran for a while before it, only records were put meanwhile. So calls are of its
    own length.
    """
    gap = after.time - before.time
    seconds = min(gap, max(round(every.total_seconds()), TENS_SECONDS))

    def rate(now: int, then: int, seconds: int = seconds) -> float:
        return round(max(0, now - then) / seconds, 6)

    return {
        "time": iso_microseconds(after.time * 1_000_000),
        "seconds": seconds,
        "in": rate(after.appended, before.appended, gap),
        "out": rate(after.processed, before.processed),
        "calls": rate(after.calls, before.calls),
        "failed": max(0, after.failed - before.failed),
        "retries": max(0, after.retries - before.retries),
        "discarded": max(0, after.discarded - before.discarded),
        "p50": None if isnan(after.p50) else round(after.p50, 6),
        "p99": None if isnan(after.p99) else round(after.p99, 6),
        "behind": after.behind,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    durations = {key: short_seconds(row[key]) for key in ("p50", "p99")}
    time_of_day = f"{row['time'][11:19]}Z"  # WHY no date: no more than a day is kept
    rates: Sequence[str] = ("in", "out", "calls")
    return {**row, "time": time_of_day, **durations, **{key: _rate(row[key]) for key in rates}}


def _rate(rate: float) -> str:
    """Print a rate so that one call in an hour is not zero."""
    if 0 < rate < 1:
        return f"{rate:.2g}"
    return f"{rate:.1f}" if rate < TWO_FIGURES else f"{rate:,.0f}"
