"""Functions that fork, start processes, and set signal handlers: no runner runs twice."""

import os
import signal
import time
from pathlib import Path

import pytest

from streamfn.engine.deadletter import DeadLetters

HEAD = """
import asyncio, os, signal, subprocess, sys, threading, time
from streamfn import App
app = App("shop")
FOLDER = os.path.dirname(__file__)

def note(text):
    with open(FOLDER + "/calls", "a") as file:
        file.write(f"{os.getpid()} {text}\\n")
"""


@pytest.fixture
def run(tmp_path, log, workers, is_running):
    """Runs an app over records until nothing is left; returns its dead letters and its calls."""

    def run(body, records, *arguments, function="handle", timeout=300):
        (tmp_path / "shop.py").write_text(HEAD + body)
        log.create_stream("orders").put_many([each.encode() for each in records])
        marker = f"{os.getpid()}-{time.monotonic_ns()}"
        code = workers.run("shop", "--burst", *arguments, timeout=timeout, UNRULY_RUN=marker)

        assert code == 0
        assert of_run(marker) == [], "no process is left over"
        letters = DeadLetters(log, f"shop.{function}").entries()
        lines = (tmp_path / "calls").read_text().splitlines()
        return [(each.data, each.error_type) for each in letters], lines

    return run


def of_run(marker):
    """Processes that have the marker of a run in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and marker.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def data_of(calls, word="called"):
    return sorted(line.split()[2] for line in calls if line.split()[1] == word)


CHILDREN = {
    "returns": "return",
    "exits": "sys.exit(3)",
    "raises": "raise ValueError('in the child')",
    "is interrupted": "raise KeyboardInterrupt",
}


class TestForkedChild:
    """A child that comes back from the function ends there."""

    @pytest.mark.parametrize("end", CHILDREN)
    @pytest.mark.parametrize("kind", ["record", "batch", "lambda"])
    def test_it_ends_and_every_record_is_called_once(self, run, kind, end):
        """Else it would settle the batch, call the records that follow and fork once more."""
        letters, calls = run(
            f"""
@app.stream("orders", input="{kind}", batch_size=2, max_retries=0, timeout="100s")
def handle(event):
    names = [r["kinesis"]["sequenceNumber"] for r in event["Records"]] if "{kind}" == "lambda" \\
        else [event.text()] if "{kind}" == "record" else [r.text() for r in event]
    for name in names:
        note(f"called {{name}}")
    child = os.fork()
    if child == 0:
        note("forked -")
        {CHILDREN[end]}
    _, status = os.waitpid(child, 0)
    note(f"ended {{os.waitstatus_to_exitcode(status)}}")
""",
            ["a", "b", "c", "d"],
            "--processes",
            1,
        )

        assert letters == []
        assert len(data_of(calls)) == 4, "each record once"
        codes = set(data_of(calls, "ended"))
        assert codes == {{"returns": "0", "exits": "3"}.get(end, "1")}

    def test_the_time_out_of_its_parent_holds(self, run):
        """The child must not tell the supervisor that the call is over."""
        letters, calls = run(
            """
@app.stream("orders", input="record", timeout="1s", max_retries=0)
def handle(record):
    note(f"called {record.text()}")
    if record.text() == "bad":
        if os.fork() == 0:
            sys.exit(0)
        time.sleep(3600)
""",
            ["a", "bad", "b"],
        )

        assert letters == [(b"bad", "FunctionTimedOut")]
        assert data_of(calls) == ["a", "b", "bad"]

    @pytest.mark.parametrize("place", ["function", "task", "thread", "to_thread"])
    def test_in_a_coroutine_it_runs_no_other_call_of_the_loop(self, run, place):
        """The loop of the child has the calls of all lanes; none of them may go on there."""
        letters, calls = run(
            f"""
def fork():
    if os.fork() == 0:
        note("forked -")
        return True

async def job():
    if fork():
        await asyncio.sleep(0.2)

@app.stream("orders", input="record", max_retries=0, parallelization_factor=4, timeout="100s")
async def handle(record):
    await asyncio.sleep(0.1)
    note(f"called {{record.text()}}")
    if record.text().startswith("fork"):
        match "{place}":
            case "function": await job()
            case "task": await asyncio.create_task(job())
            case "thread":
                thread = threading.Thread(target=fork); thread.start(); thread.join()
            case "to_thread": await asyncio.to_thread(fork)
    await asyncio.sleep(0.1)
    note(f"done {{record.text()}}")
