"""Functions with a memory limit have runners of their own: all that runners do works in groups."""

import json
import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest

from streamfn import _core
from streamfn.engine.deadletter import DeadLetters

APP = """
import os, time
from streamfn import App, Backoff

app = App("shop")
PLACE = os.path.dirname(__file__)
FAILS = os.path.exists(PLACE + "/fails")

def note(what, name, record):
    path = f"{PLACE}/calls/{os.getpid()}"
    with open(path, "a") as file:
        file.write(f"{time.monotonic()} {what} {name} {record.text()} VERSION\\n")

def add(name, **options):
    def call(record):
        note("began", name, record)
        time.sleep(SLOW)
        if FAILS and record.text() == "bad":
            raise ValueError("bad")
        note("ended", name, record)
    options = {"max_retries": 0, **options}
    app.stream("orders", name=name, input="record", batch_size=4, **options)(call)

add("plain")
add("other")
add("heavy", memory="HEAVY", **HEAVY_OPTIONS)
add("large", memory="1GiB")
"""
NAMES = ("plain", "other", "heavy", "large")
APART = (("plain", "heavy"), ("plain", "large"), ("other", "heavy"), ("heavy", "large"))


class Shop:
    """An app of four functions in three groups, and what its functions were called with."""

    def __init__(self, folder, log, until):
        self.folder, self.log, self.until = folder, log, until
        (folder / "calls").mkdir()
        self.orders = log.create_stream("orders", shards=4)
        self.records = []
        self.write()

    def write(self, version="v1", heavy="512MiB", slow=0.001, **options):
        text = APP.replace("VERSION", version).replace("SLOW", str(slow))
        text = text.replace('"HEAVY"', repr(heavy)).replace("HEAVY_OPTIONS", repr(options))
        staged = self.folder / "shop.new"
        staged.write_text(text)
        staged.replace(self.folder / "shop.py")

    def put(self, *records):
        self.records += records
        self.orders.put_many([each.encode() for each in records], list(records))

    def calls(self, what="ended"):
        """(time, process, function, record, version) of all calls."""
        found = []
        for path in (self.folder / "calls").iterdir():
            for line in path.read_text().splitlines():
                at, kind, name, text, version = line.split(" ")
                if kind == what:
                    found.append((float(at), int(path.name), name, text, version))
        return sorted(found)

    def await_all(self, names=NAMES, *, times=1):
        wanted = {(name, record) for name in names for record in self.records}

        def is_done():
            seen = [(name, text) for _, _, name, text, _ in self.calls()]
            return all(seen.count(each) >= times for each in wanted)

        self.until(is_done)

    def processes(self):
        found = defaultdict(set)
        for _, process, name, _, _ in self.calls("began"):
            found[name].add(process)
        return found

    def check_apart(self):
        processes = self.processes()
        for one, other in APART:
            assert not processes[one] & processes[other], (one, other)
        return processes


@pytest.fixture
def shop(tmp_path, log, until):
    return Shop(tmp_path, log, until)


def lines(workers, worker, event):
    text = workers.errors_of(worker).splitlines()
    told = [json.loads(line) for line in text if line.startswith("{") and line[-1:] == "}"]
    return [each for each in told if each.get("event") == event]


def numbers(count):
    return [f"r{n}" for n in range(count)]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_group_has_as_many_runners_as_processes_says(shop, workers, children_of, processes):
    shop.put(*numbers(80))
    worker = workers.start("shop", "--processes", processes)
    shop.await_all()
    processes_of = shop.check_apart()

    assert len(children_of(worker.pid)) == 3 * processes
    assert [len(processes_of[name]) for name in ("heavy", "large")] == [processes] * 2
    assert processes_of["plain"] == processes_of["other"], "they share the runners of the app"


