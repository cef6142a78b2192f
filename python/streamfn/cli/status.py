"""`streamfn status`: whether all is well, as an exit code for monitors."""

from __future__ import annotations

from datetime import timedelta

import click

from .console import output, write_json, write_line
from .exits import Exit
from .health_rows import health_of
from .params import Duration, json_option, log_dir_option, open_log, output_options


@click.command("status")
@click.option(
    "--max-lag",
    type=Duration(),
    metavar="DURATION",
    help="Highest age of the oldest unprocessed record of a function, such as 1m.",
)
@click.option(
    "--max-dead-letters",
    type=click.IntRange(0),
    metavar="N",
    help="Most open dead letters of a function.",
)
@json_option
@log_dir_option
@output_options
def command(
    *, max_lag: timedelta | None, max_dead_letters: int | None, as_json: bool, log_dir: str
) -> int:
    """Say whether all is well, for monitors and health checks.

    Prints a line for each function that is failing or blocked, that no worker runs, or that is
    over a limit; or `ok`. Without limits, only states are checked.

    \b
    Exit code:
      0  all is well
      1  a function is failing or blocked, or is over a limit
      2  wrong usage
      3  otherwise, if there is no worker, or a function without one
    """  # noqa: D301 -- `\b` must be the character: click keeps the lines that follow it
    from streamfn.engine.deadletter import DeadLetters
    from streamfn.health.findings import Limits, findings

    with open_log(log_dir) as log:
        health, now_us = health_of(log)
        letters = {}
        if max_dead_letters is not None:
            names = [each.name for each in health.functions]
            letters = {name: len(DeadLetters(log, name).entries()) for name in names}
    found = findings(health, letters, Limits(max_lag, max_dead_letters), now_us)
    is_bad = any(not each.is_no_worker for each in found)
    code = Exit.FAILED if is_bad else Exit.NOT_STARTED if found else Exit.OK
    if as_json:
        listed = [
            {"kind": each.kind, "function": each.function, "message": each.message}
            for each in found
        ]
        write_json({"ok": not found, "exit_code": int(code), "findings": listed})
        return code
    for each in found:
        write_line(each.message.encode())
    if not found:
        write_line(b"ok")
    output.detail(f"{len(health.functions)} functions, {len(health.workers)} workers")
    return code
