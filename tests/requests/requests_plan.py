"""What each call of the campaign does, and whether its answer is right."""

import random
from typing import NamedTuple

from streamfn.errors import FunctionError

SHARES = {"segfault": 0.01, "exit": 0.01, "hang": 0.005, "leak": 0.005, "raise": 0.01}
"""The share of the calls that fail, by how."""
ERRORS = {
    "segfault": ("Runtime.ExitError", "signal: segmentation fault"),
    "exit": ("Runtime.ExitError", "exit status 3"),
    "hang": ("Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    "leak": ("Runtime.OutOfMemory", "memory limit of 160 MiB"),
    "raise": ("ValueError", "invalid literal for int()"),
}
"""Type and a part of the message that a caller must get."""


FUNCTIONS = ("work", "work", "work", "leaky")


class Call(NamedTuple):
    """One call."""

    name: str
    does: str
    text: str
    function: str = "work"

    @property
    def payload(self):
        return {"name": self.name, "does": self.does, "text": self.text}

    def finding(self, answer):
        """What is wrong with an answer, a value or an exception; None: nothing."""
        if self.does in ERRORS:
            kind, part = ERRORS[self.does]
            is_right = isinstance(answer, FunctionError) and answer.error_type == kind
            if is_right and part in answer.error_message:
                return None
        elif answer == {"name": self.name, "text": self.text}:
            return None
        shown = f"{type(answer).__name__}: {answer}" if isinstance(answer, Exception) else answer
        return f"call {self.name} ({self.does}) got {shown!r:.300}"


def make_calls(seed, count):
    """The calls of a seed. Of each kind that fails there is its share exactly, one at least."""
    chance = random.Random(seed)
    kinds = [
        kind for kind, share in SHARES.items() for _ in range(max(1, round(count * share)))
    ]  # fmt: skip
    kinds += ["good"] * (count - len(kinds))
    chance.shuffle(kinds)
    return [_call(f"c{number}", kind, chance) for number, kind in enumerate(kinds)]


def _call(name, kind, chance):
    text = "x" * chance.choice([0, 10, 1_000, 100_000])
    # Some of the good calls share processes with those that leak.
    function = {"leak": "leaky", "hang": "work"}.get(kind) or chance.choice(FUNCTIONS)
    return Call(name, kind, text, function)
