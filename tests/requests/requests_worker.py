"""The worker of the campaign, and what it leaves behind."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "CAMPAIGN_MARK"
"""Environment variable that all processes of a campaign inherit, so that none is overlooked."""


class Worker:
    """`streamfn worker` on the campaign's app, started again as often as needed."""

    def __init__(self, folder, journal=None):
        self.folder, self.log_dir = folder, folder / "log"
        self.mark = secrets.token_hex(8)
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
        self._environment[MARK] = self.mark
        if journal is not None:
            journal.touch()
            self._environment["CAMPAIGN_JOURNAL"] = str(journal)
        self.path = folder / "worker.ndjson"
        self.process = None

    def start(self):
        """Start it, and wait until it takes calls."""
        before = len(self.events("worker_started"))
        with self.path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streamfn", "worker", str(HERE / "requests_app.py"),
                 "--log-dir", str(self.log_dir), "--log-level", "debug"],
                env=self._environment, stdin=subprocess.DEVNULL, stderr=log, cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while len(self.events("worker_started")) == before:
            assert self.process.poll() is None, self.path.read_text()[-3000:]
            assert time.monotonic() < deadline, "the worker did not start"
            time.sleep(0.02)

    def stop(self):
        """Let it drain; returns its exit code, None if it does not end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def events(self, name):
        """The events of that name in its log."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().splitlines():
            if f'"{name}"'.encode() in line:
                with suppress(json.JSONDecodeError):  # the last line may be on its way
                    event = json.loads(line)
                    if event.get("event") == name:
                        found.append(event)
        return found

    def front(self):
        """Process id of its front; None: there is none at the moment."""
        started = self.events("front_started")
        pid = started[-1]["pid"] if started else None
        return pid if pid in self.children() else None

    def runners(self):
        """Process ids of its runners."""
        front = self.front()
        return [pid for pid in self.children() if pid != front]

    def children(self):
        """Process ids of all its children."""
        found = []
        with suppress(OSError):
            for task in Path(f"/proc/{self.process.pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def left_over(self, seconds=5.0):
        """Processes of the worker that live on after it, if any do after so long."""
        deadline = time.monotonic() + seconds
        while (found := self._marked()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _marked(self):
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                        found.append(f"{folder.name}: {command.strip()[:200]}")
        return found
