"""Tests for `streamfn.aio`: the log from asyncio."""

import asyncio
import inspect

import pytest

import streamfn
from streamfn import aio
from streamfn.errors import StreamNotFound


def run(log_dir, story):
    """Run `story(log)` on an open log."""

    async def main():
        async with await aio.Log.open(log_dir) as log:
            return await asyncio.wait_for(story(log), 30)

    return asyncio.run(main())


def test_what_is_put_is_read(log_dir):
    async def story(log):
        orders = await log.create_stream("orders", shards=2)
        first = await orders.put(b"a", "k", {"h": b"1"})
        rest = await orders.put_many([b"b", b"c"], ["k", "k"])
        assert (first.sequence_number, len(rest)) == (0, 2)
        return [record.data async for batch in orders.read() for record in batch]

    assert run(log_dir, story) == [b"a", b"b", b"c"]


def test_many_tasks_put_at_once(log_dir):
    async def story(log):
        orders = await log.create_stream("orders")
        await asyncio.gather(*(orders.put(b"%d" % n) for n in range(500)))
        return sorted([int(r.data) async for batch in orders.read() for r in batch])

    assert run(log_dir, story) == list(range(500))


def test_followers_see_what_comes_and_can_be_cancelled(log_dir):
    """A hundred of them, with one waiting thread."""

    async def follow(orders, seen, everything):
        async for batch in orders.read(follow=True):
            seen.extend(batch.values())
            if len(seen) >= 10:
                everything.set()

    async def story(log):
        orders = await log.create_stream("orders")
        seen = [[] for _ in range(100)]
        done = [asyncio.Event() for _ in seen]
        tasks = [
            asyncio.create_task(follow(orders, each, event))
            for each, event in zip(seen, done, strict=True)
        ]
        for n in range(10):
            await orders.put(b"%d" % n)
        await asyncio.gather(*(event.wait() for event in done))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        return seen

    assert run(log_dir, story) == [[b"%d" % n for n in range(10)]] * 100


def test_a_follower_goes_on_into_new_shards(log_dir):
    async def story(log):
        orders = await log.create_stream("orders")
        seen, both = [], asyncio.Event()

        async def follow():
            async for batch in orders.read(follow=True):
                seen.extend(batch.values())
                if len(seen) == 2:
                    both.set()

        task = asyncio.create_task(follow())
        await orders.put(b"before", "k")
        await orders.split("shardId-000000000000")
        await orders.put(b"after", "k")
        await both.wait()
        task.cancel()
        return seen, len((await orders.info()).shards)

    assert run(log_dir, story) == ([b"before", b"after"], 3)


def test_errors_are_those_of_the_twins(log_dir):
    async def story(log):
        assert await log.streams() == []
        with pytest.raises(StreamNotFound):
            await log.stream("orders")

    run(log_dir, story)


@pytest.mark.parametrize("name", ["Log", "Stream"])
def test_every_method_has_its_twin(name):
    def methods(owner):
        return {each for each in vars(owner) if not each.startswith("_")}

    twins = methods(getattr(aio, name))
    own = methods(getattr(streamfn, name)) - {"core", "follower"}
    assert own == twins
    for method in own - {"name", "path"}:
        twin = inspect.unwrap(getattr(getattr(aio, name), method))
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin), method
