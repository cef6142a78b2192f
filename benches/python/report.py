"""The table a run ends with, and what one must know to read it."""

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar

import lmdb
from peers import BYTEWAX, FASTSTREAM, KAFKA, LIMIT, NATS, REDIS, SYSTEMS, absence
from scenario import SEED, Size
from servers import Way
from storage import Figure
from systems import BATCH_RECORDS

import streamfn
from streamfn.bench.measures import LATENCY_RATE
from streamfn.units import format_duration

NONE: Final = "–"
"""A cell of a system that has no such job, or failed in one of its turns; pytest says how."""
KEPT_UP: Final = 0.95
"""Of the rate that was asked for: less is said below the table."""

Rates = dict[str, dict[str, list[float]]]
"""Records a second, by scenario and system, one figure for each round."""

Ways = dict[str, dict[str, list[Way]]]
"""How long records were on their way, by scenario and system, one for each round."""

Turn = TypeVar("Turn", float, Way)
"""What is noted of one."""

FilterRates = dict[str, dict[int, list[float]]]
"""Events a second, by kind and number of patterns, one figure for each round."""


def lines(rates: Rates, ways: Ways, size: Size) -> Iterator[str]:
    """The whole report as Markdown."""
    yield from surroundings(size)
    if rates:
        yield ""
        yield from table(rates)
    if ways:
        yield ""
        yield from way_table(ways)
    yield from absent(size)


def table(rates: Rates) -> Iterator[str]:
    """Median rates; with a peer's, how many times it ours is."""
    yield from _rows("million records a second (streamfn ÷ it)", rates, _rate)


def _rate(by_system: dict[str, list[float]], name: str) -> str:
    said = f"{statistics.median(by_system[name]) / 1e6:#.3g}"
    return (
        said if name.startswith("streamfn") else f"{said} ({_ratio(gain(by_system, name), name)})"
    )


def way_table(ways: Ways) -> Iterator[str]:
    """Medians over rounds of p50 and p99; with a peer's, how many times ours its p50 is."""
    title = f"p50, p99 of {LATENCY_RATE:,} records a second (its p50 ÷ streamfn's)"
    yield from _rows(title, ways, _way)
    for scenario, by_system in ways.items():
        for name, found in by_system.items():
            rate = statistics.median(way.rate for way in found)
            if rate < KEPT_UP * LATENCY_RATE:
                yield ""
                yield f"{name} did not keep up in `{scenario}`: {rate:,.0f} records a second."


def _way(by_system: dict[str, list[Way]], name: str) -> str:
    times = [way.times for way in by_system[name]]
    median, tail = (
        format_duration(timedelta(seconds=statistics.median(quantile)))
        for quantile in ([each.median for each in times], [each.p99 for each in times])
    )
    said = f"{median}, {tail}"
    return said if name == "streamfn" else f"{said} ({_ratio(shortening(by_system, name), name)})"


def _rows(
    title: str,
    found: Mapping[str, dict[str, list[Turn]]],
    cell: Callable[[dict[str, list[Turn]], str], str],
) -> Iterator[str]:
    """A table with a column for each system."""
    measured = took_turns(found)
    yield f"| {title} | {' | '.join(measured)} |"
    yield "|---|" + "--:|" * len(measured)
    for scenario, by_system in found.items():
        cells = [cell(by_system, name) if name in by_system else NONE for name in measured]
        yield f"| {scenario} | {' | '.join(cells)} |"


def _ratio(ratio: float, name: str) -> str:
    if name == LIMIT:
        return f"{ratio:.0%}"
    return f"{ratio:,.1f}×" if ratio < 100 else f"{ratio:,.0f}×"


def gain(by_system: dict[str, list[float]], peer: str) -> float:
    """How many times a peer's rate ours is."""
    pairs = zip(by_system["streamfn"], by_system[peer], strict=True)
    return statistics.median(ours / theirs for ours, theirs in pairs)


def shortening(by_system: dict[str, list[Way]], peer: str) -> float:
    """How many times our way to the function a peer's is, by the median of each round."""
    pairs = zip(by_system["streamfn"], by_system[peer], strict=True)
    return statistics.median(theirs.times.median / ours.times.median for ours, theirs in pairs)


def absent(size: Size) -> Iterator[str]:
    """Peers that are not in the tables, and why."""
    named = [f"{name} ({reason})" for name, reason in absences(size).items()]
    if named:
        yield ""
        yield "Not measured: " + "; ".join(named) + "."


def absences(size: Size) -> dict[str, str]:
    """Why each peer that is not in the tables is not."""
    reasons = {name: size.left_out.get(name) or absence(name) for name in SYSTEMS}
    return {name: reason for name, reason in reasons.items() if reason}


def whole(found: dict[str, dict[str, list[Turn]]]) -> dict[str, dict[str, list[Turn]]]:
    """Scenarios in which streamfn took all its turns, with the systems that did so too."""
    return {
        scenario: {name: turns for name, turns in by_system.items() if len(turns) == most}
        for scenario, by_system in found.items()
        if len(by_system.get("streamfn", [])) == (most := max(map(len, by_system.values())))
    }


def took_turns(found: Mapping[str, dict[str, list[Turn]]]) -> list[str]:
    """The systems that were measured, in order."""
    took = {name for by_system in found.values() for name in by_system}
    return [name for name in SYSTEMS if name in took]


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
    amounts, fewer = (
        ", ".join(f"{count:,} of {length:,} B" for length, count in records.items())
        for records in (size.records, size.server_records)
    )
    lmdb_version = ".".join(str(part) for part in lmdb.version())
    yield f"{today}, commit {_commit()}, `{size.command}`."
    yield (
        f"{_processor()}, {os.cpu_count()} cores, {_memory_gib()} GiB, Linux {platform.release()}, "
        f"files on {_file_system(Path(tempfile.gettempdir()))}."
    )
    yield (
        f"CPython {platform.python_version()}, streamfn {streamfn.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, LMDB {lmdb_version} (py-lmdb {lmdb.__version__})"
        f"{_peers(size)}."
    )
    yield (
        f"Medians of {size.rounds} interleaved rounds. Records a round: {amounts}; "
        f"of servers {fewer}; {BATCH_RECORDS:,} a batch; seed {SEED}."
    )


def _peers(size: Size) -> str:
    """Versions of the peers that a run can do without, and of their clients."""
    absent = absences(size)
    said = ""
    if NATS not in absent:
        from nats_jetstream import server_path

        said += f", {_version_of(server_path())}, nats-py {metadata.version('nats-py')}"
    if REDIS not in absent:
        from redis_streams import server_path

        number = _version_of(server_path()).partition("v=")[2].split()[0]
        said += f", redis-server {number}, redis-py {metadata.version('redis')}"
    if KAFKA not in absent:
        from apache_kafka import version

        client = metadata.version("confluent-kafka")
        said += f", Apache Kafka {version()}, confluent-kafka {client}"
    for name in (BYTEWAX, FASTSTREAM):
        if name not in absent:
            said += f", {name} {metadata.version(name.lower())}"
    return said


def _version_of(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _file_system(folder: Path) -> str:
    """Kind of the file system a folder is on: the mount with the longest fitting path."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    fitting = [m for m in mounts if folder.resolve().is_relative_to(m[1])]
    return max(fitting, key=lambda mount: len(mount[1]))[2]
