"""Checks and converts the arguments of `@app.stream`.

Strings such as `"30s"` become values here and in no other module. Every error names the argument
and the fix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from typing import Any, Final, TypedDict, TypeVar, cast, get_args

from streamfn._core import NAME_BYTES_MAX
from streamfn.errors import ConfigError
from streamfn.model.filter import Pattern, checked_patterns
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import DEFAULT_TIMEOUT, STARTS, OnCorruption, Start
from streamfn.model.policy import (
    PRESETS,
    BackoffPolicy,
    BatchPolicy,
    Bound,
    OnExhausted,
    RetryPolicy,
    WindowPolicy,
)
from streamfn.units import parse_duration, parse_size

_T = TypeVar("_T")


class StreamOptions(TypedDict, total=False):
    """Keyword arguments of `App.stream`; their defaults are in `model.policy` and `model.mapping`.

    A plain number is in seconds or bytes; strings have units. docs/functions.md lists all of them.
    """

    name: str | None
    """The function's name (default: that of the Python function)."""
    input: str
    """What a call receives: `"batch"` (a `Batch`, the default), `"record"` (one `Record`),
    `"lambda"` (AWS Lambda's event and context for a batch) or `"arrow"` (an `ArrowBatch`)."""
    batch_size: int
    """Most records in one call (100)."""
    batch_window: str | float | timedelta
    """Longest wait for more records (0: call at once with the records there are)."""
    batch_bytes: str | int
    """Most payload bytes in one call (6 MiB)."""
    start: Start
    """Where a new function starts: `"trim_horizon"` (default), `"latest"` or an aware datetime.

    A datetime in the future is refused. A function that has run before continues at its checkpoint.
    """
    filter: Pattern | None
    """Event pattern that records must match to be delivered (default: deliver all): a dict, JSON
    text, or a list of patterns, of which one must match."""
    max_retries: int
    """Retries of the same records after the first call (3); -1: no limit."""
    backoff: BackoffPolicy | None
    """Waits between retries (0.5 s, doubled up to 60 s, full jitter)."""
    max_record_age: str | float | timedelta | None
    """Records older than this go to `on_failure` without a call (default: no limit)."""
    bisect: bool
    """Split a failed batch in two until the failing record is alone (True)."""
    report_failures: bool | None
    """Accept a returned `{"batchItemFailures": [...]}` (True, except with `preset="aws"`)."""
    on_exhausted: OnExhausted
    """When reported failures have no retry left: give up `"record"` (default), the first failed
    record only, or the whole `"batch"`."""
    parallelization_factor: int
    """Lanes per shard (1); order is kept per partition key."""
    max_concurrency: int | None
    """Lanes of this function that one worker calls at once (default: no limit per function)."""
    memory: str | int | None
    """Most bytes of memory that its process may use (default: no limit); above it the process is
    killed. With a limit the function shares no process with other functions."""
    concurrent: bool
    """With `input="lambda"`: allow a process to run its calls beside other calls (False: one call
    at a time per process, as on AWS)."""
    tumbling_window: str | float | timedelta | None
    """Width of the windows with `batch.state` (default: no windows); needs one lane per shard."""
    timeout: str | float | timedelta
    """Longest duration of one call (60 s); after it the process is killed."""
    on_failure: str | None
    """Where failed records go: `"dlq"` (default), another stream, or None: dropped, counted and
    logged."""
    on_corruption: OnCorruption
    """At damaged records: `"raise"` (default) stops there and reports it, `"skip"` skips them."""
    to: str | None
    """Stream that receives each item that a successful call returns or yields: bytes, text, other
    values as JSON, or a tuple `(data, key)`."""
    on_success: str | None
    """Stream that receives AWS's invocation record, as JSON, for each successful call."""
    preset: str | None
    """`"aws"`: AWS's defaults; other arguments override them."""


NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{NAME_BYTES_MAX}}}")


