"""The way of a record to a function in another process, beside peers that are servers.

Without `--full` each case runs once and small: then it is one of the project's tests.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import PUSHING
from report import Ways
from scenario import LATENCY, Case, Size
from servers import LATENCY_BYTES, Pushing, follow


@pytest.fixture
def system(case: Case, tmp_path: Path) -> Iterator[Pushing]:
    """The case's system, empty."""
    system = PUSHING[case.system](tmp_path, case.durability)
    yield system
    system.close()
    shutil.rmtree(tmp_path)


@pytest.mark.jobs(LATENCY)
def test_append_to_function_start(case: Case, size: Size, system: Pushing, ways: Ways) -> None:
    """Each record is durable when its `put` returns, and the function sees it."""
    way = follow(system, size.followed, LATENCY_BYTES)

    assert way.times.count == size.followed
    ways[case.scenario][case.system].append(way)
