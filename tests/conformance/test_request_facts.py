"""The facts of synchronous calls, each played through a worker."""

import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from streamfn import App, Log
from streamfn.errors import (
    FunctionError,
    FunctionNotFound,
    InvalidRequest,
    Throttled,
    WorkerUnavailable,
)
from streamfn.invocation.client import invoke_through_worker
from streamfn.model.function_config import REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX

APP = """
import os
import signal
import sys
import time
from pathlib import Path

from streamfn import App

app = App("shop")
HERE = Path(__file__).parent
CALLS = HERE / "calls"
if (HERE / "broken").exists():
    import no_such_module


@app.function
def echo(event):
    return event


@app.function
def nothing(event): ...


@app.function
def odd_value(event):
    return {1, 2}


@app.function
def raises(event):
    with CALLS.open("a") as calls:
        calls.write("call\\\\n")
    raise LookupError("no such order")


@app.function(timeout="1s")
def hangs(event):
    time.sleep(60)


@app.function(timeout="1s")
async def waits(event):
    import asyncio

    await asyncio.sleep(60)


@app.function
def exits(event):
    os._exit(event)


@app.function
def crashes(event):
    os.kill(os.getpid(), event)


@app.function(timeout="30s", memory="160MiB")
def leaks(event):
    kept = []
    while True:
        kept.append(bytearray(b"x") * 2**25)
        time.sleep(0.05)


@app.function
def answers(event):
    return "x" * event


@app.function(concurrency=1)
def one_at_a_time(event):
    time.sleep(event)


@app.function(concurrency=0)
def switched_off(event): ...


@app.function(timeout="1s")
def takes(event):
    time.sleep(event)


@app.function
def context_of(event, context):
    print("printed in the call")
    return {
        "aws_request_id": context.aws_request_id,
        "function_name": context.function_name,
        "memory_limit_in_mb": context.memory_limit_in_mb,
        "function_version": context.function_version,
        "log_group_name": context.log_group_name,
        "client_context": context.client_context and context.client_context.custom,
        "millis": context.get_remaining_time_in_millis(),
    }
"""


