"""New code comes into a running system: versions never mix, and nothing is lost."""

import json
import os
import signal
import threading
import time
from collections import defaultdict

import pytest

from streamfn import _core
from streamfn.engine.deadletter import DeadLetters

SHARDS = 4
APP = """
import os, time
from pathlib import Path
from streamfn import App, Batch

VERSION = "v1"
app = App("shop")

def note(function, batch):
    numbers = ",".join(str(record.sequence_number) for record in batch)
    line = f"{time.monotonic_ns()} {function} {VERSION} {batch[0].shard_id} {numbers}\\n"
    path = Path(os.environ["CALLS"]) / str(os.getpid())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, line.encode())
    os.close(descriptor)

@app.stream("orders", batch_size=5, max_retries=0, on_exhausted="record")
def total(batch: Batch) -> None:
    note("total", batch)
    time.sleep(0.002)
    if any(record.data == b"bad" for record in batch):
        raise ValueError(VERSION)
"""


class Deploy:
    """An app's file, its workers, what they told and what its functions were called with."""

    def __init__(self, folder, log, workers, until):
        self.app = folder / "shop.py"
        self.calls_dir = folder / "calls"
        self.calls_dir.mkdir()
        self.log, self.workers, self.until = log, workers, until
        self.places = set()
        self.orders = log.create_stream("orders", shards=SHARDS)
        self.write("v1")

    def write(self, version, *edits, more=""):
        text = APP.replace('"v1"', f'"{version}"')
        for before, after in edits:
            assert before in text
            text = text.replace(before, after)
        staged = self.app.with_suffix(".new")
        staged.write_text(text + more)
        staged.replace(self.app)

    def start(self, *arguments):
        return self.workers.start("shop", *arguments, CALLS=self.calls_dir)

    def put(self, count, data=b"good"):
        keys = [os.urandom(8).hex() for _ in range(count)]
        results = self.orders.put_many([data] * count, keys)
        self.places |= {(each.shard_id, each.sequence_number) for each in results}

    def events(self, worker, name):
        """The events of that name that the worker told so far."""
        lines = self.workers.errors_of(worker).splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and line[-1:] == "}"]
        return [each for each in events if each.get("event") == name]

    def await_event(self, worker, name, count=1):
        self.until(lambda: len(self.events(worker, name)) >= count)
        return self.events(worker, name)[-1]

    def calls(self, function="total"):
        """All calls in order of time: time, version, shard, numbers."""
        found = []
        for path in self.calls_dir.iterdir():
            text = path.read_text()
            for line in text[: text.rfind("\n") + 1].splitlines():
                at, name, version, shard, numbers = line.split(" ")
                if name == function:
                    found.append((int(at), version, shard, list(map(int, numbers.split(",")))))
        return sorted(found)

    def await_all(self, function="total"):
        def delivered():
            seen = {(shard, n) for _, _, shard, numbers in self.calls(function) for n in numbers}
            return seen >= self.places

        self.until(delivered)

    def check_no_mix(self):
        """No lane was called with v1 after v2."""
        versions = defaultdict(list)
        for _, version, shard, _ in self.calls():
            versions[shard].append(version)
        assert len(versions) == SHARDS
        for shard, found in versions.items():
            assert found == sorted(found), shard
        return {version for found in versions.values() for version in found}

    def letters(self):
        return DeadLetters(self.log, "shop.total").entries()


@pytest.fixture
def deploy(tmp_path, log, workers, until):
    return Deploy(tmp_path, log, workers, until)


class Load:
    """Puts records all the time, some of them bad."""

    def __init__(self, deploy):
        self._deploy, self._is_over = deploy, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        while not self._is_over.wait(0.02):
            self._deploy.put(12)
            self._deploy.put(1, b"bad")


def hang_up(worker):
    worker.send_signal(signal.SIGHUP)


def test_sighup_rolls_over_under_load_and_broken_code_is_refused(deploy, children_of):
    worker = deploy.start("--processes", 2)
    first = deploy.await_event(worker, "worker_started")["code_version"]
    with Load(deploy):
        deploy.until(lambda: len(deploy.calls()) > 20)
        deploy.write("v2")
        hang_up(worker)
        second = deploy.await_event(worker, "reloaded")["code_version"]
        calls = len(deploy.calls())
        deploy.until(lambda: len(deploy.calls()) > calls + 20)
    deploy.await_all()
    assert deploy.check_no_mix() == {"v1", "v2"}
    versions = {"v1": first, "v2": second}
    deploy.until(lambda: {each.error_message for each in deploy.letters()} == {"v1", "v2"})
    assert first != second
    assert all(each.code_version == versions[each.error_message] for each in deploy.letters())

    deploy.write("v3", more="syntax error (\n")
    hang_up(worker)
    failed = deploy.await_event(worker, "reload_failed")
    assert "SyntaxError" in failed["errorMessage"]
    assert failed["code_version"] == second
    deploy.put(50)
    deploy.await_all()

    one, other = children_of(worker.pid)
    os.kill(one, signal.SIGKILL)
    assert "SyntaxError" in deploy.await_event(worker, "runner_not_ready")["errorMessage"]
    deploy.put(50)
    deploy.await_all()  # the other one goes on
    assert deploy.check_no_mix() == {"v1", "v2"}
    assert worker.poll() is None
    os.kill(other, signal.SIGKILL)
    assert worker.wait(60) == 3
    told = deploy.workers.errors_of(worker)
    assert "error: no runner is left, and no new one can start: " in told
    assert len(deploy.events(worker, "runner_not_ready")) == 1, "told once"


