"""Options and argument types that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamfn.errors import ConfigError, StreamNotFound

from .console import output
from .examples import with_examples
from .exits import CONFIG_HINTS, CommandError, Exit

if TYPE_CHECKING:
    from datetime import timedelta

    from streamfn.log import Log

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_LOG_DIR = ".streamfn"
SENTENCE_MAX = 400
"""Longest first sentence of a command's help, in characters."""


class CommandGroup(click.Group):
    """A group that shows whole sentences, and suggests the nearest command for an unknown name."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of that name, with its examples."""
        command = super().get_command(ctx, name)
        path = " ".join([*ctx.command_path.split()[1:], name])
        return None if command is None else with_examples(command, path)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first sentence of each command; click would cut it to one line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(SENTENCE_MAX)) for name, command in commands
                if command is not None and not command.hidden]  # fmt: skip
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown name is a usage error with the nearest one."""
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
        """Return the duration; anything else is a usage error."""
        from streamfn.units import DURATION_MAX, format_duration, parse_duration

        try:
            duration = parse_duration(value)  # type: ignore[arg-type]  # it checks any object
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if duration > DURATION_MAX:
            self.fail(f"`{value}` is longer than {format_duration(DURATION_MAX)}", param, ctx)
        return duration


class StreamName(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A valid name of a stream; `internal` also allows the names of internal streams, with dots."""

    name = "stream"

    def __init__(self, *, internal: bool = False) -> None:
        self.internal = internal

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Return the name; anything else is a usage error."""
        from streamfn.model.options import checked_name

        parts = str(value).split(".") if self.internal else [str(value)]
        try:
            for part in parts:
                checked_name("STREAM", part)
        except ConfigError as error:
            self.fail(error.reason, param, ctx)
        return str(value)


def dry_run_option(command: _Command) -> _Command:
    """Add `--dry-run`."""
    help_ = "Only print what would change and what would be deleted."
    return click.option("--dry-run", is_flag=True, help=help_)(command)


def yes_option(command: _Command) -> _Command:
    """Add `--yes`."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(command)


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
    return click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")(command)


def output_options(command: _Command) -> _Command:
    """Add `-q`, `-v` and `--no-color`: how much the command prints, and in which colours."""
    for option in (
        click.option("--no-color", is_flag=True, expose_value=False, callback=_set_output,
                     help="Print without colours [env: NO_COLOR]."),
        click.option("-v", "--verbose", count=True, expose_value=False, callback=_set_output,
                     help="Print more details."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set_output,
                     help="Print no messages except errors."),
    ):  # fmt: skip
        command = option(command)
    return command


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is deleted; without a terminal, `--yes` is required.

    Raises:
        UsageError: Standard input is not a terminal.
        Abort: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be undone: add --yes to confirm")
    click.confirm(question, abort=True, err=True)


@contextmanager
def open_log(log_dir: str) -> Iterator[Log]:
    """Open an existing log for the time of a command; a missing one is not created.

    Raises:
        ConfigError: The folder is not a log.
        CommandError: There is no such folder, or no such stream in the log.
    """
    from streamfn.log import Log

    try:
        opened = Log.open(log_dir, create=False)
    except ConfigError as error:
        if Path(log_dir).exists():
            raise
        hint = f"{CONFIG_HINTS['log_dir']}; `streamfn put` creates a new one"
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
    """Return the size of a regular file in bytes; 0 for anything else."""
    file = Path(path)
    return file.stat().st_size if file.is_file() else 0


def _set_output(_ctx: click.Context, param: click.Parameter, value: int) -> None:
    """Set the field of `output` that is named like the option; groups and commands have it."""
    assert param.name is not None
    setattr(output, param.name, max(value, getattr(output, param.name)))
