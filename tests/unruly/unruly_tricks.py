"""What an unruly handler may do, one trick a function.

A trick gets a source of chance. What it raises is the handler's own, in a child process too.
"""

import asyncio
import atexit
import ctypes
import gc
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OWN = "own-"
"""How the names of temporary files begin that a handler makes, and a kill may leave behind."""
AGES = 3600.0
"""Seconds that nobody waits for."""
kept = []
"""What is never let go of."""


class Leave(BaseException):
    """Returns from the handler, in whichever process it is raised."""


# ---------------------------------------------------------------- processes


def fork_and_return(chance):
    if os.fork() == 0:
        raise Leave


def fork_and_exit(chance):
    if os.fork() == 0:
        chance.choice([sys.exit, os._exit])(0)


def fork_and_raise(chance):
    if os.fork() == 0:
        raise ValueError("in the child")


def fork_and_wait(chance):
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)


def fork_and_hang(chance):
    if os.fork() == 0:
        time.sleep(AGES)


def fork_in_a_thread(chance):
    thread = threading.Thread(target=os.fork)
    thread.start()
    thread.join()


def fork_twice(chance):
    if os.fork() == 0 and os.fork() == 0:
        time.sleep(AGES)


def terminate_a_process(chance):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(AGES,))
    process.start()
    process.terminate()
    process.join()


def leave_a_process(chance):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(AGES,))
    process.daemon = chance.random() < 0.5
    process.start()


def leave_a_program(chance):
    with warnings.catch_warnings(action="ignore"):
        kept.append(subprocess.Popen(["/bin/sleep", str(AGES)], stdin=subprocess.DEVNULL))


def run_a_program(chance):
    subprocess.run(["/bin/true"], check=True, timeout=20)


# ---------------------------------------------------------------- threads and signals


def leave_a_thread(chance):
    daemon = chance.random() < 0.5
    threading.Thread(target=time.sleep, args=(AGES,), daemon=daemon).start()


def leave_a_busy_thread(chance):
    def spin():
        end = time.monotonic() + 2
        while time.monotonic() < end:
            pass

    threading.Thread(target=spin, daemon=True).start()


def raise_in_a_thread(chance):
    threading.Thread(target=sys.exit, args=(1,)).start()
    threading.Thread(target=int, args=("x",)).start()


def hold_a_lock(chance):
    lock = threading.Lock()
    lock.acquire()
    kept.append(lock)


def signal_itself(chance):
    signal.raise_signal(chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGWINCH]))


def block_signals(chance):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def ignore_signals(chance):
    signal.signal(chance.choice([signal.SIGTERM, signal.SIGCHLD, signal.SIGINT]), signal.SIG_IGN)


def leave_an_alarm(chance):
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.01, 1))


def leave_an_alarm_that_raises(chance):
    def ring(*_):
        raise chance.choice([KeyboardInterrupt, SystemExit, TimeoutError, MemoryError])

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.01, 0.5))


def interrupt_main(chance):
    import _thread

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _thread.interrupt_main()


def throw_at_a_thread(chance):
    threads = [thread.ident for thread in threading.enumerate() if thread.ident]
    error = chance.choice([KeyboardInterrupt, SystemExit, ValueError])
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(chance.choice(threads)), ctypes.py_object(error)
    )


def interrupt_system_calls(chance):
    signal.siginterrupt(signal.SIGUSR2, True)


# ---------------------------------------------------------------- descriptors


def leak_descriptors(chance):
    kept.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(chance.randint(20, 200)))


def leak_sockets(chance):
    kept.extend(socket.socketpair() for _ in range(chance.randint(5, 50)))


def close_all(chance):
    os.closerange(3, 512)


def close_some(chance):
    low = chance.randint(3, 20)
    os.closerange(low, low + chance.randint(1, 10))


def close_a_standard_one(chance):
    os.close(chance.randint(0, 2))


def point_output_elsewhere(chance):
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, chance.randint(1, 2))
    os.close(null)


def few_descriptors(chance):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (chance.randint(40, 120), hard))


# ---------------------------------------------------------------- the interpreter


def little_recursion(chance):
    depth = len(__import__("inspect").stack(0))
    sys.setrecursionlimit(depth + chance.randint(5, 60))


def trace(chance):
    def tracer(*_):
        raise ValueError("traced")

    kept.append(tracer)
    sys.settrace(tracer)


def profile(chance):
    def profiler(*_):
        raise ValueError("profiled")

    kept.append(profiler)
    sys.setprofile(profiler)


def no_output(chance):
    name = chance.choice(["stdout", "stderr", "stdin"])
    setattr(sys, name, None)


def closed_output(chance):
    stream = chance.choice([sys.stdout, sys.stderr])
    if stream is not None:
        stream.close()


def hooks(chance):
    sys.excepthook = sys.unraisablehook = threading.excepthook = lambda *_: sys.exit(9)


def slow_switches(chance):
    sys.setswitchinterval(10)


def raise_at_exit(chance):
    atexit.register(chance.choice([int, sys.exit]), "x")


def hang_at_exit(chance):
    atexit.register(time.sleep, AGES)


def no_collection(chance):
    gc.disable()


def forget_a_module(chance):
    sys.modules.pop(chance.choice(["json", "traceback", "colorsys", "queue", "signal"]), None)


