"""The order of a reload, and what ends it early."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from streamfn.errors import ConfigError
from streamfn.worker.messages import Drain, NotReady, Ready
from streamfn.worker.supervisor.app_code import PinnedCode
from streamfn.worker.supervisor.rollover import IMPORT_PATIENCE, Rollover
from streamfn.worker.supervisor.runner_process import Seat


class Runner:
    def __init__(self, number, seat, state="ready"):
        self.number, self.seat, self.state = number, seat, state
        self.is_outdated = self.is_blameless = self.is_replacement = False
        self.sent = []

    def send(self, message):
        self.sent.append(message)

    def cells(self):
        return ()

    def end(self):
        self.is_blameless = True


class Pool:
    def __init__(self, count):
        self.runners = [Runner(number, Seat(number)) for number in range(count)]
        self.next = count

    def __iter__(self):
        return iter(list(self.runners))

    def get(self, number):
        return next((each for each in self.runners if each.number == number), None)

    def start_replacement(self, seat):
        self.runners.append(Runner(self.next, seat, "starting"))
        self.next += 1
        return self.runners[-1]

    def forgive(self):
        self.is_forgiven = True

    def became_ready(self, runner):
        runner.state = "ready"


def ready(version):
    return Ready([], [], version, {})


class Stage:
    """A rollover of a worker with the code `v1`; `now` is its clock."""

    def __init__(self, runners=2):
        self.now, self.events, self.registered = 0.0, [], []
        self.pool = Pool(runners)
        self.code = PinnedCode(self.report)
        self.code.pin(ready("v1"))
        clock = SimpleNamespace(monotonic=lambda: self.now)
        self.rollover = Rollover(self.pool, self.code, clock, self.report, timedelta(seconds=30))
        self.rollover.register = self.registered.append

    def report(self, event, /, **fields):
        self.events.append((event, fields))

    def names(self):
        return [name for name, _ in self.events]

    def turn(self, seconds=0.0):
        self.now += seconds
        self.rollover.turn(self.now)

    def new(self):
        return self.pool.runners[-1]

    def exit(self, runner):
        self.pool.runners.remove(runner)
        self.rollover.exited(runner)

    def begin(self):
        self.rollover.ask()
        self.turn()
        return self.new()


@pytest.fixture
def stage():
    return Stage()


def test_one_runner_after_the_other_is_replaced_in_its_seat(stage):
    old = list(stage.pool)
    for number in (0, 1):
        new = stage.begin() if number == 0 else stage.new()
        assert (new.seat, new.state) == (Seat(number), "starting")
        assert old[number].state == "ready", "it works until the new one can"
        stage.rollover.ready(new, ready("v2"))
        assert new.state == "standby"
        stage.turn()
        assert old[number].state == "draining"
        assert isinstance(old[number].sent[0], Drain)
        stage.turn()
        assert new.state == "standby", "the seat is not free yet"
        stage.exit(old[number])
        stage.turn()
        assert new.state == "ready"
        stage.turn()
        stage.turn()
    assert stage.names() == ["reload_started", "reloaded"]
    assert stage.code.version == "v2"
    assert len(stage.registered) == 1
    assert stage.pool.is_forgiven
    assert all(each.is_outdated for each in old)


@pytest.mark.parametrize("way", ["import", "exit", "time", "register"])
def test_code_that_fails_changes_nothing(stage, way):
    new = stage.begin()
    if way == "import":
        stage.rollover.not_ready(new, NotReady("timeout", "no", "Traceback", ["/app.py"]))
        assert stage.rollover.at_fault == ["/app.py"]
        assert stage.events[-1][1]["error_message"] == "`timeout`: no"
    elif way == "exit":
        stage.exit(new)
    elif way == "time":
        stage.turn(IMPORT_PATIENCE.total_seconds())
        assert stage.names() == ["reload_started"], "the limit itself is in time"
        stage.turn(0.1)
        assert new.is_blameless
    else:

        def refuse(_):
            raise ConfigError("APP", "no")

        stage.rollover.register = refuse
        stage.rollover.ready(new, ready("v2"))
    assert stage.names() == ["reload_started", "reload_failed"]
    assert stage.code.version == "v1"
    assert [each.state for each in stage.pool][:2] == ["ready", "ready"]
    assert not any(each.is_outdated for each in stage.pool)
    stage.turn()
    assert not stage.rollover.is_active


def test_an_old_runner_that_takes_too_long_is_killed(stage):
    old = stage.pool.runners[0]
    stage.rollover.ready(stage.begin(), ready("v2"))
    stage.turn()
    stage.turn(30.0)
    assert not old.is_blameless
    stage.turn(0.1)
    stage.turn()
    assert old.is_blameless
    assert stage.names() == ["reload_started", "runner_abandoned"]


def test_files_that_change_again_meanwhile_do_not_mix(stage):
    """The rollover goes on; the pool finds a runner for the seat."""
    old = list(stage.pool)
    first = stage.begin()
    stage.rollover.ready(first, ready("v2"))
    stage.turn()
    stage.exit(old[0])
    for _ in range(3):
        stage.turn()
    second = stage.new()
    assert (second.seat, second.state) == (Seat(1), "starting")
    stage.rollover.ready(second, ready("v3"))
    assert second.is_blameless
    stage.exit(second)
    stage.turn()
    assert old[1].state == "draining"
    stage.exit(old[1])
    for _ in range(2):
        stage.turn()
    assert stage.names() == ["reload_started", "code_changed", "reloaded"]
    assert stage.code.version == "v2"


def test_a_second_request_waits_for_the_first(stage):
    stage.begin()
    stage.rollover.ask()
    stage.turn()
    assert stage.names() == ["reload_started"]
    stage.exit(stage.new())
    stage.turn()
    assert stage.names() == ["reload_started", "reload_failed", "reload_started"]
