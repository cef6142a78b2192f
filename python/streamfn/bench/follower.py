"""The receiving process of `Trial.latency`: measures when each record reaches a function.

    python -m streamfn.bench.follower LOG_DIR STREAM COUNT

It prints `ready` when it has the lane. After COUNT records it prints their latencies in seconds, as
a JSON array. Each record begins with the `time.monotonic_ns` at which it was put.
"""

from __future__ import annotations

import sys
import time

import orjson

from streamfn.app import App
from streamfn.log import Log
from streamfn.model.batch import Batch

from .one_runner import OneRunner


def main(log_dir: str, stream: str, count: int) -> None:
    """Follow the stream as a worker's runner would."""
    app = App("bench-latency")
    seen: list[float] = []

    @app.stream(stream, batch_size=100)
    def note(batch: Batch) -> None:
        now = time.monotonic_ns()
        seen.extend((now - int(value.split(maxsplit=1)[0])) / 1e9 for value in batch.values())

    with Log.open(log_dir, create=False) as log, OneRunner(log, app) as runner:
        print("ready", flush=True)  # noqa: T201
        runner.run(lambda: len(seen) >= count)
    sys.stdout.buffer.write(orjson.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
