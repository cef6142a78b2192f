"""Texts of bounded size, made of anything: in messages between processes, in logs, on one line.

Nothing here looks at more of a value than is shown, so neither time nor memory depends on its size.
What a `__repr__` of the user's does by itself is not bounded.
"""

from __future__ import annotations

import reprlib
from collections import deque
from itertools import islice
from typing import Final

HEAVY: Final = 10_000
"""Characters and items of a value from which on only a part of it is looked at."""

_CONTAINERS: Final = (list, tuple, set, frozenset, deque)


def cut(text: str, bytes_max: int) -> str:
    """Cut the middle out of a text that is too long: a traceback tells most at its two ends.

    What no encoder takes, such as half a surrogate pair, becomes `?`.
    """
    head, tail = text, ""
    if len(text) > bytes_max:  # a character has a byte at least
        head, tail = text[:bytes_max], text[-bytes_max:]
    first = head.encode("utf-8", "replace")
    if not tail and len(first) <= bytes_max:
        return first.decode()
    # Longer than any mark with a smaller number.
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
    """Return a value as Python prints it, on one line and no longer than that."""
    try:
        text = bounded_repr(value)
    except Exception as error:  # noqa: BLE001 -- it is the user's, or an endless number
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
    """Return `repr(value)`; of a large value that Python's own types are built of, only a part."""
    return _BOUNDED.repr(value) if is_heavy(value) else repr(value)


def is_heavy(value: object) -> bool:
    """Whether a value built of Python's own types is large."""
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
