"""The input formats of `put`: each turns lines into records."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from streamfn import _core
from streamfn.units import format_count

from .exits import CommandError
from .lines import Lines


class InputRecord(NamedTuple):
    """One record to be put, and the number of its line."""

    data: bytes
    key: str | None
    line: int


InputRecords = Iterator[InputRecord | None]
"""The records that a format reads from lines; None for a blank line."""


def _ndjson(lines: Lines, key: str | None) -> InputRecords:
    import orjson

    for raw in lines:
        # Any line may start with a byte order mark: joined files have several.
        line = raw.removeprefix(codecs.BOM_UTF8).strip()
        if not line:
            yield None
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            why, hint = _why_not_json(line, error.msg)
            message = f"line {lines.number} of {lines.name} is not JSON ({why})"
            raise CommandError(with_earlier_lines(message, lines.number), hint) from None
        yield InputRecord(line, None if key is None else _key_of(value, key, lines), lines.number)


def _why_not_json(line: bytes, found: str) -> tuple[str, str]:
    """Return why a line is not JSON, and a hint."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16", "convert it: `iconv -f UTF-16 -t UTF-8`"
    if found.startswith("str is not valid UTF-8"):
        found = "it is not UTF-8"
    return found, "correct it, or use --format lines or csv"


def _plain(lines: Lines, _key: str | None) -> InputRecords:
    for line in lines:
        yield InputRecord(line.removesuffix(b"\r"), None, lines.number)


def _csv(lines: Lines, key: str | None) -> InputRecords:
    import orjson

    csv.field_size_limit(_core.RECORD_BYTES_MAX)
    rows = csv.reader(_decoded(lines), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not header:
                header = _checked_header(row, lines)
            elif not row:
                yield None
            else:
                if len(row) != len(header):
                    found = f"{format_count(len(row), 'field')}, the header has {len(header)}"
                    message = f"line {lines.number} of {lines.name} has {found}"
                    raise CommandError(with_earlier_lines(message, lines.number))
                value = dict(zip(header, row, strict=True))
                partition_key = None if key is None else _key_of(value, key, lines)
                yield InputRecord(orjson.dumps(value), partition_key, lines.number)
    except csv.Error as error:
        message = f"line {lines.number} of {lines.name} is not CSV ({error})"
        raise CommandError(with_earlier_lines(message, lines.number)) from None


def _checked_header(row: list[str], lines: Lines) -> list[str]:
    doubles = [name for name, count in Counter(row).items() if count > 1]
    if doubles:
        message = f"line {lines.number} of {lines.name} has two columns named `{doubles[0]}`"
        raise CommandError(message, "give each column a unique name")
    return row


def _decoded(lines: Lines) -> Iterator[str]:
    for line in lines:
        try:
            # WHY: the line break is restored, because a quoted field may contain one.
            yield line.decode("utf-8-sig" if lines.number == 1 else "utf-8") + "\n"
        except UnicodeDecodeError as error:
            message = f"line {lines.number} of {lines.name} is not UTF-8 ({error.reason})"
            raise CommandError(with_earlier_lines(message, lines.number)) from None


def _key_of(value: Any, field_name: str, lines: Lines) -> str:  # noqa: ANN401 -- any JSON
    """Return the partition key in a field: a string, or a number or boolean in its JSON form."""
    import orjson

    where = f"line {lines.number} of {lines.name}"
    if not isinstance(value, dict) or field_name not in value:
        message, hint = f"{where} has no field `{field_name}`", "choose another field with --key"
        raise CommandError(with_earlier_lines(message, lines.number), hint)
    key = value[field_name]
    if isinstance(key, bool | int | float):
        return orjson.dumps(key).decode()
    if not isinstance(key, str) or not key:
        kind = "an empty string" if key == "" else "null" if key is None else type(key).__name__
        message = f"`{field_name}` in {where} is {kind}, which cannot be a partition key"
        raise CommandError(
            with_earlier_lines(message, lines.number), "it must be a string or a number"
        )
    return key


def with_earlier_lines(message: str, line: int) -> str:
    """Add to a message about a line that the lines before it were put."""
    return f"{message}; the lines before it were put" if line > 1 else message


FORMATS: dict[str, Callable[[Lines, str | None], InputRecords]] = {
    "ndjson": _ndjson,
    "lines": _plain,
    "csv": _csv,
}