class Worker:
    """A worker of its own, in a folder of its own."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        (folder / "shop.py").write_text(APP.replace("\\\\n", "\\n"))
        self.log = Log.open(folder / "log")
        command = [sys.executable, "-m", "streamfn", "worker", "shop.py", "--log-dir", "log"]
        with (folder / "worker.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.invoke("echo")
                return
            except WorkerUnavailable:
                assert self.process.poll() is None, (folder / "worker.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def invoke(self, function, payload=..., **options):
        return App("shop").invoke(function, payload, where="worker", log=self.log, **options)

    def error(self, function, payload=...):
        """What a failed call raises."""
        with pytest.raises(FunctionError) as raised:
            self.invoke(function, payload)
        return raised.value

    def raw(self, function, payload=b"{}"):
        """The answer as bytes."""
        return invoke_through_worker(self.log, f"shop.{function}", payload)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
        return code


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"))
    yield worker
    assert worker.close() == 0


def with_id(error, text):
    return f"RequestId: {error.request_id} Error: {text}"


@pytest.mark.fact("G-2")
class TestSizes:
    def test_an_answer_of_6_mib_and_100_bytes_is_the_largest(self, worker):
        assert len(worker.invoke("answers", RESPONSE_BYTES_MAX - 2)) == RESPONSE_BYTES_MAX - 2

        error = worker.error("answers", RESPONSE_BYTES_MAX - 1)

        assert error.error_type == "Function.ResponseSizeTooLarge"
        assert error.error_message == (
            "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
        )

    def test_a_payload_of_6_mib_is_the_largest(self, worker):
        most = "x" * (REQUEST_BYTES_MAX - 2)

        assert worker.invoke("echo", most) == most
        with pytest.raises(InvalidRequest):
            worker.invoke("echo", f"{most}x")


@pytest.mark.fact("I-3")
class TestExceptions:
    def test_the_error_object_has_aws_keys_in_aws_order(self, worker):
        reply = worker.raw("raises")

        error = json.loads(reply.payload)
        assert reply.is_failed
        assert list(error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
        assert (error["errorMessage"], error["errorType"]) == ("no such order", "LookupError")
        assert error["requestId"] == reply.request_id

    def test_its_stack_has_the_lines_of_the_function_only(self, worker):
        [frame] = worker.error("raises").stack_trace

        path = re.escape(str(worker.folder / "shop.py"))
        expected = (
            rf'  File "{path}", line \d+, in raises\n    raise LookupError\("no such order"\)\n'
        )
        assert re.fullmatch(expected, frame)


@pytest.mark.fact("I-4")
@pytest.mark.parametrize("function", ["hangs", "waits"])
def test_a_call_beyond_its_timeout(worker, function):
    began = time.monotonic()

    error = worker.error(function)

    assert time.monotonic() - began < 5
    assert error.error_type == "Sandbox.Timedout"
    assert error.error_message == with_id(error, "Task timed out after 1.00 seconds")
    assert error.stack_trace == ()


@pytest.mark.fact("I-4")
def test_the_error_object_of_a_timeout_has_two_keys(worker):
    assert set(json.loads(worker.raw("hangs").payload)) == {"errorType", "errorMessage"}


class TestEndsOfProcesses:
    @pytest.mark.fact("I-5")
    @pytest.mark.parametrize(
        ("code", "how"),
        [
            (0, "Runtime exited without providing a reason"),
            (3, "Runtime exited with error: exit status 3"),
            (127, "Runtime exited with error: exit status 127"),
        ],
    )
    def test_an_exit(self, worker, code, how):
        error = worker.error("exits", code)

        assert error.error_type == "Runtime.ExitError"
        assert error.error_message == with_id(error, how)

    @pytest.mark.parametrize(
        ("number", "name"),
        [
            (signal.SIGSEGV, "segmentation fault"),
            (signal.SIGKILL, "killed"),
            (signal.SIGABRT, "aborted"),
        ],
    )
    def test_a_signal(self, worker, number, name):
        """On AWS a crash may look like a time-out; here it is told at once."""
        error = worker.error("crashes", int(number))

        assert error.error_type == "Runtime.ExitError"
        assert error.error_message == with_id(error, f"Runtime exited with error: signal: {name}")

    def test_too_much_memory(self, worker):
        error = worker.error("leaks")

        assert error.error_type == "Runtime.OutOfMemory"
        how = "Runtime exceeded its memory limit of 160 MiB"
        assert error.error_message == with_id(error, how)

    def test_the_next_call_succeeds(self, worker):
        worker.error("exits", 1)

        assert worker.invoke("echo", 7) == 7


class TestOtherErrors:
    @pytest.mark.fact("I-6")
    def test_an_answer_that_is_no_json(self, worker):
        error = worker.error("odd_value")

        assert error.error_type == "Runtime.MarshalError"
        assert error.error_message == (
            "Unable to marshal response: Object of type set is not JSON serializable"
        )

    @pytest.mark.fact("I-6")
    @pytest.mark.parametrize(
        ("change", "kind", "message"),
        [
            ("broken", "Runtime.ImportModuleError", "No module named 'no_such_module'"),
            ("syntax", "Runtime.UserCodeSyntaxError", "invalid syntax (shop.py, line 1)"),
        ],
    )
    def test_an_app_that_does_not_import_any_more(self, tmp_path, change, kind, message):
        """When a call needs a process, and none is left."""
        worker = Worker(tmp_path, "--idle", "300ms")
        try:
            time.sleep(1.5)  # the first process ends
            if change == "broken":
                (tmp_path / "broken").touch()
            else:
                (tmp_path / "shop.py").write_text("def")

            error = worker.error("echo")
        finally:
            worker.close()

        assert error.error_type == kind
        assert message in error.error_message

    @pytest.mark.fact("I-7")
    def test_none_is_null(self, worker):
        assert worker.raw("nothing").payload == b"null"
        assert worker.invoke("nothing") is None


class TestThrottling:
    @pytest.mark.fact("I-8", "G-5")
    def test_a_call_above_the_concurrency_of_its_function(self, worker):
        first = threading.Thread(target=worker.invoke, args=("one_at_a_time", 2))
        first.start()
        time.sleep(1)

        with pytest.raises(Throttled, match="at its `concurrency`"):
            worker.invoke("one_at_a_time", 0)
        first.join()
        worker.invoke("one_at_a_time", 0)

    @pytest.mark.fact("I-8")
    def test_a_function_that_is_switched_off(self, worker):
        with pytest.raises(Throttled, match="at its `concurrency`"):
            worker.invoke("switched_off")

    @pytest.mark.fact("I-8", "G-5")
    def test_a_call_for_which_no_process_is_free(self, tmp_path):
        worker = Worker(tmp_path, "--max-runners", "1")
        try:
            first = threading.Thread(target=worker.invoke, args=("echo", 1))
            busy = threading.Thread(target=lambda: worker.invoke("one_at_a_time", 4))
            first.start()
            first.join()
            busy.start()
            time.sleep(0.5)

            with pytest.raises(Throttled, match="no process was free within its timeout"):
                worker.invoke("takes", 0)
            busy.join()
        finally:
            worker.close()


@pytest.mark.fact("I-9")
def test_an_unknown_function(worker):
    with pytest.raises(FunctionNotFound, match=r"no function `shop\.ecko`") as raised:
        worker.invoke("ecko")

    assert raised.value.hint == "did you mean `shop.echo`?"


@pytest.mark.fact("I-10")
def test_a_payload_that_is_no_json(worker):
    with pytest.raises(InvalidRequest):
        worker.raw("echo", b"{x")


@pytest.mark.fact("I-11")
def test_a_failed_call_is_not_repeated(worker):
    (worker.folder / "calls").unlink(missing_ok=True)

    worker.error("raises")
    time.sleep(1)

    assert (worker.folder / "calls").read_text().count("call") == 1


def test_the_context_object_has_aws_attributes(worker):
    seen = worker.invoke("context_of", client_context={"custom": {"a": 1}})

    assert 0 < seen.pop("millis") <= 60_000
    assert len(seen.pop("aws_request_id")) == 36
    assert seen == {
        "function_name": "context_of",
        "memory_limit_in_mb": "128",
        "function_version": "$LATEST",
        "log_group_name": "/aws/lambda/context_of",
        "client_context": {"a": 1},
    }


@pytest.mark.fact("I-1")
def test_a_call_is_answered_whether_its_function_failed_or_not(worker):
    assert not worker.raw("echo").is_failed
    assert worker.raw("raises").is_failed


@pytest.mark.fact("I-12")
def test_the_end_of_what_a_call_printed_is_sent_back(worker):
    reply = invoke_through_worker(worker.log, "shop.context_of", b"{}", tail=True)

    assert reply.log == "printed in the call\n"
    assert worker.raw("context_of").log is None
