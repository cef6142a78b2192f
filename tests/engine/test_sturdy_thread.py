"""Tests for `engine.sturdy_thread`: exceptions thrown into a thread, from its first step on."""

import threading

import pytest

from streamfn.engine.sturdy_thread import RUNS_MAX, SturdyThread
from streamfn.worker.runner.async_threads import AsyncThreads


@pytest.fixture
def die_at_birth(monkeypatch):
    """Makes so many of the next threads die before they run a line of their target."""

    def die(times):
        bootstrap = threading.Thread._bootstrap
        left = [times]

        def dying(thread):
            if left[0]:
                left[0] -= 1
                return None
            return bootstrap(thread)

        monkeypatch.setattr(threading.Thread, "_bootstrap", dying)

    return die


@pytest.mark.timeout(60)
@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_thread_that_dies_at_birth_has_a_successor(die_at_birth, times):
    die_at_birth(times)
    ran = []
    thread = SturdyThread(lambda: ran.append(threading.current_thread().name), "lanes-1")
    thread.start()
    thread.join()
    assert ran == ["lanes-1"]


@pytest.mark.timeout(60)
def test_a_task_runs_although_its_thread_dies_at_birth(die_at_birth):
    die_at_birth(1)
    threads, ran = AsyncThreads([7]), threading.Event()
    assert threads.run(lambda cell: ran.set() if cell == 7 else None)
    assert ran.wait(30)
    threads.join()


@pytest.mark.timeout(60)
def test_a_target_that_raises_is_called_again_but_not_for_ever():
    calls = []

    def target():
        calls.append(None)
        raise KeyboardInterrupt

    thread = SturdyThread(target, "control")
    thread.start()
    thread.join()
    assert len(calls) == RUNS_MAX