def test_where_each_function_has_a_limit_no_other_runner_stays(shop, workers, children_of, until):
    """The first runner, which told the functions, has none: it is in the group of the app."""
    shop.put(*numbers(8))
    worker = workers.start("shop", "--processes", 1, "--only", "heavy")
    shop.await_all(["heavy"])

    until(lambda: len(children_of(worker.pid)) == 1)
    assert shop.processes()["heavy"] == set(children_of(worker.pid))


def test_max_concurrency_holds_in_a_group_of_several_runners(shop, workers, children_of, until):
    shop.write(slow=0.02, max_concurrency=2)
    worker = workers.start("shop", "--processes", 3)
    until(lambda: len(children_of(worker.pid)) == 9)
    shop.put(*numbers(20))
    shop.await_all()
    shop.put(*(f"s{n}" for n in range(40)))
    shop.await_all()
    shop.check_apart()

    began = [(at, 1) for at, _, name, _, _ in shop.calls("began") if name == "heavy"]
    ended = [(at, -1) for at, _, name, _, _ in shop.calls() if name == "heavy"]
    running = most = 0
    for _, step in sorted([*began, *ended]):
        running += step
        most = max(most, running)
    assert most == 2


def test_dead_letters_are_redriven_and_records_replayed_in_their_group(
    shop, workers, run_streamfn, until
):
    (shop.folder / "fails").touch()
    shop.put(*numbers(20), "bad")
    worker = workers.start("shop", "--processes", 1)
    letters = DeadLetters(shop.log, "shop.heavy")
    until(letters.entries)
    (shop.folder / "fails").unlink()
    worker.send_signal(signal.SIGHUP)
    until(lambda: lines(workers, worker, "reloaded"))
    place = ["--log-dir", shop.log.path]
    assert run_streamfn("dlq", "redrive", "heavy", *place).returncode == 0
    assert (
        run_streamfn(
            "replay", "orders", "--fn", "large", "--from", "trim_horizon", *place
        ).returncode
        == 0
    )

    until(lambda: ("heavy", "bad") in {call[2:4] for call in shop.calls()})
    until(lambda: lines(workers, worker, "replay_finished"))
    assert sum(name == "large" for _, _, name, _, _ in shop.calls()) >= 2 * len(shop.records) - 1
    shop.check_apart()


@pytest.mark.parametrize(("before", "after"), [(None, "512MiB"), ("512MiB", None)])
def test_a_reload_moves_a_function_into_another_group(
    shop, workers, children_of, until, before, after
):
    shop.write(heavy=before)
    shop.put(*numbers(20))
    worker = workers.start("shop", "--processes", 1)
    shop.await_all()
    assert len(children_of(worker.pid)) == (2 if before is None else 3)

    shop.write("v2", heavy=after)
    worker.send_signal(signal.SIGHUP)
    until(lambda: lines(workers, worker, "reloaded"))
    until(lambda: len(children_of(worker.pid)) == (2 if after is None else 3))
    shop.put(*(f"s{n}" for n in range(20)))
    shop.await_all()
    after_it = {p: set() for p in children_of(worker.pid)}
    for _, process, name, text, version in shop.calls():
        if text.startswith("s"):
            assert version == "v2"
            after_it[process].add(name)
    groups = sorted(sorted(names) for names in after_it.values())
    alone = [] if after is None else [["heavy"]]
    shared = ["heavy", "other", "plain"] if after is None else ["other", "plain"]
    assert groups == sorted([*alone, ["large"], shared])


def test_a_reload_changes_the_limit(shop, workers, until, run_streamfn):
    shop.put(*numbers(4))
    worker = workers.start("shop", "--processes", 1)
    shop.await_all()
    shop.write("v2", heavy="600MiB")
    worker.send_signal(signal.SIGHUP)
    until(lambda: lines(workers, worker, "reloaded"))

    def info():
        shown = run_streamfn("fn", "info", "heavy", "--json", "--log-dir", shop.log.path)
        return json.loads(shown.stdout)

    until(lambda: info()["memory_limit"] == 600 * 2**20)
    assert 5 * 2**20 < info()["memory_highest"] < 100 * 2**20
    text = run_streamfn("fn", "info", "heavy", "--log-dir", shop.log.path)
    assert "MiB of 600 MiB" in text.stderr + text.stdout


