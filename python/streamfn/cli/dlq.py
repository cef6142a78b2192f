"""`streamfn dlq`: what a function could not process, and sending it back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import click

from streamfn.units import format_count

from .console import shows_colour, voice, write_json, write_line, write_listing
from .exits import CommandError, Exit
from .functions import elsewhere, mapping_name
from .params import (
    CommandGroup,
    Duration,
    confirm,
    json_option,
    log_dir_option,
    open_log,
    voice_options,
)
from .times import moment

if TYPE_CHECKING:
    from streamfn.engine.deadletter import DeadLetter, DeadLetters, Status

STATUSES = ("open", "queued", "resolved", "dropped")


class Identity(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """The id of a dead letter.

    WHY not empty: it is a variable of a script that was not set, and no id at all means all.
    """

    name = "id"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the id, or fail as usage."""
        if not value:
            self.fail("an id is empty: give the dead letter's, as `dlq ls` shows it", param, ctx)
        return str(value)


@click.group("dlq", cls=CommandGroup)
def command() -> None:
    """Look at dead letters, redrive them or drop them."""


@command.command("ls")
@click.argument("function", metavar="FN")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    default="open",
    show_default=True,
    help="open: to be dealt with; queued: being tried again.",
)
@json_option
@log_dir_option
@voice_options
def ls(*, function: str, status: str, as_json: bool, log_dir: str) -> None:
    """List the dead letters of FN."""
    from .shapes import dead_letter_shape

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


@command.command("show")
@click.argument("function", metavar="FN")
@click.argument("identity", metavar="[ID]", required=False, type=Identity())
@json_option
@log_dir_option
@voice_options
def show(*, function: str, identity: str | None, as_json: bool, log_dir: str) -> None:
    """Show one dead letter of FN with payload and traceback; without ID, the first open one."""
    from .shapes import dead_letter_shape

    with _letters(log_dir, function) as letters:
        letter = _one(letters, function, identity)
    if as_json:
        write_json(dead_letter_shape(letter))
    else:
        _print(letter)


@command.command("redrive")
@click.argument("function", metavar="FN")
@click.argument("identities", metavar="[ID]...", nargs=-1, type=Identity())
@click.option("--wait", is_flag=True, help="Until a worker has tried them all.")
@click.option(
    "--timeout", type=Duration(), help="Of --wait, such as 30s; default: as long as it takes."
)
@json_option
@log_dir_option
@voice_options
def redrive(
    *,
    function: str,
    identities: tuple[str, ...],
    wait: bool,
    timeout: timedelta | None,
    as_json: bool,
    log_dir: str,
) -> None:
    """Have FN try its dead letters again: those given, or all.

    They are queued for this function alone. A running worker takes them, or the next one.
    """
    with _letters(log_dir, function) as letters:
        _check_known(letters, function, identities)
        queued = letters.redrive(identities or None)
        voice.note(_queued_text(letters, queued, function, wait=wait))
        if wait and letters.entries("queued"):
            _wait(letters, function, timeout)
        if as_json:
            write_json({"queued": queued, "open": len(letters.entries())})


@command.command("drop")
@click.argument("function", metavar="FN")
@click.argument("identities", metavar="[ID]...", nargs=-1, type=Identity())
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@log_dir_option
@voice_options
def drop(
    *,
    function: str,
    identities: tuple[str, ...],
    yes: bool,
    as_json: bool,
    log_dir: str,
) -> None:
    """Give up dead letters of FN: those given, or all. They are not tried again.

    It asks before it does; where nobody can be asked it takes --yes.
    """
    with _letters(log_dir, function) as letters:
        _check_known(letters, function, identities)
        # WHY by their ids: what fails while the question is open was not asked about.
        chosen = identities or [letter.id for letter in letters.entries()]
        if chosen:
            count = format_count(len(chosen), "dead letter")
            confirm(f"Drop {count} of `{function}`?", yes=yes)
        dropped = letters.drop(chosen)
    voice.note(f"dropped {format_count(dropped, 'dead letter')} of `{function}`")
    if as_json:
        write_json({"dropped": dropped})


@contextmanager
def _letters(log_dir: str, function: str) -> Iterator[DeadLetters]:
    from streamfn.engine.deadletter import DeadLetters

    with open_log(log_dir) as log:
        name = mapping_name(log, function)
        # WHY first: an empty list would look as if nothing had failed.
        if goes := elsewhere(log, name):
            voice.note(goes)
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
            hint = f"`streamfn dlq ls {function}` shows them"
            raise CommandError(f"`{function}` has no open dead letter `{identity}`", hint)


def _none_text(letters: DeadLetters, function: str, status: Status = "open") -> str:
    """Return that there is none, and, of open ones, how many are queued: those are not done."""
    none = f"no {status} dead letters of `{function}`"
    queued = len(letters.entries("queued")) if status == "open" else 0
    if not queued:
        return none
    wait = "one waits" if queued == 1 else "ones wait"
    return f"{none}; {format_count(queued)} redriven {wait} for a worker"


def _queued_text(letters: DeadLetters, queued: int, function: str, *, wait: bool) -> str:
    if not queued:
        return _none_text(letters, function)
    after = "" if wait else "; a running worker tries them, or the next one you start"
    return f"queued {format_count(queued, 'dead letter')} of `{function}`{after}"


def _wait(letters: DeadLetters, function: str, timeout: timedelta | None) -> None:
    if not letters.wait(timeout):
        message = "time is up, and some redriven records are not tried yet"
        hint = "is a worker running? `streamfn worker APP` tries them"
        raise CommandError(message, hint, Exit.TRY_AGAIN)
    left = len(letters.entries())
    if left:
        hint = f"`streamfn dlq show {function}` shows why"
        message = f"`{function}` still has {format_count(left, 'open dead letter')}"
        raise CommandError(message, hint)
    voice.note(f"all done: no dead letters of `{function}` are left")


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "partition_key": letter.partition_key,
        "error": f"{letter.error_type}: {letter.error_message}".splitlines()[0][:80],
        "attempts": letter.attempts,
        "last_failed": moment(letter.last_failed),
    }


def _print(letter: DeadLetter) -> None:
    """Print a dead letter for people; the payload comes last, as it may be long."""
    fields = {
        "id": letter.id,
        "function": f"{letter.function} (version {letter.function_version})",
        "record": f"{letter.stream}/{letter.shard_id} #{letter.sequence_number}",
        "key": letter.partition_key or "–",
        "condition": letter.condition,
        "error": f"{letter.error_type}: {letter.error_message}",
        "attempts": str(letter.attempts),
        "failed": f"{moment(letter.first_failed)} to {moment(letter.last_failed)}",
    }
    bold, plain = ("\x1b[1m", "\x1b[0m") if shows_colour(sys.stdout) else ("", "")
    for name, value in fields.items():
        write_line(f"{bold}{name:<10}{plain} {value}".encode())
    for name, block in (("traceback", letter.traceback.encode()), ("payload", letter.data)):
        if block:
            write_line(f"{bold}{name}{plain}".encode())
            write_line(b"".join(b"  " + line for line in block.rstrip().splitlines(keepends=True)))