def checked_name(field: str, name: object) -> str:
    """Return `name` if it is a valid name for streams, apps and functions.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        allowed = f"1 to {NAME_BYTES_MAX} letters, digits, `_` or `-`"
        raise ConfigError(field, f"`{name}` cannot be a name, use {allowed}")
    return name


CLOSE: Final = 0.7
"""Similarity, from 0 to 1, at which one word is suggested for another."""
WORD_CHARS_MAX: Final = NAME_BYTES_MAX * 3
"""Longest word to compare: stream, mapping and replay names have up to three parts."""


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the most similar of the words; None if none is similar enough."""
    if len(word) > WORD_CHARS_MAX:
        return None
    found = [(_likeness(word, each), each) for each in sorted(words)]
    best = max(found, default=(0.0, ""), key=lambda pair: pair[0])
    return best[1] if best[0] >= CLOSE else None


def _likeness(word: str, other: str) -> float:
    """Return the similarity of two words, from 0 to 1, without the leading dashes of options."""
    word, other = word.lstrip("-").lower(), other.lstrip("-").lower()
    parts, others = (set(re.split(r"[-_.:@]", each)) for each in (word, other))
    likeness = SequenceMatcher(a=word, b=other, autojunk=False).ratio()
    # A whole part of the name, such as `window` of `batch_window`, is similar enough.
    return max(likeness, CLOSE) if word and parts < others else likeness


def nearest(word: str, words: Iterable[str], *, also: Iterable[str] = ()) -> str:
    """Return `did you mean ...?`, or a list of `words`; `also` is suggested but not listed."""
    known = sorted(words)
    close = closest(str(word), [*known, *also])
    if close is not None:
        return f"did you mean `{close}`?"
    return "use one of " + ", ".join(f"`{each}`" for each in known)


def resolved(options: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Bound]]:
    """Check the argument names; return the arguments with the preset's values, and its bounds.

    Raises:
        ConfigError: An argument or the preset is unknown.
    """
    for option in options:
        if option not in StreamOptions.__annotations__:
            reason = f"unknown argument, {nearest(option, StreamOptions.__annotations__)}"
            raise ConfigError(option, reason)
    values = dict(options)
    preset = values.pop("preset", None)
    if preset is None:
        return values, {}
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError("preset", f"unknown preset `{preset}`, {nearest(str(preset), PRESETS)}")
    chosen = PRESETS[preset]
    values |= {name: None for name in chosen.endless if _is_minus_one(values.get(name))}
    return {**chosen.values, **chosen.further, **values}, chosen.bounds


def mapping_fields(
    values: Mapping[str, Any], bounds: Mapping[str, Bound] | None = None
) -> dict[str, Any]:
    """Convert resolved arguments to the fields of an `EventSourceMapping`, without its names.

    Raises:
        ConfigError: A value is invalid, or the preset does not allow it.
    """
    kind = _input(values.get("input", "batch"))
    fields: dict[str, Any] = {
        "input": kind,
        "concurrent": _concurrent(values.get("concurrent", False), kind),
        "start": _start(values.get("start", "trim_horizon")),
        "filter": checked_patterns(values.get("filter")),
        "timeout": parsed("timeout", parse_duration, values.get("timeout", DEFAULT_TIMEOUT)),
        "on_failure": _destination("on_failure", values.get("on_failure", "dlq")),
        "to": _destination("to", values.get("to")),
        "on_success": _destination("on_success", values.get("on_success")),
        "on_corruption": _on_corruption(values.get("on_corruption", "raise")),
        "batch": _batch_policy(values),
        "retry": _retry_policy(values),
        "tumbling": _window_policy(values),
    }
    for count in ("parallelization_factor", "max_concurrency"):
        if values.get(count) is not None:
            fields[count] = whole_number(count, values[count])
    if values.get("memory") is not None:
        fields["memory"] = parsed("memory", parse_size, values["memory"])
    _check_bounds(fields, bounds or {})
    return fields


def _check_bounds(fields: Mapping[str, Any], bounds: Mapping[str, Bound]) -> None:
    batch, retry = fields["batch"], fields["retry"]
    chosen = {
        "batch_size": batch.size,
        "batch_window": batch.window,
        "max_retries": retry.max_retries,
        "max_record_age": retry.max_record_age,
        "tumbling_window": fields["tumbling"] and fields["tumbling"].width,
        **fields,
    }
    for argument, bound in bounds.items():
        value = chosen.get(argument)
        refusal = None if value is None else bound.refusal(value)
        if refusal is not None:
            raise ConfigError(argument, f"{refusal}, as on AWS; change it or leave out the preset")


