"""`streamfn dlq`: the dead letters of a function, and how to redrive or drop them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from streamfn.model.mapping import function_of
from streamfn.units import format_count

from .console import output, shows_colour, write_json, write_line, write_listing
from .exits import CommandError, Exit
from .functions import mapping_name, other_destination
from .params import (
    CommandGroup,
    Duration,
    confirm,
    json_option,
    log_dir_option,
    open_log,
    output_options,
)
from .times import iso_time

if TYPE_CHECKING:
    from streamfn.engine.deadletter import DeadLetter, DeadLetters, Status

STATUSES = ("open", "queued", "resolved", "dropped")


class DeadLetterId(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """The id of a dead letter.

    WHY not empty: an empty id is an unset variable in a script, and no id at all means all.
    """

    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the id; anything else is a usage error."""
        if not value:
            self.fail("an id is empty: use an id that `streamfn dlq ls` shows", param, ctx)
        return str(value)


@click.group("dlq", cls=CommandGroup)
def command() -> None:
    """List, show, redrive and drop dead letters."""


@command.command("ls")
@click.argument("function", metavar="[FN]", required=False)
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    default="open",
    show_default=True,
    help="open: to be redriven or dropped; queued: redriven, until a worker retries it; resolved: "
    "processed after a redrive; dropped: given up with `dlq drop`.",
)
@json_option
@log_dir_option
@output_options
def ls(*, function: str | None, status: str, as_json: bool, log_dir: str) -> None:
    """List the dead letters of FN; without FN, the functions that have some."""
    from .shapes import dead_letter_shape

    if function is None:
        _list_functions(log_dir, cast("Status", status), as_json=as_json)
        return

    with _letters(log_dir, function) as letters:
        found = letters.entries(cast("Status", status))
        none = _none_text(letters, function, cast("Status", status))
    rows: list[dict[str, Any]] = [dead_letter_shape(letter) for letter in found]
    if not as_json:
        rows = [_row(letter) for letter in found]
    columns = {
        "id": "ID", "partition_key": "KEY~", "error": "ERROR~", "attempts": "ATTEMPTS>",
        "last_failed": "LAST FAILED@",
    }  # fmt: skip
    write_listing(rows, columns, as_json=as_json, none=none)


def _list_functions(log_dir: str, status: Status, *, as_json: bool) -> None:
    from streamfn import _core
    from streamfn.engine.deadletter import DeadLetters

    with open_log(log_dir) as log:
        names = sorted(name for name in _core.Mapping.names(log.core) if function_of(name) == name)
        counts = {name: len(DeadLetters(log, name).entries(status)) for name in names}
    rows = [{"function": name, "dead_letters": count} for name, count in counts.items() if count]
    columns = {"function": "FUNCTION~", "dead_letters": f"{status.upper()}>"}
    write_listing(rows, columns, as_json=as_json, none=f"no function has {status} dead letters")


@command.command("show")
@click.argument("function", metavar="FN")
@click.argument("identity", metavar="[ID]", required=False, type=DeadLetterId())
@json_option
@log_dir_option
@output_options
def show(*, function: str, identity: str | None, as_json: bool, log_dir: str) -> None:
    """Show one dead letter of FN with payload and traceback.

    Without ID, it shows the first open one.
    """
    from .shapes import dead_letter_shape

    with _letters(log_dir, function) as letters:
        letter = _one(letters, function, identity)
        count = len(letters.entries()) if identity is None else 1
    if as_json:
        write_json(dead_letter_shape(letter))
        return
    _print(letter)
    if count > 1:
        listed = f"`streamfn dlq ls {function}` lists them"
        output.note(f"the first of {format_count(count)} open dead letters; {listed}")


@command.command("redrive")
@click.argument("function", metavar="FN")
@click.argument("identities", metavar="[ID]...", nargs=-1, type=DeadLetterId())
@click.option("--wait", is_flag=True, help="Wait until a worker has retried all of them.")
@click.option(
    "--timeout", type=Duration(), help="Longest wait with --wait, such as 30s [default: no limit]."
)
@json_option
@log_dir_option
@output_options
def redrive(
    *,
    function: str,
    identities: tuple[str, ...],
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    log_dir: str,
) -> None:
    """Send dead letters back to FN: those given, or all open ones.

    Redriven records are `queued` until a worker retries them. Only FN gets them. A running worker
    retries them, or the next one that you start.
    """
    with _letters(log_dir, function) as letters:
        _check_known(letters, function, identities)
        queued = letters.redrive(identities or None)
        output.note(_queued_text(letters, queued, function, wait=wait))
        if wait and letters.entries("queued"):
            _wait(letters, function, timeout)
        if as_json:
            write_json({"queued": queued, "open": len(letters.entries())})


