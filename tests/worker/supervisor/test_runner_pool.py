"""Tests for `supervisor.runner_pool`: which runners are started, and which are stopped."""

from types import SimpleNamespace

import pytest

from streamfn.clock import ManualClock
from streamfn.worker.messages import Drain, Start
from streamfn.worker.supervisor import runner_pool
from streamfn.worker.supervisor.runner_group import APP_GROUP
from streamfn.worker.supervisor.runner_pool import IDLE_MAX, PoolSize, RunnerPool

LONG = 2 * IDLE_MAX


class Process:
    """A runner that comes up at once."""

    pid = 1

    def __init__(self, number, seat, board):
        self.number, self.seat, self.state, self.told = number, seat, "ready", []
        self.is_exhausted = self.is_broken = self.is_replacement = False
        self.memory_limit = self.memory_found = None

    def send(self, command):
        self.told.append(command)


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setattr(runner_pool, "RunnerProcess", Process)
    clock = ManualClock()
    start = Start(
        "app", factory=False, log_dir="log", worker="ab", runner=0, threads=1, is_burst=False
    )
    made = RunnerPool(start, clock.monotonic, lambda *_, **__: None)
    return SimpleNamespace(runners=made, clock=clock)


def app(solos, shared=1):
    """How many runners there should be, in an app without groups."""
    return {APP_GROUP: PoolSize(shared, solos)}


def turn(stage, solos, busy=()):
    """What the loop of a worker does, now and when a while has passed."""
    for _ in range(2):
        stage.runners.start_missing(app(solos))
        stage.runners.stop_idle(set(busy), app(solos))
        stage.clock.advance(LONG)
    for runner in stage.runners:
        if runner.state == "draining":
            stage.runners.remove(runner, was_busy=False)


def solos(stage):
    return [runner.number for runner in stage.runners if runner.seat.is_solo]


def test_an_idle_solo_runner_is_stopped_after_a_while(stage):
    stage.runners.start_missing(app(1))
    [solo] = [runner for runner in stage.runners if runner.seat.is_solo]
    stage.runners.stop_idle(set(), app(0))
    assert Drain(0.0) not in solo.told
    stage.clock.advance(LONG)
    stage.runners.stop_idle(set(), app(0))

    assert Drain(0.0) in solo.told


def test_one_that_is_wanted_waits_for_its_lane_however_long_that_takes(stage):
    """As for one that is to have the worker for itself: the others end their calls first."""
    turn(stage, solos=1)

    assert solos(stage) == [1]


def test_one_that_is_busy_needs_no_other_in_the_seats_before_it(stage):
    """Its lane may wait for a permit for long; the seat before it would be filled all the time."""
    stage.runners.start_missing(app(2))
    assert solos(stage) == [1, 2]

    for _ in range(3):
        turn(stage, solos=1, busy=[2])

    assert solos(stage) == [2]


def test_a_runner_that_is_used_up_at_once_is_replaced_after_a_pause(stage):
    """Else a worker would start processes as fast as it can, where each has too few descriptors."""
    stage.runners.start_missing(app(0))
    [runner] = stage.runners
    runner.is_exhausted, runner.state = True, "draining"
    stage.runners.remove(runner, was_busy=False)

    stage.runners.start_missing(app(0))
    assert len(stage.runners) == 0

    stage.clock.advance(LONG)
    stage.runners.start_missing(app(0))
    assert len(stage.runners) == 1


def test_each_group_has_runners_of_its_own(stage):
    """A runner of one group takes no seat of another."""
    stage.runners.start_missing({"app": PoolSize(1), "heavy": PoolSize(2, solos=1)})

    seats = [(each.seat.group, each.seat.number, each.seat.is_solo) for each in stage.runners]
    assert seats == [
        ("app", 0, False),
        ("heavy", 0, False),
        ("heavy", 1, False),
        ("heavy", 0, True),
    ]
    assert stage.runners.expected("heavy", 3) == 3


def test_an_idle_solo_runner_is_kept_for_its_own_group_only(stage):
    sizes = {"app": PoolSize(1, solos=1), "heavy": PoolSize(1, solos=1)}
    stage.runners.start_missing(sizes)
    fewer = {"app": PoolSize(1, solos=0), "heavy": PoolSize(1, solos=1)}
    for _ in range(2):
        stage.runners.stop_idle(set(), fewer)
        stage.clock.advance(LONG)

    draining = [each.seat.group for each in stage.runners if each.state == "draining"]
    assert draining == ["app"]


def test_a_runner_has_the_memory_limit_of_its_group_from_the_start(stage):
    stage.runners.memory_limit_of = {"app": None, "heavy": 2**27}.get
    stage.runners.start_missing({"app": PoolSize(1), "heavy": PoolSize(1, solos=1)})

    limits = [(each.seat.group, each.memory_limit) for each in stage.runners]
    assert limits == [("app", None), ("heavy", 2**27), ("heavy", 2**27)]


def test_runners_of_a_group_without_functions_are_stopped_once_they_are_idle(stage):
    stage.runners.start_missing({"app": PoolSize(2), "heavy": PoolSize(1)})
    app, busy, _ = stage.runners
    for _ in range(2):
        stage.runners.stop_idle({busy.number}, {"heavy": PoolSize(1)})

    assert [each.state for each in stage.runners] == ["draining", "ready", "ready"]
    assert app.told[1:] == [Drain(0.0)]


@pytest.mark.parametrize(("was_busy", "failed_starts"), [(True, 0), (False, 1)])
def test_a_limit_that_a_process_exceeds_without_a_call_fails_its_start(
    stage, was_busy, failed_starts
):
    """However long its import took; otherwise it would be started again without a pause."""
    stage.runners.start_missing(app(0))
    [runner] = stage.runners
    stage.clock.advance(LONG)
    runner.memory_found = 2**30

    assert stage.runners.remove(runner, was_busy=was_busy).failed_starts == failed_starts
