"""`streamfn`: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NoReturn

import click

from streamfn import __version__
from streamfn.errors import StreamfnError

from .console import output, shows_colour
from .examples import with_examples
from .exits import CommandError, Exit, exit_code, one_line
from .params import CommandGroup, output_options

COMMANDS = (
    "worker", "workers", "status", "put", "tail", "replay", "invoke", "dlq", "stream", "fn",
    "filter", "metrics", "fsck", "bench", "demo",
)  # fmt: skip
"""In the order of `--help`; each is the attribute `command` of the module of that name."""

NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""Raised for a group without a sub-command, with the help as its message; none before click 8.2."""


class LazyGroup(CommandGroup):
    """Imports the module of a command only when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands in the order of `--help`."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Return the command of that name."""
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"streamfn.cli.{name}").command
        return with_examples(command, name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 -- what the command returns
        """Run the command; a reader that closes the pipe early is not an error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return Exit.OK


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamfn", message="%(prog)s %(version)s")
@output_options
def streamfn() -> None:
    """Serverless stream functions on your own machine.

    Put events into a durable log on disk. Workers call your Python functions with them.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # WHY: for a character that the encoding lacks, a `?` is better than a traceback.
            stream.reconfigure(errors="replace")
    code = run(arguments)
    _flush_or_silence()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        result = streamfn.main(arguments, prog_name="streamfn", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except NO_ARGUMENTS as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except Exception as error:  # noqa: BLE001 -- all errors are reported here
        _report(error)
        return exit_code(error)
    return result if isinstance(result, int) else Exit.OK


def _report(error: Exception) -> None:
    import traceback

    if output.verbose or _is_unexpected(error):
        traceback.print_exception(error)
    line = one_line(error)
    if shows_colour(sys.stderr):
        line = line.replace("error:", "\x1b[1;31merror:\x1b[0m", 1)
    print(line, file=sys.stderr)  # noqa: T201


def _is_unexpected(error: Exception) -> bool:
    return not isinstance(error, StreamfnError | CommandError | click.ClickException | OSError)


def _flush_or_silence() -> None:
    """Flush stdout; if its pipe is closed, redirect it, so that the last flush cannot fail."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
