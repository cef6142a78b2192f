"""Tests for `streamfn.worker.function_runner`: a real process, and a front of Python."""

import os
import signal
import time

import pytest

from streamfn.invocation.frames import Kind
from streamfn.model.function_config import RESPONSE_BYTES_MAX
from streamfn.telemetry.counters import Counter, read_counters
from streamfn.worker.exit_codes import EXIT_EXHAUSTED, EXIT_NOT_READY

ECHO = """
@app.function
def echo(value):
    return value
"""
PRICE = """
@app.function(timeout="5s")
def price(order, context):
    return {"total": order, "id": context.aws_request_id, "who": context.client_context}
"""


class TestCalls:
    """One call after the other, on one seat."""

    def test_it_answers(self, start):
        _, front = start(PRICE)

        assert front.seats == 1
        for number in range(3):
            request_id = front.give("shop.price", number, context=["me"])
            assert front.answer() == (
                {"seat": 0, "failed": False, "log": None},
                {"total": number, "id": request_id, "who": ["me"]},
            )

    def test_a_large_payload_and_a_large_answer_pass(self, start):
        _, front = start(ECHO)
        text = "x" * (RESPONSE_BYTES_MAX - 2)

        assert front.call("shop.echo", text) == (False, text)

    def test_an_answer_that_is_one_byte_too_large_is_refused(self, start):
        _, front = start(f"""
@app.function
def large(_):
    return "x" * {RESPONSE_BYTES_MAX - 1}
""")

        failed, error = front.call("shop.large")
        assert failed
        assert error["errorType"] == "Function.ResponseSizeTooLarge"

    def test_a_frame_that_arrives_byte_by_byte_is_a_call(self, start):
        from streamfn.invocation.frames import encode

        _, front = start(ECHO)
        header = {"seat": 0, "function": "shop.echo", "request_id": "r", "timeout": 5}

        for byte in encode(Kind.CALL, header, b'"slow"'):
            front.connection.sendall(bytes([byte]))
            time.sleep(0.001)
        assert front.answer()[1] == "slow"

    def test_an_exception_is_the_answer_and_an_event(self, start):
        runner, front = start("""
@app.function
def bad(value):
    raise ValueError("no such order")
""")

        request_id = front.give("shop.bad")
        header, error = front.answer()
        assert header["failed"]
        assert list(error) == ["errorMessage", "errorType", "requestId", "stackTrace"]
        assert (error["errorType"], error["requestId"]) == ("ValueError", request_id)
        [event] = runner.until(lambda: runner.events("call_failed"))
        assert event["mapping"] == "shop.bad"
        assert event["request_id"] == request_id
        assert event["error_type"] == "ValueError"
        assert event["location"].endswith("shop.py:7")
        assert "no such order" in event["traceback"]

    def test_a_function_that_this_process_does_not_have_is_an_error(self, start):
        _, front = start(ECHO)

        failed, error = front.call("shop.other")
        assert failed
        assert error["errorType"] == "Runtime.HandlerNotFound"

    def test_calls_are_counted_here_and_for_all_workers(self, start, log):
        runner, front = start(
            ECHO
            + """
@app.function
def bad(value):
    raise ValueError

@app.stream("orders")
def total(batch): ...
"""
        )
        for _ in range(3):
            front.call("shop.echo")
        front.call("shop.bad")

        counters = [runner.board.counters(index) for index in range(2)]
        assert [each[Counter.CALLS] for each in counters] == [3, 1]
        assert [each[Counter.SUCCEEDED] for each in counters] == [3, 0]
        assert [each[Counter.ERRORS] for each in counters] == [0, 1]
        shared = read_counters(log.core, "shop.echo")
        assert shared[Counter.CALLS] == 3
        assert shared.durations.count == 3

    def test_the_board_shows_a_call_while_it_runs(self, start):
        runner, front = start(
            ECHO
            + """
@app.function(timeout="20s")
def slow(seconds):
    time.sleep(seconds)
"""
        )
        front.give("shop.slow", 1.0, timeout=20.0)
        began = time.monotonic()

        [(seat, index, deadline, _)] = runner.until(runner.board.cells)
        assert (seat, index) == (0, 1), "the second function of the app"
        assert 19.5 < deadline - began < 20.5
        front.answer()
        assert runner.board.cells() == []


