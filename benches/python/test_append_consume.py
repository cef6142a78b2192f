"""Append and consume through Python, side by side with what one would use instead.

Without `--full` each case runs once and small: then it is one of the project's tests.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import SYSTEMS
from pytest_benchmark.fixture import BenchmarkFixture
from report import Rates
from scenario import APPEND, CONSUME_BATCH, CONSUME_RECORD, SMALL, Case, Size
from systems import System, Touch

Run = Callable[[], float | None]
"""A turn; it may say how many seconds it took."""


class Stores:
    """Filled stores to consume from, of one length and durability at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key: tuple[int, str] | None = None
        self.systems: dict[str, System] = {}

    def get(self, case: Case, size: Size) -> System:
        """Return the case's store at its first record; fill it if it is the first to ask."""
        if self.key != (case.record_bytes, case.durability):
            self.clear()
            self.key = (case.record_bytes, case.durability)
        if case.system not in self.systems:
            folder = self.folder / case.system
            folder.mkdir(parents=True)
            self.systems[case.system] = SYSTEMS[case.system](folder, case.durability)
            system = self.systems[case.system]
            # A system whose `append` leaves marks that `consume` pays for has another way.
            getattr(system, "fill", system.append)(case.records(size))
        self.systems[case.system].rewind()
        return self.systems[case.system]

    def clear(self) -> None:
        """Close all and free the disk."""
        for system in self.systems.values():
            system.close()
        self.systems = {}
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Filled stores, closed at the end."""
    stores = Stores(tmp_path_factory.mktemp("stores") / "now")
    yield stores
    stores.clear()


@pytest.fixture
def measure(
    case: Case, size: Size, rates: Rates, benchmark: BenchmarkFixture
) -> Callable[[Run], None]:
    """Time one call, and note its rate."""

    def measure(run: Run) -> None:
        benchmark.group = case.scenario
        benchmark.extra_info["system"] = case.system
        if size is not SMALL:
            os.sync()  # so that nobody pays for the write-back of the one before
        said = benchmark.pedantic(run, rounds=1, iterations=1)  # type: ignore[no-untyped-call]
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.total if said is None else said
            benchmark.extra_info["seconds"] = seconds
            count = sum(map(len, case.records(size)))
            rates[case.scenario][case.system].append(count / seconds)

    return measure


@pytest.fixture
def system(case: Case, tmp_path: Path) -> Iterator[System]:
    """The case's system, empty."""
    system = SYSTEMS[case.system](tmp_path, case.durability)
    yield system
    system.close()
    shutil.rmtree(tmp_path)


@pytest.mark.jobs(APPEND)
def test_append(case: Case, size: Size, measure: Callable[[Run], None], system: System) -> None:
    """Every record is acknowledged at the case's durability."""
    records = case.records(size)

    measure(lambda: system.append(records))

    touch = Touch()
    system.rewind()
    system.consume(touch, per_record=False)
    assert touch.count == sum(map(len, records))


@pytest.mark.jobs(CONSUME_RECORD, CONSUME_BATCH)
def test_consume(case: Case, size: Size, measure: Callable[[Run], None], stores: Stores) -> None:
    """The function sees every record; the position is written after each batch."""
    system = stores.get(case, size)
    touch = Touch()

    measure(lambda: system.consume(touch, per_record=case.job == CONSUME_RECORD))

    assert touch.count == sum(map(len, case.records(size)))
    assert touch.total == touch.count * ord("{")
