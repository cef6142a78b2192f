"""Options and argument types that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamfn.errors import ConfigError, StreamNotFound

from .console import voice
from .exits import CONFIG_HINTS, CommandError, Exit

if TYPE_CHECKING:
    from datetime import timedelta

    from streamfn.log import Log

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_LOG_DIR = ".streamfn"


class CommandGroup(click.Group):
    """Commands of which the nearest is named when there is none of a name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest."""
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from streamfn.model.options import nearest

            name = " ".join([*ctx.command_path.split()[1:], args[0]])
            message = f"there is no command `{name}`, {nearest(args[0], known)}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """`500ms`, `5s`, `2m`, or a number of seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration, or fail as usage."""
        from streamfn.units import DURATION_MAX, format_duration, parse_duration

        try:
            duration = parse_duration(value)  # type: ignore[arg-type]  # it judges any object
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if duration > DURATION_MAX:
            self.fail(f"`{value}` is longer than {format_duration(DURATION_MAX)}", param, ctx)
        return duration


class StreamName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A name that a stream may have; internal streams, with dots, can be read."""

    name = "stream"

    def __init__(self, *, internal: bool = False) -> None:
        self.internal = internal

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the name, or fail as usage."""
        from streamfn.model.options import checked_name

        parts = str(value).split(".") if self.internal else [str(value)]
        try:
            for part in parts:
                checked_name("STREAM", part)
        except ConfigError as error:
            self.fail(error.reason, param, ctx)
        return str(value)


def log_dir_option(command: _Command) -> _Command:
    """Add `--log-dir`."""
    return click.option(
        "--log-dir",
        envvar="STREAMFN_LOG_DIR",
        default=DEFAULT_LOG_DIR,
        show_default=True,
        metavar="DIR",
        help="The log directory [env: STREAMFN_LOG_DIR].",
    )(command)


def json_option(command: _Command) -> _Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on stdout.")(command)


def voice_options(command: _Command) -> _Command:
    """Add `-q`, `-v` and `--no-color`; they say how the command speaks."""
    for option in (
        click.option("--no-color", is_flag=True, expose_value=False, callback=_remember,
                     help="No colours [env: NO_COLOR]."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=_remember,
                     help="Say more; twice: everything."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_remember,
                     help="Say nothing but errors."),
    ):  # fmt: skip
        command = option(command)
    return command


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless told not to; what destroys is never done by a script that does not say so.

    Raises:
        UsageError: Nobody is there to be asked.
        Abort: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this is final, add --yes")
    click.confirm(question, abort=True, err=True)


@contextmanager
def open_log(log_dir: str) -> Iterator[Log]:
    """Open the log of a command that reads, for its time: it does not make one.

    Raises:
        ConfigError: It is no log.
        CommandError: There is no such folder; or the command asked for a stream that is not there.
    """
    from streamfn.log import Log

    try:
        opened = Log.open(log_dir, create=False)
    except ConfigError as error:
        if Path(log_dir).exists():
            raise
        hint = f"{CONFIG_HINTS['log_dir']}; `streamfn put` makes a new one"
        raise CommandError(str(error), hint, Exit.CONFIG) from None
    with opened as log:
        try:
            yield log
        except StreamNotFound as error:
            from streamfn.model.options import closest

            close = closest(error.name, log.core.streams(internal="." in error.name))
            nearest = error.hint if close is None else f"did you mean `{close}`?"
            raise CommandError(str(error), nearest) from None


def file_size(path: str) -> int:
    """Return the size of a regular file in bytes, 0 of anything else."""
    place = Path(path)
    return place.stat().st_size if place.is_file() else 0


def _remember(_ctx: click.Context, param: click.Parameter, value: int) -> None:
    """Set the field of `voice` that the option is named after; `-q` may stand in two places."""
    assert param.name is not None
    setattr(voice, param.name, max(value, getattr(voice, param.name)))
