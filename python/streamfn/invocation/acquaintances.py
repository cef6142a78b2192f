"""What this process has learned about workers: who answered, so that the next call begins there.

A forked child forgets it, together with the connections.
"""

from __future__ import annotations

import os
import random
from typing import Final

from .workers import Announced

_ORDER: Final = {True: 0, None: 1, False: 2}


class Acquaintances:
    """Which workers answered. Threads share it; what they overwrite is a hint only."""

    def __init__(self) -> None:
        self._answered: dict[str, bool] = {}
        self._favourites: dict[tuple[str, str], str] = {}

    def favourite(self, log_dir: str, function: str) -> str | None:
        """Return the worker that answered the last call of a function.

        WHY: it spares a call the look at all workers, which takes as long as the call.
        """
        return self._favourites.get((log_dir, function))

    def answered(self, log_dir: str, function: str, worker: str) -> None:
        """Ask this worker first from now on."""
        self._answered[worker] = True
        self._favourites[log_dir, function] = worker

    def did_not_answer(self, log_dir: str, function: str, worker: str) -> None:
        """Ask this worker last from now on."""
        self._answered[worker] = False
        if self._favourites.get((log_dir, function)) == worker:
            self._favourites.pop((log_dir, function), None)

    def in_order(self, function: str, announced: Announced) -> list[str]:
        """Return the workers that announce a function: who answered before first, then random."""
        found = [worker for worker, functions in announced.items() if function in functions]
        random.shuffle(found)
        found.sort(key=lambda worker: _ORDER[self._answered.get(worker)])
        return found

    def forget(self) -> None:
        """Begin anew."""
        self._answered.clear()
        self._favourites.clear()


KNOWN: Final = Acquaintances()
os.register_at_fork(after_in_child=KNOWN.forget)
