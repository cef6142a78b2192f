"""Calls by request beside a bare pipe, a pool of processes and a bare start of Python.

Without `--full` or `--quick` each runs once and small: then it is one of the project's tests.
"""

import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from invocations import (
    FULL,
    IDLE,
    QUICK,
    SMALL,
    SMALL_APP,
    SPAWN,
    TIMEOUT,
    Callers,
    RequestSize,
    burst,
    cold_start,
    import_seconds,
    imports_at_once,
    late_by,
    one_caller,
    pool_calls,
    times_of,
    warm,
    worker,
)
from storage import Figure, quantiles
from targets import Goal, Target, Turns, microseconds, million

TURNS = 10
"""Of one caller in a round: short turns, because a moment of a shared machine is short, too."""
WHY_LONGER = (
    "a pipe has two hops, a call four; a bare relay of these hops takes twice the pipe already, "
    "and the runner's Python takes 20 µs, the caller's 15, the front's own code 5"
)
WHY_COLDER = (
    "the runner's modules take 40 ms after the app's 65; the supervisor and the front less than 10"
)


@pytest.fixture
def size(pytestconfig: pytest.Config) -> RequestSize:
    """How much is measured."""
    if pytestconfig.getoption("--full", default=False):
        return FULL
    return QUICK if pytestconfig.getoption("--quick", default=False) else SMALL


def quantile(times: Sequence[float], wanted: float) -> float:
    """One of the times: so many are below it."""
    return sorted(times)[min(int(len(times) * wanted), len(times) - 1)]


def test_one_caller(
    tmp_path: Path,
    size: RequestSize,
    request_figures: list[Figure],
    request_targets: list[Target],
) -> None:
    """All ways take turns; a ratio compares two turns of one round."""
    with worker(tmp_path / "worker") as made, one_caller(made) as ways:
        names = [*ways]
        rounds: dict[str, list[list[float]]] = {name: [] for name in names}
        for turn in range(TURNS * size.rounds):
            at = turn % len(names)
            for name in [*names[at:], *names[:at]]:
                rounds[name].append(times_of(ways[name], size.calls // TURNS))

    titles = {
        "app.invoke": "`app.invoke`, warm, no-op",
        "raw": "the same without `App`: bytes in, bytes out",
        "pipe": "`multiprocessing.Pipe`, an object there and back",
        "relayed": "the same with a process in between that passes bytes on",
        "pool": "`ProcessPoolExecutor(1)`, `submit().result()`",
    }
    for name, title in titles.items():
        times = [seconds for turn in rounds[name] for seconds in turn]
        request_figures.append(Figure(title, quantiles(times, 0.5, 0.99)))
    medians = {name: [statistics.median(turn) for turn in rounds[name]] for name in names}
    for name, beside, goal in [
        ("app.invoke", "pipe", Goal(2.0, is_most=True)),
        ("raw", "pipe", Goal(is_most=True)),
        ("app.invoke", "relayed", Goal(is_most=True)),
        ("app.invoke", "pool", Goal(is_most=True)),
    ]:
        turns = Turns(TURNS * size.rounds, medians[name], medians[beside])
        job = f"{titles[name]}, p50"
        request_targets.append(turns.target(job, titles[beside], goal, microseconds, WHY_LONGER))


def test_many_callers(
    tmp_path: Path,
    size: RequestSize,
    request_figures: list[Figure],
    request_targets: list[Target],
) -> None:
    """Callers are processes, and each has a seat."""
    count = size.callers
    turns, p50, p99 = Turns(size.rounds), list[float](), list[float]()
    with (
        worker(tmp_path / "worker", "--max-runners", str(count)) as made,
        ProcessPoolExecutor(count, SPAWN) as pool,
    ):
        burst(made, count)  # a runner for each
        callers = Callers(made.log.path, count)
        warm(pool, count)

        def ours() -> float:
            rate, times = callers.call(size.shared_calls)
            p50.append(quantile(times, 0.5))
            p99.append(quantile(times, 0.99))
            return rate

        turns.take(ours, lambda: pool_calls(pool, count, size.shared_calls))
        callers.close()

    job = f"calls of {count} processes on {count} seats"
    what = f"{job}, of all rounds: p50, p99"
    said = ", ".join(microseconds(statistics.median(each)) for each in (p50, p99))
    request_figures.append(Figure(what, f"{said} ({turns.rounds} rounds)"))
    spread = Turns(turns.rounds, p99, p50).target(
        f"{job}, p99", "their p50", Goal(3.0, is_most=True), microseconds
    )
    beside = f"`ProcessPoolExecutor({count})`, {count} threads"
    request_targets += [spread, turns.target(f"{job}, a second", beside, Goal(), million)]


def test_cold_start(
    tmp_path: Path,
    size: RequestSize,
    request_figures: list[Figure],
    request_targets: list[Target],
) -> None:
    """The runner of the call before has ended."""
    options = ("--idle", f"{IDLE:g}s")
    with worker(tmp_path / "worker", *options, app=SMALL_APP) as made:
        turns = Turns(size.cold_starts)
        turns.take(lambda: cold_start(made), lambda: import_seconds(made))

    what = "cold start: a call that finds no runner, to its answer"
    request_figures.append(Figure(what, quantiles(turns.ours, 0.5, 0.99)))
    beside = '`python -c "import app"`'
    request_targets.append(
        turns.target(what, beside, Goal(1.3, is_most=True), microseconds, WHY_COLDER)
    )


def test_past_its_deadline(
    tmp_path: Path, size: RequestSize, request_figures: list[Figure]
) -> None:
    """The runner is killed, and the caller is told."""
    with worker(tmp_path / "worker") as made:
        times = [late_by(made) for _ in range(size.late_calls)]

    assert min(times) >= 0
    what = f"a call past its deadline ({TIMEOUT:g} s): from then to the caller's error"
    request_figures.append(Figure(what, quantiles(times, 0.5, 0.99), "p99 ≤ 150 ms"))


def test_burst(
    tmp_path: Path,
    size: RequestSize,
    request_figures: list[Figure],
    request_targets: list[Target],
) -> None:
    """From no runner to many calls that run at the same time."""
    count = size.burst
    turns, started = Turns(max(1, size.rounds // 3)), list[int]()
    with worker(tmp_path / "worker", "--idle", f"{IDLE:g}s", "--max-runners", str(count)) as made:

        def ours() -> float:
            made.wait_for_none()
            found = burst(made, count)
            started.append(found.started)
            return found.seconds

        turns.take(ours, lambda: imports_at_once(made, count))

    assert max(started) <= count
    job = f"{count} calls at once that find no runner, until all run"
    processes = ", ".join(str(each) for each in started)
    said = f"{quantiles(turns.ours, 0.5)}; processes started: {processes}"
    request_figures.append(Figure(job, said))
    beside = f'{count} × `python -c "import app"`, as many at once as there are cores'
    request_targets.append(turns.target(job, beside, Goal(is_most=True), microseconds))
