"""Functions that use up descriptors, or close ours: the runner is replaced, nobody else pays."""

import resource

import pytest

from streamfn.engine.deadletter import DeadLetters

HEAD = """
import os, resource, socket, threading
from streamfn import App
app = App("shop")
LEAKED = []

def note(text):
    with open(os.path.dirname(__file__) + "/calls", "a") as file:
        file.write(f"{os.getpid()} {text}\\n")
"""


@pytest.fixture
def run(tmp_path, log, workers):
    """Runs an app over records until nothing is left; returns the stderr and the dead letters."""

    def run(body, records, *arguments, files=None, keys=None):
        (tmp_path / "shop.py").write_text(HEAD + body)
        stream = log.create_stream("orders", shards=1)
        stream.put_many([each.encode() for each in records], keys)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
            body = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n" + body
            (tmp_path / "shop.py").write_text(HEAD + body)
        try:
            worker = workers.start("shop", "--burst", *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert worker.wait(300) == 0, workers.errors_of(worker)
        letters = DeadLetters(log, "shop.handle").entries()
        return workers.errors_of(worker), [(e.data, e.error_type) for e in letters]

    return run


def processed(tmp_path, word="done"):
    lines = (tmp_path / "calls").read_text().splitlines()
    return {line.split()[2] for line in lines if line.split()[1] == word}


@pytest.mark.parametrize("kind", ["record", "batch"])
def test_a_leak_of_descriptors_costs_no_record(run, tmp_path, kind):
    """Without retries: a call that fails for want of descriptors is not an attempt."""
    records = [f"r{n}" for n in range(30)]
    _, letters = run(
        f"""
@app.stream("orders", input="{kind}", batch_size=1, max_retries=0)
def handle(event):
    LEAKED.extend(os.dup(2) for _ in range(60))
    note("done " + (event if "{kind}" == "record" else event[0]).text())
""",
        records,
        files=512,
    )

    assert letters == []
    assert processed(tmp_path) == set(records)


def test_a_failure_finds_its_way_to_the_dead_letters(run):
    """The runner has no descriptor left to open their stream with."""
    stderr, letters = run(
        """
@app.stream("orders", input="record", max_retries=0)
def handle(record):
    if record.text() == "bad":
        try:
            while True:
                LEAKED.append(os.dup(2))
        except OSError:
            pass
        raise ValueError("not for want of descriptors")
""",
        ["a", "bad", "b"],
        files=256,
    )

    assert [data for data, _ in letters] == [b"bad"]
    assert "out of descriptors" in stderr


def test_a_function_that_wants_too_many_is_to_blame_itself(run, tmp_path):
    _, letters = run(
        """
@app.stream("orders", input="record", parallelization_factor=4, max_retries=1)
def handle(record):
    if record.text() == "bad":
        pairs = [socket.socketpair() for _ in range(1000)]
    note("done " + record.text())
""",
        ["a", "bad", "b", "c", "d", "e"],
        "--processes",
        1,
        "--threads",
        4,
        files=300,
        keys=list("abcdef"),
    )

    assert letters == [(b"bad", "OSError")]
    assert processed(tmp_path) == {"a", "b", "c", "d", "e"}


def test_exit_functions_that_never_return_do_not_keep_the_lanes_of_a_process_that_ran_out(
    run, tmp_path
):
    """It is killed some seconds after its last call, and judged as if it had ended."""
    _, letters = run(
        """
import atexit, time

@app.stream("orders", input="record", max_retries=0)
def handle(record):
    if record.text() == "bad":
        atexit.register(time.sleep, 3600)
        bytearray(1 << 62)
    note("done " + record.text())
""",
        ["a", "bad", "b"],
    )

    assert letters == [(b"bad", "MemoryError")]
    assert processed(tmp_path) == {"a", "b"}


@pytest.mark.parametrize("close", ["os.closerange(3, 512)", "os.closerange(0, 512)"])
@pytest.mark.parametrize("end", ["return", "raise ValueError"])
def test_who_closes_the_descriptors_of_its_runner_is_found(run, tmp_path, close, end):
    """It dies after the call, as it settles it: nobody is blamed at first, but not for ever.

    A call that returned counts as done, and nobody is blamed, if the process dies as late as in the
    call of a record behind it.
    """
    _, letters = run(
        f"""
@app.stream("orders", input="record", parallelization_factor=2, max_retries=1)
def handle(record):
    if record.text() == "bad":
        {close}
        {end}
    note("done " + record.text())
""",
        ["a", "b", "bad", "c", "d"],
        "--threads",
        2,
        keys=["k"] * 5,
    )

    if letters or end != "return":
        assert letters == [(b"bad", "FunctionCrashed")]
    assert processed(tmp_path) == {"a", "b", "c", "d"}


def test_a_neighbour_that_runs_meanwhile_is_not_blamed(run, tmp_path, log):
    """The only call in progress when the runner dies is another function's."""
    _, letters = run(
        """
import time

@app.stream("orders", input="record", max_retries=0)
def closes(record):
    time.sleep(0.2)
    os.closerange(3, 512)

@app.stream("orders", input="record", max_retries=0)
def handle(record):
    time.sleep(1)
    note("done " + record.text())
""",
        ["a"],
        "--processes",
        1,
        "--threads",
        2,
    )

    assert letters == []
    assert [e.error_type for e in DeadLetters(log, "shop.closes").entries()] == ["FunctionCrashed"]
    assert processed(tmp_path) == {"a"}


def test_what_a_function_prints_after_it_closed_stdout_is_not_written_over_the_log(
    run, run_streamfn, log
):
    """The next file that is opened gets the lowest number that is free: 0, 1 or 2."""
    _, letters = run(
        """
@app.stream("orders", input="record", max_retries=0)
def handle(record):
    if record.text() == "close":
        for number in range(3):
            os.close(number)
        raise ValueError("now the stream of dead letters is made")
    for number in range(3):
        try:
            os.write(number, b"x" * 4096)
        except OSError:
            pass
""",
        ["close", "a", "b"],
        "--processes",
        1,
    )
    log.close()

    assert letters == [(b"close", "ValueError")]
    result = run_streamfn("fsck", log.path, "--deep")
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("kind", ["record", "batch"])
def test_a_destination_whose_files_the_function_closed_is_reached_by_the_next_process(run, kind):
    """Nothing of the lane itself is closed, so only the delivery of the dead letter fails."""
    errors, letters = run(
        f"""
@app.stream("orders", input="{kind}", batch_size=1, max_retries=0)
def handle(event):
    for name in os.listdir("/proc/self/fd"):
        path = "/proc/self/fd/" + name
        if os.path.lexists(path) and os.readlink(path).endswith("topology.lock"):
            os.close(int(name))
    raise ValueError("no")
""",
        ["r1", "r2"],
    )
    assert [data for data, _ in letters] == [b"r1", b"r2"]
    assert "a function closed" in errors