""",
            ["a", "fork", "b", "c", "fork2", "d", "e", "f"],
            "--processes",
            1,
        )

        assert letters == []
        expected = ["a", "b", "c", "d", "e", "f", "fork", "fork2"]
        assert data_of(calls) == data_of(calls, "done") == expected

    def test_at_the_import_of_the_app_it_ends(self, run):
        letters, calls = run(
            """
if os.fork() == 0:
    note("forked -")

@app.stream("orders", input="record")
def handle(record):
    note(f"called {record.text()}")
""",
            ["a", "b"],
        )

        assert (letters, data_of(calls)) == ([], ["a", "b"])


class TestOwnProcesses:
    """Processes that a function starts are its own, and end with its runner."""

    def test_terminate_ends_a_process_of_multiprocessing(self, run):
        """It has the default handler of SIGTERM, not the one of the runner."""
        letters, calls = run(
            """
import multiprocessing

@app.stream("orders", input="record", timeout="100s", max_retries=0)
def handle(record):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3600,))
    process.start()
    process.terminate()
    process.join()
    note(f"called {process.exitcode}")
""",
            ["a"],
        )

        assert (letters, data_of(calls)) == ([], [str(-signal.SIGTERM)])

    def test_handlers_of_the_app_stay_in_a_child(self, run):
        _, calls = run(
            """
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))

@app.stream("orders", input="record", timeout="100s")
def handle(record):
    child = os.fork()
    if child == 0:
        signal.raise_signal(signal.SIGTERM)
    note(f"called {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
""",
            ["a"],
        )

        assert data_of(calls) == ["7"]

    @pytest.mark.parametrize(
        "end", ["return", "time.sleep(3600)", "os._exit(1)", "os.kill(os.getpid(), 9)"]
    )
    def test_what_it_leaves_behind_ends_with_the_runner(self, run, end):
        """Drained, killed at a time-out or dead: its process group ends with it."""
        letters, _ = run(
            f"""
@app.stream("orders", input="record", timeout="1s", max_retries=0)
def handle(record):
    note("called -")
    subprocess.Popen(["sleep", "97"])
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(97)
    {end}
""",
            ["a"],
        )

        assert len(letters) == (end != "return")

    def test_a_worker_that_is_killed_takes_them_along(
        self, tmp_path, log, workers, until, kill, is_running
    ):
        (tmp_path / "shop.py").write_text(
            HEAD
            + """
@app.stream("orders", input="record")
def handle(record):
    note(f"called {subprocess.Popen(['sleep', '97']).pid}")
    time.sleep(3600)
"""
        )
        log.create_stream("orders").put(b"a")
        worker = workers.start("shop")
        calls = tmp_path / "calls"
        until(lambda: calls.exists() and calls.read_text().endswith("\n"))
        runner, _, child = map(str, calls.read_text().split())

        kill(worker.pid)

        until(lambda: not is_running(int(runner)) and not is_running(int(child)))

    def test_a_process_that_leaves_the_group_lives_on(self, run, tmp_path, is_running, kill):
        """`setsid` is the way to start something that is to outlive its function."""
        _, calls = run(
            """
@app.stream("orders", input="record")
def handle(record):
    environment = {k: v for k, v in os.environ.items() if k != "UNRULY_RUN"}
    process = subprocess.Popen(["sleep", "97"], start_new_session=True, env=environment)
    note(f"called {process.pid}")
""",
            ["a"],
        )

        [child] = map(int, data_of(calls))
        assert is_running(child)
        kill(child)

    @pytest.mark.parametrize("drain_timeout", ["30s", "2s"])
    def test_an_exit_function_that_never_returns_does_not_hold_up_the_end(self, run, drain_timeout):
        """Nor does the worker say that it gave something up."""
        letters, calls = run(
            """
import atexit

@atexit.register
def hang():
    time.sleep(3600)

@app.stream("orders", input="record")
def handle(record):
    note(f"called {record.text()}")
    threading.Thread(target=time.sleep, args=(3600,)).start()
""",
            ["a"],
            "--drain-timeout",
            drain_timeout,
        )

        assert (letters, data_of(calls)) == ([], ["a"])
