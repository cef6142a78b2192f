"""A producer: puts records into all streams until it is told to stop, or is killed.

Its journal:

    call   number, time, stream, [[identity, size, key, digest], …], whether made a second time
    ack    number, time, [[shard, sequence number], …]
    error  number, time, class of the error, message

The last call of a predecessor that died may or may not be in the log; like any producer that has to
be sure, it is made once more.
"""

import random
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from journal import Journal, digest, payload, read_journal

from streamfn import Log
from streamfn.errors import StreamfnError

SHARED_KEYS = 40
"""Keys that every producer puts."""
OWN_KEYS = 8
POISON = "poison"
"""Functions reject records whose data begin with it."""
POISON_SHARE = 0.003


class Entry(NamedTuple):
    """One record of a call."""

    identity: str
    size: int
    key: str | None

    @property
    def data(self) -> bytes:
        return payload(self.identity, self.size)

    @property
    def headers(self) -> dict[str, bytes]:
        return {"size": b"%d" % self.size} if self.size % 8 == 0 else {}


class Producer:
    """Puts records and keeps account of it."""

    def __init__(self, journal: Journal, log: Log, name: str, seed: str) -> None:
        self._journal, self._log, self._name = journal, log, name
        self._chance = random.Random(seed)
        self._numbers = count()

    def put_something(self, streams: Sequence[tuple[str, int]]) -> None:
        """Make one call, to one of the streams.

        Args:
            streams: Names, and about how many bytes their records have.
        """
        stream, size = self._chance.choice(streams)
        call = next(self._numbers)
        entries = [self._entry(call, index, size) for index in range(self._count())]
        self._put(call, stream, entries, is_second=False)

    def put_again(self, stream: str, entries: Sequence[Entry]) -> None:
        """Make a call of the predecessor once more."""
        self._put(next(self._numbers), stream, entries, is_second=True)

    def pause(self) -> None:
        """Wait a little."""
        time.sleep(self._chance.expovariate(1 / 0.03))

    def _count(self) -> int:
        return self._chance.choice([1, 1, 1, 1, 2, 5, 10, 25, 60])

    def _entry(self, call: int, index: int, size: int) -> Entry:
        chance = self._chance
        word = POISON if chance.random() < POISON_SHARE else "record"
        keys = [f"k{chance.randrange(SHARED_KEYS)}", f"{self._name}-{chance.randrange(OWN_KEYS)}"]
        key = None if chance.random() < 0.03 else chance.choice(keys)
        identity = f"{word} {self._name}/{call}/{index}"
        return Entry(identity, int(chance.expovariate(1 / size)), key)

    def _put(self, call: int, stream: str, entries: Sequence[Entry], *, is_second: bool) -> None:
        told = [[*entry, digest(entry.data, entry.key, entry.headers)] for entry in entries]
        data = [entry.data for entry in entries]
        target = self._log.stream(stream)
        self._journal.note("call", call, time.monotonic_ns(), stream, told, is_second)
        try:
            if len(entries) == 1:
                results = [target.put(data[0], entries[0].key, entries[0].headers)]
            else:
                keys, headers = [e.key for e in entries], [e.headers for e in entries]
                results = list(target.put_many(data, keys, headers))
        except StreamfnError as error:
            now = time.monotonic_ns()
            self._journal.note("error", call, now, type(error).__name__, str(error))
        else:
            now = time.monotonic_ns()
            self._journal.note("ack", call, now, [list(place) for place in results])


def unfinished(folder: Path, name: str) -> tuple[str, list[Entry]] | None:
    """The call whose end the last one in this place did not live to hear.

    Args:
        folder: Where the journals are.
        name: `place.life`; lives count from 0, and some end before they have done anything.
    """
    place, life = name.split(".")
    for before in reversed(range(int(life))):
        path = folder / f"producer-{place}.{before}"
        lines = list(read_journal(path)) if path.exists() else []
        if not lines:
            continue
        kind, *fields = lines[-1]
        if kind != "call":
            return None
        _, _, stream, told, _ = fields
        return stream, [Entry(identity, size, key) for identity, size, key, _ in told]
    return None


def main(folder: Path, log_dir: str, name: str, seed: str, *streams: str) -> None:
    """Put until SIGTERM; then close the log as a well-behaved program does."""
    told_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_stop.append(number))
    journal = Journal(folder / f"producer-{name}")
    sizes = [(word.split("=")[0], int(word.split("=")[1])) for word in streams]
    with Log.open(log_dir, create=False) as log:
        producer = Producer(journal, log, name, seed)
        if again := unfinished(folder, name):
            producer.put_again(*again)
        while not told_to_stop:
            producer.put_something(sizes)
            producer.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
