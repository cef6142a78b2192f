"""What the processes of a run wrote down, as values."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from journal import read_journal


class Place(NamedTuple):
    """Where a record is."""

    stream: str
    shard_id: str
    number: int


@dataclass(slots=True)
class Put:
    """One record of one call of a producer. Times are of the clock that all processes share."""

    producer: str
    call: int
    index: int
    stream: str
    key: str | None
    digest: str
    called: int
    acked: int | None = None
    """None: the producer died before it knew, or was told of an error."""
    place: Place | None = None


@dataclass(slots=True)
class Reading:
    """What one reader saw of one shard, in its order."""

    reader: str
    stream: str
    shard_id: str
    steps: list[tuple] = field(default_factory=list)
    """As in its journal, but one step a record: `("record", number, digest)`."""


@dataclass(slots=True)
class Call:
    """One call of a function."""

    process: int
    parent: int
    time: int
    function: str
    stream: str
    shard_id: str
    numbers: list[int]
    digests: list[str]
    returned: int | None = None
    """None: it was killed, or raised."""

    def places(self) -> Iterator[Place]:
        """Where its records are."""
        return (Place(self.stream, self.shard_id, number) for number in self.numbers)


@dataclass(frozen=True, slots=True)
class Look:
    """The checkpoints of one function in one shard, one for each lane, as they were on disk."""

    time: int
    function: str
    stream: str
    shard_id: str
    checkpoints: list[int]


@dataclass(slots=True)
class History:
    """All of it."""

    puts: list[Put] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """In order of time."""
    looks: list[Look] = field(default_factory=list)
    killed: dict[int, list[int]] = field(default_factory=dict)
    """When each process id was killed."""
    errors: list[str] = field(default_factory=list)
    """What producers and resharders were told, and what workers had no reason to tell."""
    changes: Counter[str] = field(default_factory=Counter)
    """Splits, merges and changes of a shard's factor that were seen to be done."""


QUIET_EVENTS = {
    *("worker_started", "worker_stopped", "worker_draining", "worker_death_noticed", "totals"),
    *("runner_started", "runner_stopped", "runner_died", "factor_changed"),
    *("state_changed", "failures_repeated"),
}
"""What a worker may tell at any time. The first of repeated failures is told by its own event, and
so is what brings a function into a state that a run does not cause."""
CAUSED = {
    ("function_failed", "Reject"),
    ("function_failed", "FunctionCrashed"),
    ("dead_lettered", "Reject"),
    ("lane_trouble", "SequenceTrimmed"),
}
"""Events with the classes of the errors that a run causes on purpose."""


def load_history(folder: Path) -> History:
    """Read all journals of a run."""
    history = History()
    for path in sorted(folder.iterdir()):
        who, _, name = path.name.partition("-")
        match who:
            case "producer":
                history.puts += _puts(name, path, history.errors)
            case "reader":
                history.readings += _readings(name, path)
            case "runner":
                history.calls += _calls(path)
            case "resharder":
                _add_changes(path, history)
            case "harness":
                _add_harness(path, history)
            case "stderr" if name.startswith("worker"):
                _add_events(path, history)
    history.calls.sort(key=lambda call: call.time)
    return history


def _puts(producer: str, path: Path, errors: list[str]) -> Iterator[Put]:
    calls: dict[int, list[Put]] = {}
    for kind, call, time, *rest in read_journal(path):
        match kind:
            case "call":
                stream, told, _ = rest
                calls[call] = [
                    Put(producer, call, index, stream, key, digest, time)
                    for index, (_, _, key, digest) in enumerate(told)
                ]
            case "ack":
                for put, (shard_id, number) in zip(calls[call], rest[0], strict=True):
                    put.acked, put.place = time, Place(put.stream, shard_id, number)
            case "error":
                errors.append(f"{path.name}: {': '.join(rest)}")
    return chain.from_iterable(calls.values())


def _readings(name: str, path: Path) -> list[Reading]:
    reader, stream = name.rsplit("-", 1)
    readings: dict[str, Reading] = {}
    for kind, shard_id, *rest in read_journal(path):
        reading = readings.setdefault(shard_id, Reading(reader, stream, shard_id))
        if kind == "records":
            reading.steps += [("record", *each) for each in zip(*rest, strict=True)]
        else:
            reading.steps.append((kind, *rest))
    return list(readings.values())


def _calls(path: Path) -> list[Call]:
    calls: list[Call] = []
    by_number: dict[int, Call] = {}
    process = parent = 0
    for kind, *rest in read_journal(path):
        match kind:
            case "process":  # the id may come again
                (process, parent), by_number = rest, {}
            case "call":
                number, time, *call = rest
                by_number[number] = Call(process, parent, time, *call)
                calls.append(by_number[number])
            case "return":
                by_number[rest[0]].returned = rest[1]
    return calls


def _add_changes(path: Path, history: History) -> None:
    begun = ""
    for kind, *rest in read_journal(path):
        if kind == "error":
            history.errors.append(f"{path.name}: {': '.join(rest)}")
        elif kind == "done":
            history.changes[begun] += 1
        elif kind != "late":
            begun = kind


def _add_events(path: Path, history: History) -> None:
    """Go through what a supervisor wrote to stderr; its lines are JSON objects."""
    for event in read_journal(path):
        what = event["event"]
        if what == "factor_changed":
            history.changes["factor"] += 1
        if what not in QUIET_EVENTS and (what, event.get("errorType")) not in CAUSED:
            history.errors.append(f"{path.name}: {event}")


def _add_harness(path: Path, history: History) -> None:
    for kind, time, *rest in read_journal(path):
        if kind == "look":
            mapping, stream, shard_id, _, checkpoints = rest
            function = mapping.partition(".")[2]
            history.looks.append(Look(time, function, stream, shard_id, checkpoints))
        elif kind == "signal" and rest[0] == "SIGKILL":
            history.killed.setdefault(rest[2], []).append(time)
