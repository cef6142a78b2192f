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
