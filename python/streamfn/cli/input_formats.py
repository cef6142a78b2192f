"""The input formats of `put`: each turns lines into records, and says which lines are bad."""

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
    """One record to be put, and the number of its last line."""

    data: bytes
    key: str | None
    line: int


class BadLine(NamedTuple):
    """A line that cannot become a record, or a CSV row of several lines."""

    first: int
    """The number of its first line: `--from-line` would begin here."""
    message: str
    hint: str | None = None


InputRecords = Iterator[InputRecord | BadLine | None]
"""What a format reads from lines; None for a blank line."""


class _NoKeyError(Exception):
    """A record has no partition key in the field; its arguments are those of a `BadLine`."""


def _ndjson(lines: Lines, key: str | None, from_line: int) -> InputRecords:
    import orjson

    lines.skip_to(from_line)
    path = None if key is None else KeyPath(key)
    for raw in lines:
        # Any line may start with a byte order mark: joined files have several.
        line = raw.removeprefix(codecs.BOM_UTF8).strip()
        if not line:
            yield None
            continue
        try:
            value = orjson.loads(line)
            partition_key = None if path is None else path.key_of(value, lines)
        except orjson.JSONDecodeError as error:
            why, hint = _why_not_json(line, error.msg)
            message = f"line {lines.number} of {lines.name} is not JSON ({why})"
            yield BadLine(lines.number, message, hint)
        except _NoKeyError as error:
            yield BadLine(lines.number, *error.args)
        else:
            yield InputRecord(line, partition_key, lines.number)


def _why_not_json(line: bytes, found: str) -> tuple[str, str]:
    """Return why a line is not JSON, and a hint."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16", "convert it: `iconv -f UTF-16 -t UTF-8`"
    if found.startswith("str is not valid UTF-8"):
        found = "it is not UTF-8"
    return found, "correct it, or use --format lines or csv"


def _plain(lines: Lines, _key: str | None, from_line: int) -> InputRecords:
    lines.skip_to(from_line)
    for line in lines:
        yield InputRecord(line.removesuffix(b"\r"), None, lines.number)


def _csv(lines: Lines, key: str | None, from_line: int) -> InputRecords:
    csv.field_size_limit(_core.RECORD_BYTES_MAX)
    decoded = _Decoded(lines)
    rows = csv.reader(decoded, strict=True)
    try:
        header = _checked_header(next(rows, []), lines)
    except csv.Error as error:
        message = f"line {lines.number} of {lines.name} is not CSV ({error})"
        raise CommandError(message) from None
    lines.skip_to(from_line)
    path = None if key is None else KeyPath(key)
    while True:
        first, decoded.trouble = lines.number + 1, ""
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield BadLine(first, f"line {lines.number} of {lines.name} is not CSV ({error})")
            continue
        if row is None:
            return
        yield _csv_record(row, header, path, decoded, first) if row else None


def _csv_record(
    row: list[str], header: list[str], path: KeyPath | None, decoded: _Decoded, first: int
) -> InputRecord | BadLine:
    import orjson

    lines = decoded.lines
    where = f"line {lines.number} of {lines.name}"
    if decoded.trouble:
        return BadLine(first, f"{where} is not UTF-8 ({decoded.trouble})")
    if len(row) != len(header):
        found = f"{format_count(len(row), 'field')}, the header has {len(header)}"
        return BadLine(first, f"{where} has {found}")
    value = dict(zip(header, row, strict=True))
    try:
        partition_key = None if path is None else path.key_of(value, lines)
    except _NoKeyError as error:
        return BadLine(first, *error.args)
    return InputRecord(orjson.dumps(value), partition_key, lines.number)


def _checked_header(row: list[str], lines: Lines) -> list[str]:
    doubles = [name for name, count in Counter(row).items() if count > 1]
    if doubles:
        message = f"line {lines.number} of {lines.name} has two columns named `{doubles[0]}`"
        raise CommandError(message, "give each column a unique name")
    return row


class _Decoded:
    """Iterates over lines as text; `trouble` says what was wrong with the bytes of one."""

    def __init__(self, lines: Lines) -> None:
        self.lines, self.trouble = lines, ""

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            try:
                text = line.decode("utf-8-sig" if self.lines.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                self.trouble, text = error.reason, line.decode(errors="replace")
            # WHY: the line break is restored, because a quoted field may contain one.
            yield text + "\n"


class KeyPath:
    """Where the partition key of a record is: a field, or `a.b` for field `b` of the object `a`.

    A field whose whole name is `a.b` comes first.
    """

    def __init__(self, text: str) -> None:
        self._text, self._parts = text, text.split(".")

    def key_of(self, value: Any, lines: Lines) -> str:  # noqa: ANN401 -- any JSON
        """Return the key: a string, or a number or boolean in its JSON form.

        Raises:
            _NoKeyError: There is no such field, or its value cannot be a key.
        """
        import orjson

        where = f"line {lines.number} of {lines.name}"
        try:
            key = self._found(value)
        except KeyError:
            hint = "choose another field with --key"
            raise _NoKeyError(f"{where} has no field `{self._text}`", hint) from None
        if isinstance(key, bool | int | float):
            return orjson.dumps(key).decode()
        if not isinstance(key, str) or not key:
            kind = "an empty string" if key == "" else "null" if key is None else type(key).__name__
            message = f"`{self._text}` in {where} is {kind}, which cannot be a partition key"
            raise _NoKeyError(message, "it must be a string or a number")
        return key

    def _found(self, value: Any) -> Any:  # noqa: ANN401 -- any JSON
        if isinstance(value, dict) and self._text in value:
            return value[self._text]
        for part in self._parts:
            if not isinstance(value, dict):
                raise KeyError(part)
            value = value[part]
        return value


def with_earlier_lines(message: str, line: int) -> str:
    """Add to a message about a line that the lines before it were put."""
    return f"{message}; the lines before it were put" if line > 1 else message


FORMATS: dict[str, Callable[[Lines, str | None, int], InputRecords]] = {
    "ndjson": _ndjson,
    "lines": _plain,
    "csv": _csv,
}
"""By name: reads lines, the field of the partition key, and the number of the first line."""