class TestOutput:
    """What calls print and log."""

    TELL = """
import logging

@app.function
def tell(text):
    print(text)
    logging.getLogger("shop").warning("logged %s", text)
    print("no line break", end="")
"""

    def test_it_goes_to_the_log_of_the_worker_with_its_call(self, start):
        runner, front = start(self.TELL)

        request_id = front.give("shop.tell", "hello")
        header, _ = front.answer()
        assert header["log"] is None, "nobody asked for it"
        for text in ("hello", "logged hello", "no line break"):
            line = runner.said(text)
            assert (line["mapping"], line["request_id"]) == ("shop.tell", request_id)

    def test_the_caller_gets_it_when_it_asks(self, start):
        _, front = start(self.TELL)

        front.give("shop.tell", "first", tail=True)
        front.answer()
        request_id = front.give("shop.tell", "second", tail=True)
        header, _ = front.answer()
        lines = header["log"].split("\n")
        assert lines[0] == "second"
        level, _, logged_id, message = lines[1].split("\t")
        assert (level, logged_id, message) == ("[WARNING]", request_id, "logged second")
        assert lines[2:] == ["no line break"]

    def test_it_is_the_last_4_kib(self, start):
        _, front = start("""
@app.function
def long(text):
    for number in range(450):  # nobody reads the worker's log here, and a pipe has 64 KiB
        print(f"{number:09}")
    print(text)
""")

        front.give("shop.long", "é" * 10, tail=True)
        log = front.answer()[0]["log"]
        assert len(log.encode()) == 4096
        assert log.endswith("000000449\néééééééééé\n")

    def test_tasks_of_one_process_do_not_get_each_others(self, start):
        _, front = start(
            """
@app.function
async def tell(text):
    for _ in range(3):
        await asyncio.sleep(0.05)
        print(text)
""",
            group="shop/async-64",
        )

        for seat, text in enumerate("abc"):
            front.give("shop.tell", text, seat=seat, tail=True)
        logs = {header["seat"]: header["log"] for header, _ in (front.answer() for _ in range(3))}
        assert logs == {0: "a\n" * 3, 1: "b\n" * 3, 2: "c\n" * 3}


class TestAsync:
    """`async def` functions: many calls of one process at once."""

    APP = """
@app.function(timeout="30s", per_process=8)
async def wait(seconds):
    await asyncio.sleep(seconds)
    return seconds
"""

    def test_they_run_at_once(self, start):
        _, front = start(self.APP, group="shop/async-8")
        assert front.seats == 8

        began = time.monotonic()
        for seat in range(8):
            front.give("shop.wait", 1.0, seat=seat)
        assert {front.answer()[0]["seat"] for _ in range(8)} == set(range(8))
        assert time.monotonic() - began < 4.0

    def test_a_late_call_is_cancelled_and_the_others_go_on(self, start):
        runner, front = start(self.APP, group="shop/async-8")

        front.give("shop.wait", 2.0, seat=0)
        request_id = front.give("shop.wait", 20.0, seat=1, timeout=0.5)
        header, error = front.answer()
        assert header["seat"] == 1
        text = f"RequestId: {request_id} Error: Task timed out after 0.50 seconds"
        assert error == {"errorType": "Sandbox.Timedout", "errorMessage": text}
        assert front.answer() == ({"seat": 0, "failed": False, "log": None}, 2.0)
        assert runner.board.counters(0)[Counter.TIMEOUTS] == 1

    def test_only_functions_of_the_group_are_called(self, start):
        _, front = start(self.APP + ECHO, group="shop/async-8")

        assert front.call("shop.echo", 1)[1]["errorType"] == "Runtime.HandlerNotFound"


