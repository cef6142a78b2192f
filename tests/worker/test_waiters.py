"""Tests for `streamfn.worker.waiters`."""

import ctypes
import threading

from streamfn.worker.waiters import Waiters


def test_tasks_run_at_once_as_far_as_there_are_cells():
    together = threading.Barrier(3)
    cells = []

    def task(cell):
        together.wait(240)
        cells.append(cell)

    waiters = Waiters([5, 6])
    assert waiters.run(task)
    assert waiters.run(task)
    assert not waiters.run(task), "no third cell"
    together.wait(240)
    waiters.join()

    assert sorted(cells) == [5, 6]


def test_it_is_known_when_no_more_task_can_be_run():
    go_on = threading.Event()
    waiters = Waiters([1, 2])
    assert not waiters.are_all_busy
    waiters.run(lambda _: go_on.wait(240))
    assert not waiters.are_all_busy
    waiters.run(lambda _: go_on.wait(240))
    assert waiters.are_all_busy
    go_on.set()
    waiters.join()


def test_a_thread_is_used_again():
    waiters = Waiters([1])
    done = threading.Semaphore(0)
    names = set()

    def task(cell):
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(20):
        while not waiters.run(task):
            pass
        assert done.acquire(timeout=240)
    waiters.join()

    assert names == {"async-1"}


def test_tasks_end_before_join_returns():
    go_on, ended = threading.Event(), []

    def task(cell):
        go_on.wait(240)
        ended.append(cell)

    waiters = Waiters(range(4))
    for _ in range(4):
        waiters.run(task)
    threading.Timer(0.05, go_on.set).start()
    waiters.join()

    assert sorted(ended) == [0, 1, 2, 3]


def test_a_thread_that_has_ended_a_task_says_so_once_it_can_take_the_next():
    """Whoever hears it needs no further thread."""
    done, names = threading.Semaphore(0), set()

    def task(cell):
        names.add(threading.current_thread().name)

    waiters = Waiters([1, 2, 3], came_free=done.release)
    for _ in range(20):
        assert waiters.run(task)
        assert done.acquire(timeout=240)
    waiters.join()

    assert names == {"async-1"}


def test_what_is_thrown_at_a_thread_that_waits_takes_no_task_with_it():
    """A library for time-outs may throw at any thread, and too late."""
    idents, done = [], threading.Semaphore(0)

    def task(cell):
        idents.append(threading.get_ident())
        done.release()

    waiters = Waiters([1])
    for _ in range(20):
        while not waiters.run(task):
            pass
        assert done.acquire(timeout=240)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(idents[0]), ctypes.py_object(KeyboardInterrupt)
        )
    waiters.join()

    assert set(idents) == {idents[0]}
