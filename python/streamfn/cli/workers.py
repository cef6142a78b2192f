"""`streamfn workers`: the living workers of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .console import write_listing
from .params import json_option, log_dir_option, open_log, output_options
from .times import iso_microseconds

if TYPE_CHECKING:
    from streamfn.health.workers import Worker


@click.command("workers")
@json_option
@log_dir_option
@output_options
def command(*, as_json: bool, log_dir: str) -> None:
    """List the living workers of this log.

    STATE: the worst state of the worker's functions (see `streamfn fn ls --help`), or starting, or
    draining. RUNNERS: process ids of the processes that call functions.
    """
    from streamfn.health.workers import read_workers

    with open_log(log_dir) as log:
        rows = [_row(each) for each in read_workers(log.core)]
    columns = {
        "short": "WORKER", "pid_text": "PID>", "host": "HOST~", "state": "STATE", "since": "SINCE@",
        "functions": "FUNCTIONS~", "runner_text": "RUNNERS~",
    }  # fmt: skip
    shown = rows if as_json else [
        {**row, "short": row["uuid"][:8], "pid_text": _number(row["pid"]),
         "runner_text": [str(pid) for pid in row["runners"]]}
        for row in rows
    ]  # fmt: skip
    none = "no worker runs on this log (hint: `streamfn worker APP` starts one)"
    write_listing(shown, columns, as_json=as_json, none=none)


def _row(worker: Worker) -> dict[str, Any]:
    report = worker.report
    return {
        "uuid": worker.uuid,
        "pid": worker.pid,
        "host": report.host if report else None,
        "since": iso_microseconds(report.started_us) if report else None,
        "functions": sorted(worker.runs),
        "runners": list(report.runners) if report else [],
        "state": worker.state,
    }


def _number(number: int | None) -> str | None:
    """Return a process id as text: it has no thousands apart."""
    return None if number is None else str(number)