class TestTheEnd:
    """How a runner leaves, and what it does without a front."""

    def test_it_leaves_when_the_front_says_so(self, start):
        runner, front = start(ECHO)
        front.call("shop.echo")

        front.send(Kind.LEAVE)
        assert runner.exit_code() == 0

    def test_a_call_that_was_sent_before_is_answered(self, start):
        runner, front = start(ECHO)

        front.give("shop.echo", 7)
        front.send(Kind.LEAVE)
        assert front.answer()[1] == 7
        assert runner.exit_code() == 0

    def test_running_calls_end_before_it_leaves(self, start):
        runner, front = start(TestAsync.APP, group="shop/async-8")

        front.give("shop.wait", 0.5, seat=3)
        front.send(Kind.LEAVE)
        assert front.answer()[1] == 0.5
        assert front.receive() is None
        assert runner.exit_code() == 0

    @pytest.mark.parametrize("group", ["shop", "shop/async-8"])
    def test_a_drained_runner_asks_the_front(self, start, group):
        runner, front = start(ECHO + TestAsync.APP, group=group)
        function = "shop.echo" if group == "shop" else "shop.wait"

        runner.drain()
        assert front.receive().kind is Kind.LEAVE
        front.give(function, 0.1)  # sent before the front has read it
        assert front.answer()[1] == 0.1
        front.send(Kind.LEAVE)
        assert runner.exit_code() == 0

    @pytest.mark.parametrize("group", ["shop", "shop/async-8"])
    def test_a_drained_runner_leaves_without_an_answer(self, start, group):
        runner, front = start(ECHO + TestAsync.APP, group=group)

        began = time.monotonic()
        runner.drain()
        assert front.receive().kind is Kind.LEAVE
        assert runner.exit_code() == 0
        assert 0.9 < time.monotonic() - began

    def test_a_running_call_ends_before_a_drained_runner_leaves(self, start):
        runner, front = start("""
@app.function
def slow(seconds):
    time.sleep(seconds)
    return "done"
""")
        front.give("shop.slow", 1.5)
        time.sleep(0.3)

        runner.drain()
        assert front.receive().kind is Kind.LEAVE
        assert front.answer()[1] == "done"
        assert runner.exit_code() == 0

    def test_it_connects_to_the_next_front(self, start):
        _, front = start(ECHO)
        front.call("shop.echo")

        front.hang_up()
        assert front.accept()["runner"] == 7
        assert front.call("shop.echo", 2) == (False, 2)

    def test_an_answer_for_a_front_that_is_gone_is_dropped(self, start):
        _, front = start(TestAsync.APP, group="shop/async-8")

        front.give("shop.wait", 0.5, seat=0)
        time.sleep(0.1)
        front.hang_up()
        began = time.monotonic()
        front.accept()
        assert time.monotonic() - began > 0.2, "only once its calls have ended"
        assert front.call("shop.wait", 0.0, seat=1) == (False, 0.0)

    def test_what_is_no_frame_ends_the_connection(self, start):
        _, front = start(ECHO)

        front.connection.sendall(b"\xff" * 20)
        front.accept()
        assert front.call("shop.echo", 3) == (False, 3)

    @pytest.mark.parametrize("header", [
        {"seat": 1, "function": "shop.echo", "request_id": "r", "timeout": 5},
        {"seat": 0, "function": "shop.echo", "request_id": "r"},
        [],
    ])  # fmt: skip
    def test_a_call_that_lacks_something_ends_the_connection(self, start, header):
        from streamfn.invocation.frames import encode

        _, front = start(ECHO)

        front.connection.sendall(encode(Kind.CALL, header))
        front.accept()
        assert front.call("shop.echo", 3) == (False, 3)

    def test_it_ends_with_its_supervisor(self, start):
        runner, front = start(ECHO)

        os.close(runner.process._lifeline)
        runner.process._lifeline = os.open(os.devnull, os.O_RDONLY)
        assert front.receive() is None