def replace_a_module(chance):
    sys.modules[chance.choice(["colorsys", "this", "wave"])] = None


def elsewhere(chance):
    folder = tempfile.mkdtemp(prefix=OWN)  # a kill between these lines leaves it behind
    os.chdir(folder)
    Path(folder).rmdir()


def no_environment(chance):
    os.environ.clear()


def umask(chance):
    os.umask(0o077)


# ---------------------------------------------------------------- the event loop


async def stop_the_loop(chance):
    asyncio.get_running_loop().stop()


async def close_the_loop(chance):
    asyncio.get_running_loop().close()


async def cancel_all(chance):
    for task in asyncio.all_tasks():
        task.cancel()


async def cancel_others(chance):
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def shut_the_threads(chance):
    await asyncio.get_running_loop().shutdown_default_executor()


async def hang_in_the_threads(chance):
    for _ in range(40):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, AGES)


async def break_the_factory(chance):
    asyncio.get_running_loop().set_task_factory(lambda *_, **__: None)


async def shut_executor(chance):
    pool = ThreadPoolExecutor()
    pool.shutdown()
    asyncio.get_running_loop().set_default_executor(pool)


async def exit_in_a_task(chance):
    async def task():
        sys.exit(5)

    await asyncio.create_task(task())


async def leave_a_task(chance):
    async def task():
        await asyncio.sleep(chance.uniform(0, 0.2))
        raise chance.choice([SystemExit, KeyboardInterrupt, ValueError])

    kept.append(asyncio.create_task(task()))


async def leave_a_stubborn_task(chance):
    async def task():
        while True:
            try:
                await asyncio.sleep(AGES)
            except asyncio.CancelledError:
                continue

    kept.append(asyncio.create_task(task()))


async def exit_in_a_callback(chance):
    asyncio.get_running_loop().call_soon(sys.exit)


async def fork_on_the_loop(chance):
    if os.fork() == 0:
        raise Leave
    await asyncio.sleep(0.01)


# ---------------------------------------------------------------- how it ends


class Odd(Exception):
    """Misbehaves as it is looked at."""

    __class__ = property(lambda _: sys.exit("class"))
    __str__ = __repr__ = lambda _: sys.exit("text")
    __cause__ = property(lambda _: sys.exit("cause"))


def end_well(chance):
    pass


def end_with_an_error(chance):
    raise ValueError("unruly")


def end_oddly(chance):
    group = BaseExceptionGroup("a group", [SystemExit(1)])
    raise chance.choice(
        [Odd, GeneratorExit, StopIteration, StopAsyncIteration, KeyboardInterrupt, MemoryError,
         RecursionError, asyncio.CancelledError, group]
    )  # fmt: skip


def end_by_an_exit(chance):
    sys.exit(chance.choice([None, 0, 3, "text", object()]))


def end_the_process(chance):
    os._exit(chance.choice([0, 3, 70, 71, 72]))


def end_by_a_signal(chance):
    os.kill(os.getpid(), chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT]))
    time.sleep(1)


def end_deep(chance):
    def deeper():
        deeper()

    deeper()


def end_without_memory(chance):
    kept.append(bytearray(1 << 62))


def hang(chance):
    time.sleep(AGES)


def spin(chance):
    while True:
        pass


async def hang_on_the_loop(chance):
    await asyncio.sleep(AGES)


async def swallow_the_end(chance):
    while True:
        try:
            await asyncio.sleep(AGES)
        except asyncio.CancelledError:
            continue


_SYNC = (
    fork_and_return, fork_and_exit, fork_and_raise, fork_and_wait, fork_and_hang, fork_in_a_thread,
    fork_twice, terminate_a_process, leave_a_process, leave_a_program, run_a_program,
    leave_a_thread, leave_a_busy_thread, raise_in_a_thread, hold_a_lock, signal_itself,
    block_signals, ignore_signals, leave_an_alarm, leave_an_alarm_that_raises, interrupt_main,
    throw_at_a_thread, interrupt_system_calls, leak_descriptors, leak_sockets, close_all,
    close_some, close_a_standard_one, point_output_elsewhere, few_descriptors, little_recursion,
    trace, profile, no_output, closed_output, hooks, slow_switches, raise_at_exit, hang_at_exit,
    no_collection, forget_a_module, replace_a_module, elsewhere, no_environment, umask,
)  # fmt: skip
_ASYNC = (
    stop_the_loop, close_the_loop, cancel_all, cancel_others, shut_the_threads,
    hang_in_the_threads, break_the_factory, shut_executor, exit_in_a_task, leave_a_task,
    leave_a_stubborn_task, exit_in_a_callback, fork_on_the_loop,
)  # fmt: skip
_ENDS = (
    end_well, end_with_an_error, end_oddly, end_by_an_exit, end_the_process, end_by_a_signal,
    end_deep, end_without_memory, hang, spin,
)  # fmt: skip
_ASYNC_ENDS = (hang_on_the_loop, swallow_the_end)

TRICKS = {each.__name__: each for each in _SYNC + _ASYNC + _ENDS + _ASYNC_ENDS}
"""All of them, by name."""
SYNC, ASYNC = [each.__name__ for each in _SYNC], [each.__name__ for each in _ASYNC]
ENDS, ASYNC_ENDS = [each.__name__ for each in _ENDS], [each.__name__ for each in _ASYNC_ENDS]
