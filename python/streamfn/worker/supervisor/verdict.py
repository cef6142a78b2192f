"""Decides which lanes are blamed for the exit of a process, and what their slots must contain.

Pure: the supervisor reads the boards and writes the slots; this module only decides.

    the runner exited while …                    an attempt counts   runs alone until settled
    ──────────────────────────────────────────   ─────────────────   ────────────────────────
    one call was in progress                     for its lane        its lane
    several calls were in progress               for none            each of them
    it was killed for a call past its timeout
      that was the only one all that time        for its lane        its lane
      that had company                           for none            each of them
    it was killed for its memory limit
      in its first call, the only one        for its lane        its lane
      otherwise: the first time              for none            none
      the second time with the same records  for none            each of them
    it exited because calls failed in it
      because of other calls                     for none            each of them
    it was killed at a shutdown                  for none            none
    it exited by itself (`OWN_EXITS`), or no
      call was in progress: the first time       for none            none
      the second time with the same records      for none            each of them
      after that, alone in its runner            for its lane        its lane

A lane whose call has returned but is not settled yet counts as company too: the call may have
closed descriptors, which shows only later.

Each of several calls in a process may have blocked the interpreter for the others. So it means
nothing which of them reaches its timeout first. Memory that a process has too much of may have been
leaked by any call before. So only the first call of a process is blamed for it.

With `input="record"` the board shows the running record, so the records before it are done. The
exception is a success that must be written somewhere (`writes_on_success`), which was only in the
runner's memory. Then

    the running record …                    the records before it   itself, if its lane is blamed
    ─────────────────────────────────────   ─────────────────────   ─────────────────────────────
    is the first of its entry               there are none          counted, in its own entry
    has others before it                    are retried first       begins an entry, not counted

A process that was killed for its memory limit splits them so in any case: fewer records are retried
in one process, so that their calls end before it has leaked as much again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streamfn._core import Entry, InFlight
from streamfn.engine.outcome import (
    CAUSE_CRASHED,
    CAUSE_NONE,
    CAUSE_OUT_OF_MEMORY,
    CAUSE_TIMED_OUT,
    KIBIBYTE,
)
from streamfn.engine.worklist import narrowed
from streamfn.worker.exit_codes import OWN_EXITS

UNEXPLAINED_MAX: Final = 2
"""Unexplained exits of runners in a row with a batch in flight after which the batch runs alone.
So it is for exits for the memory limit."""
DETAIL_MAX: Final = 2**31 - 1


class Cell(NamedTuple):
    """A call in progress, from the board of a runner."""

    cell: int
    lane: int
    deadline: float | None
    running: int | None
    """Sequence number of the running record, with `input="record"`."""


@dataclass(frozen=True, slots=True)
class RunnerExit:
    """How a runner ended."""

    cells: tuple[Cell, ...]
    """Calls that were in progress."""
    detail: int
    """Signal number, or minus the exit code."""
    expired: frozenset[Cell] = frozenset()
    """Calls past their timeout, for which the supervisor killed it."""
    accompanied: frozenset[Cell] = frozenset()
    """Calls that ran beside other calls at some time."""
    is_blameless: bool = False
    """Whether the supervisor killed it for a reason unrelated to its calls."""
    is_broken: bool = False
    """Whether it reported that its own code or the log failed."""
    is_in_doubt: bool = False
    """Whether it exited by itself because calls failed in it because of other calls."""
    is_solo: bool = False
    """Whether it ran a single lane alone."""
    memory_limit: int | None = None
    """The memory limit in bytes for which the supervisor killed it."""
    calls: int = 0
    """Calls that it counted: those with batches when they begin, those with records when several
    of them have ended."""

    @property
    def is_unexplained(self) -> bool:
        """Whether the reason of the exit is not known to be one of its calls."""
        is_killed = bool(self.expired) or self.memory_limit is not None
        if self.is_blameless or self.is_in_doubt or is_killed:
            return False
        return self.is_broken or not self.cells or -self.detail in OWN_EXITS


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about one lane that was being called."""

    running: int | None = None
    cause: int = CAUSE_NONE
    """`CAUSE_NONE`: the call does not count as an attempt."""
    detail: int = 0
    is_alone: bool = False
    is_split: bool = False
    """Whether records that must be retried together with the running one get an entry of their own,
    although the call does not count."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The new content of a slot."""

    entries: list[Entry]
    worker_deaths: int
    is_alone: bool


def verdicts(death: RunnerExit, between_calls: int = 0) -> dict[int, Verdict]:
    """Return the verdict for each call that was in progress when a runner exited, by lane.

    Args:
        death: How the runner ended; not `is_unexplained`.
        between_calls: Number of lanes with a batch in flight and no call in progress.
    """
    if death.is_blameless:
        return {cell.lane: Verdict(cell.running) for cell in death.cells}
    if not death.expired:
        is_blamed = len(death.cells) == 1 and not (between_calls or death.is_in_doubt)
        return {cell.lane: _crashed(cell, death.detail, is_blamed) for cell in death.cells}
    # WHY the intersection: a call may end between the decision to kill and the kill. Then its cell
    # holds another call, which is to blame no more than the others.
    late = death.expired.intersection(death.cells)
    is_alone = len(death.cells) == 1 and not late & death.accompanied
    cause = CAUSE_TIMED_OUT if is_alone and late else CAUSE_NONE
    # WHY all of them run alone: the call to blame may not have reached its timeout yet. If it went
    # on beside others, it might never be found.
    return {cell.lane: Verdict(cell.running, cause, 0, bool(late)) for cell in death.cells}