def _batch_policy(values: Mapping[str, Any]) -> BatchPolicy:
    given: dict[str, Any] = {}
    if "batch_size" in values:
        given["size"] = whole_number("batch_size", values["batch_size"])
    if "batch_window" in values:
        given["window"] = parsed("batch_window", parse_duration, values["batch_window"])
    if "batch_bytes" in values:
        given["bytes"] = parsed("batch_bytes", parse_size, values["batch_bytes"])
    return BatchPolicy(**given)


def _window_policy(values: Mapping[str, Any]) -> WindowPolicy | None:
    given = values.get("tumbling_window")
    width = None if given is None else parsed("tumbling_window", parse_duration, given)
    if not width:
        return None
    return WindowPolicy(width=width, state_bytes_max=values.get("state_bytes_max"))


def _retry_policy(values: Mapping[str, Any]) -> RetryPolicy:
    given: dict[str, Any] = {}
    if "max_retries" in values:
        given["max_retries"] = whole_number("max_retries", values["max_retries"])
    if values.get("max_record_age") is not None:
        given["max_record_age"] = _record_age(values["max_record_age"])
    if values.get("backoff") is not None:
        if not callable(getattr(values["backoff"], "draw", None)):
            reason = f"`{values['backoff']}` is not a `streamfn.Backoff` and has no method `draw`"
            raise ConfigError("backoff", reason)
        given["backoff"] = values["backoff"]
    for switch in ("bisect", "report_failures"):
        if values.get(switch) is not None:
            given[switch] = _switch(switch, values[switch])
    if "on_exhausted" in values:
        given["on_exhausted"] = values["on_exhausted"]
    return RetryPolicy(**given)


def _record_age(value: object) -> timedelta:
    if _is_minus_one(value):
        reason = f'on AWS `{value}` means no limit: leave it out, or use `preset="aws"`'
        raise ConfigError("max_record_age", reason)
    return parsed("max_record_age", parse_duration, value)


def _is_minus_one(value: object) -> bool:
    """Whether a value is -1 or minus one second, as a number, text or `timedelta`."""
    if isinstance(value, timedelta):
        return value == timedelta(seconds=-1)
    return isinstance(value, int | float | str) and str(value).strip() in {"-1", "-1.0", "-1s"}


def _input(value: object) -> str:
    if not isinstance(value, str) or value not in INPUTS:
        raise ConfigError("input", f"unknown input `{value}`, {nearest(str(value), INPUTS)}")
    return value


def _concurrent(value: object, kind: str) -> bool:
    switch = _switch("concurrent", value)
    if switch and not INPUTS[kind].is_exclusive:
        reason = f'calls with `input="{kind}"` always run concurrently, leave it out'
        raise ConfigError("concurrent", reason)
    return switch


def _switch(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(field, f"`{value}` is not True or False")
    return value


def _on_corruption(value: object) -> OnCorruption:
    if value not in get_args(OnCorruption):
        known = nearest(str(value), get_args(OnCorruption))
        raise ConfigError("on_corruption", f"unknown value `{value}`, {known}")
    return cast("OnCorruption", value)


def _start(value: object) -> Start:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigError("start", f"{value} has no time zone, add one (`tzinfo=UTC`)")
        return value
    if value not in STARTS:
        reason = f"`{value}` is not a datetime, and {nearest(str(value), STARTS)}"
        raise ConfigError("start", reason)
    return str(value)


def _destination(field: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and "://" in value:
        reason = f"`{value}`: connectors come in a later release, name a stream"
        raise ConfigError(field, reason)
    return checked_name(field, value)


def whole_number(field: str, value: object) -> int:
    """Return an argument that is a whole number.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(field, f"`{value}` is not a whole number")
    return value


def parsed(field: str, parse: Callable[[Any], _T], value: object) -> _T:
    """Return an argument as `parse` reads it.

    Raises:
        ConfigError: `parse` refuses it.
    """
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(field, str(error)) from None
