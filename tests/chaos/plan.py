"""What a chaos run does to its processes, and when: decided by the seed alone.

A plan is a list of events. Each carries all its random choices, so that the same seed does the
same; what the scheduler of the machine makes of it is another matter.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill producer",
    "kill reader",
    "kill runner",
    "kill supervisor",
    "kill worker",  # the supervisor and its runners, one right after the other
    "kill resharder",  # in the middle of a split or merge
    "kill all",  # and open the log again
    "lose control",  # the same, without the shared memory: as after a crash of the machine
    "stop producer",
    "stop reader",
    "stop runner",
    "stop supervisor",
    "close all",  # and open the log again
    "reshard",
    "change factor",
    "look",  # take down the checkpoints
]

PRODUCERS, READERS, WORKERS, RUNNERS = 4, 4, 2, 2
"""Processes of each kind; RUNNERS by worker."""
STREAMS = ("kept", "consumed", "capped", "aged")
FACTORS = (1, 2, 3, 4, 8)
STOP_SECONDS = (0.02, 0.6)
RESHARD_SECONDS = (0.0, 0.03)
"""A resharder that is killed has so long for its change: about what one takes."""

WEIGHTS: dict[Kind, int] = {
    "kill producer": 26,
    "kill reader": 10,
    "kill runner": 26,
    "kill supervisor": 8,
    "kill worker": 5,
    "kill resharder": 4,
    "kill all": 1,
    "lose control": 1,
    "stop producer": 6,
    "stop reader": 2,
    "stop runner": 5,
    "stop supervisor": 3,
    "close all": 1,
    "reshard": 7,
    "change factor": 5,
    "look": 5,
}
KILLS: dict[Kind, int] = {
    "kill producer": 1,
    "kill reader": 1,
    "kill runner": 1,
    "kill supervisor": 1,
    "kill worker": 1,
    "kill all": PRODUCERS + READERS + WORKERS,
    "lose control": PRODUCERS + READERS + WORKERS,
}
"""Processes that an event kills at least."""
SLOTS = {"producer": PRODUCERS, "reader": READERS, "runner": WORKERS, "supervisor": WORKERS}


@dataclass(frozen=True)
class Event:
    """One thing that happens."""

    pause: float
    """Seconds since the event before."""
    kind: Kind
    slot: int = 0
    """Which producer, reader or worker."""
    pick: float = 0.0
    """Which of what there happens to be then (runners, shards): 0 to 1."""
    seconds: float = 0.0
    """How long it is stopped, or lives on before it is killed."""
    stream: str = ""
    factor: int = 0


@dataclass(frozen=True)
class Plan:
    """All events of a run."""

    seed: int
    kills: int
    """At least so many processes are killed."""
    events: tuple[Event, ...]

    @property
    def fingerprint(self) -> str:
        """The same for the same events."""
        return hashlib.blake2b(repr(self.events).encode(), digest_size=4).hexdigest()


def make_plan(seed: int, kills: int, pause: float) -> Plan:
    """Make the plan of a seed.

    Args:
        seed: Decides everything.
        kills: Least number of processes to be killed.
        pause: Average time between two events, in seconds.
    """
    chance = random.Random(f"plan {seed}")
    events: list[Event] = []
    # Each kind once at least, in some order: a short run sees all of them as well.
    kinds = list(WEIGHTS)
    chance.shuffle(kinds)
    planned = 0
    while planned < kills or kinds:
        kind = kinds.pop() if kinds else chance.choices(list(WEIGHTS), [*WEIGHTS.values()])[0]
        events.append(_event(kind, pause, chance))
        planned += KILLS.get(kind, 0)
    return Plan(seed, kills, tuple(events))


def _event(kind: Kind, pause: float, chance: random.Random) -> Event:
    seconds = RESHARD_SECONDS if kind == "kill resharder" else STOP_SECONDS
    return Event(
        pause=round(chance.uniform(0, 2 * pause), 3),
        kind=kind,
        slot=chance.randrange(SLOTS.get(kind.split()[1], WORKERS) if " " in kind else WORKERS),
        pick=round(chance.random(), 3),
        seconds=round(chance.uniform(*seconds), 3),
        stream=chance.choice(STREAMS),
        factor=chance.choice(FACTORS),
    )
