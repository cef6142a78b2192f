"""`streamfn stream add` and `stream set`: the settings of a stream, given and changed."""

from __future__ import annotations

from typing import Any

import click

from streamfn.log import Log, Stream
from streamfn.log.declared import ensure_declared
from streamfn.model.declaration import StreamDifference, declared_stream
from streamfn.model.retention import RetentionLimits, parse_retention
from streamfn.units import format_count

from .console import output, write_json
from .exits import CommandError
from .params import (
    StreamName,
    confirm,
    dry_run_option,
    json_option,
    log_dir_option,
    open_log,
    output_options,
    yes_option,
)
from .removal_plan import RemovalPlan, removal_plan

RETENTION_WORDS = "7d|10GiB|consumed|everything"
retention_option = click.option(
    "--retention",
    multiple=True,
    metavar=RETENTION_WORDS,
    help="Limit what is kept, by age, by size of a shard, or to what some function still needs; "
    "repeatable. `everything`: no limit.",
)
compression_option = click.option(
    "--compression",
    type=click.Choice(["zstd", "none"]),
    help="Compression of new records on disk.",
)


@click.command("add")
@click.argument("name", type=StreamName())
@click.option(
    "--shards",
    type=click.IntRange(1),
    metavar="N",
    help="Number of shards; the partition key of a record chooses its shard [default: 1].",
)
@click.option(
    "--durability",
    type=click.Choice(["group", "process"]),
    help="Records survive power loss (group), or kills of processes (process) [default: group].",
)
@retention_option
@compression_option
@click.option(
    "--exist-ok",
    is_flag=True,
    help="Succeed if the stream exists with the settings given here; it is not changed.",
)
@json_option
@log_dir_option
@output_options
def add(
    *, name: str, retention: tuple[str, ...], exist_ok: bool, as_json: bool, log_dir: str,
    **settings: Any,  # noqa: ANN401 -- shards, durability and compression
) -> None:  # fmt: skip
    """Create the stream NAME.

    Without options a stream has one shard, keeps everything, is compressed and survives power
    loss. With --exist-ok, a stream that exists with other settings than those given is told, each
    difference in a line, and the exit code is 1.
    """
    wanted = declared_stream(name, retention=retention or ..., **settings)
    with Log.open(log_dir) as log:
        found = ensure_declared(log, wanted) if exist_ok else None
        stream = found.stream if found else log.create_stream(name, **_given(retention, settings))
        info = stream.info()
    is_new = found is None or found.is_new
    if as_json:
        differs = [] if found is None else [each._asdict() for each in found.differences]
        write_json({"name": name, "created": is_new, "differences": differs})
    if found and found.differences:
        raise _differs(name, found.differences)
    shards = format_count(sum(shard.is_open for shard in info.shards), "shard")
    there = "" if is_new else "exists already, "
    output.note(f"stream `{name}`: {there}{shards}, durability {info.durability}")


def _given(retention: tuple[str, ...], settings: dict[str, Any]) -> dict[str, Any]:
    given = {**settings, "retention": retention or None}
    return {field: value for field, value in given.items() if value is not None}


def _differs(name: str, differences: list[StreamDifference]) -> CommandError:
    for each in differences:
        output.note(f"`{name}` has {each.field} {each.existing}, not {each.declared}: {each.hint}")
    count = format_count(len(differences), "setting")
    return CommandError(f"stream `{name}` exists already and differs in {count}")


@click.command("set")
@click.argument("name", metavar="STREAM", type=StreamName(internal=True))
@retention_option
@compression_option
@dry_run_option
@yes_option
@json_option
@log_dir_option
@output_options
def set_(
    *, name: str, retention: tuple[str, ...], compression: str | None,
    dry_run: bool, yes: bool, as_json: bool, log_dir: str,
) -> None:  # fmt: skip
    """Change the retention or the compression of STREAM.

    Programs that have STREAM open use the new settings within two seconds. --retention replaces all
    limits of the stream. If records would be deleted at once, the command says how many, and which
    functions have not processed them, and asks.
    """
    if not retention and compression is None:
        raise click.UsageError("nothing to change: give --retention or --compression")
    limits = parse_retention(retention) if retention else None
    with open_log(log_dir) as log:
        stream = log.stream(name)
        changes = _changes(stream, limits, compression)
        plan = _plan(log, stream, limits)
        for field, (old, new) in changes.items():
            output.note(f"{field} of `{name}`: {old} → {new}")
        if not changes:
            output.note(f"`{name}` has these settings already, nothing changed")
        elif dry_run:
            _tell(plan, "would delete")
        else:
            _tell(plan, "this deletes")
            if plan and plan.records:
                confirm("Delete them?", yes=yes)
            stream.set(retention=... if limits is None else limits.words, compression=compression)  # type: ignore[arg-type]  # one of the choices
    if as_json:
        listed = {field: {"old": old, "new": new} for field, (old, new) in changes.items()}
        removal = plan.to_json() if plan else None
        write_json({"name": name, "changes": listed, "deletes": removal, "dry_run": dry_run})


def _changes(
    stream: Stream, limits: RetentionLimits | None, compression: str | None
) -> dict[str, tuple[str, str]]:
    """Return the old and the new value of each setting that changes."""
    info = stream.info()
    pairs = {
        "retention": (
            str(RetentionLimits(**info.retention)),
            None if limits is None else str(limits),
        ),
        "compression": (info.compression, compression),
    }
    return {
        field: (old, new) for field, (old, new) in pairs.items() if new is not None and old != new
    }


def _plan(log: Log, stream: Stream, limits: RetentionLimits | None) -> RemovalPlan | None:
    if limits is None or not limits.words:
        return None
    arguments = limits.arguments()
    return removal_plan(log, stream, lambda shard: stream.core.removable(shard, **arguments))


def _tell(plan: RemovalPlan | None, verb: str) -> None:
    if plan and plan.records:
        first, *unread = plan.lines()
        output.note(f"{verb} {first}")
        for line in unread:
            output.note(line)
