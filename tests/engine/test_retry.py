"""Tests for `streamfn.engine.retry`: the waits of a lane."""

from datetime import timedelta
from random import Random

import pytest

from streamfn.engine.retry import LaneBackoff
from streamfn.model.policy import Backoff


class Drawing:
    """A back-off of a user's own that draws what it is told to."""

    def __init__(self, drawn):
        self.drawn = drawn

    def draw(self, exponent, random):
        if isinstance(self.drawn, Exception):
            raise self.drawn
        return self.drawn


def paced(drawn):
    """The pace of a lane with that back-off, and a list for its complaints."""
    return LaneBackoff(Drawing(drawn), 3, Random(1)), []


class TestLanePace:
    """Tests for `LaneBackoff`."""

    @pytest.mark.parametrize("wait", [timedelta(0), timedelta(seconds=7), timedelta(days=3_650)])
    def test_a_wait_is_what_the_back_off_draws(self, wait):
        pace, complaints = paced(wait)

        assert pace.next_wait(complaints.append) == wait.total_seconds()
        assert (pace.exponent, complaints) == (4, [])

    @pytest.mark.parametrize(
        ("drawn", "told"),
        [
            (timedelta(seconds=-1), "below zero"),
            (timedelta(days=3_650, microseconds=1), "longer than 3650 d 00 h"),
            (timedelta.max, "longer than"),
            (float("nan"), "`nan` is not a `timedelta`"),
            (float("inf"), "`inf` is not"),
            (3, "`3` is not"),
            (None, "`None` is not"),
            (ZeroDivisionError("no"), "no"),
        ],
    )
    def test_in_place_of_nonsense_the_lane_waits_as_without_it(self, drawn, told):
        """A runner does not die of it, and somebody is told."""
        pace, complaints = paced(drawn)

        assert pace.next_wait(complaints.append) == Backoff().draw(3, Random(1)).total_seconds()
        assert pace.exponent == 4
        [error] = complaints
        assert told in str(error)