@command.command("drop")
@click.argument("function", metavar="FN")
@click.argument("identities", metavar="[ID]...", nargs=-1, type=DeadLetterId())
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@log_dir_option
@output_options
def drop(
    *,
    function: str,
    identities: tuple[str, ...],
    yes: bool,
    as_json: bool,
    log_dir: str,
) -> None:
    """Drop dead letters of FN: those given, or all open ones. They are not retried.

    Asks for confirmation; without a terminal, --yes is required.
    """
    with _letters(log_dir, function) as letters:
        _check_known(letters, function, identities)
        # WHY by id: the answer does not cover records that fail while the question is open.
        chosen = identities or [letter.id for letter in letters.entries()]
        if chosen:
            count = format_count(len(chosen), "dead letter")
            confirm(f"Drop {count} of `{function}`?", yes=yes)
        dropped = letters.drop(chosen)
    output.note(f"dropped {format_count(dropped, 'dead letter')} of `{function}`")
    if as_json:
        write_json({"dropped": dropped})


@contextmanager
def _letters(log_dir: str, function: str) -> Iterator[DeadLetters]:
    from streamfn.engine.deadletter import DeadLetters

    with open_log(log_dir) as log:
        name = mapping_name(log, function, "it has no dead letters: its callers get its errors")
        # WHY first: without it, an empty list would look as if nothing had failed.
        if goes := other_destination(log, name):
            output.note(goes)
        yield DeadLetters(log, name)


def _one(letters: DeadLetters, function: str, identity: str | None) -> DeadLetter:
    if identity is None:
        found = next(iter(letters.entries()), None)
        if found is None:
            raise CommandError(_none_text(letters, function))
        return found
    _check_known(letters, function, (identity,))
    return letters.get(identity)


def _check_known(letters: DeadLetters, function: str, identities: tuple[str, ...]) -> None:
    if not identities:
        return
    known = {letter.id for letter in letters.entries()}
    for identity in identities:
        if identity not in known:
            hint = f"`streamfn dlq ls {function}` lists them"
            raise CommandError(f"`{function}` has no open dead letter `{identity}`", hint)


def _none_text(letters: DeadLetters, function: str, status: Status = "open") -> str:
    """Return that there are none with this status; for `open` also how many are queued."""
    none = f"no {status} dead letters of `{function}`"
    queued = len(letters.entries("queued")) if status == "open" else 0
    if not queued:
        return none
    wait = "is queued and waits" if queued == 1 else "are queued and wait"
    return f"{none}; {format_count(queued)} {wait} for a worker"


def _queued_text(letters: DeadLetters, queued: int, function: str, *, wait: bool) -> str:
    if not queued:
        return _none_text(letters, function)
    them = "it" if queued == 1 else "them"
    after = "" if wait else f"; a running worker retries {them}, or the next one you start"
    return f"queued {format_count(queued, 'dead letter')} of `{function}`{after}"


def _wait(letters: DeadLetters, function: str, timeout: timedelta | None) -> None:
    if not letters.wait(timeout):
        message = "timed out: some redriven records have not been retried yet"
        hint = "is a worker running? `streamfn worker APP` retries them"
        raise CommandError(message, hint, Exit.TRY_AGAIN)
    left = len(letters.entries())
    if left:
        hint = f"`streamfn dlq show {function}` shows why"
        message = f"`{function}` still has {format_count(left, 'open dead letter')}"
        raise CommandError(message, hint)
    output.note(f"done: no dead letters of `{function}` are left")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "partition_key": letter.partition_key,
        "error": f"{letter.error_type}: {letter.error_message}".splitlines()[0][:80],
        "attempts": letter.attempts,
        "last_failed": iso_time(letter.last_failed),
    }


def _print(letter: DeadLetter) -> None:
    """Print a dead letter as text; the payload comes last, because it may be long."""
    fields = {
        "id": letter.id,
        "function": f"{letter.function} (version {letter.function_version})",
        "code": letter.code_version or None,
        "record": f"{letter.stream}/{letter.shard_id} #{letter.sequence_number}",
        "key": letter.partition_key or "–",
        "condition": letter.condition,
        "error": f"{letter.error_type}: {letter.error_message}",
        "attempts": str(letter.attempts),
        "failed": f"{iso_time(letter.first_failed)} to {iso_time(letter.last_failed)}",
    }
    bold, plain = ("\x1b[1m", "\x1b[0m") if shows_colour(sys.stdout) else ("", "")
    for name, value in fields.items():
        write_line(f"{bold}{name:<10}{plain} {value}".encode())
    for name, block in (("traceback", letter.traceback.encode()), ("payload", letter.data)):
        if block:
            write_line(f"{bold}{name}{plain}".encode())
            write_line(b"".join(b"  " + line for line in block.rstrip().splitlines(keepends=True)))
