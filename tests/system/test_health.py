"""Health: each state, brought about by a real worker, is the same word everywhere."""

import json
import subprocess
from contextlib import suppress

import pytest

from streamfn import Log, _core
from streamfn.health.state import State

STATES = {state: f"states.{str(state).replace('-', '_')}" for state in State}
"""The function in each state."""
LOGGED = [state for state in State if state is not State.NO_WORKER]
"""States that a worker logs: without one there is no log. A function that is not in the code is
logged by a worker of its app."""


def damage(log_dir):
    """Change bytes in the body of the only record batch of `torn`."""
    [segment] = (log_dir / "streams" / "torn").rglob("*.seg")
    with segment.open("r+b") as file:
        file.seek(4096 + 120)
        file.write(b"rot")


class Shown:
    """What the commands show of a log."""

    def __init__(self, run_streamfn, log_dir):
        self._run, self._log_dir = run_streamfn, log_dir

    def run(self, *arguments):
        return self._run(*arguments, "--log-dir", self._log_dir)

    def functions(self):
        """Return the functions by name, as `fn ls --json` shows them."""
        return {each["name"]: each for each in json.loads(self.run("fn", "ls", "--json").stdout)}

    def states(self):
        return {name: each["state"] for name, each in self.functions().items()}


def state_changes(workers, worker):
    """Return the states that the log told of each function, in order."""
    lines = [json.loads(line) for line in workers.errors_of(worker).splitlines()]
    told = {}
    for line in lines:
        if line.get("event") == "state_changed":
            told.setdefault(line["function"], []).append(line)
    return told


@pytest.fixture
def shown(run_streamfn, log_dir):
    return Shown(run_streamfn, log_dir)


def test_each_state_is_the_same_word_everywhere(
    workers, log_dir, tmp_path, until, shown, children_of
):
    hold = tmp_path / "hold"
    hold.touch()
    with Log.open(log_dir) as log:
        log.create_stream("orders").put_many([b"{}"] * 3)
        log.create_stream("torn", compression="none").put_many([b"x" * 200] * 3)
        _core.Mapping.register(log.core, "states.not_in_code", factor=1).prepare("orders")
        _core.Mapping.register(log.core, "others.no_worker", factor=1).prepare("orders")
        # It has nothing to read from the start: the log tells late that a function became idle.
        _core.Mapping.register(log.core, "states.idle", factor=1, start="latest").prepare("orders")
        _core.Mapping.register(log.core, "states.paused", factor=1).set_paused(True)
    damage(log_dir)
    wanted = {name: str(state) for state, name in STATES.items()}
    wanted["others.no_worker"] = wanted.pop("states.no_worker")

    worker = workers.start("states", "--processes", 2, "--threads", 4, HOLD=hold)
    until(lambda: shown.states() == wanted)

    functions = shown.functions()
    for name, state in wanted.items():
        info = json.loads(shown.run("fn", "info", name, "--json").stdout)
        assert info["state"] == state, name
    failing = functions["states.failing"]
    assert (failing["error_type"], failing["error_message"]) == ("ConnectionError", "refused")
    assert failing["since"]
    assert failing["retries"] > 0
    assert failing["records_behind"] == 3
    assert failing["iterator_age_seconds"] > 0
    assert functions["states.waiting"]["streams"] == ["later"]
    assert "streamfn fsck" in functions["states.blocked"]["reason"]
    assert [each["pid"] for each in failing["workers"]] == [worker.pid]
    assert set(failing["workers"][0]["runners"]) <= set(children_of(worker.pid))

    lines = shown.run("fn", "ls").stderr
    assert "states.failing is failing: ConnectionError: refused, since " in lines

    status = shown.run("status")
    assert status.returncode == 1
    assert {line.split()[0] for line in status.stdout.splitlines()} == {
        "states.failing", "states.blocked", "others.no_worker"
    }  # fmt: skip
    [listed] = json.loads(shown.run("workers", "--json").stdout)
    assert (listed["pid"], listed["state"]) == (worker.pid, "blocked")

    page = shown.run("metrics").stdout
    for name, state in wanted.items():
        assert f'streamfn_function_state{{function="{name}",state="{state}"}} 1' in page, name

    logged = {STATES[state]: str(state) for state in LOGGED}

    def last_told():
        return {name: told[-1]["state"] for name, told in state_changes(workers, worker).items()}

    until(lambda: logged.items() <= last_told().items())

    hold.unlink()
    until(lambda: shown.states()["states.failing"] in {"running", "idle"})
    until(lambda: last_told()["states.failing"] in {"running", "idle"})
    told = state_changes(workers, worker)["states.failing"]
    failing = next(each for each in told if each["state"] != "running")  # it may fail at once
    assert (failing["state"], failing["reason"]) == ("failing", "ConnectionError: refused")

    worker.terminate()
    assert worker.wait(60) == 0
    assert not list((log_dir / "metrics").glob("*.worker"))
    assert shown.run("status").returncode == 3


def test_a_killed_worker_leaves_a_report_that_counts_for_nothing(
    workers, log_dir, tmp_path, until, shown, kill
):
    with Log.open(log_dir) as log:
        log.create_stream("orders").put_many([b"{}"] * 3)
    hold = tmp_path / "hold"
    arguments = ("--only", "idle", "--processes", 1)
    worker = workers.start("states", *arguments, HOLD=hold)
    until(lambda: shown.states().get("states.idle") == "idle")
    assert shown.run("status").stdout == "ok\n"
    kill(worker.pid)
    worker.wait()

    assert list((log_dir / "metrics").glob("*.worker"))
    assert shown.states() == {"states.idle": "no-worker"}

    again = workers.start("states", *arguments, HOLD=hold)
    until(lambda: shown.states() == {"states.idle": "idle"})
    [report] = (log_dir / "metrics").glob("*.worker")
    again.terminate()
    assert again.wait(60) == 0
    assert not report.exists()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 24 MiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no `mount`")
    if done.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)


def fill(folder, left):
    """Fill a disk, and leave a few bytes."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(max((size - left) // 4096 * 4096, 0))
    return path


def test_on_a_full_disk_it_is_blocked_from_the_first_start(
    small_disk, workers_in, tmp_path, until, run_streamfn
):
    log_dir = small_disk / "log"
    shown = Shown(run_streamfn, log_dir)
    put = run_streamfn("put", "orders", "--log-dir", log_dir, input="{}\n" * 3000)
    assert put.returncode == 0, put.stderr
    full = fill(small_disk, 12 * 1024)  # room for the record of the mapping, none for its lanes

    with workers_in(tmp_path, log_dir) as workers:
        worker = workers.start("states", "--only", "idle", "--processes", 1, HOLD=tmp_path / "no")
        until(lambda: shown.functions().get("states.idle", {}).get("streams") == ["orders"])
        [idle] = shown.functions().values()
        assert (idle["state"], idle["records_behind"]) == ("blocked", 3000)
        assert "free some space" in idle["reason"]
        assert idle["iterator_age_seconds"] > 0
        assert shown.run("status").returncode == 1
        until(lambda: "states.idle" in state_changes(workers, worker))
        assert state_changes(workers, worker)["states.idle"][-1]["state"] == "blocked"

        full.unlink()
        until(lambda: shown.states() == {"states.idle": "idle"})
