"""The health of functions as rows of listings, and as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from .console import output, write_listing
from .times import iso_microseconds

if TYPE_CHECKING:
    from streamfn import _core
    from streamfn.health.functions import FunctionHealth, Health
    from streamfn.log import Log

MINUTE, HOUR, DAY = 60, 3600, 86_400
TWO_FIGURES: Final = 9.95
"""From here on the part before the point has two figures."""
_UNITS: Final = (
    ("s", 1.0, 1e-9), ("µs", 1e-6, 0.9995e-3), ("ms", 1e-3, 0.9995), ("s", 1.0, 2 * MINUTE),
    ("m", MINUTE, 2 * HOUR), ("h", HOUR, 2 * DAY),
)  # fmt: skip
"""Unit, its seconds, and up to which duration it is used."""


def health_of(log: Log, name: str | None = None) -> tuple[Health, int]:
    """Return the health of a log's functions, or of one; and the time, in µs since 1970."""
    from streamfn.clock import SystemClock
    from streamfn.health.functions import read_health
    from streamfn.units import to_microseconds

    now_us = to_microseconds(SystemClock().now())
    return read_health(log.core, now_us, name), now_us


def function_row(log: Log, each: FunctionHealth) -> dict[str, Any]:
    """Return a function as an object of `fn ls --json`."""
    from streamfn.engine.deadletter import DeadLetters

    letters, mapping, trouble = DeadLetters(log, each.name), each.mapping, each.trouble
    lanes = each.lanes
    return {
        "name": each.name,
        "source": "stream" if each.request is None else "request",
        "streams": list(each.streams),
        "state": str(each.state),
        "reason": trouble.reason if trouble else None,
        "error_type": trouble.error_type if trouble else None,
        "error_message": trouble.error_message if trouble else None,
        "since": _time(trouble.since_us if trouble and trouble.since_us else each.since_us),
        "next_try": _time(trouble.next_try_us if trouble else None),
        "parallelization_factor": mapping.wanted_factor if mapping else None,
        "lanes": sum("." not in lane.stream and not lane.is_finished for lane in lanes),
        "lanes_concerned": each.lanes_concerned,
        # WHY leased: without a lease, the batch in flight is one that will be called again later.
        "in_flight": sum(lane.is_leased and lane.in_flight is not None for lane in lanes),
        "records_behind": each.records_behind,
        "iterator_age_seconds": each.iterator_age_seconds,
        "rate_in": each.rate_in,
        "rate_out": each.rate_out,
        "p50_seconds": each.p50_seconds,
        "p99_seconds": each.p99_seconds,
        "retries": each.retries,
        "dead_letters": len(letters.entries()),
        "on_failure": mapping.on_failure if mapping else None,
        "queued_dead_letters": len(letters.entries("queued")),
        "code_version": each.code_version,
        "memory_limit": each.memory_limit,
        "memory_highest": each.memory_highest,
        "calls": None
        if each.request is None
        else {
            "running": each.request.running,
            "queued": each.request.queued,
            "throttled": each.throttled,
            "concurrency": each.request.concurrency,
        },
        "workers": [
            {
                "uuid": worker.uuid,
                "pid": worker.pid,
                "host": worker.report.host if worker.report else None,
                "runners": list(worker.report.runners) if worker.report else [],
            }
            for worker in each.workers
        ],
    }


def write_functions(rows: Sequence[dict[str, Any]], *, none: str) -> None:
    """Write the table of `fn ls`; it fits 80 columns with names of usual length."""
    shown = [
        {
            **row,
            "age": short_seconds(row["iterator_age_seconds"]),
            "rate": short_rate(row["rate_out"]),
            "p99": short_seconds(row["p99_seconds"]),
            **_without_stream(row),
        }
        for row in rows
    ]
    columns = {
        "name": "FUNCTION~", "state": "STATE", "streams": "STREAM~", "records_behind": "BEHIND>",
        "age": "AGE>", "rate": "RATE>", "p99": "P99>", "retries": "RETRIES>",
        "dead_letters": "DEAD>",
    }  # fmt: skip
    write_listing(shown, columns, as_json=False, none=none)


