"""`StreamDeclaration`: the declared settings of a stream; how an existing one differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import EllipsisType
from typing import Any, Final, NamedTuple, get_args

from streamfn.errors import ConfigError

from .options import checked_name, nearest
from .retention import Retention, RetentionLimits, parse_retention
from .stream import Compression, Durability

SHARDS_MAX: Final = 4_096
"""Most shards of a log, as in the core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDeclaration:
    """A stream and those of its settings that were declared; None: not declared."""

    name: str
    shards: int | None = None
    durability: Durability | None = None
    retention: RetentionLimits | None = None
    compression: Compression | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as plain values, for a message."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StreamDeclaration:
        """Return the declaration that `to_dict` gave."""
        retention = values["retention"]
        limits = None if retention is None else RetentionLimits(**retention)
        return cls(**{**values, "retention": limits})


class StreamDifference(NamedTuple):
    """One setting in which an existing stream differs from its declaration."""

    field: str
    declared: str
    existing: str
    hint: str
    """What makes the stream as declared."""


def declared_stream(
    name: object,
    *,
    shards: int | None = None,
    durability: Durability | None = None,
    retention: Retention | tuple[Retention, ...] | EllipsisType | None = ...,
    compression: Compression | None = None,
) -> StreamDeclaration:
    """Check the values of a declaration and return it.

    Raises:
        ConfigError: A value is invalid; the error names it.
    """
    if shards is not None and (isinstance(shards, bool) or not isinstance(shards, int)):
        raise ConfigError("shards", f"`{shards}` is not a whole number")
    if shards is not None and not 1 <= shards <= SHARDS_MAX:
        raise ConfigError("shards", f"{shards} is not 1 to {SHARDS_MAX}")
    return StreamDeclaration(
        name=checked_name("name", name),
        shards=shards,
        durability=_one_of("durability", durability, get_args(Durability)),
        retention=None if retention is ... else parse_retention(retention),
        compression=_one_of("compression", compression, get_args(Compression)),
    )


def _one_of(field: str, value: Any, allowed: tuple[str, ...]) -> Any:  # noqa: ANN401 -- a literal
    if value is not None and value not in allowed:
        raise ConfigError(field, f"`{value}` is not known, {nearest(str(value), allowed)}")
    return value
