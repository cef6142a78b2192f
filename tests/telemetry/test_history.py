"""Tests for `telemetry.history`."""

import math
from datetime import timedelta

import pytest

from streamfn.telemetry.history import (
    FILE_BYTES,
    SECONDS,
    SECONDS_KEPT,
    TENS,
    TENS_KEPT,
    HistoryWriter,
    Point,
    path_of,
    read_history,
    thinned,
)

NOON = 1_800_000_000


def point(time, calls=0, p50=math.inf, p99=math.inf):
    return Point(time, 0, 0, calls, 0, 0, 0, 0, p50, p99)


@pytest.fixture
def writer(tmp_path):
    writer = HistoryWriter.open(tmp_path, "app.f")
    yield writer
    writer.close()


def test_the_last_hour_has_seconds_and_the_time_before_it_tens(writer, tmp_path):
    for time in range(NOON - 5_000, NOON):
        writer.write(SECONDS, point(time))
        if time % 10 == 0:
            writer.write(TENS, point(time))

    times = [each.time for each in read_history(tmp_path, "app.f", NOON - 4_000)]

    assert times == [*range(NOON - 4_000, NOON - 3_600, 10), *range(NOON - 3_600, NOON)]


def test_old_seconds_give_way_to_tens(writer, tmp_path):
    """A ring of seconds that a later run has overwritten in part has gaps."""
    for time in (*range(NOON - 7_200, NOON - 7_100), NOON):
        writer.write(SECONDS, point(time))
        writer.write(TENS, point(time - time % 10))

    times = [each.time for each in read_history(tmp_path, "app.f", 0)]

    assert times == [*range(NOON - 7_200, NOON - 7_100, 10), NOON]


def test_the_file_never_grows_beyond_its_two_rings(writer, tmp_path):
    for time in (NOON, NOON + 10 * TENS_KEPT - 10, NOON + 10 * TENS_KEPT, NOON + 10**9):
        for ring in (SECONDS, TENS):
            writer.write(ring, point(time, calls=7))
    writer.write(TENS, point(10 * TENS_KEPT - 10))
    assert path_of(tmp_path, "app.f").stat().st_size == FILE_BYTES == 979_264


def test_a_slot_that_was_used_again_holds_the_newer_point(writer, tmp_path):
    writer.write(SECONDS, point(NOON, calls=1))
    writer.write(SECONDS, point(NOON + SECONDS_KEPT, calls=2))
    [found] = read_history(tmp_path, "app.f", 0)
    assert (found.time, found.calls) == (NOON + SECONDS_KEPT, 2)


def test_no_torn_or_damaged_slot_is_shown(writer, tmp_path):
    """Every bit of a slot, and every place at which the file may have been cut."""
    for time in (NOON, NOON + 1, NOON + 2):
        writer.write(SECONDS, point(time, calls=3))
    path = path_of(tmp_path, "app.f")
    whole, start = path.read_bytes(), SECONDS.place(NOON + 1)
    for bit in range(76 * 8):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert [each.time for each in read_history(tmp_path, "app.f", 0)] == [NOON, NOON + 2]
    for length in range(start, len(whole)):
        path.write_bytes(whole[:length])
        times = [each.time for each in read_history(tmp_path, "app.f", 0)]
        assert times == [NOON, NOON + 1, NOON + 2][: 1 + (length - start) // 80]


def test_one_worker_writes_and_the_next_goes_on_when_it_has_ended(writer, tmp_path):
    assert HistoryWriter.open(tmp_path, "app.f") is None
    writer.write(SECONDS, point(NOON))
    writer.close()
    following = HistoryWriter.open(tmp_path, "app.f")
    following.write(SECONDS, point(NOON + 1))
    writer._descriptor = following._descriptor  # what the fixture closes
    assert [each.time for each in read_history(tmp_path, "app.f", 0)] == [NOON, NOON + 1]


def test_a_file_of_something_else_is_made_anew(tmp_path):
    path_of(tmp_path, "app.g").write_bytes(b"something else" * 100)
    assert read_history(tmp_path, "app.g", 0) == []
    HistoryWriter.open(tmp_path, "app.g").close()
    assert path_of(tmp_path, "app.g").stat().st_size == 64


def test_an_interval_has_the_middle_p50_and_the_worst_p99(tmp_path):
    points = [point(100, 1, 1.0, 5.0), point(101, 2, 3.0, 9.0), point(102, 3, 2.0, 4.0),
              point(110, 4, math.nan, math.nan)]  # fmt: skip
    first, second = thinned(points, timedelta(seconds=10))
    assert (first.time, first.calls, first.p50, first.p99) == (102, 3, 2.0, 9.0)
    assert math.isnan(second.p50)
    assert math.isnan(second.p99)
