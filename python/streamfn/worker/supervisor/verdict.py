"""Who is blamed when a process dies: from what the board says to what the slots shall say.

Pure: the supervisor reads boards and writes slots, here is only the judgement.

    the runner died while …                      counts for     runs alone until settled
    ──────────────────────────────────────────   ────────────   ────────────────────────
    one call was in progress                     its lane       its lane
    several were                                 nobody         each of them
    it was killed for a call past its time,
      which was the only one all that time       its lane       its lane
      which had company                          nobody         each of them
    it ended because calls failed in it for
      what others did                            nobody         each of them
    it was killed at a shutdown                  nobody         nobody
    it ended itself (`OWN_EXITS`), or no call
      was in progress: the first time            nobody         nobody
      the second time with the same records      nobody         each of them
      after that, alone in its runner            its lane       its lane

A lane whose call has returned, but is not settled yet, is company too: the call may have closed
descriptors that are missed only now.

Of several calls in one process each may have kept the interpreter from the others: whose time is
up first says nothing.

Under `input="record"` the board says which record ran, so those before it are done. Unless a
success is done only once something is written for it: that was in the memory of the runner. Then

    the running record …                    the records before it   itself, if its lane is blamed
    ─────────────────────────────────────   ─────────────────────   ─────────────────────────────
    is the first of its entry               there are none          counted, on its own
    has others before it                    come again, first       begins an entry, not counted
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from streamfn._core import Entry, InFlight
from streamfn.engine.outcome import CAUSE_CRASHED, CAUSE_NONE, CAUSE_TIMED_OUT
from streamfn.engine.worklist import narrowed
from streamfn.worker.exit_codes import OWN_EXITS

DEATHS_MAX: Final = 2
"""Worker deaths in a row with a batch in flight after which it runs with nothing beside it; and
deaths of runners that say nothing about whose fault they are."""
KILLED: Final = 9
"""What is said of a worker that died as a whole: no process was left to see the signal."""


class Cell(NamedTuple):
    """A call in progress, as the board of a runner has it."""

    cell: int
    lane: int
    deadline: float | None
    running: int | None
    """Sequence number of the record that runs, under `input="record"`."""


@dataclass(frozen=True, slots=True)
class RunnerExit:
    """How a runner ended."""

    cells: tuple[Cell, ...]
    """Calls that were in progress."""
    detail: int
    """Signal number, or minus the exit code."""
    expired: frozenset[Cell] = frozenset()
    """Calls past their time, for which the supervisor killed it."""
    accompanied: frozenset[Cell] = frozenset()
    """Calls beside which there were others at some time."""
    is_blameless: bool = False
    """The supervisor killed it for other reasons."""
    is_broken: bool = False
    """It said that its own code, or the log, failed."""
    is_in_doubt: bool = False
    """It ended itself, because calls failed in it for what others did."""
    is_solo: bool = False
    """It was there for one batch alone."""

    @property
    def is_unexplained(self) -> bool:
        """Whether the calls in progress have nothing to do with how it ended."""
        if self.is_blameless or self.is_in_doubt or self.expired:
            return False
        return self.is_broken or not self.cells or -self.detail in OWN_EXITS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is found about one lane that was being called."""

    running: int | None = None
    cause: int = CAUSE_NONE
    """`CAUSE_NONE`: the call does not count as an attempt."""
    detail: int = 0
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a slot shall say."""

    entries: list[Entry]
    worker_deaths: int
    is_alone: bool


def verdicts(death: RunnerExit, between_calls: int = 0) -> dict[int, Verdict]:
    """Judge the death of a runner; by lane, one for each call that was in progress.

    Args:
        death: How it ended; not `is_unexplained`.
        between_calls: Lanes with a batch in flight that were not in their function just then.
    """
    if death.is_blameless:
        return {cell.lane: Verdict(cell.running) for cell in death.cells}
    if not death.expired:
        is_blamed = len(death.cells) == 1 and not (between_calls or death.is_in_doubt)
        return {cell.lane: _crashed(cell, death.detail, is_blamed) for cell in death.cells}
    # WHY: a call may end between the decision to kill and the kill; what is in its cell then is
    # another call, and no more to blame than its neighbours.
    late = death.expired.intersection(death.cells)
    is_alone = len(death.cells) == 1 and not late & death.accompanied
    cause = CAUSE_TIMED_OUT if is_alone and late else CAUSE_NONE
    # WHY: all of them, for the one to blame may not be past its time yet. Were it to go on in
    # company, it could go free for ever.
    return {cell.lane: Verdict(cell.running, cause, 0, bool(late)) for cell in death.cells}


def unexplained(death: RunnerExit, running: int | None, times: int) -> Verdict:
    """Judge one lane whose batch was in flight when its runner ended for an unknown reason.

    Args:
        death: How it ended.
        running: The record that ran, where it is known.
        times: Such deaths in a row with these records in flight, this one included.
    """
    if death.is_solo and (times > DEATHS_MAX or not death.is_broken):
        return Verdict(running, CAUSE_CRASHED, death.detail, is_alone=True)
    return Verdict(running, is_alone=times >= DEATHS_MAX)


def after_runner_death(
    slot: InFlight, verdict: Verdict, now_us: int, *, writes_on_success: bool
) -> Rewrite:
    """Return what the slot of a lane shall say when its runner died.

    Args:
        slot: What it says now.
        verdict: What is found about the lane.
        now_us: Wall time.
        writes_on_success: See `EventSourceMapping.writes_on_success`.
    """
    if writes_on_success and verdict.running is not None:
        entries = list(_parted(slot.entries, verdict, verdict.running, now_us))
    else:
        entries = judged_entries(slot.entries, verdict, now_us)
    return Rewrite(entries, slot.worker_deaths, slot.is_alone or verdict.is_alone)


def after_worker_death(slot: InFlight, now_us: int) -> Rewrite:
    """Return what the slot of a lane shall say when the whole worker died during its call.

    Nothing counts, for anything may have killed it (a container, all memory used up); except for
    a batch that ran with nothing else in its worker, because that happened before.
    """
    deaths = slot.worker_deaths + 1
    blamed = Verdict(None, CAUSE_CRASHED, KILLED)
    entries = judged_entries(slot.entries, blamed, now_us) if slot.is_exclusive else slot.entries
    return Rewrite(entries, deaths, slot.is_alone or deaths >= DEATHS_MAX)


def judged_entries(entries: Sequence[Entry], verdict: Verdict, now_us: int) -> list[Entry]:
    """Put a verdict into the entries of a slot; the runner that reads it counts the attempt."""
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
    """Yield the entries without the records that were done, the running one on its own."""
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
    """Yield the entries with all their records, parted where the runner died.

    WHY the running record is not set apart at once: those before it come again, and it must not
    be repeated before them, or it overtakes its key. So the entry is split, as a batch is, which
    costs no attempt; when the record dies at the head of what is left, nothing lies before it.
    """
    for entry in entries:
        if verdict.cause == CAUSE_NONE or not entry.first <= running <= entry.last:
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
