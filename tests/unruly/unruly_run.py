"""One burst: a real worker with unruly handlers beside calm ones, and what it must not come to."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unruly_plan import RECORDS, Burst, Handler
from unruly_tricks import OWN

from streamfn import Log
from streamfn.engine.deadletter import DeadLetters

APP: Final = Path(__file__).with_name("unruly_app.py")
CALM: Final = ("calm_batch", "calm_record", "calm_lambda", "calm_async")
CALM_RECORDS: Final = 60
PATIENCE: Final = 900.0
"""Seconds after which a burst counts as stuck: on a slow machine a hundred runners take long."""
GONE: Final = 10.0
"""Seconds within which everything that the worker started is gone once it has ended."""
_SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER of prctl: who loses its parent becomes a child of this process."""


@dataclass(slots=True)
class Outcome:
    """What came of a burst."""

    burst: Burst
    exit_code: int | None
    """None: it did not end."""
    done: dict[str, set[str]]
    """Records that functions noted, by function."""
    dead: dict[str, list[str]]
    """Data of the records that were set aside, by function."""
    left: list[str] = field(default_factory=list)
    """Processes that the worker left behind."""
    files: list[str] = field(default_factory=list)
    """Temporary files that it left behind."""
    seconds: float = 0.0

    def findings(self) -> list[str]:
        """What must not be."""
        found = []
        if self.exit_code != 0:
            how = "did not end" if self.exit_code is None else f"ended with {self.exit_code}"
            found.append(f"the worker {how}")
        for name in CALM:
            found += self._of(name, {f"c{n}" for n in range(CALM_RECORDS)}, set())
        for handler in self.burst.handlers:
            found += self._of(handler.name, set(innocent(handler)), {"marked"})
        found += [f"left behind: {process}" for process in self.left]
        found += [f"left behind: {file}" for file in self.files]
        return found

    def _of(self, function: str, innocent: set[str], guilty: set[str]) -> list[str]:
        found = []
        if blamed := sorted(set(self.dead[function]) - guilty):
            found.append(f"{function}: {len(blamed)} innocent set aside: {', '.join(blamed)}")
        if missing := sorted(innocent - self.done.get(function, set())):
            found.append(f"{function}: {len(missing)} never done: {', '.join(missing)}")
        return found


def innocent(handler: Handler) -> list[str]:
    """The data of a handler's records that are not marked."""
    return [f"r{n}" for n in range(RECORDS) if n != handler.marked]


def run(burst: Burst, folder: Path) -> Outcome:
    """Run a burst in an empty folder."""
    plan, journal, scratch = folder / "plan.json", folder / "journal", folder / "tmp"
    burst.write(plan)
    scratch.mkdir()
    with Log.open(folder / "log") as log:
        _put(log, burst)
        began = time.monotonic()
        with _subreaper():
            code = _work(burst, folder, JOURNAL=journal, PLAN=plan, TMPDIR=scratch)
            seconds = time.monotonic() - began
            left = _end_what_is_left()
        names = [*CALM, *(each.name for each in burst.handlers)]
        dead = {name: _dead(log, name) for name in names}
    files = sorted(str(each.relative_to(scratch)) for each in scratch.rglob("*"))
    files = [name for name in files if not name.startswith(OWN)]
    return Outcome(burst, code, _read_journal(journal), dead, left, files, seconds)


def _put(log: Log, burst: Burst) -> None:
    for handler in burst.handlers:
        data = [b"marked" if n == handler.marked else b"r%d" % n for n in range(RECORDS)]
        log.create_stream(handler.name).put_many(data)
    keys = [f"k{n}" for n in range(CALM_RECORDS)]
    log.create_stream("calm", shards=2).put_many([b"c%d" % n for n in range(CALM_RECORDS)], keys)


def _dead(log: Log, function: str) -> list[str]:
    return [each.data.decode() for each in DeadLetters(log, f"unruly.{function}").entries()]


def _read_journal(path: Path) -> dict[str, set[str]]:
    done: dict[str, set[str]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        function, *records = line.split(" ")
        done.setdefault(function, set()).update(records)
    return done


def _work(burst: Burst, folder: Path, **environment: object) -> int | None:
    command = [sys.executable, "-m", "streamfn", "worker", str(APP), "--burst"]
    command += ["--log-dir", str(folder / "log"), "--drain-timeout", "5s"]
    command += ["--processes", str(burst.processes), "--threads", str(burst.threads)]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
    with (folder / "stderr").open("w") as stderr, (folder / "stdout").open("w") as stdout:
        worker = subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | {name: str(value) for name, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            return worker.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            worker.send_signal(signal.SIGUSR1)  # its stacks
            time.sleep(1)
            worker.kill()
            worker.wait()
            return None


@contextmanager
def _subreaper() -> Iterator[None]:
    """Have all descendants that lose their parents become children of this process.

    So none can hide from being found, whatever it does to its environment, group or session.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    before = set(_children(os.getpid()))
    _subreaper.before = before  # type: ignore[attr-defined]
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


def _end_what_is_left() -> list[str]:
    """Return what still runs after a moment, and end it."""
    end = time.monotonic() + GONE
    while (living := _living()) and time.monotonic() < end:
        time.sleep(0.02)
    names = [f"process {pid}: {_name(pid)}" for pid in living]
    while living:
        for pid in living:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        living = _living()
    return names


def _living() -> list[int]:
    """Descendants that are new, without those that have ended."""
    known: set[int] = _subreaper.before  # type: ignore[attr-defined]
    found, seen = [pid for pid in _children(os.getpid()) if pid not in known], list[int]()
    while found:
        pid = found.pop()
        found += _children(pid)
        if not _reap(pid):
            seen.append(pid)
    return seen


def _reap(pid: int) -> bool:
    """Whether a process has ended; if it is a child of ours, nothing is left of it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # a grandchild
        return not Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        pass
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "?"
