"""`streamfn fn rename`: gives a function another name, with all that belongs to it."""

from __future__ import annotations

import click

from streamfn import _core
from streamfn.errors import ConfigError, LockTimeout, StreamNotFound
from streamfn.log import Log

from .console import output, write_json
from .exits import CommandError, Exit
from .functions import mapping_name
from .params import confirm, json_option, log_dir_option, open_log, output_options

OWN_STREAMS = (".dlq", ".redrive")
"""Behind the name of a function: the streams that are its own."""


@click.command("rename")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option(
    "--replace",
    is_flag=True,
    help="If a worker has already registered NEW, remove what NEW has: its checkpoints and its "
    "dead letters.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of --replace.")
@json_option
@log_dir_option
@output_options
def command(*, old: str, new: str, replace: bool, yes: bool, as_json: bool, log_dir: str) -> None:
    """Rename OLD to NEW, as it was renamed in the code.

    NEW continues at the position of OLD: checkpoints, batches in flight, windows, a pause,
    replays, dead letters and queued redrives stay. Stop the workers that run OLD or NEW first.

    NEW is a function's name; it stays in its app. `<app>.<function>` moves it to another app.
    """
    with open_log(log_dir) as log:
        before = mapping_name(log, old, "rename it in the code; its callers use the new name")
        after = new if "." in new else f"{before.partition('.')[0]}.{new}"
        _refuse_if_run(log, before, after)
        if replace and after in _core.Mapping.names(log.core):
            confirm(f"Remove {after}, its checkpoints and its dead letters?", yes=yes)
            _remove(log, after)
        _rename(log, before, after)
    output.note(f"renamed `{before}` to `{after}`; it continues at its position")
    if as_json:
        write_json({"renamed": before, "to": after})


def _refuse_if_run(log: Log, *names: str) -> None:
    """Refuse if a living worker runs a function, even if it has no lane of it now."""
    from streamfn.health.workers import living_workers

    for functions in living_workers(log.core).values():
        for name in names:
            if name in functions:
                raise CommandError(
                    f"a worker runs `{name}`", "stop the worker, then rename", Exit.TRY_AGAIN
                )


def _remove(log: Log, name: str) -> None:
    try:
        _core.Mapping.remove(log.core, name)
    except LockTimeout as error:
        raise _is_running(name, error) from None
    for suffix in OWN_STREAMS:
        try:
            log.core.remove_stream(f"{name}{suffix}", force=True)
        except StreamNotFound:
            continue


def _rename(log: Log, before: str, after: str) -> None:
    try:
        _core.Mapping.rename(log.core, before, after)
    except LockTimeout as error:
        raise _is_running(before, error) from None
    except ConfigError as error:
        hints = {
            "mapping": f"`streamfn fn rename {before} {after} --replace` removes what it has",
            "stream": "handle them with `streamfn dlq`, then `streamfn stream rm` the stream",
            "name": "letters, digits, `_` and `-`: `total`, or with its app `shop.total`",
        }
        raise CommandError(str(error.reason), hints.get(str(error.field))) from None


def _is_running(name: str, error: LockTimeout) -> CommandError:
    return CommandError(f"`{name}` is running: {error}", "stop its workers", Exit.TRY_AGAIN)