def unexplained(death: RunnerExit, running: int | None, times: int) -> Verdict:
    """Return the verdict for a lane whose batch was in flight at an unexplained exit.

    Args:
        death: How the runner ended.
        running: The running record, if it is known.
        times: Such exits in a row with these records in flight, including this one.
    """
    if death.is_solo and (times > UNEXPLAINED_MAX or not death.is_broken):
        return Verdict(running, CAUSE_CRASHED, death.detail, is_alone=True)
    return Verdict(running, is_alone=times >= UNEXPLAINED_MAX)


def out_of_memory(death: RunnerExit, cell: Cell | None, slot: InFlight, times: int) -> Verdict:
    """Return the verdict for a lane whose batch was in flight at a kill for the memory limit.

    Args:
        death: How the runner ended, with a `memory_limit`.
        cell: The lane's call in progress, if there was one.
        slot: The lane's slot.
        times: Such exits in a row with these records in flight, including this one.
    """
    assert death.memory_limit is not None
    running = None if cell is None else cell.running
    if cell is not None and death.cells == (cell,) and _is_first_call(death, cell, slot):
        detail = min(death.memory_limit // KIBIBYTE, DETAIL_MAX)
        return Verdict(running, CAUSE_OUT_OF_MEMORY, detail, is_alone=True)
    return Verdict(running, is_alone=times >= UNEXPLAINED_MAX, is_split=True)


def _is_first_call(death: RunnerExit, cell: Cell, slot: InFlight) -> bool:
    """Whether a call in progress is the first that its process has made."""
    if cell.running is None:
        return death.calls <= 1
    return death.calls == 0 and any(entry.first == cell.running for entry in slot.entries)


def after_runner_death(
    slot: InFlight, verdict: Verdict, now_us: int, *, writes_on_success: bool
) -> Rewrite:
    """Return the new content of a lane's slot after the exit of its runner.

    Args:
        slot: The current content.
        verdict: The verdict for the lane.
        now_us: Wall time, in µs.
        writes_on_success: See `EventSourceMapping.writes_on_success`.
    """
    if writes_on_success and verdict.running is not None:
        entries = list(_parted(slot.entries, verdict, verdict.running, now_us))
    else:
        entries = judged_entries(slot.entries, verdict, now_us)
    return Rewrite(entries, slot.worker_deaths, slot.is_alone or verdict.is_alone)


def judged_entries(entries: Sequence[Entry], verdict: Verdict, now_us: int) -> list[Entry]:
    """Add a verdict to the entries of a slot; the runner that reads the slot counts the attempt."""
    if verdict.running is not None:
        return list(_at_record(entries, verdict, verdict.running, now_us))
    head = 1 + next(
        (place for place, entry in enumerate(entries[1:]) if not entry.joined), len(entries) - 1
    )
    blamed = [_blamed(entry, verdict, now_us) for entry in entries[:head]]
    return [*blamed, *entries[head:]]


def _at_record(
    entries: Sequence[Entry], verdict: Verdict, running: int, now_us: int
) -> Iterable[Entry]:
    """Yield the entries without the records that are done, the running record in its own entry."""
    for entry in entries:
        if not entry.first <= running <= entry.last:
            yield entry
        elif verdict.cause == CAUSE_NONE:
            yield narrowed(entry, running, entry.last)
        else:
            yield _blamed(narrowed(entry, running, running), verdict, now_us)
            if running < entry.last:
                yield Entry(running + 1, entry.last)


def _parted(
    entries: Sequence[Entry], verdict: Verdict, running: int, now_us: int
) -> Iterable[Entry]:
    """Yield the entries with all their records, split at the running record.

    WHY the running record gets no entry of its own yet: the records before it are retried, and it
    must not be retried before them, or the order of its key is broken. So the entry is split like a
    batch, which costs no attempt. If the record then kills its runner as the first of its entry, no
    records are before it.
    """
    for entry in entries:
        is_apart = verdict.cause != CAUSE_NONE or verdict.is_split
        if not is_apart or not entry.first <= running <= entry.last:
            yield entry
        elif entry.first == running:
            yield from _at_record([entry], verdict, running, now_us)
        else:
            yield narrowed(entry, entry.first, running - 1)
            yield narrowed(entry, running, entry.last)


def _blamed(entry: Entry, verdict: Verdict, now_us: int) -> Entry:
    if verdict.cause == CAUSE_NONE:
        return entry
    return Entry(
        entry.first,
        entry.last,
        entry.attempts,
        entry.joined,
        verdict.cause,
        verdict.detail,
        entry.first_failed_us or now_us,
    )


def _crashed(cell: Cell, detail: int, is_blamed: bool) -> Verdict:  # noqa: FBT001
    cause = CAUSE_CRASHED if is_blamed else CAUSE_NONE
    return Verdict(cell.running, cause, detail if is_blamed else 0, is_alone=True)