class TestUnrulyFunctions:
    """Functions that break what they can; their neighbours get good answers."""

    def test_sys_exit_is_the_end_of_the_call_only(self, start):
        _, front = start(
            ECHO
            + """
@app.function
def leave(code):
    sys.exit(code)
"""
        )

        request_id = front.give("shop.leave", 3)
        text = f"RequestId: {request_id} Error: Runtime exited with error: exit status 3"
        assert front.answer()[1] == {"errorType": "Runtime.ExitError", "errorMessage": text}
        assert front.call("shop.echo", 1) == (False, 1)

    def test_a_forked_child_that_returns_answers_nothing(self, start):
        _, front = start(
            ECHO
            + """
@app.function
def fork(value):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "parent" if child else "child"
"""
        )

        assert front.call("shop.fork") == (False, "parent")
        assert front.call("shop.echo", 1) == (False, 1)

    def test_a_child_that_lives_on_does_not_keep_the_connection(self, start):
        _, front = start("""
@app.function
def fork(value):
    if os.fork() == 0:
        os.setsid()
        time.sleep(5)
        os._exit(0)
    return os.getpid()
""")
        pid = front.call("shop.fork")[1]

        os.kill(pid, signal.SIGKILL)
        assert front.receive(timeout=3) is None, "the front sees its end at once"

    def test_a_call_that_leaks_descriptors_is_answered_and_is_the_last(self, start):
        runner, front = start("""
KEPT = []

@app.function
def leak(count):
    import resource
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, soft))
    try:
        while len(KEPT) < count:
            KEPT.append(open(os.devnull))
    except OSError:
        pass
    return len(KEPT)
""")
        assert front.call("shop.leak", 3) == (False, 3)

        front.give("shop.leak", 100_000)
        assert front.receive().kind is Kind.LEAVE, "no call must come to this process any more"
        header, count = front.answer()
        assert not header["failed"]
        assert count > 200
        front.send(Kind.LEAVE)
        assert runner.exit_code() == EXIT_EXHAUSTED
        assert runner.events("runner_exhausted")

    def test_a_memory_error_is_the_last_answer_too(self, start):
        runner, front = start("""
@app.function
def large(value):
    raise MemoryError
""")

        front.give("shop.large")
        assert front.receive().kind is Kind.LEAVE
        assert front.answer()[1]["errorType"] == "MemoryError"
        assert runner.exit_code() == EXIT_EXHAUSTED, "also if the front does not answer"

    def test_a_function_that_closes_our_descriptors_is_replaced(self, start):
        runner, front = start("""
@app.function
def close(value):
    os.closerange(3, 256)
    return "closed"
""")

        front.give("shop.close")
        assert front.receive() is None
        assert runner.exit_code() != 0

    def test_a_descriptor_that_a_function_opened_in_its_place_is_not_written_to(
        self, start, tmp_path
    ):
        runner, front = start(f"""
import socket
@app.function
def swap(value):
    for number in range(3, 256):
        try:
            kind = os.readlink(f"/proc/self/fd/{{number}}")
            connection = socket.socket(fileno=os.dup(number))
            is_front = connection.getpeername().endswith(".sock") if kind[:6] == "socket" else False
        except (OSError, AttributeError):
            continue
        if is_front:
            os.dup2(os.open({str(tmp_path / "mine")!r}, os.O_CREAT | os.O_RDWR), number)
            connection.close()
    return "secret"
""")

        front.give("shop.swap")
        assert front.receive() is None
        assert runner.exit_code() == EXIT_EXHAUSTED
        assert (tmp_path / "mine").read_bytes() == b""

    def test_signal_handlers_that_raise_lose_no_call(self, start):
        runner, front = start("""
import signal

def stray(*_):
    raise RuntimeError("late alarm")

@app.function
def alarm(value):
    signal.signal(signal.SIGALRM, stray)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    return value

@app.function
def spin(value):
    return value
""")
        front.call("shop.alarm", 1)

        answers = []
        for number in range(300):
            answers.append(front.call("shop.spin", number))
            runner.read()  # or it waits until somebody reads its events
        values = [value for failed, value in answers if not failed]
        errors = {value["errorMessage"] for failed, value in answers if failed}
        assert set(values) <= set(range(300))
        assert len(values) > 200
        assert errors <= {"late alarm", "an exception was thrown into this thread"}
        runner.until(lambda: runner.events("exception_ignored"))

    def test_closed_and_replaced_outputs_are_mended(self, start):
        runner, front = start("""
@app.function
def shut(value):
    sys.stdout = None
    sys.stderr.close()
    raise ValueError

@app.function
def tell(text):
    print(text)
""")
        front.call("shop.shut")

        front.call("shop.tell", "after it")
        assert runner.said("after it")

    def test_a_function_that_changes_the_folder_does_not_hinder_the_next_connection(self, start):
        _, front = start("""
@app.function
def move(folder):
    os.chdir(folder)
""")
        front.call("shop.move", "/")

        front.hang_up()
        front.accept()
        assert front.call("shop.move", "/") == (False, None)


class TestStart:
    """Before the first call."""

    def test_an_app_that_does_not_import_says_why(self, tmp_path, log_dir):
        import streamfn
        from streamfn.worker.messages import NotReady

        from .conftest import RunnerUnderTest

        streamfn.Log.open(log_dir).close()
        app = tmp_path / "broken.py"
        app.write_text("import nothing_of_that_name")
        runner = RunnerUnderTest(app, log_dir, "0" * 32, "broken")
        try:
            message = runner.ready()
            assert isinstance(message, NotReady)
            assert "nothing_of_that_name" in message.reason
            assert runner.exit_code() == EXIT_NOT_READY
        finally:
            runner.process.close()

    def test_it_is_drained_while_it_waits(self, tmp_path, log_dir):
        import streamfn

        from .conftest import RunnerUnderTest

        streamfn.Log.open(log_dir).close()
        app = tmp_path / "shop.py"
        app.write_text('from streamfn import App\napp = App("shop")\n' + ECHO)
        runner = RunnerUnderTest(app, log_dir, "0" * 32, "shop")
        try:
            assert runner.ready().functions[0]["name"] == "shop.echo"
            runner.drain()
            assert runner.exit_code() == 0
        finally:
            runner.process.close()

    def test_a_log_directory_at_a_long_path_is_no_hindrance(self, start, tmp_path):
        import streamfn

        folder = tmp_path / ("d" * 100) / ("e" * 100)
        folder.mkdir(parents=True)
        streamfn.Log.open(folder / "log").close()
        _, front = start(ECHO, folder=folder / "log")

        assert front.call("shop.echo", 1) == (False, 1)
