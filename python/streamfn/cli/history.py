"""`streamfn fn history`: how a function was in the last hour, or the last day."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfn.units import format_duration

from .console import write_listing
from .functions import function_name
from .params import Duration, json_option, log_dir_option, open_log, output_options
from .times import iso_microseconds

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
    help="How far to look back, at most 24h.",
)
@click.option(
    "--every",
    type=Duration(),
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="One line for each so long; 1s within the last hour, 10s before it.",
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
    There are no lines for times in which no worker with FN ran.

    Of a function by request, only its calls are counted; BEHIND are calls that waited.
    """
    from streamfn.telemetry.history import METRICS_FOLDER, read_history, thinned

    with open_log(log_dir) as log:
        name = function_name(log, function)
    points = read_history(
        Path(log_dir) / METRICS_FOLDER, name, int(time.time() - last.total_seconds())
    )
    rows = [_row(before, after) for before, after in pairwise(thinned(points, every))]
    if not as_json:
        rows = [_shown(row) for row in rows]
    columns = {
        "time": "TIME@", "in": "IN/S>", "out": "OUT/S>", "calls": "CALLS/S>", "failed": "FAILED>",
        "retries": "RETRIES>", "discarded": "GIVEN UP>", "p50": "P50>", "p99": "P99>",
        "behind": "BEHIND>",
    }  # fmt: skip
    none = f"no history of `{name}` in the last {format_duration(last)} (hint: a worker writes it)"
    write_listing(rows, columns, as_json=as_json, none=none)


def _row(before: Point, after: Point) -> dict[str, Any]:
    """Return the JSON object of the time between two points."""
    seconds = after.time - before.time

    def rate(now: int, then: int) -> float:
        return round(max(0, now - then) / seconds, 1)

    return {
        "time": iso_microseconds(after.time * 1_000_000),
        "seconds": seconds,
        "in": rate(after.appended, before.appended),
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
    durations = {
        key: None if row[key] is None else format_duration(timedelta(seconds=row[key]))
        for key in ("p50", "p99")
    }
    rates: Sequence[str] = ("in", "out", "calls")
    return {**row, **durations, **{key: f"{row[key]:,.1f}" for key in rates}}
