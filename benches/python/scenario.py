"""What is measured: the cases in the order they run, and the records they use."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from peers import BYTEWAX, FASTSTREAM, KAFKA, NO_STORES, PUSHING, REDIS, SERVERS, SYSTEMS
from servers import LATENCY_BYTES
from systems import BATCH_RECORDS, Durability

SEED: Final = 20130101

APPEND: Final = "append"
CONSUME_RECORD: Final = "consume, a call a record"
CONSUME_BATCH: Final = "consume, a call a batch"
LATENCY: Final = "append to function start"
DURABILITIES: Final[tuple[Durability, ...]] = ("process", "group")

FULL_ONLY: Final = dict.fromkeys((REDIS, KAFKA, BYTEWAX, FASTSTREAM), "see `make bench-full`")

SIZE_NAMES: Final = {100: "100 B", 1024: "1 KiB"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    command: str
    """That asks for it."""
    rounds: int
    records: dict[int, int]
    """Of each length (in bytes) a round."""
    server_records: dict[int, int]
    """The same for systems that are servers: whole lists of `BATCH_RECORDS`."""
    latency_rounds: int
    followed: int
    """Records on their way to a function in one of these."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Systems that it does not measure, and where to find them."""


SMALL: Final = Size(
    "make test",
    rounds=1,
    records={100: 3_000, 1024: 2_000},
    server_records={100: 2_000, 1024: 1_000},
    latency_rounds=1,
    followed=50,
)
QUICK: Final = Size(
    "make bench-quick",
    rounds=3,
    records={100: 60_000, 1024: 20_000},
    server_records={100: 5_000, 1024: 2_000},
    latency_rounds=3,
    followed=1_000,
    left_out={"streamfn zstd": "see `make bench`"} | FULL_ONLY,
)
FULL: Final = Size(
    "make bench",
    rounds=5,
    records={100: 500_000, 1024: 200_000},
    server_records={100: 10_000, 1024: 5_000},
    latency_rounds=5,
    followed=1_000,
    left_out=FULL_ONLY,
)
EVERY_PEER: Final = Size(
    "make bench-full",
    rounds=7,
    records={100: 500_000, 1024: 200_000},
    server_records={100: 50_000, 1024: 20_000},
    latency_rounds=7,
    followed=5_000,
)


@dataclass(frozen=True, slots=True)
class Case:
    """One system's turn in one round of a scenario."""

    job: str
    record_bytes: int
    durability: Durability
    turn: int
    system: str

    @property
    def scenario(self) -> str:
        """The row of the table it belongs to."""
        return f"{self.job}, {SIZE_NAMES[self.record_bytes]}, {self.durability}"

    def records(self, size: Size) -> list[list[bytes]]:
        """What the system appends or consumes."""
        lists = batches(self.record_bytes, size.records[self.record_bytes])
        if self.system not in SERVERS:
            return lists
        return lists[: size.server_records[self.record_bytes] // BATCH_RECORDS]

    def __str__(self) -> str:
        """Its name among the tests."""
        return f"{self.scenario}, {self.system}, {self.turn}".replace(", ", "-").replace(" ", "_")


def cases(jobs: tuple[str, ...], size: Size) -> list[Case]:
    """All cases, laid out so that the systems take turns (A B C D, B C D A)."""
    if jobs == (LATENCY,):
        lengths, rounds, systems = [LATENCY_BYTES], size.latency_rounds, [*PUSHING]
    else:
        lengths, rounds, systems = [*size.records], size.rounds, [*SYSTEMS]
    return [
        Case(job, record_bytes, durability, turn, system)
        for record_bytes in lengths
        for durability in DURABILITIES
        for job in jobs
        for turn in range(rounds)
        for system in [*systems[turn % len(systems) :], *systems[: turn % len(systems)]]
        if system not in size.left_out and not (job == APPEND and system in NO_STORES)
    ]


@lru_cache(maxsize=1)
def batches(record_bytes: int, count: int) -> list[list[bytes]]:
    """`count` records in lists of `BATCH_RECORDS`: the same in every run, each its own object."""
    records = _records(record_bytes)
    return [
        [next(records) for _ in range(min(BATCH_RECORDS, count - start))]
        for start in range(0, count, BATCH_RECORDS)
    ]


def _records(record_bytes: int) -> Iterator[bytes]:
    """Small events in JSON, filled up to their exact length with hexadecimal noise."""
    source = random.Random(SEED)
    number = 0
    while True:
        head = f'{{"id":{number},"user":"u{source.randrange(10_000)}","note":"'
        room = record_bytes - len(head) - 2
        yield f'{head}{source.getrandbits(4 * room):0{room}x}"}}'.encode()
        number += 1
