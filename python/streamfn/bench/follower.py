"""The process at the other end of `Trial.latency`: notes when each record reached its function.

    python -m streamfn.bench.follower LOG_DIR STREAM COUNT

Says `ready` when it has the lane; when it has seen COUNT records, the seconds each was on its way,
as a JSON array. Each record begins with the nanoseconds of `time.monotonic` at which it was put.
"""

from __future__ import annotations

import sys
import time

import orjson

from streamfn import _core
from streamfn.log import Log


def main(log_dir: str, stream: str, count: int) -> None:
    """Follow the stream as a runner does, one call a batch."""
    seen: list[float] = []
    with Log.open(log_dir, create=False) as log:
        mapping = _core.Mapping.register(log.core, "bench.latency", factor=1)
        lanes = _core.LaneSet(log.core, worker="1" * 32, runner=0)
        for number, shard_id in enumerate(mapping.prepare(stream)):
            lanes.add(number, mapping, stream, shard_id, 0,
                      batch_size=100, batch_window=0.0, batch_bytes=2**23)  # fmt: skip
        print("ready", flush=True)  # noqa: T201
        while len(seen) < count:
            work = lanes.next(1.0)
            if work is None:
                continue
            now = time.monotonic_ns()
            seen += [(now - int(record.data.split(maxsplit=1)[0])) / 1e9 for record in work.records]
            lanes.settle(work.lane)
        lanes.close()
    sys.stdout.buffer.write(orjson.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
