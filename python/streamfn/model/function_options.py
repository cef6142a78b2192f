"""Checks and converts the arguments of `@app.function`; see `model.options` for `@app.stream`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypedDict

from streamfn._core import Board
from streamfn.errors import ConfigError
from streamfn.units import parse_duration, parse_size

from .options import StreamOptions, closest, nearest, parsed, whole_number

PER_PROCESS: Final = 64
"""Calls of an `async def` function that one process runs at once, unless it says otherwise."""
_LATER: Final = ("max_retries", "max_event_age", "on_success", "on_failure")
"""Arguments for calls by event."""


class FunctionOptions(TypedDict, total=False):
    """Keyword arguments of `App.function`; the other defaults are in `model.function_config`.

    A plain number is in seconds or bytes; strings have units.
    """

    name: str | None
    """The function's name (default: that of the Python function)."""
    timeout: str | float | timedelta
    """Longest duration of one call (60 s); after it the process is killed."""
    concurrency: int | None
    """Calls that one worker runs at once (default: no limit); more are refused at once. 0 switches
    the function off."""
    memory: str | int | None
    """Memory that its process may use (default: no limit). With a limit it has processes of its
    own; one above the limit is killed, and its call fails with `Runtime.OutOfMemory`."""
    per_process: int | None
    """Calls that one process runs at once: always 1 for `def`, 1 to 256 for `async def` (64)."""


def function_fields(options: Mapping[str, Any], *, is_async: bool) -> dict[str, Any]:
    """Convert the arguments to the fields of a `FunctionConfig`, without its names.

    Args:
        options: The arguments.
        is_async: Whether the function is an `async def`.

    Raises:
        ConfigError: An argument is unknown or invalid.
    """
    check_names(options)
    fields: dict[str, Any] = {"is_async": is_async, "per_process": _per_process(options, is_async)}
    if options.get("timeout") is not None:
        fields["timeout"] = parsed("timeout", parse_duration, options["timeout"])
    if options.get("concurrency") is not None:
        fields["concurrency"] = whole_number("concurrency", options["concurrency"])
    if options.get("memory") is not None:
        fields["memory"] = parsed("memory", parse_size, options["memory"])
    return fields


def check_names(options: Mapping[str, Any]) -> None:
    """Refuse arguments that `@app.function` does not have.

    Raises:
        ConfigError: There is one.
    """
    known = FunctionOptions.__annotations__
    for option in options:
        if option in known:
            continue
        if option in _LATER:
            raise ConfigError(option, "events come in a later release, leave it out")
        if option in StreamOptions.__annotations__ and closest(option, known) is None:
            raise ConfigError(option, "only `@app.stream` has this argument, leave it out")
        raise ConfigError(option, f"unknown argument, {nearest(option, known)}")


def _per_process(options: Mapping[str, Any], is_async: bool) -> int:  # noqa: FBT001
    given = options.get("per_process")
    if given is None:
        return PER_PROCESS if is_async else 1
    calls = whole_number("per_process", given)
    if not 1 <= calls <= Board.CELLS:
        raise ConfigError("per_process", f"{calls} is not between 1 and {Board.CELLS}")
    if calls > 1 and not is_async:
        reason = "a process runs one call of a `def` function at once: leave it out, or write it"
        raise ConfigError("per_process", f"{reason} as `async def`")
    return calls
