"""Tests for `streamfn.worker.runner.async_threads`."""

import ctypes
import threading

from streamfn.worker.runner.async_threads import AsyncThreads


def test_tasks_run_at_once_as_far_as_there_are_cells():
    together = threading.Barrier(3)
    cells = []

    def task(cell):
        together.wait(240)
        cells.append(cell)

    async_threads = AsyncThreads([5, 6])
    assert async_threads.run(task)
    assert async_threads.run(task)
    assert not async_threads.run(task), "no third cell"
    together.wait(240)
    async_threads.join()

    assert sorted(cells) == [5, 6]


def test_it_is_known_when_no_more_task_can_be_run():
    go_on = threading.Event()
    async_threads = AsyncThreads([1, 2])
    assert not async_threads.are_all_busy
    async_threads.run(lambda _: go_on.wait(240))
    assert not async_threads.are_all_busy
    async_threads.run(lambda _: go_on.wait(240))
    assert async_threads.are_all_busy
    go_on.set()
    async_threads.join()


def test_a_thread_is_used_again():
    async_threads = AsyncThreads([1])
    done = threading.Semaphore(0)
    names = set()

    def task(cell):
        names.add(threading.current_thread().name)
        done.release()

    for _ in range(20):
        while not async_threads.run(task):
            pass
        assert done.acquire(timeout=240)
    async_threads.join()

    assert names == {"async-1"}


def test_tasks_end_before_join_returns():
    go_on, ended = threading.Event(), []

    def task(cell):
        go_on.wait(240)
        ended.append(cell)

    async_threads = AsyncThreads(range(4))
    for _ in range(4):
        async_threads.run(task)
    threading.Timer(0.05, go_on.set).start()
    async_threads.join()

    assert sorted(ended) == [0, 1, 2, 3]


def test_a_thread_that_has_ended_a_task_says_so_once_it_can_take_the_next():
    """Whoever hears it needs no further thread."""
    done, names = threading.Semaphore(0), set()

    def task(cell):
        names.add(threading.current_thread().name)

    async_threads = AsyncThreads([1, 2, 3], came_free=done.release)
    for _ in range(20):
        assert async_threads.run(task)
        assert done.acquire(timeout=240)
    async_threads.join()

    assert names == {"async-1"}


def test_what_is_thrown_at_a_thread_that_waits_takes_no_task_with_it():
    """A library for time-outs may throw at any thread, and too late."""
    idents, done = [], threading.Semaphore(0)

    def task(cell):
        idents.append(threading.get_ident())
        done.release()

    async_threads = AsyncThreads([1])
    for _ in range(20):
        while not async_threads.run(task):
            pass
        assert done.acquire(timeout=240)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(idents[0]), ctypes.py_object(KeyboardInterrupt)
        )
    async_threads.join()

    assert set(idents) == {idents[0]}