def test_a_runner_that_dies_in_a_group_is_replaced_in_it(shop, workers, children_of):
    shop.put(*numbers(8))
    worker = workers.start("shop", "--processes", 1)
    shop.await_all()
    [process] = shop.processes()["heavy"]
    os.kill(process, signal.SIGKILL)
    shop.put(*(f"s{n}" for n in range(8)))
    shop.await_all()

    assert len(shop.check_apart()["heavy"]) == 2
    assert len(children_of(worker.pid)) == 3


def test_a_limit_below_what_the_app_takes_ends_no_worker_of_others(shop, workers, until):
    """Its runners are started again after growing pauses, and nobody is blamed."""
    text = (shop.folder / "shop.py").read_text().replace("'512MiB'", "'16MiB'")
    (shop.folder / "shop.py").write_text(text + "\nTAKEN = bytearray(2**25)\n")
    shop.put(*numbers(20))
    worker = workers.start("shop", "--processes", 1)
    shop.await_all(["plain", "other", "large"])
    until(lambda: len(lines(workers, worker, "runner_died")) >= 4)

    assert worker.poll() is None
    assert not [call for call in shop.calls("began") if call[2] == "heavy"]
    assert not DeadLetters(shop.log, "shop.heavy").entries()
    assert "exceeded its memory limit of 16 MiB" in workers.errors_of(worker)
    until(lambda: lines(workers, worker, "runner_died")[4:])


def test_alone_such_a_function_ends_its_worker_with_a_message(shop, workers):
    text = (shop.folder / "shop.py").read_text().replace("'512MiB'", "'16MiB'")
    (shop.folder / "shop.py").write_text(text + "\nTAKEN = bytearray(2**25)\n")
    worker = workers.start("shop", "--processes", 1, "--only", "heavy")

    assert worker.wait(60) == 3
    assert "exceeded its memory limit of 16 MiB" in workers.errors_of(worker)


def test_the_kernel_ends_runners_and_what_they_start_before_a_supervisor(
    tmp_path, log, workers, until, children_of
):
    (tmp_path / "shop.py").write_text(
        """
import subprocess
from streamfn import App
app = App("shop")

@app.stream("orders")
def handle(batch):
    subprocess.run(["cp", "/proc/self/oom_score_adj", "score.new"], check=True)
    subprocess.run(["mv", "score.new", "score"], check=True)
"""
    )
    log.create_stream("orders").put_many([b"x"])
    worker = workers.start("shop", "--processes", 1)
    until((tmp_path / "score").exists)

    def score(process):
        return int(Path(f"/proc/{process}/oom_score_adj").read_text())

    own = score("self")
    assert score(worker.pid) == own
    [runner] = children_of(worker.pid)
    assert score(runner) == int((tmp_path / "score").read_text()) == min(own + 500, 1000)


def test_records_that_failed_in_a_group_run_alone_in_a_runner_of_it(shop, workers, until):
    """Two lanes at once in the runner when it is killed: each goes on in a solo runner."""
    shop.write(slow=0.05)
    shop.put(*numbers(40))
    worker = workers.start("shop", "--processes", 1, "--threads", 4, "-v")
    until(lambda: len([call for call in shop.calls() if call[2] == "heavy"]) > 3)
    [process] = shop.processes()["heavy"]
    os.kill(process, signal.SIGKILL)
    shop.await_all()

    assert shop.check_apart()["heavy"] > {process}
    until(lambda: any(each["is_solo"] for each in lines(workers, worker, "runner_started")))
    lanes = _core.Mapping.open(shop.log.core, "shop.heavy").lanes()
    assert sum(lane.checkpoint for lane in lanes) == len(shop.records)
