"""Tests for `streamfn.worker.supervisor.shutdown`: what a worker reports when it shuts down."""

from datetime import timedelta
from signal import SIGINT, SIGTERM
from types import SimpleNamespace

import pytest

from streamfn.testing import ManualClock
from streamfn.worker.supervisor.shutdown import Shutdown


def runner(in_flight):
    """A runner that calls so many functions."""
    return SimpleNamespace(cells=lambda: range(in_flight), state="draining")


ONE = "gave up 1 call by request, its caller gets an error"


@pytest.mark.parametrize(
    ("in_flight", "said"),
    [
        ((0, 0), "stopped at once, no calls in flight"),
        ((1, 0), "gave up 1 call in flight, its records are delivered again"),
        ((0, 2), "gave up 2 calls by request, their callers get an error"),
        ((2, 1), f"gave up 2 calls in flight, their records are delivered again and {ONE}"),
    ],
)
def test_a_worker_that_stops_at_once_says_what_it_gives_up(in_flight, said):
    reported = []
    of_lanes, of_requests = in_flight
    lanes = SimpleNamespace(cells=lambda: range(of_lanes), kill=lambda: None)
    by_request = SimpleNamespace(in_flight=of_requests, kill=lambda: None)
    ending = Shutdown(
        [lanes],
        by_request,
        timedelta(0),
        ManualClock(),
        lambda event, **fields: reported.append(fields["message"]),
    )

    ending.abandon(130)

    assert reported == [said]


@pytest.mark.parametrize(
    ("in_flight", "number", "said"),
    [
        ((0, 0), SIGTERM, "ending, no calls in flight"),
        ((1, 0), SIGTERM, "finishing 1 call in flight"),
        ((1, 2), SIGINT, "finishing 3 calls in flight, Ctrl+C again stops at once"),
    ],
)
def test_a_signal_says_how_many_calls_it_finishes(in_flight, number, said):
    reported = []
    runners = [runner(each) for each in in_flight[:-1]]
    by_request = SimpleNamespace(in_flight=in_flight[-1], drain=lambda: None)
    ending = Shutdown(
        runners,
        by_request,
        timedelta(0),
        ManualClock(),
        lambda event, **fields: reported.append((event, fields)),
    )

    ending.on_signal(number)

    expected = {"in_flight": sum(in_flight), "message": said}
    assert reported == [("worker_draining", expected)]
