"""Calls by request through real workers: stopped, killed, started again, at odd places."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streamfn import App, Log
from streamfn.errors import FunctionError, WorkerUnavailable
from streamfn.invocation.workers import read_announced

APP = """
import os
import time
from streamfn import App

app = App("shop")


@app.function
def where(event):
    time.sleep(event.get("seconds", 0))
    return {"worker": os.getppid(), "process": os.getpid()}
"""


def call(log, **payload):
    return App("shop").invoke("where", payload, where="worker", log=log)


@pytest.fixture
def start(workers, tmp_path):
    """Starts a worker on a log and waits until it announces its functions."""
    (tmp_path / "shop.py").write_text(APP)

    def start(log, *arguments):
        before = len([names for names in read_announced(log.core).values() if names])
        workers.log_dir = log.path
        worker = workers.start("shop", *arguments)
        deadline = time.monotonic() + 60
        while len([names for names in read_announced(log.core).values() if names]) <= before:
            assert worker.poll() is None, workers.errors_of(worker)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return worker

    return start


class TestStopped:
    def test_calls_go_to_the_worker_that_is_not_stopped(self, start, log):
        stopped, other = start(log), start(log)
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            served = {call(log)["worker"] for _ in range(20)}

            assert served == {other.pid}
            assert time.monotonic() - began < 5
        finally:
            os.kill(stopped.pid, signal.SIGCONT)

    def test_the_one_that_answered_before_is_left_when_it_is_stopped(self, start, log):
        workers = {worker.pid: worker for worker in (start(log), start(log))}
        first = call(log)["worker"]
        [other] = set(workers) - {first}
        os.kill(first, signal.SIGSTOP)
        try:
            time.sleep(0.2)

            assert call(log)["worker"] == other
        finally:
            os.kill(first, signal.SIGCONT)

    def test_the_only_worker_is_unavailable_while_it_is_stopped(self, start, log):
        worker = start(log)
        call(log)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            time.sleep(0.2)
            began = time.monotonic()
            with pytest.raises(WorkerUnavailable):
                call(log)
            assert time.monotonic() - began < 4
        finally:
            os.kill(worker.pid, signal.SIGCONT)
        time.sleep(0.2)

        assert call(log)["worker"] == worker.pid


class TestKilled:
    def test_callers_of_a_killed_worker_get_an_error_within_two_seconds(self, start, log):
        worker = start(log)
        call(log)
        ends = []

        def long_call():
            with pytest.raises(FunctionError) as raised:
                call(log, seconds=30)
            ends.append((time.monotonic(), raised.value.error_type))

        callers = [threading.Thread(target=long_call) for _ in range(4)]
        for each in callers:
            each.start()
        time.sleep(1)
        killed = time.monotonic()
        worker.kill()
        for each in callers:
            each.join()

        assert {kind for _, kind in ends} == {"Runtime.WorkerLost"}
        assert max(at for at, _ in ends) - killed < 2

    def test_the_next_worker_takes_the_next_call(self, start, log):
        first = start(log)
        call(log)
        first.kill()
        first.wait()
        second = start(log)

        assert call(log)["worker"] == second.pid

    def test_the_socket_of_a_killed_worker_is_no_obstacle(self, start, log):
        first = start(log)
        first.kill()
        first.wait()
        assert list(Path(log.path).glob("workers/*.sock"))

        with pytest.raises(WorkerUnavailable):
            call(log)

    def test_a_worker_that_drains_finishes_its_calls_and_the_other_takes_the_next(self, start, log):
        draining = start(log)
        call(log)  # the next call goes there, too
        other = start(log)
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(call, log, seconds=2)
            time.sleep(0.5)
            draining.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            served = {call(log)["worker"] for _ in range(10)}

            assert long.result()["worker"] == draining.pid
        assert served == {other.pid}
        assert draining.wait(30) == 0


class TestPlaces:
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_another_user_is_refused_also_behind_an_open_socket_file(self, start, log):
        start(log)
        socket_file = next((Path(log.path) / "workers").glob("*.sock"))
        socket_file.chmod(0o777)
        socket_file.parent.chmod(0o755)
        code = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
            "s.settimeout(10); s.connect(sys.argv[1]); sys.exit(len(s.recv(100)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, socket_file.name], cwd=socket_file.parent, check=False
        )

        assert done.returncode == 0, "not even a greeting"
        assert call(log)["worker"]

    def test_an_app_has_at_most_256_functions(self, workers, log):
        lines = "app.function(name=f'f{number}')(len)"
        for count, is_refused in ((256, False), (257, True)):
            (workers.folder / "many.py").write_text(
                "from streamfn import App\napp = App('many')\n"
                f"for number in range({count}):\n    {lines}\n"
            )
            worker = workers.start("many")
            if is_refused:
                assert worker.wait(60) == 2
                assert "the app has 257 functions by request; it can have 256" in workers.errors_of(
                    worker
                )
            else:
                while not any(read_announced(log.core).values()):
                    assert worker.poll() is None
                    time.sleep(0.05)
                assert App("many").invoke("f255", "four", where="worker", log=log) == 4
                worker.terminate()
                assert worker.wait(60) == 0

    def test_only_its_user_may_connect(self, start, log):
        start(log)
        [path] = Path(log.path).glob("workers/*.sock")

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("longest", [107, 108, 200])
    def test_a_log_directory_at_a_long_path(self, start, tmp_path, longest):
        folder = tmp_path
        while (missing := longest - len(str(folder)) - 1) > 0:
            folder = folder / ("d" * min(missing, 60))
        with Log.open(folder) as log:
            worker = start(log)

            assert call(log)["worker"] == worker.pid

    def test_a_copy_of_a_log_has_no_workers(self, start, tmp_path, log):
        start(log)

        def no_sockets(folder, names):
            return [name for name in names if stat.S_ISSOCK((Path(folder) / name).stat().st_mode)]

        shutil.copytree(log.path, tmp_path / "copy", ignore=no_sockets)
        for path in (tmp_path / "copy" / "workers").glob("*.lock"):
            path.with_suffix(".sock").touch()
        with Log.open(tmp_path / "copy") as copy, pytest.raises(WorkerUnavailable):
            call(copy)
        with Log.open(tmp_path / "copy") as copy:
            worker = start(copy)
            assert call(copy)["worker"] == worker.pid
