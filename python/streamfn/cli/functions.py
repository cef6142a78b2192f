"""Finding a function by its full or short name, and its replays."""

from __future__ import annotations

from streamfn import _core
from streamfn.log import Log
from streamfn.model.mapping import DLQ, function_of
from streamfn.model.options import nearest

from .exits import CommandError


def mapping_name(log: Log, name: str, hint: str | None = None) -> str:
    """Return the full name `<app>.<function>` of a mapping in this log, for a full or short name.

    Args:
        log: The log.
        name: The name.
        hint: What to do instead with a function that is called by request.

    Raises:
        CommandError: No mapping has the name, or several do.
    """
    full = function_name(log, name)
    if full not in _core.Mapping.names(log.core):
        raise CommandError(f"`{full}` is called by request, it reads no stream", hint)
    return full


def function_name(log: Log, name: str) -> str:
    """Return the full name of a function of any kind that this log knows.

    Raises:
        CommandError: No function has the name, or several do.
    """
    names = [*_core.Mapping.names(log.core), *sorted(_by_request(log))]
    if name in names:
        return name
    found = [each for each in names if each.partition(".")[2] == name]
    if len(found) == 1:
        return found[0]
    if found:
        listed = " and ".join(f"`{each}`" for each in sorted(found))
        raise CommandError(f"`{name}` is ambiguous: {listed}", "use the full name")
    if not names:
        hint = "`streamfn worker APP` registers the functions of an app"
        raise CommandError(
            f"there is no function `{name}`: no function has run on this log yet", hint
        )
    short = [each.partition(".")[2] for each in names]
    raise CommandError(f"there is no function `{name}`", nearest(name, names, also=short))


def _by_request(log: Log) -> set[str]:
    from streamfn.health.by_request import functions_by_request
    from streamfn.health.workers import read_workers

    return functions_by_request(log.core, read_workers(log.core)) - {*_core.Mapping.names(log.core)}


def other_destination(log: Log, name: str) -> str | None:
    """Return a sentence on where failures of a function go; None: to its own dead letters."""
    record = _core.Mapping.open(log.core, function_of(name))
    on_failure = DLQ if record is None else record.on_failure
    if on_failure == DLQ:
        return None
    if on_failure is None:
        return f"failures of `{name}` are dropped (`on_failure=None`)"
    place = f"the stream `{on_failure}`"
    return f"failures of `{name}` go to {place}: `streamfn tail {on_failure} --json` shows them"


def replays_of(log: Log, name: str) -> list[str]:
    """Return the names of the unfinished replays of a mapping."""
    names = _core.Mapping.names(log.core)
    return sorted(each for each in names if each != name and function_of(each) == name)


def replays_from(log: Log, stream: str) -> list[str]:
    """Return the names of the unfinished replays that read a stream."""
    names = [each for each in _core.Mapping.names(log.core) if function_of(each) != each]
    replays = [_core.Mapping.open(log.core, name) for name in names]
    return sorted(each.name for each in replays if each and each.lanes(stream))
