"""Texts of bounded size for any value: for messages between processes, logs, and single lines.

Nothing here reads more of a value than it shows, so neither time nor memory depends on its size.
The work of a user's own `__repr__` is not bounded.
"""

from __future__ import annotations

import reprlib
from collections import deque
from itertools import islice
from typing import Final

HEAVY: Final = 10_000
"""Characters and items of a value above which only a part of it is read."""

_CONTAINERS: Final = (list, tuple, set, frozenset, deque)


def cut(text: str, bytes_max: int) -> str:
    """Cut the middle out of a text that is too long; the ends of a traceback say most.

    Characters that cannot be encoded, such as half a surrogate pair, become `?`.
    """
    head, tail = text, ""
    if len(text) > bytes_max:  # a character has a byte at least
        head, tail = text[:bytes_max], text[-bytes_max:]
    first = head.encode("utf-8", "replace")
    if not tail and len(first) <= bytes_max:
        return first.decode()
    # A mark with a smaller number is not longer.
    room = bytes_max - len(_mark(len(text)).encode())
    if room <= 0:
        return ""
    last = tail.encode("utf-8", "replace") if tail else first
    kept = (
        first[: room // 4].decode(errors="ignore"),
        last[len(last) - (room - room // 4) :].decode(errors="ignore"),
    )
    return _mark(len(text) - len(kept[0]) - len(kept[1])).join(kept)


def _mark(count: int) -> str:
    return f"\n… {count:,} characters cut …\n"


def shown(value: object, chars_max: int = 100) -> str:
    """Return a value as Python prints it, on one line and with at most `chars_max` characters."""
    try:
        text = bounded_repr(value)
    except Exception as error:  # noqa: BLE001 -- of the user's `__repr__`, or of a huge int
        text = f"<{type(error).__qualname__} in __repr__ of a {type(value).__qualname__}>"
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


class _Repr(reprlib.Repr):
    """`repr` of a few items of each container."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 1_000
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 20

    def repr_bytes(self, value: bytes, _level: int) -> str:
        """Show the beginning."""
        return repr(value[: self.maxother])

    def repr_dict(self, value: dict[object, object], level: int) -> str:
        """Show some items; the inherited method sorts all keys first."""
        few = dict(islice(value.items(), self.maxlist))
        return super().repr_dict(few, level)

    repr_bytearray = repr_bytes


_BOUNDED: Final = _Repr()


def bounded_repr(value: object) -> str:
    """Return `repr(value)`; for a large value of Python's own types, only a part of it."""
    return _BOUNDED.repr(value) if is_heavy(value) else repr(value)


def is_heavy(value: object) -> bool:
    """Whether a value of Python's own types is large."""
    left, ahead = HEAVY, [value]
    while ahead and left >= 0:
        each = ahead.pop()
        left -= 1
        if isinstance(each, str | bytes | bytearray):
            left -= len(each)
        elif isinstance(each, _CONTAINERS) and type(each) in _CONTAINERS:  # no `__iter__` of theirs
            left -= len(each)
            ahead.extend(each if left >= 0 else ())
        elif type(each) is dict:
            left -= len(each)
            ahead.extend((*each.keys(), *each.values()) if left >= 0 else ())
    return left < 0
