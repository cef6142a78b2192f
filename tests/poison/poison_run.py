"""One batch of 1,000 with poison in it, between two without, run by a real worker to its end."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from streamfn import Log
from streamfn.engine.deadletter import DeadLetters

APP: Final = Path(__file__).with_name("poisoned.py")
BATCH: Final = 1_000
FIRST: Final = BATCH
"""Sequence number of the first record of the batch with the poison."""
KINDS: Final = {
    "raise": "ValueError",
    "segfault": "FunctionCrashed",
    "exit": "FunctionCrashed",
    "kill": "FunctionCrashed",
    "hang": "FunctionTimedOut",
}
"""How a record can be too much, and the error that its dead letter names."""
CALLS_MAX: Final = {1: 22, 3: 58, 50: 577}
"""Calls that so many poison records in a batch of 1,000 may cost with one retry."""
ATTEMPTS: Final = 2
TIMEOUT: Final = 0.1
"""Seconds a call may take under `hang`."""
PATIENCE: Final = 900.0
"""Seconds after which a worker counts as stuck."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is wrong with how many records, and where in their batch they lie."""

    kind: str
    count: int
    place: str
    """`first`, `last`, or the seed of a random choice."""

    def poison(self) -> list[int]:
        """Sequence numbers of the poison."""
        if self.place == "first":
            return list(range(FIRST, FIRST + self.count))
        if self.place == "last":
            return list(range(FIRST + BATCH - self.count, FIRST + BATCH))
        places = Random(int(self.place)).sample(range(BATCH), self.count)
        return sorted(FIRST + place for place in places)


class Call(NamedTuple):
    """A call of the function, as it wrote it down itself."""

    began: float
    first: int
    last: int
    ended: float | None
    """None: it raised, or its process died."""

    def holds(self, number: int) -> bool:
        """Whether it was called with that record."""
        return self.first <= number <= self.last


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case."""

    case: Case
    exit_code: int
    calls: list[Call]
    """All calls, in order."""
    dead: list[tuple[int, int, str]]
    """Sequence number, attempts and error type of each dead letter."""
    seconds: float
    """From the first call of the batch with the poison to the end of its last."""

    @property
    def about_the_poison(self) -> list[Call]:
        """The calls of the batch with the poison, and of parts of it."""
        return [call for call in self.calls if FIRST <= call.first < FIRST + BATCH]

    @property
    def deaths(self) -> int:
        """Processes that ended in a call."""
        failed = sum(call.ended is None for call in self.about_the_poison)
        return 0 if self.case.kind == "raise" else failed

    @property
    def overtaken(self) -> list[Call]:
        """Innocent calls that the machine held up until their time was over: they count as failed.

        Whoever asks for a timeout of 100 ms on a busy machine gets this.
        """
        if self.case.kind != "hang":
            return []
        poison = self.case.poison()
        begins = [call.began for call in self.calls]
        return [
            call
            for call, following in zip(self.calls, begins[1:], strict=False)
            if call.ended is None
            and not any(map(call.holds, poison))
            and following - call.began >= TIMEOUT
        ]

    def findings(self) -> list[str]:
        """What is not as promised."""
        poison, calls = self.case.poison(), self.about_the_poison
        found = []
        if self.exit_code != 0:
            found.append(f"the worker ended with {self.exit_code}")
        expected = [(number, ATTEMPTS, KINDS[self.case.kind]) for number in poison]
        if self.dead != expected:
            found.append(f"dead letters {self.dead}, not {expected}")
        most = CALLS_MAX[self.case.count] + 2 * len(self.overtaken)  # each is split once more
        if len(calls) > most:
            found.append(f"{len(calls)} calls, more than {most}")
        ended = [call for call in self.calls if call.ended is not None]
        done = {number for call in ended for number in range(call.first, call.last + 1)}
        if done != set(range(3 * BATCH)) - set(poison):
            found.append("calls that ended well were not those of all innocent records")
        clean = [(call.first, call.last) for call in self.calls if call not in calls]
        if clean != [(0, BATCH - 1), (2 * BATCH, 3 * BATCH - 1)]:
            found.append(f"the batches beside it were called as {clean}")
        return found


def run(case: Case, folder: Path, *, in_a_hurry: bool = False) -> Outcome:
    """Put the three batches and run `streamfn worker --burst` on them, in an empty folder.

    Args:
        case: What to put.
        folder: Where the log, the calls and the worker's stderr go.
        in_a_hurry: Whether retries wait 10 ms at most, instead of what is the default.
    """
    calls, poison = folder / "calls", set(case.poison())
    data = [b"poison" if n in poison else b"%d" % n for n in range(3 * BATCH)]
    with Log.open(folder / "log") as log:
        log.create_stream("orders").put_many(data)
        exit_code = _work(folder, CALLS=calls, KIND=case.kind, HURRY="1" if in_a_hurry else "")
        entries = DeadLetters(log, "poisoned.work").entries()
        dead = sorted((each.sequence_number, each.attempts, each.error_type) for each in entries)
    made = read_calls(calls)
    about = [call for call in made if FIRST <= call.first < FIRST + BATCH]
    seconds = max(call.ended or call.began for call in about) - about[0].began
    return Outcome(case, exit_code, made, dead, seconds)


def read_calls(path: Path) -> list[Call]:
    """Read what the function wrote down; one lane makes one call after the other."""
    calls: list[Call] = []
    for line in path.read_text().splitlines():
        what, when, first, last = line.split(" ")
        if what == "began":
            calls.append(Call(float(when), int(first), int(last), None))
        else:
            calls[-1] = calls[-1]._replace(ended=float(when))
    return calls


def _work(folder: Path, **environment: object) -> int:
    command = [sys.executable, "-m", "streamfn", "worker", str(APP), "--burst"]
    command += ["--log-dir", str(folder / "log"), "--processes", "2"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
    with (folder / "stderr").open("w") as stderr:
        done = subprocess.run(
            command,
            cwd=folder,
            env=inherited | {name: str(value) for name, value in environment.items()},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            timeout=PATIENCE,
            check=False,
        )
    return done.returncode
