"""Tests for what `supervisor.front` and `by_request` count of fronts that died."""

from types import SimpleNamespace

from streamfn.clock import ManualClock
from streamfn.worker.supervisor.front import Front
from streamfn.worker.supervisor.front_messages import Load, Settings


class Process:
    """A front that has exited."""

    pid, state, is_killed = 7, "ready", False

    def exit_detail(self):
        return 9


def test_what_a_front_has_counted_is_kept_and_what_it_ran_is_not():
    events = []
    settings = Settings("ab", runners_max=4, starts_max=2, idle_seconds=1.0, supervisor=1)
    report = lambda event, **fields: events.append((event, fields))  # noqa: E731
    front = Front("log", settings, SimpleNamespace(), ManualClock(), report)

    for _ in range(2):
        front.load = {"shop.price": Load(running=3, queued=1, calls=5, throttled=2)}
        front.exited(Process())

    assert front.load == {}
    assert front.counted == {"shop.price": Load(calls=10, throttled=4)}
    assert events == [("front_died", {"pid": 7, "reason": "SIGKILL"})] * 2
