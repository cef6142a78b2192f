"""Recovery, start-up, take-over, locks and latency: printed, without a verdict.

Without `--full` each runs once and small: then it is one of the project's tests.
"""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from storage import (
    FULL,
    MIB,
    SMALL,
    Figure,
    StorageSize,
    Takeover,
    fill,
    heavy_writes,
    lock_free_again,
    opening,
    put_after_kill,
    puts,
    quantiles,
    recovery,
)
from systems import Durability

from streamfn.units import format_duration


@pytest.fixture
def size(pytestconfig: pytest.Config) -> StorageSize:
    """How much is measured."""
    return FULL if pytestconfig.getoption("--full", default=False) else SMALL


def test_recovery(tmp_path: Path, size: StorageSize, figures: list[Figure]) -> None:
    """The whole log is read once, and every checksum in it checked."""
    times = recovery(tmp_path / "log", size)

    what = f"recovery of {size.recovered_bytes // MIB:,} MiB after the machine stopped, warm"
    figures.append(Figure(what, quantiles(times, 0.5), "≤ 1 s"))
    shutil.rmtree(tmp_path)


def test_start_up(tmp_path: Path, size: StorageSize, figures: list[Figure]) -> None:
    """Opening costs the same however much is in the log."""
    for length in size.log_sizes:
        if shutil.disk_usage(tmp_path).free < 3 * length:
            figures.append(
                Figure(f"start-up, {length // MIB:,} MiB", "no room on the disk", "flat")
            )
            continue
        path = tmp_path / "log"
        fill(path, length, segment_bytes=None if size is FULL else MIB, is_killed=False)
        closed = [opening(path) for _ in range(10)]
        (path / "control").unlink()
        rebooted = opening(path)
        boot = format_duration(timedelta(seconds=rebooted))
        found = f"{quantiles(closed, 0.5)}; the first of a boot {boot}"
        figures.append(Figure(f"start-up, {length // MIB:,} MiB in the log", found, "flat"))
        shutil.rmtree(path)


def test_takeover(tmp_path: Path, size: StorageSize, figures: list[Figure]) -> None:
    """A lane goes on in another runner when its own is killed in a call."""
    worker = Takeover(tmp_path / "takeover")
    try:
        idle, calling = worker.idle(size.takeovers), worker.calling(size.takeovers // 4 + 1)
    finally:
        worker.close()

    what = "SIGKILL of a runner to the first call by one already running"
    figures.append(Figure(what, quantiles(idle, 0.5, 0.99), "p99 ≤ 250 ms"))
    what = "… killed in a call, to that call again, alone in a runner"
    figures.append(Figure(what, quantiles(calling, 0.5, 0.99)))


def test_append_lock(tmp_path: Path, size: StorageSize, figures: list[Figure]) -> None:
    """A lock goes with its holder."""
    times = lock_free_again(tmp_path / "log", size)
    figures.append(
        Figure("`append.lock` free after SIGKILL of its holder", quantiles(times, 0.5, 0.99),
               "p99 ≤ 10 ms")
    )  # fmt: skip
    times = put_after_kill(tmp_path / "log", size)
    figures.append(Figure("… and a `put` that waited for it back", quantiles(times, 0.5, 0.99)))


def test_append_beside_heavy_writes(
    tmp_path: Path, size: StorageSize, figures: list[Figure]
) -> None:
    """Somebody else's dirty pages are felt."""
    levels: tuple[tuple[Durability, int], ...] = (
        ("process", size.puts),
        ("group", size.puts // 10),
    )
    for durability, count in levels:
        os.sync()
        quiet = puts(tmp_path / f"{durability}-quiet", durability, count)
        with heavy_writes(tmp_path):
            heavy = puts(tmp_path / f"{durability}-heavy", durability, count)
        for name, times in (("a quiet disk", quiet), ("heavy buffered writes", heavy)):
            what = f"append of 1 KiB, {durability}, beside {name}"
            figures.append(Figure(what, quantiles(times, 0.5, 0.999)))
