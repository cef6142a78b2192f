"""`streamfn demo`: processes real data with a function that has a bug, fixes it, redrives."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from streamfn.errors import StreamExists

from .console import output
from .exits import CommandError, Exit
from .params import output_options


@click.command("demo")
@click.option("--log-dir", metavar="DIR", help="Keep the log in DIR [default: a temporary folder].")
@output_options
def command(*, log_dir: str | None) -> int:
    """Process real flight data with a function that has a bug; fix it.

    Two functions process a week of flights. One has a bug; it is fixed, and its dead letters are
    redriven. The demo takes a few seconds and writes only to its own folder.
    """
    from streamfn.demo.screen import TerminalScreen
    from streamfn.demo.story import WorkerStopped, run

    with _folder(log_dir) as folder:
        console = output.rich_console()
        console.quiet = output.quiet
        screen = TerminalScreen(console, folder, _program(), is_kept=log_dir is not None)
        try:
            run(folder, screen)
        except WorkerStopped as error:
            output.note("the demo was stopped")
            return error.exit_code or Exit.INTERRUPTED
        except StreamExists as error:
            message = f"the demo has already run in {folder} ({error})"
            raise CommandError(message, "use another --log-dir, or omit it") from None
    return 0


@contextmanager
def _folder(log_dir: str | None) -> Iterator[str]:
    if log_dir is not None:
        yield log_dir
        return
    with TemporaryDirectory(prefix="streamfn-demo-") as folder:
        yield str(Path(folder) / "log")


def _program() -> str:
    """Return the command that started this program, as it can be typed in this folder."""
    called = Path(sys.argv[0]).resolve()
    found = shutil.which("streamfn")
    if found is not None and Path(found).resolve() == called:
        return "streamfn"
    if called.name != "streamfn":
        return "python -m streamfn"
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else str(called)
