"""Carries out a plan: starts the processes around a log, and does to them what the plan says.

The harness itself has the log open only before the first process and after the last, so that
opening it again is really that.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

from decoder_lanes import read_lanes
from journal import Journal
from plan import PRODUCERS, READERS, RUNNERS, STREAMS, WORKERS, Event, Plan
from processes import Actor, Runner, runners_of

from streamfn import Log

ACTORS = Path(__file__).parent / "actors"
RECORD_BYTES = {"kept": 120, "consumed": 2_500, "capped": 2_500, "aged": 2_500}
"""About how large the records of a stream are; where there is retention, segments have to fill."""
SEGMENT_BYTES = 1 << 20
AGE_SECONDS = 8.0
CAPPED_BYTES = 2 << 20
STREAM_OPTIONS = {
    "kept": {"durability": "group"},
    "consumed": {"durability": "process", "retention_consumed": True},
    "capped": {"durability": "group", "retention_bytes": CAPPED_BYTES},
    "aged": {"durability": "process", "retention_seconds": AGE_SECONDS},
}
END_SECONDS = 180.0
"""How long a process may take to end when it is told to."""
BURST_SECONDS = 300.0
RUNNER_SECONDS = 300.0
"""How long a worker may take to have a runner that can be killed."""
RESUME_SECONDS = 0.1


class HarnessError(Exception):
    """A process did something that nobody made it do."""


@dataclass
class Tally:
    """What was done."""

    kills: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    reopened: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Harness:
    """A log and the processes around it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.history, self.log_dir = folder / "history", folder / "log"
        self.tally = Tally()
        self._actors: dict[str, Actor] = {}
        self._lives: Counter[str] = Counter()
        self._stopped: list[tuple[float, Actor | Runner]] = []
        self._factor = 2

    # ------------------------------------------------------------ the run

    def run(self) -> None:
        """Carry out the plan; afterwards everything is delivered and nobody has the log open.

        Raises:
            HarnessError: A process ended that nobody ended, or did not end when told to.
        """
        self.history.mkdir(parents=True)
        self._journal = Journal(self.history / "harness")
        began = time.monotonic()
        self._create_streams()
        try:
            self._start_all()
            for event in self.plan.events:
                self._sleep(event.pause)
                self._do(event)
                self._check_the_living()
            self._close_all()
            self._settle()
            self._deliver_the_rest()
        finally:
            for actor in self._actors.values():
                actor.close()
        self._look()
        self.tally.seconds = time.monotonic() - began

    def _create_streams(self) -> None:
        with Log.open(self.log_dir) as log:
            for name, options in STREAM_OPTIONS.items():
                log.core.create_stream(
                    name, shards=2, compression="none", segment_bytes=SEGMENT_BYTES, **options
                )

    def _do(self, event: Event) -> None:
        verb, _, rest = event.kind.partition(" ")
        # The methods have the names of the events.
        method: Callable[..., None] = getattr(self, f"_{verb}")
        method(event, rest) if rest else method(event)

    def _settle(self) -> None:
        """Have everything become visible.

        A producer that died between writing and flushing leaves records that nobody was told of;
        whoever has the log open flushes them a second later, or now.
        """
        with Log.open(self.log_dir) as log:
            for name in log.streams():
                log.stream(name).info()
            log.core.sync()

    def _deliver_the_rest(self) -> None:
        """Let a worker run until there is nothing left to do."""
        worker = self._start_worker(0, "--burst")
        code = worker.wait(BURST_SECONDS)
        if code != 0:
            raise HarnessError(f"the last worker ended with {code}: {worker.errors}")

    # ------------------------------------------------------------ events

    def _kill(self, event: Event, who: str) -> None:
        match who:
            case "producer" | "reader":
                self._kill_actor(f"{who}-{event.slot}")
                self._start(who, event.slot)
            case "runner":
                with self._runner(event) as runner:
                    self._send(runner, SIGKILL, "runner")
                    runner.wait(END_SECONDS)
            case "supervisor":
                self._kill_actor(f"worker-{event.slot}")
                self._start("worker", event.slot)
            case "worker":
                self._kill_worker(event.slot)
                self._start("worker", event.slot)
            case "resharder":
                self._reshard(event)
                self._await_resharder()
                time.sleep(event.seconds)
                self._kill_actor("resharder-0")
            case "all":
                self._kill_all()
                self.tally.reopened["after killing all"] += 1
                self._start_all()

    def _lose(self, event: Event, _control: str) -> None:
        """Kill all, and take the shared memory away: the log has to be recovered from its files."""
        self._kill_all()
        (self.log_dir / "control").unlink(missing_ok=True)  # nobody may have made one since
        self.tally.reopened["without its control file"] += 1
        self._start_all()

    def _stop(self, event: Event, who: str) -> None:
        if who == "runner":
            with self._runner(event) as runner:
                self._send(runner, SIGSTOP, who)
                self._sleep(event.seconds)
                self._send(runner, SIGCONT, who)
            return
        actor = self._actors[f"{'worker' if who == 'supervisor' else who}-{event.slot}"]
        self._send(actor, SIGSTOP, who)
        self._stopped.append((time.monotonic() + event.seconds, actor))

    def _close(self, event: Event, _all: str) -> None:
        self._close_all()
        self.tally.reopened["after a clean close"] += 1
        self._look()
        self._start_all()

    def _reshard(self, event: Event) -> None:
        """Begin a split or a merge, and do not wait for its end."""
        self._end("resharder-0")
        self._spawn("resharder", 0, event.stream, str(event.pick))

    def _await_resharder(self) -> None:
        """Wait until it has chosen its shards, and so is about to change them."""
        actor = self._actors["resharder-0"]
        journal = self.history / actor.name
        while actor.poll() is None and not (journal.exists() and journal.stat().st_size):
            time.sleep(0.001)

    def _change(self, event: Event, _factor: str) -> None:
        """Start a worker with another factor: who started last decides."""
        self._factor = event.factor
        self._end(f"worker-{event.slot}")
        self._start("worker", event.slot)

    def _look(self, _event: Event | None = None) -> None:
        """Take down every checkpoint as it is on disk."""
        for path in sorted((self.log_dir / "mappings").glob("*/*/*.lanes")):
            data = path.read_bytes()
            now = time.monotonic_ns()
            mapping, stream, shard_id = *path.parts[-3:-1], path.stem
            try:
                head, lanes = read_lanes(data)
            except ValueError:  # it is being made
                continue
            checkpoints = [lane.checkpoint.next for lane in lanes]
            self._journal.note("look", now, mapping, stream, shard_id, head.generation, checkpoints)

    # ------------------------------------------------------------ processes

    def _start_all(self) -> None:
        for who, number in (("producer", PRODUCERS), ("reader", READERS), ("worker", WORKERS)):
            for slot in range(number):
                self._start(who, slot)

    def _start(self, who: str, slot: int) -> None:
        """Start the next life of a producer, reader or worker."""
        life = self._lives[f"{who}-{slot}"]
        match who:
            case "producer":
                sizes = [f"{name}={RECORD_BYTES[name]}" for name in STREAMS]
                self._spawn(who, slot, f"{self.plan.seed}/{slot}.{life}", *sizes)
            case "reader":
                start = "trim_horizon" if life % 2 else "latest"
                self._spawn(who, slot, STREAMS[(slot + life) % len(STREAMS)], start)
            case "worker":
                self._start_worker(slot)

    def _spawn(self, who: str, slot: int, *arguments: str) -> Actor:
        """Run a script of `actors/` in the place of a process that has ended."""
        life = self._lives[f"{who}-{slot}"]
        script = str(ACTORS / f"{who}.py")
        first = [str(self.history), str(self.log_dir), f"{slot}.{life}"]
        return self._enter(f"{who}-{slot}", [script, *first, *arguments])

    def _start_worker(self, slot: int, *arguments: str) -> Actor:
        app = str(ACTORS / "functions.py")
        options = ["--log-dir", str(self.log_dir), "--processes", str(RUNNERS), "--verbose"]
        command = ["-m", "streamfn", "worker", app, *options, *arguments]
        return self._enter(f"worker-{slot}", command)

    def _enter(self, place: str, command: list[str]) -> Actor:
        if place in self._actors:
            self._actors[place].close()
        name = f"{place}.{self._lives[place]}"
        self._lives[place] += 1
        actor = Actor(name, command, self.history, self._environment())
        self._actors[place] = actor
        self._journal.note("start", time.monotonic_ns(), name, actor.pid)
        return actor

    def _environment(self) -> dict[str, str]:
        ours = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
        return ours | {
            "PYTHONPATH": str(Path(__file__).parent),
            "CHAOS_FOLDER": str(self.history),
            "CHAOS_FACTOR": str(self._factor),
        }

    @contextmanager
    def _runner(self, event: Event) -> Iterator[Runner]:
        """Pick a runner of a worker; one that has not imported the app yet is left alone."""
        worker = self._actors[f"worker-{event.slot}"]
        deadline = time.monotonic() + RUNNER_SECONDS
        while True:
            runners = runners_of(worker)
            chosen = [each for each in runners if (self.history / f"runner-{each.pid}").exists()]
            if chosen:
                break
            if time.monotonic() > deadline:
                raise HarnessError(f"{worker.name} has no runner: {worker.errors}")
            self._close_runners(runners)
            self._sleep(0.05)
        try:
            yield chosen[int(event.pick * len(chosen))]
        finally:
            self._close_runners(runners)

    @staticmethod
    def _close_runners(runners: list[Runner]) -> None:
        for runner in runners:
            runner.close()

    # ------------------------------------------------------------ signals

    def _send(self, target: Actor | Runner, number: Signals, who: str) -> bool:
        """Send a signal and write it down."""
        if not target.signal(number):
            return False
        self._journal.note("signal", time.monotonic_ns(), number.name, who, target.pid)
        if number is SIGKILL:
            self.tally.kills[who] += 1
        elif number is SIGSTOP:
            self.tally.stops[who] += 1
        return True

    def _kill_actor(self, place: str) -> None:
        actor = self._actors[place]
        who = actor.name.partition("-")[0].replace("worker", "supervisor")
        if self._send(actor, SIGKILL, who):
            actor.wait(END_SECONDS)

    def _kill_worker(self, slot: int) -> None:
        """Kill the supervisor and its runners."""
        runners = runners_of(self._actors[f"worker-{slot}"])
        self._kill_actor(f"worker-{slot}")
        for runner in runners:
            self._send(runner, SIGKILL, "runner")
            runner.wait(END_SECONDS)
        self._close_runners(runners)

    def _kill_all(self) -> None:
        """Nobody is left who has the log open."""
        for place in list(self._actors):
            if place.startswith("worker"):
                self._kill_worker(int(place[-1]))
            else:
                self._kill_actor(place)
        self._stopped.clear()

    def _close_all(self) -> None:
        """Tell everybody to end, and wait: the last one closes the log for good."""
        self._resume(everybody=True)
        for actor in self._actors.values():
            if not actor.name.startswith("resharder"):
                actor.signal(SIGTERM)
        for place in self._actors:
            self._wait_for_end(place)

    def _end(self, place: str) -> None:
        """Have one process end in its own time; a resharder ends by itself."""
        actor = self._actors.get(place)
        if actor is None:
            return
        self._resume(everybody=True)
        if not place.startswith("resharder"):
            actor.signal(SIGTERM)
        self._wait_for_end(place)

    def _wait_for_end(self, place: str) -> None:
        actor = self._actors[place]
        code = actor.wait(END_SECONDS)
        # SIGTERM itself ends a process that is too young to have a handler for it.
        if code not in {0, -SIGKILL, -SIGTERM}:
            raise HarnessError(
                f"{actor.name} was told to end and ended with {code}: {actor.errors}"
            )

    def _check_the_living(self) -> None:
        for place, actor in self._actors.items():
            code = actor.poll()
            if code is not None and not place.startswith("resharder"):
                raise HarnessError(f"{actor.name} ended by itself with {code}: {actor.errors}")
            if code not in {None, 0, -SIGKILL}:
                raise HarnessError(f"{actor.name} failed with {code}: {actor.errors}")

    # ------------------------------------------------------------ time

    def _sleep(self, seconds: float) -> None:
        """Wait, and let those go on whose time has come."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._resume()
            time.sleep(min(left, RESUME_SECONDS))
        self._resume()

    def _resume(self, *, everybody: bool = False) -> None:
        now = time.monotonic()
        for at, actor in list(self._stopped):
            if everybody or at <= now:
                self._stopped.remove((at, actor))
                actor.signal(SIGCONT)