def _without_stream(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the table shows otherwise of a function by request."""
    calls = row["calls"]
    if calls is None:
        return {}
    unknown = dict.fromkeys(("retries", "dead_letters"))
    return {"streams": "by request", "records_behind": calls["queued"], **unknown}


def lane_rows(each: FunctionHealth) -> list[dict[str, Any]]:
    """Return the lanes of a function as objects of `fn info --json`."""
    from streamfn.health.functions import lane_state

    return [{**_lane(lane), "state": str(lane_state(each, lane))} for lane in each.lanes]


def write_info(row: Mapping[str, Any]) -> None:
    """Print what `fn info` knows of a function as a whole."""
    from streamfn.units import format_count, format_size

    if (calls := row["calls"]) is not None:
        told = f"{calls['running']:,} running, {calls['queued']:,} queued"
        told = f"by request, {told}, {calls['throttled']:,} throttled"
        figures = {"calls": short_rate(row["rate_out"])}
        more = {"concurrency": calls["concurrency"]}
    else:
        age = short_seconds(row["iterator_age_seconds"])
        told = format_count(row["records_behind"], "record") + " behind"
        told += f" ({age})" if age and row["records_behind"] else ""
        told += f", {format_count(row['dead_letters'], 'open dead letter')}"
        figures = {"in": short_rate(row["rate_in"]), "out": short_rate(row["rate_out"])}
        more = {"retries": row["retries"]}
    output.note(f"{row['name']}: {row['state']}, {told}")
    figures |= {"p50": short_seconds(row["p50_seconds"]), "p99": short_seconds(row["p99_seconds"])}
    figures |= {**more, "code": row["code_version"]}
    if row["memory_limit"] is not None:
        highest = "–" if row["memory_highest"] is None else format_size(row["memory_highest"])
        figures["memory"] = f"{highest} of {format_size(row['memory_limit'])}"
    output.note("  ".join(f"{name} {'–' if of is None else of}" for name, of in figures.items()))
    for worker in row["workers"]:
        runners = ", ".join(map(str, worker["runners"])) or "none"
        output.note(
            f"worker {worker['uuid'][:8]}: process {worker['pid'] or '–'} on "
            f"{worker['host'] or '–'}, runners {runners}"
        )


def write_queued(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each function with redriven dead letters that no worker has retried yet."""
    from streamfn.units import format_count

    for row in rows:
        if queued := row["queued_dead_letters"]:
            waits = "waits" if queued == 1 else "wait"
            told = format_count(queued, "redriven dead letter")
            output.note(f"{row['name']}: {told} {waits} for a worker")


def write_reasons(functions: Sequence[FunctionHealth], now_us: int) -> None:
    """Print a line for each function with which something is wrong."""
    from streamfn.health.sentences import sentence

    for each in functions:
        if line := sentence(each, now_us):
            output.note(line)


def short_seconds(seconds: float | None) -> str | None:
    """Return a duration for a table, with two figures: `0s`, `850µs`, `1.2ms`, `3m`, `2h`, `4d`."""
    if seconds is None:
        return None
    for unit, size, most in _UNITS:
        if seconds < most:
            amount = seconds / size
            return f"{amount:.1f}{unit}" if 0 < amount < TWO_FIGURES else f"{amount:.0f}{unit}"
    return f"{seconds / DAY:.0f}d"


def short_rate(rate: float | None) -> str | None:
    """Return records per second for a table: `0.3/s`, `1,204/s`; None stays None."""
    if rate is None:
        return None
    return f"{rate:.1f}/s" if 0 < rate < TWO_FIGURES else f"{rate:,.0f}/s"


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else iso_microseconds(microseconds)


def _lane(lane: _core.LaneStatus) -> dict[str, Any]:
    in_flight = lane.in_flight
    open_records = None if in_flight is None else [
        [entry.first, entry.last, entry.attempts] for entry in in_flight.entries
    ]  # fmt: skip
    shown = None if open_records is None else [f"{first}–{last}" for first, last, _ in open_records]
    return {
        "stream": lane.stream,
        "shard_id": lane.shard_id,
        "slot": lane.slot,
        "factor": lane.factor,
        "checkpoint": lane.checkpoint,
        "end": lane.end,
        "in_flight": open_records,
        "open": shown,
        "is_leased": lane.is_leased,
        "written": iso_microseconds(lane.checkpoint_us),
    }
