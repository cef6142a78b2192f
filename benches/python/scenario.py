"""What is measured: the cases in the order they run, and the records they use."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from systems import BATCH_RECORDS, SYSTEMS, Durability

SEED: Final = 20130101

APPEND: Final = "append"
CONSUME_RECORD: Final = "consume, a call a record"
CONSUME_BATCH: Final = "consume, a call a batch"

SIZE_NAMES: Final = {100: "100 B", 1024: "1 KiB"}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: rounds, and records of each length (in bytes) a round."""

    rounds: int
    records: dict[int, int]


SMALL: Final = Size(rounds=1, records={100: 3_000, 1024: 2_000})
FULL: Final = Size(rounds=7, records={100: 500_000, 1024: 200_000})


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

    def __str__(self) -> str:
        """Its name among the tests."""
        return f"{self.scenario}, {self.system}, {self.turn}".replace(", ", "-").replace(" ", "_")


def cases(jobs: tuple[str, ...], size: Size) -> list[Case]:
    """All cases, laid out so that the systems take turns (A B C D, A B C D)."""
    durabilities: tuple[Durability, ...] = ("process", "group")
    return [
        Case(job, record_bytes, durability, turn, system)
        for record_bytes in size.records
        for durability in durabilities
        for job in jobs
        for turn in range(size.rounds)
        for system in SYSTEMS
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
