"""`RetentionLimits`: what a stream keeps, as people write it and as the core reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from streamfn.errors import ConfigError
from streamfn.units import parse_duration, parse_size

Retention = str
"""`"7d"`, `"10GiB"` or `"consumed"`."""

CONSUMED: Final = "consumed"
EVERYTHING: Final = "everything"
"""How a stream without any limit is shown."""
_AGES: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_SIZES: Final = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """The limits of a stream; what any of them allows to delete is deleted."""

    seconds: float | None = None
    """Oldest age kept. None: no such limit."""
    bytes: int | None = None
    """Most bytes kept by each shard. None: no such limit."""
    consumed: bool = False
    """Whether records that all functions have processed are deleted."""

    @property
    def words(self) -> tuple[Retention, ...]:
        """The limits as a person writes them; `parse_retention` reads them."""
        limits = [] if self.seconds is None else [_exact(self.seconds, _AGES)]
        limits += [] if self.bytes is None else [_exact(self.bytes, _SIZES)]
        return (*limits, CONSUMED) if self.consumed else tuple(limits)

    def __str__(self) -> str:
        """Return the limits with commas, or `everything`."""
        return ", ".join(self.words) or EVERYTHING

    def arguments(self) -> dict[str, Any]:
        """Return the core's keyword arguments."""
        return {
            "retention_seconds": self.seconds,
            "retention_bytes": self.bytes,
            "retention_consumed": self.consumed,
        }


def parse_retention(given: object) -> RetentionLimits:
    """Read `"7d"`, `"10GiB"`, `"consumed"` or a tuple of these; None or `"everything"`: no limit.

    Raises:
        ConfigError: A limit cannot be read, or there are two of a kind.
    """
    words = () if given is None else given if isinstance(given, tuple | list) else (given,)
    if tuple(words) == (EVERYTHING,):
        return RetentionLimits()
    limits: dict[str, Any] = {}
    for word in words:
        name, value = _limit(word)
        if name in limits:
            raise ConfigError("retention", f"`{word}` is a second limit of its kind, give one")
        limits[name] = value
    return RetentionLimits(**limits)


def _limit(word: object) -> tuple[str, float | int | bool]:
    if not isinstance(word, str):
        raise ConfigError("retention", f"`{word}` is not a text, write `7d`, `10GiB` or `consumed`")
    if word == CONSUMED:
        return "consumed", True
    for name, parse in (("seconds", _seconds), ("bytes", parse_size)):
        try:
            value = parse(word)
        except ValueError:
            continue
        if value > 0 and not word.strip().isdigit():  # a bare number could be either
            return name, value
    raise ConfigError("retention", f"`{word}` is not an age (7d), a size (10GiB) or `consumed`")


def _seconds(word: str) -> float:
    return parse_duration(word).total_seconds()


def _exact(amount: float, units: tuple[tuple[str, int], ...]) -> str:
    """Return the amount in the largest unit of which it is a whole number."""
    for unit, size in units:
        if amount % size == 0:
            return f"{amount / size:.0f}{unit}"
    return f"{amount * 1000:.0f}ms"
