"""Tests for `supervisor.request_watch`: the state of a function by request."""

from dataclasses import dataclass, field

import pytest

from streamfn.health.state import State
from streamfn.model.function_config import FunctionConfig
from streamfn.telemetry.counters import NOTHING, Counter
from streamfn.worker.supervisor.call_watch import REMEMBERED
from streamfn.worker.supervisor.front_messages import Load
from streamfn.worker.supervisor.request_watch import RequestInput, RequestWatch
from streamfn.worker.supervisor.troubles import Troubles

CONFIG = FunctionConfig(name="shop.price", app="shop", function="price", concurrency=3)


@dataclass
class Function:
    """A function that is looked at again and again."""

    troubles: Troubles = field(default_factory=Troubles)
    counts: list = field(default_factory=lambda: [0] * 32)
    now: float = 100.0

    def __post_init__(self):
        self.watch = RequestWatch("shop.price", "shop.price", self.troubles)

    def look(self, load=None, start_error=None, after=0.0):
        self.now += after
        load = load or Load()
        return self.watch.look(
            RequestInput(
                config=CONFIG, load=load, counts=self.counts, shared=NOTHING,
                is_calling=load.running > 0, start_error=start_error, code_version="v1",
                memory_highest=None, now_us=round(self.now * 1e6), now=self.now,
            )
        )  # fmt: skip

    def fail(self):
        self.counts[Counter.CALLS] += 1
        self.counts[Counter.FAILED_CALLS] += 1
        fields = {"mapping": "shop.price", "error_type": "ValueError", "error_message": "seven"}
        self.troubles.note("call_failed", fields, round(self.now * 1e6))

    def succeed(self):
        self.counts[Counter.CALLS] += 1
        self.counts[Counter.SUCCEEDED] += 1


@pytest.fixture
def function():
    return Function()


def test_it_runs_while_a_call_runs_or_waits(function):
    assert function.look().state is State.IDLE
    assert function.look(Load(running=1)).state is State.RUNNING
    assert function.look(Load(queued=1)).state is State.RUNNING
    assert function.look().state is State.IDLE


def test_its_report_has_what_runs_and_waits(function):
    report = function.look(Load(running=2, queued=5))

    told = report.request
    assert (told.running, told.queued, told.concurrency) == (2, 5, 3)
    assert report.stream == ""


def test_a_failed_call_is_told_until_one_succeeds(function):
    function.fail()
    failing = function.look()
    assert (failing.state, failing.troubles[0].reason) == (State.FAILING, "ValueError: seven")

    function.succeed()
    assert function.look().state is State.IDLE


def test_a_failure_without_calls_is_forgotten_after_a_while(function):
    function.fail()
    function.look()
    seconds = REMEMBERED.total_seconds()

    assert function.look(after=seconds - 0.1).state is State.FAILING
    assert function.look(after=0.1).state is State.IDLE


def test_it_is_blocked_while_no_runner_can_start(function):
    blocked = function.look(start_error="Unable to import module 'shop': no")
    again = function.look(start_error="Unable to import module 'shop': no", after=5)

    assert blocked.state is again.state is State.BLOCKED
    assert blocked.troubles[0].reason == "no runner can start: Unable to import module 'shop': no"
    assert again.since_us == blocked.since_us
    assert function.look().state is State.IDLE


def test_its_rate_is_that_of_calls(function):
    function.look()
    function.succeed()
    function.fail()

    assert function.look(after=1).rate_out == 2.0
