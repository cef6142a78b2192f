"""A broken promise."""

from dataclasses import dataclass
from typing import Literal

Name = Literal[
    "lost",
    "changed",
    "nobody put it",
    "there twice",
    "number issued twice",
    "readers differ",
    "undeclared jump",
    "written after close",
    "wrong shard",
    "order of a producer",
    "order of a key",
    "trimmed too early",
    "reader went back",
    "reader skipped",
    "reader behind",
    "undeclared trim",
    "not delivered",
    "delivered out of order",
    "delivered again",
    "checkpoint ahead",
    "error",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """What is broken, and where."""

    name: Name
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.where}: {self.detail}"


def at(stream: str, shard_id: str, number: int) -> str:
    """A place, for people."""
    return f"{stream}/{shard_id.removeprefix('shardId-').lstrip('0') or '0'}:{number}"
