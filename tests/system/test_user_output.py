"""What functions print and log comes out of a real worker, line by line, with its call."""

import json
import os
import signal
import time

import pytest

APP = """
import asyncio, logging, multiprocessing, os, subprocess, sys, threading, time, warnings
from streamfn import App

app = App("shop")
log = logging.getLogger("shop.score")
print("imported")


@app.stream("orders", batch_size=10)
def batches(batch):
    print("batch of", len(batch))
    log.info("scored %d", len(batch), extra={"score": 0.5, "odd": object})
    taken = dict.fromkeys(("event", "runner", "raw", "first", "function", "extra"), "mine")
    log.warning("taken", extra=taken | {"text": "mine"})
    log.debug("too low")
    log.info("huge", extra={"huge": [2**80], "odd": "\\udce4"})
    warnings.warn("an old thing")
    print('{"level": "INFO",  "by": "a structured logger"}')
    print("without an end", end="")


@app.stream("orders", input="record")
def records(record, context):
    if record.data == b"3":
        print(context.aws_request_id if hasattr(context, "aws_request_id") else context.request_id)
        try:
            raise LookupError("kept")
        except LookupError:
            log.exception("caught")


@app.stream("orders", input="record")
async def later(record):
    async def task():
        print("in a task", record.data.decode())
    if record.data == b"4":
        await asyncio.create_task(task())


@app.stream("orders", batch_size=10)
def elsewhere(batch):
    os.write(1, b"written to 1\\n")
    os.write(2, b"written to 2\\n")
    subprocess.run(["echo", "by a program"], check=True)
    sys.stdout.buffer.write(b"bytes \\xff\\n")
    thread = threading.Thread(target=print, args=("in a thread",))
    thread.start()
    thread.join()
    if os.fork() == 0:
        print("in a fork")
        os._exit(0)
    os.wait()
    print("x" * 200_000)
    print("last")
"""


@pytest.fixture(scope="module")
def printed(workers_in, tmp_path_factory):
    """The lines of a worker that ran `APP` once."""
    from streamfn import Log

    folder = tmp_path_factory.mktemp("output")
    (folder / "shop.py").write_text(APP)
    with Log.open(folder / "log") as log:
        log.create_stream("orders").put_many([b"%d" % number for number in range(10)])
    with workers_in(folder, folder / "log") as workers:
        worker = workers.start("shop", "--burst", "--processes", 1)
        assert worker.wait(240) == 0
        return [line for line in workers.errors_of(worker).splitlines() if line]


@pytest.fixture(scope="module")
def find(printed):
    """Finds the lines, as objects, whose message is or begins with a text."""

    def find(text):
        lines = [json.loads(line) for line in printed]
        return [each for each in lines if each.get("message", "").startswith(text)]

    return find


def about(line):
    return tuple(line.get(key) for key in ("function", "stream", "shard", "sequence", "attempt"))


def place(function, sequence):
    return (f"shop.{function}", "orders", "shardId-000000000000", sequence, 1)


def test_every_line_is_whole_json(printed):
    assert all(isinstance(json.loads(line), dict) for line in printed)


def test_print_has_its_call(find):
    [line] = find("batch of 10")
    assert about(line) == place("batches", 0)
    assert (line["level"], line["logger"]) == ("INFO", "stdout")
    [line] = find("without an end")
    assert about(line) == place("batches", 0)
    [line] = find("in a task 4")
    assert about(line) == place("later", 4)


def test_logging_has_its_fields(find):
    [line] = find("scored 10")
    assert about(line) == place("batches", 0)
    assert (line["level"], line["logger"], line["score"]) == ("INFO", "shop.score", 0.5)
    assert line["location"].split("/")[-1].startswith("shop.py:")
    assert find("too low") == []
    [line] = find("caught")
    assert about(line) == place("records", 3)
    assert (line["level"], line["errorType"], line["errorMessage"]) == (
        "ERROR", "LookupError", "kept")  # fmt: skip
    assert "raise LookupError" in line["stackTrace"]
    [line] = [each for each in find("") if each.get("logger") == "py.warnings"]
    assert (line["level"], "an old thing" in line["message"]) == ("WARN", True)
    assert line["location"] == line["message"].partition(": UserWarning")[0]


def test_what_a_log_call_gives_never_replaces_what_the_worker_tells(find):
    """A field of the same name as one of the worker's ended the whole worker once."""
    [line] = find("taken")
    assert about(line) == place("batches", 0)
    assert (line["level"], line["runner"], line["text"]) == ("WARN", 0, "mine")
    names = {name: line[name] for name in ("event", "raw", "first")}
    assert set(names.values()) == {"mine"}
    assert line["extra"] == {"runner": "mine", "function": "mine", "extra": "mine"}


