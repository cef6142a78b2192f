"""Tests for `supervisor.function_pool`: which function runners are started, and when again."""

from itertools import count
from types import SimpleNamespace

import pytest

from streamfn.clock import ManualClock
from streamfn.worker.messages import StartFunctions
from streamfn.worker.supervisor import function_pool
from streamfn.worker.supervisor.function_pool import FAILED_STARTS_MAX, FunctionPool
from streamfn.worker.supervisor.restart_backoff import PAUSE


class Process:
    """A function runner that is starting."""

    pid = 1

    def __init__(self, number, group, board):
        self.number, self.group, self.state, self.told = number, group, "starting", []
        self.token, self.is_blameless = f"token-{number}", False

    def send(self, message):
        self.told.append(message)


def start(number, group, token):
    return StartFunctions(
        app="shop.py", factory=False, log_dir="log", worker="ab", runner=number, group=group,
        token=token,
    )  # fmt: skip


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.setattr(function_pool, "FunctionProcess", Process)
    clock, events = ManualClock(), []
    pool = FunctionPool(
        count(5), start, clock.monotonic, lambda event, **fields: events.append((event, fields))
    )
    return SimpleNamespace(pool=pool, clock=clock, events=events)


def numbers(stage):
    return [runner.number for runner in stage.pool]


def fail_once(stage):
    [runner] = stage.pool
    return stage.pool.remove(runner)


def pause(stage, seconds):
    stage.clock.advance(seconds)
    stage.pool.start_wanted()


def test_a_runner_starts_when_it_is_wanted_and_gets_its_token(stage):
    assert numbers(stage) == []

    stage.pool.want("shop")
    stage.pool.want("shop.big")

    first, second = stage.pool
    assert (first.number, first.group, second.group) == (5, "shop", "shop.big")
    assert first.told == [start(5, "shop", "token-5")]
    assert [name for name, _ in stage.events] == ["runner_started"] * 2
    assert stage.pool.started == 2


def test_one_that_worked_is_followed_by_the_next_at_once(stage):
    stage.pool.want("shop")
    [runner] = stage.pool
    runner.state = "ready"

    assert not stage.pool.remove(runner)
    stage.pool.want("shop")

    assert numbers(stage) == [6]


def test_one_that_dies_while_it_starts_is_followed_after_a_pause(stage):
    stage.pool.want("shop")
    assert not fail_once(stage)

    stage.pool.want("shop")
    assert numbers(stage) == []
    pause(stage, PAUSE * 0.99)
    assert numbers(stage) == []
    pause(stage, PAUSE * 0.02)
    assert numbers(stage) == [6]


def test_the_pause_of_a_group_stops_no_other_group(stage):
    stage.pool.want("shop")
    fail_once(stage)

    stage.pool.want("shop")
    stage.pool.want("shop.big")

    assert [runner.group for runner in stage.pool] == ["shop.big"]


def test_after_three_failed_starts_in_a_row_the_calls_cannot_be_made(stage):
    given_up = []
    for turn in range(2 * FAILED_STARTS_MAX):
        stage.pool.want("shop")
        pause(stage, PAUSE * 2**turn)
        given_up.append(fail_once(stage))

    assert given_up == [False, False, True] * 2


def test_a_start_that_succeeds_begins_the_count_again(stage):
    for is_ready in (False, False, True, False, False):
        stage.pool.want("shop")
        pause(stage, PAUSE * 16)
        [runner] = stage.pool
        runner.state = "ready" if is_ready else "starting"
        assert not stage.pool.remove(runner)


def test_one_that_was_ended_by_us_has_not_failed(stage):
    stage.pool.want("shop")
    [runner] = stage.pool
    runner.is_blameless = True
    stage.pool.remove(runner)

    stage.pool.want("shop")

    assert numbers(stage) == [6]


def test_new_code_ends_the_pause(stage):
    stage.pool.want("shop")
    fail_once(stage)
    stage.pool.want("shop")

    stage.pool.forgive()
    stage.pool.start_wanted()

    assert numbers(stage) == [6]


def test_runners_that_are_wanted_no_more_do_not_start(stage):
    for group in ("shop", "shop.big"):
        stage.pool.want(group)
        fail_once(stage)
        stage.pool.want(group)
    stage.pool.forget_wanted("shop")

    pause(stage, PAUSE)

    assert [runner.group for runner in stage.pool] == ["shop.big"]


def test_a_system_without_room_for_a_process_is_tried_again(stage, monkeypatch):
    def refuse(*_):
        raise OSError("too many open files")

    monkeypatch.setattr(function_pool, "FunctionProcess", refuse)
    stage.pool.want("shop")
    assert [name for name, _ in stage.events] == ["runner_not_started"]
    monkeypatch.setattr(function_pool, "FunctionProcess", Process)

    pause(stage, PAUSE)

    assert numbers(stage) == [6]
