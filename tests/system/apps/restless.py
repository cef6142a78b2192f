"""`async` functions on one event loop: some records do to it what they can, the others are calm."""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from streamfn import App, Backoff, Batch, Record

app = App("restless")
QUICK = Backoff(base=timedelta(milliseconds=10), cap=timedelta(milliseconds=10))


async def exits():
    sys.exit(3)


async def exits_later():
    await asyncio.sleep(0.05)
    sys.exit(4)


def cancel(tasks):
    for task in tasks:
        task.cancel()


async def act(what):  # noqa: C901 -- a list
    """Do what the record says; those that end in `!` always fail."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    match what:
        case "exit in a task!":
            await asyncio.create_task(exits())
        case "exit in a callback":
            loop.call_soon(sys.exit)
        case "exit in a task left behind":
            asyncio.create_task(exits_later())  # noqa: RUF006 -- the mistake that is tested
        case "stop":
            loop.stop()
        case "cancel all!":
            cancel(asyncio.all_tasks())
            await asyncio.sleep(5)
        case "cancel the others":
            cancel(asyncio.all_tasks() - {me})
        case "cancel all from a thread!":
            tasks = asyncio.all_tasks()
            threading.Thread(target=loop.call_soon_threadsafe, args=(cancel, tasks)).start()
            await asyncio.sleep(5)
        case "cancelled!":
            raise asyncio.CancelledError
        case "shut the threads":
            await loop.shutdown_default_executor()
        case "threads that are shut":
            pool = ThreadPoolExecutor()
            pool.shutdown()
            loop.set_default_executor(pool)
        case "no tasks":
            loop.set_task_factory(lambda *_, **__: None)
        case "end the selector!":
            loop._selector.close()
            await asyncio.sleep(5)
    await asyncio.sleep(0.02)


@app.stream("acts", input="record", max_retries=1, backoff=QUICK)
async def acts(record: Record) -> None:
    await act(record.data.decode())


async def stay_calm():
    """What any function may do on its loop."""
    await asyncio.sleep(0.01)
    await asyncio.create_task(asyncio.sleep(0.01))
    await asyncio.to_thread(time.sleep, 0.01)


@app.stream("calm", input="record", max_retries=0)
async def records(record: Record) -> None:
    await stay_calm()


@app.stream("calm", batch_size=4, max_retries=0)
async def batches(batch: Batch) -> None:
    await stay_calm()
