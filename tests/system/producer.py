"""A producer process: puts numbered records, a few at a time, for about so many seconds."""

import sys
import time

from streamfn import Log


def main(log_dir, stream, records, keys, seconds):
    with Log.open(log_dir) as log:
        target = log.stream(stream)
        portion = max(records // 500, 1)
        began = time.monotonic()
        for start in range(0, records, portion):
            numbers = range(start, min(start + portion, records))
            target.put_many([b"%d" % n for n in numbers], [f"k{n % keys}" for n in numbers])
            ahead = began + seconds * start / records - time.monotonic()
            time.sleep(max(ahead, 0))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
