"""FastStream, on NATS JetStream: functions that its broker calls.

As a program it is the process at the other end of `servers.follow`:

    python faststream_nats.py URL COUNT
"""

import asyncio
import sys
import time
from typing import Any, Final

import uvloop
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.js import api
from nats_jetstream import NAME, UNACKNOWLEDGED_MAX, Nats
from servers import PATIENCE, on_its_way, say_ready, say_times
from systems import BATCH_RECORDS, Touch

from streamfn.bench.measures import LATENCY_RATE

STREAM: Final = JStream(NAME, declare=False)


class FastStream(Nats):
    """No store: NATS is, and what is appended goes there as without FastStream.

    A function that is called with a record subscribes with `queue`, which has twice the rate of
    a `PullSub`, and FastStream acknowledges each record after its call, without waiting. One that
    is called with a batch acknowledges its last message for all, and waits, as `Nats` does. The
    decoder leaves the bytes as they are; by default they would be read as JSON.
    """

    async def _consume(self, touch: Touch, *, per_record: bool) -> None:
        total = (await self.jetstream.stream_info(NAME)).state.messages
        done = asyncio.get_running_loop().create_future()
        name = f"consumer-{self.passes}"

        async def called(data: bytes) -> None:
            touch.value(data)
            if touch.count == total:
                done.set_result(None)

        async def called_with_batch(message: NatsMessage) -> None:
            touch.values(message.body)
            await message.raw_message[-1].ack_sync()
            if touch.count == total:
                done.set_result(None)

        # Without `apply_types` a function gets the body; with it, what its annotations ask for.
        broker = _broker(self.url, apply_types=not per_record)
        if per_record:
            config = api.ConsumerConfig(max_ack_pending=UNACKNOWLEDGED_MAX)
            broker.subscriber(NAME, stream=STREAM, queue=name, config=config)(called)
        else:
            broker.subscriber(
                NAME,
                stream=STREAM,
                durable=name,
                config=api.ConsumerConfig(
                    ack_policy=api.AckPolicy.ALL, max_ack_pending=UNACKNOWLEDGED_MAX
                ),
                pull_sub=PullSub(BATCH_RECORDS, batch=True),
                ack_policy=AckPolicy.MANUAL,
            )(called_with_batch)
        await broker.start()
        await asyncio.wait_for(done, PATIENCE)
        await broker.stop()

    def follower(self, count: int) -> list[str]:
        """Return the command of a process with a subscriber."""
        return [sys.executable, __file__, self.url, str(count)]


def _broker(url: str, *, apply_types: bool) -> NatsBroker:
    return NatsBroker(url, apply_types=apply_types, decoder=_as_it_is, logger=None)


async def _as_it_is(message: Any) -> Any:  # noqa: ANN401 -- bytes, or a list of them
    return message.body


async def _follow(url: str, count: int) -> None:
    done = asyncio.get_running_loop().create_future()
    seen: list[float] = []

    async def called(data: bytes) -> None:
        seen.append(on_its_way(data, time.monotonic_ns()))
        if len(seen) == count:
            done.set_result(None)

    broker = _broker(url, apply_types=False)
    broker.subscriber(NAME, stream=STREAM, queue="followed")(called)
    await broker.start()
    say_ready()
    await asyncio.wait_for(done, count / LATENCY_RATE + PATIENCE)
    await broker.stop()
    say_times(seen)


if __name__ == "__main__":
    uvloop.run(_follow(sys.argv[1], int(sys.argv[2])))
