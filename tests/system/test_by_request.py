"""Functions by request through a whole worker: front, processes, deaths, health, signals."""

import json
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import orjson
import pytest

from streamfn import Log, errors
from streamfn.invocation.address import connect, listen
from streamfn.invocation.client import invoke_through_worker
from streamfn.invocation.reply import error_of

READY = "worker_started"


class Call(threading.Thread):
    """A call that runs while the test goes on."""

    def __init__(self, log, function, event):
        super().__init__(daemon=True)
        self._log, self._function, self._event = log, function, event
        self.answer = self.error = None
        self.start()

    def run(self):
        try:
            reply = invoke_through_worker(self._log, self._function, orjson.dumps(self._event))
        except errors.StreamfnError as error:
            self.error = error
            return
        if reply.is_failed:
            self.error = error_of(reply)
        else:
            self.answer = orjson.loads(reply.payload)

    def wait(self):
        """Wait for the answer, and return it; raise its error."""
        self.join(60)
        assert not self.is_alive(), "no answer came"
        if self.error is not None:
            raise self.error
        return self.answer


class Stage:
    """A worker of `apps/requested.py`, and callers."""

    def __init__(self, workers, log, until):
        self.workers, self.log, self._until = workers, log, until
        self.worker = None

    def start(self, *arguments, app="requested", **environment):
        self.worker = self.workers.start(app, *arguments, **environment)
        self._until(lambda: self.events(READY) or self.worker.poll() is not None)
        for path in sockets(self.log):
            # WHY: callers give up after 1.7 s, and a busy machine may start a front later.
            with connect(self.log.path, path.stem, 60) as connection:
                assert connection.recv(1), "its front greets"
        return self.worker

    def lines(self):
        found = self.workers.errors_of(self.worker).splitlines()
        return [json.loads(line) for line in found if line.startswith("{")]

    def events(self, *names):
        return [line for line in self.lines() if line.get("event") in names]

    def wait_for(self, name):
        self._until(lambda: self.events(name))
        return self.events(name)[0]

    def call(self, event, function="price"):
        return Call(self.log, function, event).wait()

    def begin(self, event, function="price"):
        return Call(self.log, function, event)

    def hold(self, path):
        """Begin a call that lasts until `release`; it runs when this returns."""
        call = self.begin(f"hold {path}")
        self._until(lambda: path.exists() or not call.is_alive())
        assert path.exists(), call.wait()
        return call

    def release(self, path):
        Path(f"{path}.release").touch()

    def end(self, number=signal.SIGTERM):
        self.worker.send_signal(number)
        return self.worker.wait(60)


@pytest.fixture
def stage(workers, log, until):
    return Stage(workers, log, until)


