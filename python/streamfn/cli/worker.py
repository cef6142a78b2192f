"""`streamfn worker`: runs the functions of an app."""

from __future__ import annotations

from datetime import timedelta

import click

from streamfn.errors import StreamNotFound
from streamfn.model.worker import WorkerConfig

from .log_options import log_options
from .params import Duration, log_dir_option, open_log, output_options


class Processes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """A number of processes, or `auto`."""

    name = "n|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Return the number, None for `auto`."""
        text = str(value)
        if text == "auto":
            return None
        if not text.isdigit() or int(text) < 1:
            self.fail(f"`{text}` is not `auto` or a number of at least 1", param, ctx)
        return int(text)


@click.command("worker")
@click.argument("app", envvar="STREAMFN_APP")
@click.option(
    "--processes",
    type=Processes(),
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Number of runner processes; auto: one for each lane with work, at most one per core.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="K",
    help="Lanes that each runner process calls at once. Use more than 1 for functions that wait "
    "for the network; they must be thread-safe. Functions with "
    'input="lambda" are called one at a time, unless concurrent=True.',
)
@click.option(
    "--reload",
    is_flag=True,
    help="Reload the code when the app's files change. Without it, SIGHUP does so.",
)
@click.option("--burst", is_flag=True, help="Exit when no record is left to process.")
@click.option(
    "--drain-timeout",
    type=Duration(),
    default="30s",
    show_default=True,
    help="Longest wait for calls in flight after SIGTERM or Ctrl-C.",
)
@click.option(
    "--max-runners",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Most processes for functions that are called by request.  [default: 4 per core]",
)
@click.option(
    "--idle",
    type=Duration(),
    default="5m",
    show_default=True,
    help="How long such a process stays without a call.",
)
@click.option("--only", multiple=True, metavar="FN", help="Run only this function; repeatable.")
@click.option("--factory", is_flag=True, help="APP names a callable that returns the app.")
@log_options
@log_dir_option
@output_options
def command(  # noqa: PLR0913 -- one for each option
    *,
    app: str,
    processes: int | None,
    threads: int,
    reload: bool,
    burst: bool,
    drain_timeout: timedelta,
    max_runners: int | None,
    idle: timedelta,
    only: tuple[str, ...],
    factory: bool,
    log_dir: str,
) -> int:
    """Call the functions of APP with the records of their streams.

    APP is `module:attr`, `file.py` or `file.py:attr`. Several workers may run on one log; they
    share the work. On Ctrl-C or SIGTERM, the worker waits for calls in flight, then stops.
    """
    from streamfn.worker.supervisor.supervisor import Supervisor

    from .worker_output import observer

    worker_output = observer()
    config = WorkerConfig(
        app=app,
        log_dir=log_dir,
        processes=processes,
        threads=threads,
        reload=reload,
        burst=burst,
        drain_timeout=drain_timeout,
        max_runners=max_runners,
        idle=idle,
        only=only,
        factory=factory,
        log_level=worker_output.least,
    )
    try:
        code = Supervisor(config, worker_output).run()
    except StreamNotFound as error:
        with open_log(log_dir):  # adds a hint with the nearest name
            raise error from None
    finally:
        worker_output.close()
    return code
