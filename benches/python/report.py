"""The table a run ends with, and what one must know to read it."""

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import lmdb
from scenario import SEED, Size
from storage import Figure
from systems import BATCH_RECORDS, SYSTEMS

import streamfn

Rates = dict[str, dict[str, list[float]]]
"""Records a second, by scenario and system, one figure for each round."""

FilterRates = dict[str, dict[int, list[float]]]
"""Events a second, by kind and number of patterns, one figure for each round."""


def lines(rates: Rates, size: Size) -> Iterator[str]:
    """The whole report as Markdown."""
    yield from surroundings(size)
    yield ""
    yield from table(rates)


def table(rates: Rates) -> Iterator[str]:
    """Median rates; and ratios, each the median over rounds of two turns of the same round."""
    peers = [name for name in SYSTEMS if not name.startswith("streamfn")]
    ratios = [f"streamfn ÷ {peer}" for peer in peers]
    yield "| million records a second | " + " | ".join([*SYSTEMS, *ratios]) + " |"
    yield "|---|" + "--:|" * (len(SYSTEMS) + len(ratios))
    for scenario, by_system in rates.items():
        cells = [f"{statistics.median(by_system[name]) / 1e6:.2f}" for name in SYSTEMS]
        for peer in peers:
            pairs = zip(by_system["streamfn"], by_system[peer], strict=True)
            cells.append(f"{statistics.median(ours / theirs for ours, theirs in pairs):.1f}×")
        yield f"| {scenario} | " + " | ".join(cells) + " |"


def figure_table(
    title: str, figures: list[Figure], load: tuple[float, float, float]
) -> Iterator[str]:
    """Figures that are not rates of peers; `load` is that of the last 1, 5 and 15 minutes."""
    yield f"| {title} | measured | goal |"
    yield "|---|---|---|"
    for figure in figures:
        yield f"| {figure.what} | {figure.result} | {figure.goal} |"
    yield ""
    yield "Load of the machine at the end, over 1, 5 and 15 minutes: " + ", ".join(
        f"{value:.1f}" for value in load
    )


def filter_table(rates: FilterRates) -> Iterator[str]:
    """Median rates of filters; and what 100 patterns keep of the rate of one, round by round."""
    counts = list(next(iter(rates.values())))
    titles = [f"{count} pattern{'s' if count > 1 else ''}" for count in counts]
    ratio = f"{counts[-1]} ÷ {counts[0]}"
    yield "| million events a CPU second | " + " | ".join([*titles, ratio]) + " |"
    yield "|---|" + "--:|" * (len(titles) + 1)
    for kind, by_count in rates.items():
        cells = [f"{statistics.median(by_count[count]) / 1e6:.2f}" for count in counts]
        pairs = zip(by_count[counts[-1]], by_count[counts[0]], strict=True)
        cells.append(f"{statistics.median(many / one for many, one in pairs):.0%}")
        yield f"| filter, {kind} | " + " | ".join(cells) + " |"


def surroundings(size: Size) -> Iterator[str]:
    """Date, commit, command, machine, versions and sizes."""
    today = datetime.now(tz=UTC).date()
    amounts = ", ".join(f"{count:,} of {length:,} B" for length, count in size.records.items())
    lmdb_version = ".".join(str(part) for part in lmdb.version())
    yield f"{today}, commit {_commit()}, `make bench`."
    yield (
        f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"files on {_file_system(Path(tempfile.gettempdir()))}."
    )
    yield (
        f"CPython {platform.python_version()}, streamfn {streamfn.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, LMDB {lmdb_version}."
    )
    yield (
        f"Medians of {size.rounds} interleaved rounds. Records a round: {amounts}; "
        f"{BATCH_RECORDS:,} a batch; seed {SEED}."
    )


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Kind of the file system a folder is on: the mount with the longest fitting path."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    fitting = [m for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(fitting, key=lambda mount: len(mount[1]))[2]
