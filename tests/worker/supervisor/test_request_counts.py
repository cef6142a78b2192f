"""Tests for `supervisor.request_counts`: what runners have counted, and what they could not."""

from types import SimpleNamespace

import pytest

from streamfn._core import Board
from streamfn.telemetry.counters import Counter, read_counters
from streamfn.worker.supervisor.front_messages import RunnerEnded
from streamfn.worker.supervisor.request_counts import RequestCounts
from streamfn.worker.supervisor.verdict import Cell

NEVER = 1e9


def runner(**places):
    """A function runner with these functions at their places on its board."""
    board = Board.create()
    return SimpleNamespace(
        board=board,
        places={f"shop.{name}": place for name, place in places.items()},
        is_blameless=False,
        cells=lambda: tuple(Cell(*cell) for cell in board.cells()),
    )


@pytest.fixture
def counts(log):
    counts = RequestCounts(log.core, lambda *_, **__: None)
    counts.use(["shop.a", "shop.b"])
    return counts


def figures(counts, name, runners=()):
    total = counts.total(name, runners)
    kinds = (Counter.CALLS, Counter.FAILED_CALLS, Counter.CRASHES, Counter.TIMEOUTS)
    return tuple(total[kind] for kind in kinds)


def test_a_function_has_other_places_after_a_reload(counts):
    old, new = runner(a=0, b=1), runner(b=0, a=1)
    old.board.add(0, Counter.CALLS, 2)
    new.board.add(1, Counter.CALLS, 3)
    assert figures(counts, "shop.a", [old, new]) == (5, 0, 0, 0)

    counts.ended(old, RunnerEnded(0, "drain"))

    assert figures(counts, "shop.a", [new]) == (5, 0, 0, 0)
    assert figures(counts, "shop.b", [new]) == (0, 0, 0, 0)


def test_calls_that_died_with_their_process_have_failed(counts, log):
    died = runner(a=0, b=1)
    died.board.begin(0, 0, NEVER)
    died.board.begin(1, 1, NEVER)

    assert counts.ended(died, RunnerEnded(0, "exit", 3)) == ["shop.a", "shop.b"]

    assert figures(counts, "shop.a") == figures(counts, "shop.b") == (0, 1, 1, 0)
    assert read_counters(log.core, "shop.a")[Counter.CRASHES] == 1


def test_of_the_calls_that_a_time_out_ended_only_the_late_one_counts_as_such(counts):
    late = runner(a=0, b=1)
    late.board.begin(4, 0, NEVER)
    late.board.begin(7, 1, NEVER)

    assert counts.ended(late, RunnerEnded(0, "timeout", 9, (7,))) == ["shop.a"]

    assert figures(counts, "shop.a") == (0, 1, 1, 0)
    assert figures(counts, "shop.b") == (0, 1, 0, 1)


def test_calls_that_we_have_stopped_did_not_fail(counts):
    stopped = runner(a=0)
    stopped.board.begin(0, 0, NEVER)
    stopped.is_blameless = True

    assert counts.ended(stopped, RunnerEnded(0, "signal", 9)) == []

    assert figures(counts, "shop.a") == (0, 0, 0, 0)


def test_refused_calls_are_counted_once(counts, log):
    for total in (0, 2, 2, 5):
        counts.throttled("shop.a", total)

    assert read_counters(log.core, "shop.a")[Counter.THROTTLED] == 5
    assert counts.total("shop.a", [])[Counter.THROTTLED] == 5