def test_what_json_cannot_hold_becomes_text(find):
    [line] = find("huge")
    assert (line["huge"], line["odd"]) == ([str(2**80)], r"\udce4")


def test_the_request_id_is_that_of_the_context(find, printed):
    [line] = [
        each for each in find("") if "requestId" in each and each["requestId"] == each["message"]
    ]
    assert about(line) == place("records", 3)


def test_a_line_of_a_structured_logger_passes_byte_for_byte(printed):
    assert '{"level": "INFO",  "by": "a structured logger"}' in printed


@pytest.mark.parametrize("text", ["imported", "written to 1", "written to 2", "by a program",
                                  "in a thread", "in a fork"])  # fmt: skip
def test_what_python_does_not_write_comes_out_too(find, text):
    assert len(find(text)) == 1


def test_odd_bytes_and_long_lines_are_borne(find):
    assert len(find("bytes \\xff")) == 1
    [line] = find("xxx")
    assert 65_000 < len(line["message"].encode()) <= 65_536
    assert len(find("last")) == 1


RUDE = """
import fcntl, os, sys
from streamfn import App

app = App("shop")


@app.stream("orders", batch_size=10, max_retries=0)
def rude(batch):
    sys.stdout.close()
    print("after a close")
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and os.path.exists(f"/proc/self/fd/{name}"):
            is_pipe = os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
            if is_pipe and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_WRONLY:
                os.close(number)
    print("after the pipe was closed")
"""


def test_a_function_that_closes_stdout_and_our_pipe_is_borne(log, workers, tmp_path):
    (tmp_path / "shop.py").write_text(RUDE)
    log.create_stream("orders").put_many([b"1", b"2"])
    worker = workers.start("shop", "--burst")
    assert worker.wait(240) == 0
    text = workers.errors_of(worker)
    assert "after a close" in text
    assert "after the pipe was closed" in text


@pytest.mark.parametrize("flood", ["print", "os.write"])
def test_a_flood_stops_neither_deliveries_nor_deadlines(log, workers, tmp_path, flood):
    """The reader of stderr is a pipe that nobody reads."""
    write = 'print("y" * 99)' if flood == "print" else 'os.write(1, b"y" * 99 + b"\\n")'
    (tmp_path / "shop.py").write_text(
        f"""
import os, time
from pathlib import Path
from streamfn import App
app = App("shop")
@app.stream("orders", batch_size=1)
def talk(batch):
    for _ in range(20_000):
        {write}
@app.stream("orders", batch_size=1, timeout="1s", max_retries=0)
def hang(batch):
    time.sleep(3600)
"""
    )
    log.create_stream("orders").put_many([b"1", b"2"])
    reading, writing = os.pipe()
    try:
        worker = workers.start("shop", "--burst", "--processes", 2, errors=writing)
        assert worker.wait(240) == 0
    finally:
        os.close(reading)
        os.close(writing)


def test_stacks_come_as_one_block_a_process(log, workers, tmp_path):
    (tmp_path / "shop.py").write_text(
        """
import threading, time
from streamfn import App
app = App("shop")
@app.stream("orders", batch_size=1)
def busy(batch):
    print("begun", flush=True)
    time.sleep(3600)
"""
    )
    log.create_stream("orders", shards=2).put_many([b"1", b"2", b"3", b"4"], list("abcd"))
    worker = workers.start("shop", "--processes", 2, "--log-format", "text")
    await_text(workers, worker, "begun", times=2)
    worker.send_signal(signal.SIGUSR1)
    text = await_text(workers, worker, "in busy", times=2)
    blocks = text[text.index("supervisor, process") :].split("\nrunner ")
    assert len(blocks) == 3
    assert "File" in blocks[0]
    for block in blocks[1:]:
        first, call, *stack = block.splitlines()
        assert ", ready" in first
        assert "shop.busy on orders/shardId-" in call
        assert "to its timeout" in call
        assert sum("in busy" in line for line in stack) == 1
        files = [line for line in stack if line.startswith("  File")]
        assert all("line" in line for line in files)


def await_text(workers, worker, text, times):
    for _ in range(600):
        errors = workers.errors_of(worker)
        if errors.count(text) >= times:
            return errors
        time.sleep(0.1)
    raise AssertionError(errors)
