"""Which handlers a seed makes, and what each of them does with the one record that is marked."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Final

from unruly_tricks import ASYNC, ASYNC_ENDS, ENDS, SYNC

FORMS: Final = ("batch", "record", "lambda", "yields")
"""What a handler receives; the last returns its values one by one."""
HANG_SHARE: Final = 0.12
"""Part of the handlers that hang in the end: each attempt of theirs takes its time-out."""


@dataclass(frozen=True, slots=True)
class Handler:
    """An unruly function: what it receives, and what it does at its marked record."""

    number: int
    form: str
    is_async: bool
    steps: tuple[str, ...]
    """Names of tricks, the last of which is how it ends."""
    marked: int
    """Place of its marked record among `RECORDS`."""

    @property
    def name(self) -> str:
        """Its function's, and its stream's."""
        return f"unruly_{self.number}"

    def __str__(self) -> str:
        kind = "async " if self.is_async else ""
        return f"{self.name}, {kind}{self.form}, record {self.marked}: {', '.join(self.steps)}"


RECORDS: Final = 8
"""Records of an unruly handler; all but one are innocent."""
HANGS: Final = {"hang", "spin", *ASYNC_ENDS}


@dataclass(frozen=True, slots=True)
class Burst:
    """Handlers that one worker runs beside the calm ones."""

    seed: int
    handlers: tuple[Handler, ...]
    processes: int
    threads: int

    def write(self, path: Path) -> None:
        """Have the app read it."""
        fields = asdict(self)
        path.write_text(json.dumps(fields, indent=1))

    @classmethod
    def read(cls, path: Path) -> "Burst":
        """Read what `write` wrote."""
        fields = json.loads(path.read_text())
        handlers = [
            Handler(**{**each, "steps": tuple(each["steps"])}) for each in fields["handlers"]
        ]
        return cls(**{**fields, "handlers": tuple(handlers)})


def make_burst(seed: int, count: int, only: str | None = None) -> Burst:
    """Return the burst of a seed.

    Args:
        seed: Decides everything.
        count: How many unruly handlers.
        only: A trick that each of them begins with.
    """
    chance = Random(seed)
    handlers = [_handler(number, chance, only) for number in range(count)]
    return Burst(seed, tuple(handlers), chance.randint(1, 3), chance.randint(1, 4))


def _handler(number: int, chance: Random, only: str | None) -> Handler:
    is_async = chance.random() < 0.4 if only is None else only in {*ASYNC, *ASYNC_ENDS}
    tricks = SYNC + ASYNC * 2 if is_async else SYNC
    steps = chance.sample(tricks, chance.choice([0, 1, 1, 1, 2, 3]))
    ends = [*ENDS, *ASYNC_ENDS] if is_async else ENDS
    if chance.random() < HANG_SHARE:
        end = chance.choice([each for each in ends if each in HANGS])
    else:
        end = chance.choice(["end_well", *(each for each in ends if each not in HANGS)])
    if only in {*ENDS, *ASYNC_ENDS}:
        steps, end = [], only
    elif only is not None:
        steps = [only]
    form = chance.choice(FORMS)
    return Handler(number, form, is_async, (*steps, end), chance.randrange(RECORDS))
