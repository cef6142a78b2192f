"""`streamfn demo`: real data, a real failure, a real recovery."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from streamfn.errors import StreamExists

from .console import voice
from .exits import CommandError, Exit
from .params import voice_options


@click.command("demo")
@click.option("--log-dir", metavar="DIR", help="Keep the log here; default: a temporary folder.")
@voice_options
def command(*, log_dir: str | None) -> int:
    """Run a week of real flights through two functions, one of them with a bug, and repair it.

    Takes a few seconds and touches nothing but its own folder.
    """
    from streamfn.demo.screen import TerminalScreen
    from streamfn.demo.story import WorkerStopped, run

    with _folder(log_dir) as folder:
        console = voice.rich()
        console.quiet = voice.quiet
        screen = TerminalScreen(console, folder, _program(), is_kept=log_dir is not None)
        try:
            run(folder, screen)
        except WorkerStopped as error:
            voice.note("the demo was stopped")
            return error.exit_code or Exit.INTERRUPTED
        except StreamExists as error:
            message = f"the demo ran in {folder} before ({error})"
            raise CommandError(message, "give it another --log-dir, or none") from None
    return 0


@contextmanager
def _folder(log_dir: str | None) -> Iterator[str]:
    if log_dir is not None:
        yield log_dir
        return
    with TemporaryDirectory(prefix="streamfn-demo-") as folder:
        yield str(Path(folder) / "log")


def _program() -> str:
    """Return how this program was called, as it can be typed again here."""
    called = Path(sys.argv[0]).resolve()
    found = shutil.which("streamfn")
    if found is not None and Path(found).resolve() == called:
        return "streamfn"
    if called.name != "streamfn":
        return "python -m streamfn"
    here = Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else str(called)