def test_two_workers_hand_over_under_load(deploy):
    first = deploy.start("--processes", 1)
    with Load(deploy):
        deploy.until(lambda: len(deploy.calls()) > 20)
        deploy.write("v2")
        second = deploy.start("--processes", 1)
        deploy.await_event(second, "worker_started")
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        calls = len(deploy.calls())
        deploy.until(lambda: len(deploy.calls()) > calls + 20)
    deploy.await_all()
    assert deploy.check_no_mix() == {"v1", "v2"}
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0


def test_other_code_is_refused_until_it_is_asked_for(deploy, children_of):
    worker = deploy.start("--processes", 2)
    first = deploy.await_event(worker, "worker_started")["code_version"]
    deploy.until(lambda: len(children_of(worker.pid)) == 2)
    deploy.put(50)
    deploy.await_all()
    deploy.write("v2")
    os.kill(children_of(worker.pid)[0], signal.SIGKILL)

    changed = deploy.await_event(worker, "code_changed")
    assert changed["changed"] == [str(deploy.app)]
    assert changed["code_version"] == first
    assert "SIGHUP" in changed["hint"]
    deploy.put(50)
    deploy.await_all()
    assert deploy.check_no_mix() == {"v1"}

    hang_up(worker)
    reloaded = deploy.await_event(worker, "reloaded")
    assert (reloaded["version_before"], reloaded["code_version"]) == (
        first,
        changed["found_version"],
    )
    deploy.put(50)
    deploy.await_all()
    assert deploy.check_no_mix() == {"v1", "v2"}
    assert len(deploy.events(worker, "code_changed")) == 1, "told once"

    deploy.write("v3", more="\ntime.sleep(3600)\n")
    hang_up(worker)
    deploy.await_event(worker, "reload_started", 2)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_reload_watches_the_files_and_takes_new_functions(deploy):
    worker = deploy.start("--processes", 1, "--reload")
    deploy.put(20)
    deploy.await_all()
    deploy.write("v2", more="syntax error (\n")
    deploy.await_event(worker, "reload_failed")

    more = """
@app.stream("orders")
def count(batch: Batch) -> None:
    note("count", batch)
"""
    deploy.write("v2", more=more)
    deploy.await_event(worker, "reloaded")
    deploy.put(20)
    deploy.await_all()
    deploy.await_all("count")
    deploy.write("v3", ("def total", "def gone"), more=more)
    told = deploy.await_event(worker, "function_not_in_code")
    assert told["function"] == "shop.total"
    deploy.await_event(worker, "reloaded", 2)
    deploy.put(20)
    deploy.await_all("count")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_function_that_was_renamed_goes_on_at_its_position(deploy, run_streamfn, log_dir):
    deploy.log.core.create_stream("kept", exist_ok=True)
    worker = deploy.start("--burst")
    assert worker.wait(60) == 0
    deploy.put(20)
    deploy.put(3, b"bad")
    worker = deploy.start("--burst")
    assert worker.wait(60) == 0
    letters = len(deploy.letters())
    before = set(deploy.places)
    deploy.write("v2", ("def total", "def sums"), ('note("total"', 'note("sums"'))
    worker = deploy.start()
    told = deploy.await_event(worker, "function_not_in_code")
    rename = "streamfn fn rename shop.total shop.sums --replace"
    assert told["function"] == "shop.total"
    assert rename in told["hint"]
    refused = run_streamfn(*rename.split()[1:], "--yes", "--log-dir", log_dir)
    assert refused.returncode == 75, refused.stderr
    assert "stop the worker" in refused.stderr
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0

    renamed = run_streamfn(*rename.split()[1:], "--yes", "--log-dir", log_dir)
    assert renamed.returncode == 0, renamed.stderr
    since = time.monotonic_ns()
    deploy.put(20)
    worker = deploy.start("--burst")
    assert worker.wait(60) == 0
    assert not deploy.events(worker, "function_not_in_code")
    again = {(s, n) for at, _, s, numbers in deploy.calls("sums") if at > since for n in numbers}
    assert again == deploy.places - before, "only what is new"
    assert len(DeadLetters(deploy.log, "shop.sums").entries()) == letters
    assert _core.Mapping.names(deploy.log.core) == ["shop.sums"]
