"""The demo from end to end: put, run, fail, look, fix, redrive.

It uses a real log on disk, a real worker with its processes, and the public API.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from streamfn.engine.deadletter import DeadLetter, DeadLetters
from streamfn.log import Log, Stream
from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor.progress import MappingProgress
from streamfn.worker.supervisor.supervisor import Supervisor

from .flights import flights, key

STREAM = "flights"
SHARDS = 4
PROCESSES = 2
FIRST_TRY = "streamfn.demo.first_try:app"
FIXED = "streamfn.demo.fixed:app"
BUGGY = "flights.departures"
OTHER = "flights.carriers"
RESULTS = ("departures_by_hour", "flights_by_carrier")
CANCELLED = "cancelled"


class WorkerStopped(Exception):
    """The worker ended before all records were processed: by a signal or a reported error."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
        """The worker's; 0 if it was asked to stop."""


@dataclass(slots=True)
class Totals:
    """The figures of the demo; they equal a plain count of the CSV."""

    put: int = 0
    without_key: int = 0
    first: dict[str, MappingProgress] = field(default_factory=dict)
    """By mapping, after the run with the bug."""
    dead: list[DeadLetter] = field(default_factory=list)
    queued: int = 0
    second: dict[str, MappingProgress] = field(default_factory=dict)
    """By mapping, after the run with the fix."""
    left: int = 0
    """Dead letters still open at the end."""
    by_hour: Counter[str] = field(default_factory=Counter)
    by_carrier: Counter[str] = field(default_factory=Counter)
    put_seconds: float = 0.0
    """How long the put took, its sync included."""

    @property
    def departed(self) -> int:
        """Flights counted under an hour."""
        return self.by_hour.total() - self.cancelled

    @property
    def cancelled(self) -> int:
        """Flights counted as cancelled."""
        return self.by_hour[CANCELLED]


class Screen(Protocol):
    """Shows the demo; each step begins and ends with one call."""

    def begins(self, totals: Totals) -> None:
        """The log is open and empty."""

    def has_put(self, totals: Totals) -> None:
        """The flights are in the stream."""

    def runs(self, app: str, wanted: dict[str, int]) -> Watcher:
        """The worker starts on so many records for each mapping."""
        ...

    def has_failed(self, totals: Totals) -> None:
        """The run with the bug is over; there are dead letters."""

    def has_queued(self, totals: Totals) -> None:
        """The dead letters are queued for the fixed function."""

    def ends(self, totals: Totals) -> None:
        """Everything is processed."""


class Watcher(Protocol):
    """Watches one run of the worker."""

    def on_event(self, event: dict[str, object]) -> None:
        """The worker logged an event."""

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """The worker reported the progress of its mappings."""

    def close(self) -> None:
        """The run is over."""


def run(log_dir: str, screen: Screen) -> Totals:
    """Run the demo in a log directory that holds no stream of its names yet.

    Raises:
        StreamExists: The demo ran there already.
        WorkerStopped: The worker was stopped, or could not start.
    """
    totals = Totals()
    screen.begins(totals)
    _put(log_dir, totals)
    screen.has_put(totals)

    both = dict.fromkeys((BUGGY, OTHER), totals.put)
    totals.first = _work(log_dir, FIRST_TRY, screen, both)
    with Log.open(log_dir) as log:
        totals.dead = DeadLetters(log, BUGGY).entries()
    screen.has_failed(totals)

    with Log.open(log_dir) as log:
        totals.queued = DeadLetters(log, BUGGY).redrive()
    screen.has_queued(totals)
    totals.second = _work(log_dir, FIXED, screen, {BUGGY: totals.queued})
    with Log.open(log_dir) as log:
        totals.left = len(DeadLetters(log, BUGGY).entries())
        by_hour, by_carrier = (_summed(log.stream(name)) for name in RESULTS)
        totals.by_hour, totals.by_carrier = by_hour, by_carrier
    screen.ends(totals)
    return totals


def _put(log_dir: str, totals: Totals) -> None:
    rows = list(flights())
    keys = [key(flight) for flight in rows]
    payloads = [json.dumps(flight).encode() for flight in rows]
    with Log.open(log_dir) as log:
        stream = log.create_stream(STREAM, shards=SHARDS)
        for name in RESULTS:
            log.create_stream(name)
        began = time.monotonic()
        totals.put = len(stream.put_many(payloads, keys))
        totals.put_seconds = time.monotonic() - began
    totals.without_key = keys.count(None)


def _work(
    log_dir: str, app: str, screen: Screen, wanted: dict[str, int]
) -> dict[str, MappingProgress]:
    """Run a worker until everything is processed, as `streamfn worker --burst` does."""
    recorder = ProgressRecorder(screen.runs(app, wanted))
    config = WorkerConfig(app=app, log_dir=log_dir, processes=PROCESSES, burst=True)
    try:
        code = Supervisor(config, recorder).run()
    finally:
        recorder.watcher.close()
    if code or recorder.was_stopped:
        raise WorkerStopped(code)
    return recorder.latest


@dataclass(slots=True)
class ProgressRecorder:
    """Keeps the last figures of a run, and passes everything on to a watcher."""

    watcher: Watcher
    latest: dict[str, MappingProgress] = field(default_factory=dict)
    was_stopped: bool = False

    def on_event(self, event: dict[str, object]) -> None:
        """Remember whether the worker was stopped."""
        self.was_stopped |= event["event"] in {"worker_draining", "worker_abandons"}
        self.watcher.on_event(event)

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Keep the figures so far."""
        self.latest = {each.name: each for each in progress}
        self.watcher.on_progress(progress)


def _summed(stream: Stream) -> Counter[str]:
    """Add up the counts that the functions put, one object per call."""
    total: Counter[str] = Counter()
    for batch in stream.read():
        for counts in batch.json():
            total.update(counts)
    return total
