"""Tests for `streamfn fn history`."""

import math
import time

import pytest

from streamfn import Log, _core
from streamfn.telemetry.history import METRICS_FOLDER, SECONDS, TENS, HistoryWriter, Point

NOW = 1_800_000_030


@pytest.fixture
def write(log_dir, monkeypatch):
    """Writes a point of `shop.total`: so many seconds ago, it had made so many calls."""
    monkeypatch.setattr(time, "time", lambda: float(NOW))
    with Log.open(log_dir) as log:
        log.create_stream("orders")
        _core.Mapping.register(log.core, "shop.total", factor=1)
    folder = log_dir / METRICS_FOLDER
    folder.mkdir(exist_ok=True)
    writer = HistoryWriter.open(folder, "shop.total")

    def write(ago, calls, appended=0):
        point = Point(NOW - ago, appended, calls, calls, 0, 0, 0, 0, math.nan, math.nan)
        writer.write(SECONDS, point)
        if point.time % 10 == 0:
            writer.write(TENS, point)

    yield write
    writer.close()


def rows(run, *options):
    return run("fn", "history", "total", "--json", *options).json


@pytest.mark.parametrize("every", ["1s", "1m", "1h"])
def test_the_first_line_begins_where_the_history_begins(run, write, every):
    for ago, calls in ((25, 0), (20, 7), (2, 9), (1, 10)):
        write(ago, calls)

    found = rows(run, "--every", every)

    assert sum(row["calls"] * row["seconds"] for row in found) == pytest.approx(10, rel=1e-4)


def test_the_first_line_begins_at_the_last_point_before_it(run, write):
    write(7_000, 1)
    write(5, 61)

    [row] = rows(run, "--last", "1m", "--every", "1m")

    assert (row["calls"], row["seconds"]) == (1.0, 60), "the calls are of this minute"


def test_what_was_put_while_no_worker_ran_was_put_in_all_that_time(run, write):
    write(7_000, 0, appended=0)
    write(0, 60, appended=7_000)

    [row] = rows(run, "--last", "1m")

    assert (row["in"], row["out"]) == (1.0, 1.0)


def test_few_calls_are_not_shown_as_none(run, write):
    write(59, 0)
    write(0, 1)

    table = run("fn", "history", "total", "--every", "1h").stdout.decode()

    assert " 0.017 " in table


def test_the_table_fits_80_columns(run, write):
    write(59, 0)
    write(0, 60_000, appended=60_000)

    head, line = run("fn", "history", "total", "--every", "1h").stdout.decode().splitlines()

    assert len(head) == len(line) <= 80
    assert line.split()[:3] == ["08:00:30Z", "1,017", "1,017"]


def test_nothing_is_told_in_a_line(run, write):
    ended = run("fn", "history", "total", "--last", "1m")

    assert (ended.code, ended.stdout) == (0, b"")
    assert "no history of `shop.total` in the last 1 m 00 s (hint:" in ended.stderr
