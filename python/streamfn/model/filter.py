"""Event patterns: reads `filter=`, and explains why an event does not match.

The core compiles and matches patterns (`rust/core/src/filter`); docs/filters.md is the manual.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamfn import _core
from streamfn._core import Record, Records
from streamfn.errors import ConfigError

Pattern = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""An event pattern as a dict or JSON text, or a list of them; one of the list must match."""

Event = str | bytes | Mapping[str, Any] | Record
"""An event to match: a JSON object, or a record of a stream."""

_FIELD: Final = "filter"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One field of an event that does not match its pattern."""

    field: str
    """The path of the field, with dots."""
    wanted: str
    """The alternatives of the pattern, as JSON."""
    found: str
    """What the event has there: JSON values, or a text that says what is missing."""

    def __str__(self) -> str:
        return f"{self.field}: wants {self.wanted}, found {self.found}"


@dataclass(frozen=True, slots=True)
class PatternResult:
    """The result of matching one pattern with an event."""

    pattern: str
    """The pattern, as JSON."""
    mismatches: tuple[Mismatch, ...]
    """The fields that do not match; of `$or`, those of the branch with the fewest mismatches."""

    @property
    def matched(self) -> bool:
        """Whether the pattern matches."""
        return not self.mismatches


@dataclass(frozen=True, slots=True)
class Explanation:
    """The results of matching patterns with one event; true if any pattern matches."""

    patterns: tuple[PatternResult, ...]
    """One result per pattern, in the order given."""

    @property
    def matched(self) -> bool:
        """Whether any pattern matches, so that the function would be called."""
        return any(each.matched for each in self.patterns)

    def __bool__(self) -> bool:
        return self.matched

    def __str__(self) -> str:
        if self.matched:
            return "matches"
        lines = ["does not match"]
        for number, each in enumerate(self.patterns, start=1):
            if len(self.patterns) > 1:
                lines.append(f"pattern {number}: {each.pattern}")
            lines += [f"  {mismatch}" for mismatch in each.mismatches]
        return "\n".join(lines)


def patterns_of(value: Pattern | None) -> tuple[str, ...]:
    """Return the patterns of `filter=`, each as JSON text; none for None.

    Raises:
        ConfigError: The value is neither a pattern nor a list of patterns. `checked_patterns`
            checks the patterns themselves.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigError(_FIELD, f"the text is not JSON: {error}") from None
    if isinstance(value, Mapping):
        return (_text(value, _FIELD),)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        reason = (
            f"`{value!r}` is not an event pattern, write a dict such as "
            "{'data': {'kind': ['a']}}"
        )
        raise ConfigError(_FIELD, reason)
    if not value:
        raise ConfigError(_FIELD, "an empty list matches nothing, leave `filter` out to match all")
    texts: list[str] = []
    for index, each in enumerate(value):
        place = f"{_FIELD}[{index}]"
        if not isinstance(each, str | Mapping):
            raise ConfigError(
                place, f"`{each!r}` is not an event pattern, write a dict or JSON text"
            )
        texts.append(each if isinstance(each, str) else _text(each, place))
    return tuple(texts)


def checked_patterns(value: Pattern | None) -> tuple[str, ...]:
    """Return the patterns of `filter=` for records, as JSON text.

    Raises:
        ConfigError: A pattern is invalid. `field` is the path in the pattern, such as
            `filter.data.amount[0].numeric`; `reason` names the fix.
    """
    patterns = patterns_of(value)
    _compiled(patterns, for_records=True, is_one=not _is_list(value))
    return patterns


def explain(pattern: Pattern, event: Event) -> Explanation:
    """Tell whether an event matches, and which fields do not match and why.

    Args:
        pattern: As the argument `filter` of `App.stream`: a dict, a list of them, or JSON text.
        event: The JSON object that patterns match, `{"data": {...}, "partitionKey": "..."}`, as a
            dict or as text; or a `Record`, which is converted to that form.

    Returns:
        The mismatches of each pattern. The result is true if any pattern matches; its `str` is
        readable text.

    Raises:
        ConfigError: A pattern is invalid, or the event is not a JSON object.

    Source: the operators are those of Amazon EventBridge; docs/filters.md.
    """
    patterns = patterns_of(pattern)
    if not patterns:
        raise ConfigError(_FIELD, "there is no pattern to explain")
    is_one = not _is_list(pattern)
    if isinstance(event, Record):
        _compiled(patterns, for_records=True, is_one=is_one)
        return Explanation(tuple(_explain_record(each, event) for each in patterns))
    found = _compiled(patterns, for_records=False, is_one=is_one).explain(_event_text(event))
    if found is None:
        raise ConfigError("event", 'the event is not a JSON object, such as {"data": {...}}')
    return Explanation(tuple(map(_result, patterns, found)))


def _explain_record(pattern: str, record: Record) -> PatternResult:
    matched = _core.Filter([pattern], for_records=True).matches_records(Records([record]))[0]
    if matched:
        return PatternResult(pattern, ())
    if matched is None:
        shown = record.data[:40].decode(errors="replace")
        return PatternResult(
            pattern, (Mismatch("data", "JSON", f"data that is not JSON: {shown}"),)
        )
    found = _core.Filter([pattern]).explain(_record_text(record))
    assert found is not None, "a record is an object"
    return _result(pattern, found[0])


def _record_text(record: Record) -> bytes:
    """Return a record as patterns match it, without data that is not JSON."""
    fields: dict[str, Any] = {
        "sequenceNumber": str(record.sequence_number),
        "approximateArrivalTimestamp": record.timestamp_us / 1e6,
        "kinesisSchemaVersion": "1.0",
    }
    if record.partition_key is not None:
        fields["partitionKey"] = record.partition_key
    try:
        record.json()
    except ValueError:
        return json.dumps(fields).encode()
    return json.dumps(fields).encode()[:-1] + b',"data":' + record.data + b"}"


def _result(pattern: str, failures: list[tuple[str, str, str]] | None) -> PatternResult:
    return PatternResult(pattern, tuple(Mismatch(*failure) for failure in failures or ()))


def _compiled(patterns: Sequence[str], *, for_records: bool, is_one: bool) -> _core.Filter:
    try:
        return _core.Filter(patterns, for_records=for_records)
    except ConfigError as error:
        field = error.field.replace(f"{_FIELD}[0]", _FIELD, 1) if is_one else error.field
        raise ConfigError(field, error.reason) from None


def _is_list(value: Pattern | None) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[")
    return isinstance(value, Sequence)


def _event_text(event: str | bytes | Mapping[str, Any]) -> bytes:
    if isinstance(event, str):
        return event.encode()
    return event if isinstance(event, bytes) else _text(event, "event").encode()


def _text(value: Mapping[str, Any], field: str) -> str:
    try:
        return json.dumps(dict(value), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ConfigError(field, f"it cannot be written as JSON: {error}") from None