def is_gone(process):
    """Whether a process has ended, even if nobody has waited for it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def sockets(log):
    return list(Path(log.path, "workers").glob("*.sock"))


class TestCalls:
    """Answers and errors, and what the worker says of them."""

    def test_no_process_runs_until_a_call_comes_and_one_serves_several(self, stage, children_of):
        worker = stage.start()
        assert len(children_of(worker.pid)) <= 2, "the front, and the runner that told of the app"

        processes = {stage.call("fine") for _ in range(5)}

        [process] = processes
        assert process in children_of(worker.pid)

    @pytest.mark.parametrize(
        ("event", "error_type", "message", "outcome", "told"),
        [
            ("raise seven", "ValueError", "seven", "error", "ValueError: seven"),
            ("exit 3", "Runtime.ExitError", "exit status 3", "crash", "exit code 3"),
            ("kill 11", "Runtime.ExitError", "segmentation fault", "crash", "SIGSEGV"),
            ("sleep 30", "Sandbox.Timedout", "timed out after 3.00 seconds", "timeout", "3.0 s"),
        ],
    )
    def test_a_call_that_fails_is_told_to_its_caller_in_the_log_and_in_metrics(
        self, stage, run_streamfn, until, event, error_type, message, outcome, told
    ):
        stage.start(TIMEOUT=3)

        with pytest.raises(errors.FunctionError, match=message) as failed:
            stage.call(event)
        assert failed.value.error_type == error_type

        name = "call_timed_out" if outcome == "timeout" else "call_failed"
        assert told in stage.wait_for(name)["message"]
        assert stage.wait_for(name)["function"] == "shop.price"
        until(lambda: state_of(run_streamfn, stage.log) == "failing")
        metrics = run_streamfn("metrics", "--log-dir", stage.log.path).stdout
        labels = f'function="shop.price",outcome="{outcome}"'
        assert f"streamfn_invocations_total{{{labels}}} 1\n" in metrics
        assert stage.call("fine") > 0, "the next call works"
        until(lambda: state_of(run_streamfn, stage.log) == "idle")

    def test_a_call_that_uses_too_much_memory_fails_alone(self, stage, run_streamfn, until):
        stage.start()
        process = stage.call("fine")

        with pytest.raises(errors.FunctionError, match="exceeded its memory limit of") as failed:
            stage.call(2**28, "heavy")

        assert failed.value.error_type == "Runtime.OutOfMemory"
        assert stage.wait_for("memory_exceeded")["function"] == "shop.heavy"
        until(lambda: state_of(run_streamfn, stage.log, "shop.heavy") == "failing")
        assert stage.call("fine") == process, "others have processes of their own"
        assert stage.call(1, "heavy") > 0

    def test_refused_calls_are_counted(self, stage, run_streamfn, until):
        stage.start()
        first = stage.begin(2, "single")
        until(lambda: calls_of(run_streamfn, stage.log, "shop.single")["running"] == 1)

        with pytest.raises(errors.Throttled):
            stage.call(0, "single")

        assert first.wait() > 0
        until(lambda: calls_of(run_streamfn, stage.log, "shop.single")["throttled"] == 1)
        assert stage.end() == 0
        [total] = [line for line in stage.events("totals") if line["function"] == "shop.single"]
        assert total["message"] == "1 call, 1 throttled"

    def test_it_is_a_function_of_the_log_like_others(self, stage, run_streamfn, until):
        stage.start()
        stage.call("fine")

        until(lambda: calls_of(run_streamfn, stage.log, "shop.price") is not None)
        [workers] = json.loads(
            run_streamfn("workers", "--json", "--log-dir", stage.log.path).stdout
        )
        assert workers["functions"] == ["shop.heavy", "shop.price", "shop.single"]
        assert len(workers["runners"]) == 1
        assert run_streamfn("status", "--log-dir", stage.log.path).stdout == "ok\n"
        history = ["fn", "history", "price", "--every", "1s", "--json", "--log-dir", stage.log.path]

        def is_in_history():
            stage.call("fine")
            return any(row["calls"] for row in json.loads(run_streamfn(*history).stdout))

        until(is_in_history)


def functions(run_streamfn, log):
    listed = run_streamfn("fn", "ls", "--json", "--log-dir", log.path).stdout
    return {each["name"]: each for each in json.loads(listed)}


def state_of(run_streamfn, log, name="shop.price"):
    return functions(run_streamfn, log)[name]["state"]


def calls_of(run_streamfn, log, name):
    return functions(run_streamfn, log)[name]["calls"]


class TestStarts:
    """Processes that start when they are needed, and those that cannot."""

    def test_an_idle_process_ends_and_the_next_call_has_another(self, stage, until):
        stage.start("--idle", "200ms")
        process = stage.call("fine")

        until(lambda: is_gone(process))
        assert stage.call("fine") != process
        assert not stage.events("runner_died")

    def test_calls_wait_for_one_of_few_processes(self, stage, tmp_path):
        stage.start("--max-runners", "1")
        held = stage.hold(tmp_path / "held")
        waiting = [stage.begin("fine") for _ in range(3)]
        time.sleep(0.2)
        assert all(call.is_alive() for call in waiting)

        stage.release(tmp_path / "held")

        assert {call.wait() for call in waiting} == {held.wait()}

    @pytest.mark.parametrize(
        ("code", "error_type", "message"),
        [
            ("import nothing_of_that_name", "Runtime.ImportModuleError", "nothing_of_that_name"),
            ("1 +", "Runtime.UserCodeSyntaxError", "invalid syntax"),
            ("os._exit(5)", "Runtime.ExitError", "exit code 5"),
        ],
    )
    def test_code_that_does_not_start_fails_the_calls_until_it_does(
        self, stage, tmp_path, run_streamfn, until, code, error_type, message
    ):
        broken = tmp_path / "broken"
        stage.start("--idle", "100ms", BROKEN=broken)
        broken.write_text(code)

        with pytest.raises(errors.FunctionError, match=message) as failed:
            stage.call("fine")
        assert failed.value.error_type == error_type
        until(lambda: state_of(run_streamfn, stage.log) == "blocked")
        assert stage.worker.poll() is None

        broken.unlink()
        assert stage.call("fine") > 0
        until(lambda: state_of(run_streamfn, stage.log) == "idle")

    def test_other_code_than_the_workers_is_never_called(self, stage, tmp_path, apps):
        app = tmp_path / "other.py"
        shutil.copy(apps / "requested.py", app)
        stage.start("--idle", "100ms", app="other")
        app.write_text(app.read_text().replace("return os.getpid()", "return 0"))

        with pytest.raises(errors.StreamfnError, match="the app has changed"):
            stage.call("fine")

        assert stage.worker.wait(60) == 3
        assert "hint: restart the worker" in stage.workers.errors_of(stage.worker)

    def test_a_reload_answers_from_the_new_code_and_ends_no_call(self, stage, tmp_path, apps):
        app = tmp_path / "other.py"
        shutil.copy(apps / "requested.py", app)
        stage.start(app="other")
        held = stage.hold(tmp_path / "held")
        app.write_text(app.read_text().replace("return os.getpid()", "return 'new'"))

        stage.worker.send_signal(signal.SIGHUP)
        stage.wait_for("reloaded")

        assert stage.call("fine") == "new"
        stage.release(tmp_path / "held")
        assert held.wait() > 0, "the old code answers what it was called with"


class TestFront:
    """The front is a process that may die, and its socket outlives it."""

    def test_it_is_started_again_and_the_next_call_works(self, stage, until, kill, tmp_path):
        stage.start("-v")
        process = stage.call("fine")
        [before] = sockets(stage.log)
        inode = before.stat().st_ino
        held = stage.hold(tmp_path / "held")

        kill(stage.wait_for("front_started")["pid"])

        with pytest.raises(errors.FunctionError) as lost:
            held.wait()
        assert lost.value.error_type == "Runtime.WorkerLost"
        assert stage.wait_for("front_died")["reason"] == "SIGKILL"
        assert stage.call("fine") != process, "the other one is busy"
        stage.release(tmp_path / "held")
        until(lambda: stage.call("fine") == process)
        [after] = sockets(stage.log)
        assert after.stat().st_ino == inode

    def test_without_functions_by_request_there_is_none(self, workers, log, until, children_of):
        log.create_stream("orders")
        stage = Stage(workers, log, until)
        worker = stage.start("--processes", 1, app="paced", NOTES=os.devnull)

        assert len(children_of(worker.pid)) == 1
        assert sockets(log) == []

    def test_only_its_user_can_connect(self, stage):
        stage.start()

        [path] = sockets(stage.log)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_log_directory_at_a_long_path(self, workers, until, tmp_path):
        folder = tmp_path.joinpath("a" * 100, "b" * 100)
        folder.mkdir(parents=True)
        workers.log_dir = folder / "log"
        with Log.open(workers.log_dir) as log:
            stage = Stage(workers, log, until)
            stage.start()

            assert stage.call("fine") > 0

    def test_sockets_of_a_copied_log_are_removed_and_no_damage(self, stage, log, run_streamfn):
        stale = Path(log.path, "workers", f"{'ab' * 16}.sock")
        stale.parent.mkdir(exist_ok=True)
        listen(log.path, "ab" * 16).close()
        assert stale.is_socket()
        checked = run_streamfn("fsck", log.path)
        assert " 0 damaged" in checked.stderr

        stage.start()

        assert not stale.exists()
        assert stage.call("fine") > 0


class TestShutdown:
    """A worker that ends."""

    def test_a_drain_finishes_calls_and_leaves_nothing(self, stage, tmp_path, until):
        stage.start()
        held = stage.hold(tmp_path / "held")
        process = stage.begin("fine").wait()

        stage.worker.send_signal(signal.SIGTERM)
        assert "finishing 1 call in flight" in stage.wait_for("worker_draining")["message"]
        with pytest.raises(errors.WorkerUnavailable):
            stage.call("fine")
        stage.release(tmp_path / "held")

        assert held.wait() > 0
        assert stage.worker.wait(60) == 0
        assert sockets(stage.log) == []
        until(lambda: is_gone(process))

    @pytest.mark.parametrize(
        ("numbers", "code"), [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGQUIT,), 131)]
    )
    def test_a_worker_that_stops_at_once_tells_its_callers(self, stage, tmp_path, numbers, code):
        stage.start()
        held = stage.hold(tmp_path / "held")

        for number in numbers:
            stage.worker.send_signal(number)
            time.sleep(0.1)

        with pytest.raises(errors.FunctionError):
            held.wait()
        assert stage.worker.wait(60) == code
        [told] = stage.events("worker_abandons")
        assert told["message"] == "gave up 1 call by request, its caller gets an error"
        assert not stage.events("front_died", "runner_died")

    def test_a_drain_that_takes_too_long_is_given_up(self, stage, tmp_path):
        stage.start("--drain-timeout", "300ms")
        held = stage.hold(tmp_path / "held")

        assert stage.end() == 143

        with pytest.raises(errors.FunctionError):
            held.wait()

    def test_a_drain_without_a_front_ends_too(self, stage, kill, tmp_path):
        stage.start("-v")
        held = stage.hold(tmp_path / "held")
        stage.worker.send_signal(signal.SIGTERM)
        stage.wait_for("worker_draining")

        kill(stage.wait_for("front_started")["pid"])
        stage.release(tmp_path / "held")

        assert stage.worker.wait(60) == 0
        with pytest.raises(errors.FunctionError):
            held.wait()

    def test_what_its_killed_supervisor_started_ends(self, stage, children_of, until):
        worker = stage.start()
        stage.call("fine")
        processes = children_of(worker.pid)
        assert len(processes) >= 2

        worker.kill()

        until(lambda: all(map(is_gone, processes)))


class TestOptions:
    """Options of `streamfn worker`, and signals that show something."""

    def test_only_leaves_functions_out(self, stage):
        stage.start("--only", "single")

        assert stage.call(0, "single") > 0
        with pytest.raises(errors.FunctionNotFound):
            stage.call("fine")

    def test_only_of_an_unknown_function_names_those_of_the_app(self, stage, workers):
        worker = stage.start("--only", "prise")

        assert worker.wait(60) == 78
        assert "the app has no function `prise`, it has `price`" in workers.errors_of(worker)

    def test_a_burst_does_not_wait_for_calls(self, workers):
        assert workers.run("requested", "--burst") == 0

        assert "a burst does not wait for calls" in workers.errors_of(workers.started[0])

    def test_stacks_show_the_calls_of_function_runners(self, stage, workers, tmp_path, until):
        stage.start()
        held = stage.hold(tmp_path / "held")

        stage.worker.send_signal(signal.SIGUSR1)

        shown = "seat 0: shop.price, "
        until(lambda: shown in workers.errors_of(stage.worker))
        until(lambda: "requested.py" in workers.errors_of(stage.worker))
        stage.release(tmp_path / "held")
        assert held.wait() > 0
