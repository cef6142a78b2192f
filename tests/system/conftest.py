"""Workers as processes of their own, and what their functions saw."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

APPS = Path(__file__).parent / "apps"


class Call(NamedTuple):
    """A call of a function, as it wrote it down when it began."""

    time: int
    process: int
    function: str
    shard_id: str
    numbers: list[int]


def whole_lines(path):
    """Lines of a file that others append to; the last may be on its way, or its writer killed."""
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()


def read_seen(folder):
    """All calls that the functions of `apps/seen.py` wrote down, in order of time."""
    calls = []
    for path in folder.iterdir():
        for line in whole_lines(path):
            time, function, shard_id, numbers = line.split(" ")
            numbers = list(map(int, numbers.split(",")))
            calls.append(Call(int(time), int(path.name), function, shard_id, numbers))
    return sorted(calls)


def children_of(process):
    """Process ids of the children of a process that may be gone by now."""
    found = []
    try:
        for task in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def kill(process, number=signal.SIGKILL):
    """Send a signal to one process, by its id."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


class Workers:
    """Starts `streamfn worker` processes in one folder, and leaves none behind."""

    apps = APPS

    def __init__(self, folder, log_dir):
        self.folder, self.log_dir = folder, log_dir
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
        self.started = []

    def start(self, app, *arguments, errors=None, **environment):
        """Start a worker and return its `Popen`; stderr goes to a file, or to a descriptor."""
        path = APPS / f"{app}.py"
        target = path if path.exists() else self.folder / f"{app}.py"
        path = self.folder / f"stderr-{len(self.started)}"
        file = open(path, "w+")  # noqa: SIM115, PTH123
        arguments = [target, "--log-dir", self.log_dir, *map(str, arguments)]
        worker = subprocess.Popen(
            [sys.executable, "-m", "streamfn", "worker", *arguments],
            cwd=self.folder,
            env=self.environment | {k: str(v) for k, v in environment.items()},
            stdin=subprocess.DEVNULL,
            stderr=file if errors is None else errors,
        )
        worker.errors = file
        self.started.append(worker)
        return worker

    def run(self, app, *arguments, timeout=500, **environment):
        """Run a worker to its end and return its exit code."""
        worker = self.start(app, *arguments, **environment)
        code = worker.wait(timeout)
        if code:
            print(self.errors_of(worker))
        return code

    def errors_of(self, worker):
        """What it wrote to stderr so far."""
        # WHY not its descriptor: the worker writes at the same position of the same open file.
        return Path(worker.errors.name).read_text()

    def close(self):
        for worker in self.started:
            for process in [worker.pid, *children_of(worker.pid)]:
                if worker.poll() is None:
                    kill(process)
            worker.wait()
            worker.errors.close()


@pytest.fixture
def workers(tmp_path, log_dir):
    """Starts workers on `log_dir`."""
    workers = Workers(tmp_path, log_dir)
    yield workers
    workers.close()


@pytest.fixture(scope="session")
def workers_in():
    """`with workers_in(folder, log_dir) as workers`: for a fixture that several tests share."""

    @contextmanager
    def make(folder, log_dir):
        workers = Workers(folder, log_dir)
        try:
            yield workers
        finally:
            workers.close()

    return make


@pytest.fixture
def seen_dir(tmp_path):
    """Where functions write down what they are called with."""
    folder = tmp_path / "seen"
    folder.mkdir()
    return folder


@pytest.fixture(name="read_seen")
def read_seen_fixture():
    """See `read_seen`."""
    return read_seen


@pytest.fixture
def apps():
    """Folder of the apps that these tests run."""
    return APPS


class KillTree:
    """Kills workers and what they started, each process by its id."""

    def runner(self, worker, chance):
        """Kill one of a worker's runners; return its id, if there was one."""
        runners = children_of(worker.pid)
        if not runners:
            return set()
        process = chance.choice(runners)
        return {process} if kill(process) else set()

    def worker(self, worker):
        """Kill the supervisor and all its runners; return their ids."""
        processes = [*children_of(worker.pid), worker.pid]
        return {process for process in processes if kill(process)}


@pytest.fixture
def kill_tree():
    """See `KillTree`."""
    return KillTree()


class Note(NamedTuple):
    """What the function of `apps/paced.py` wrote down."""

    what: str
    time: float
    process: int
    attempt: int
    shard_id: str
    numbers: list[int]


class Notes:
    """The notes of `apps/paced.py`; `path` is what its `NOTES` has to be."""

    def __init__(self, path):
        self.path = path

    def __call__(self, what=None):
        """All notes, or those of a kind, in order."""
        if not self.path.exists():
            return []
        found = []
        for line in whole_lines(self.path):
            kind, time, process, attempt, shard_id, numbers = line.split(" ")
            numbers = list(map(int, numbers.split(",")))
            found.append(Note(kind, float(time), int(process), int(attempt), shard_id, numbers))
        return [each for each in found if what in {None, each.what}]


@pytest.fixture
def notes(tmp_path):
    """See `Notes`."""
    return Notes(tmp_path / "notes")


@pytest.fixture
def until():
    """Waits until something is the case: `until(lambda: …)`; fails after two minutes."""

    def wait(is_so, seconds=120):
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0.01)

    return wait


@pytest.fixture(name="kill")
def kill_fixture():
    """See `kill`."""
    return kill


@pytest.fixture(name="children_of")
def children_of_fixture():
    """See `children_of`."""
    return children_of


@pytest.fixture
def is_running():
    """Whether a process exists and is no zombie."""

    def is_running(process):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    return is_running
