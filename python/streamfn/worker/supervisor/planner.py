"""Which lanes this worker takes, which it gives back, and which runner gets which: pure planning.

* Of each mapping a worker wants its share of the lanes. What it holds beyond that it gives back, so
  that a worker that comes later gets some. The shares of all living workers are all lanes, no more:
  each works them out for itself, from what all of them see.
* A lane that nobody takes for a while is adopted by whoever can run it, until workers come or go:
  the one whose share it is may be stopped, or have no runner that comes up.
* Lanes go to the runner with the fewest of their mapping, then with the fewest of all.
* A lane that has come to the end of its shard, for good, is given back and counts no more.
* A lane that must run alone goes to a solo runner; one at a time, and a few solo runners at most.
  The one that has waited longest is next: who is judged there and must run alone again comes last.
* A lane that was in flight at two deaths of whole workers runs with nothing else in this worker.

A plan is made again and again; each step is taken from what is the case now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, inf
from typing import NamedTuple

from streamfn.model.mapping import function_of


class LaneKey(NamedTuple):
    """A lane of the log."""

    mapping: str
    stream: str
    shard_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class LaneView:
    """What planning has to know about a lane."""

    key: LaneKey
    is_leased: bool = False
    """Somebody holds it, perhaps one of our own runners."""
    is_open: bool = False
    """Its work list is not empty."""
    is_alone: bool = False
    is_exclusive: bool = False
    worker_deaths: int = 0
    """Deaths of whole workers in a row with its batch in flight."""
    is_barred: bool = False
    """Not to be run now: paused, resting, or not judged yet."""
    is_finished: bool = False
    """It has come to the end of a shard that was split or merged."""
    free_since: float = 0.0
    """Since when it could be taken, on the monotonic clock."""
    is_left: bool = False
    """Nobody has taken it for a while."""
    is_adopted: bool = False
    """It is ours, and beyond our share because nobody took it."""
    is_drained: bool = False
    """To be given up as soon as its work list is empty: the factor of its shard changes."""


@dataclass(frozen=True, slots=True)
class LanePlacement:
    """Where a lane of ours is."""

    runner: int
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A runner that can be given lanes."""

    number: int
    is_solo: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    """`max_concurrency`, its part of it; a mapping that is not here has none."""


@dataclass(frozen=True, kw_only=True)
class PlanInput:
    """All that a plan is made from."""

    lanes: Mapping[LaneKey, LaneView]
    places: Mapping[LaneKey, LanePlacement]
    runners: Sequence[RunnerView]
    """Those that are ready."""
    worker: str
    """UUID of this worker."""
    workers: Mapping[str, Sequence[str]]
    """UUIDs of the living workers that can run a mapping, this one included, in order."""
    expected: int = 0
    """Pool runners that are being started for the first time; room is left for them."""
    solos_max: int = 1
    most_alone: Mapping[str, int] = field(default_factory=dict)
    """`max_concurrency` of functions; others have no limit. More lanes could not run alone."""

    @cached_property
    def shares(self) -> Mapping[str, int]:
        """How many lanes of each mapping this worker wants."""
        lanes = Counter(dict.fromkeys((key.mapping for key in self.lanes), 0))
        lanes.update(key.mapping for key, lane in self.lanes.items() if not lane.is_finished)
        return shares(lanes, self.workers, self.worker)


class AssignLane(NamedTuple):
    """Have a runner take a lane."""

    key: LaneKey
    runner: int
    is_alone: bool = False
    is_exclusive: bool = False
    is_adopted: bool = False


class ReleaseLane(NamedTuple):
    """Have the runner that holds a lane give it back."""

    key: LaneKey
    when_settled: bool = False


@dataclass(slots=True)
class Plan:
    """What to do next."""

    takes: list[AssignLane] = field(default_factory=list)
    leaves: list[ReleaseLane] = field(default_factory=list)
    solos: int = 0
    """Solo runners that there should be."""


def plan(now: PlanInput) -> Plan:
    """Return the next steps; none when all is as it should be."""
    exclusive = _exclusive(now)
    if exclusive is not None:
        return _run_exclusively(now, exclusive)
    result = Plan()
    _give_up(now, result)
    _take_alone(now, result)
    _take_shared(now, result)
    if not result.takes and not result.leaves:
        _balance(now, result)
    return result


def plan_groups(groups: Mapping[str, PlanInput]) -> dict[str, Plan]:
    """Return the next steps of each group of runners, see `runner_group`.

    Groups share nothing but the worker: a batch that has to run with nothing else in it runs with
    nothing in the other groups either.
    """
    exclusive = {name: lane for name, now in groups.items() if (lane := _exclusive(now))}
    if not exclusive:
        return {name: plan(now) for name, now in groups.items()}
    first = min(exclusive, key=lambda name: _order_of_exclusive(groups[name], exclusive[name]))
    others = {name: now.places for name, now in groups.items() if name != first}
    plans = {name: Plan(leaves=_leave_all(places)) for name, places in others.items()}
    plans[first] = _run_exclusively(
        groups[first], exclusive[first], is_worker_empty=not any(others.values())
    )
    return plans


def shares(
    lanes: Mapping[str, int], workers: Mapping[str, Sequence[str]], worker: str
) -> Mapping[str, int]:
    """Return how many lanes of each mapping a worker wants; the shares of all add up to the lanes.

    What is left over when lanes are divided evenly goes round among the workers, from one function
    to the next: or he who is first in the order would get all single lanes. Functions with equally
    many lanes come out even together, too. Where it begins depends on the other functions there
    are, but not on their lanes: so a replay or a split of a shard moves nothing else.

    Args:
        lanes: Lanes of each mapping.
        workers: UUIDs of those that can run a mapping, in order.
        worker: One of them.
    """
    ranks = _ranks(workers)
    result = {}
    for name, count in lanes.items():
        group = workers.get(name, ()) or (worker,)
        each, over = divmod(count, len(group))
        place = group.index(worker) if worker in group else 0
        first = ranks.get(function_of(name), 0) * over
        result[name] = each + ((place - first) % len(group) < over)
    return result


def _ranks(workers: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """Number the functions that the same workers can run: only those know of all of them."""
    groups: Counter[tuple[str, ...]] = Counter()
    ranks = {}
    for name in sorted(name for name in workers if name == function_of(name)):
        group = tuple(workers[name])
        ranks[name] = groups[group]
        groups[group] += 1
    return ranks


def _exclusive(now: PlanInput) -> LaneView | None:
    wanted = [
        lane
        for lane in now.lanes.values()
        if lane.is_exclusive and not lane.is_barred and (lane.key in now.places or _is_free(lane))
    ]
    # WHY: not first by the key, or a guilty lane would keep the innocent out for ever. Who waited
    # how long is forgotten when it takes the worker along; but then it has one death more.
    return min(wanted, key=lambda lane: _order_of_exclusive(now, lane), default=None)


def _order_of_exclusive(now: PlanInput, lane: LaneView) -> tuple[bool, int, float, LaneKey]:
    return lane.key not in now.places, lane.worker_deaths, lane.free_since, lane.key


def _leave_all(places: Mapping[LaneKey, LanePlacement]) -> list[ReleaseLane]:
    return [ReleaseLane(key) for key, place in places.items() if not place.is_leaving]


def _run_exclusively(now: PlanInput, lane: LaneView, *, is_worker_empty: bool = True) -> Plan:
    """Empty the group, then run the one lane once the other groups are empty, too."""
    others = {key: place for key, place in now.places.items() if key != lane.key}
    result = Plan(leaves=_leave_all(others), solos=1)
    solo = next((runner for runner in now.runners if runner.is_solo), None)
    is_empty = is_worker_empty and not others
    if is_empty and lane.key not in now.places and solo is not None:
        result.takes.append(AssignLane(lane.key, solo.number, is_alone=True, is_exclusive=True))
    return result


def _give_up(now: PlanInput, result: Plan) -> None:
    """Leave lanes that may not run, that drain for a change of factor, or are beyond our share."""
    counts, adopted = _counts(now), _adopted(now)
    closed = {(each.number, m) for each in now.runners for m, n in each.limits.items() if n <= 0}
    solos = {runner.number for runner in now.runners if runner.is_solo}
    for key, place in now.places.items():
        lane = now.lanes.get(key)
        if place.is_leaving:
            continue
        # WHY: another worker has settled what had to run alone here. Until the next record comes it
        # would keep the seat, and one of its function's permits.
        is_idle_alone = place.runner in solos and not _is_open(now, key)
        has_to_go = (place.runner, key.mapping) in closed or is_idle_alone
        if lane is None or lane.is_barred or lane.is_finished or has_to_go:
            result.leaves.append(ReleaseLane(key))
            counts[key.mapping] -= key not in adopted
        elif lane.is_drained:
            result.leaves.append(ReleaseLane(key, when_settled=True))
    leaving = {leave.key for leave in result.leaves}
    settled = [
        key
        for key, place in now.places.items()
        if not (place.is_leaving or place.runner in solos or key in leaving or key in adopted)
    ]
    for key in _evenly(now, settled):
        if counts[key.mapping] > now.shares.get(key.mapping, 0):
            result.leaves.append(ReleaseLane(key))
            counts[key.mapping] -= 1


def _evenly(now: PlanInput, keys: Iterable[LaneKey]) -> list[LaneKey]:
    """Order lanes by what is idle, then so that the runner with the most of a mapping is next."""
    ranks: Counter[tuple[int, str]] = Counter()
    keyed = []
    for key in sorted(keys, key=lambda key: (not _is_open(now, key), key)):
        place = now.places[key].runner, key.mapping
        keyed.append((_is_open(now, key), -ranks[place], key))
        ranks[place] += 1
    return [key for *_, key in sorted(keyed)]


def _take_alone(now: PlanInput, result: Plan) -> None:
    """Give each idle solo runner a lane that must run alone, within its mapping's limit."""
    waiting = [lane for lane in _takeable(now) if lane.is_alone and not lane.is_exclusive]
    busy = {place.runner for place in now.places.values()}
    solos = [runner for runner in now.runners if runner.is_solo]
    idle = [runner for runner in solos if runner.number not in busy]
    numbers = {runner.number for runner in solos}
    placed = Counter(function_of(k.mapping) for k, p in now.places.items() if p.runner in numbers)
    seats = len(solos) - len(idle)
    # WHY: by the wait, for a lane that takes its runner along comes back again and again. First by
    # its key, it would have the only seat until it is settled, and the innocent would stand still.
    for lane in sorted(waiting, key=lambda lane: (lane.free_since, lane.key)):
        function = function_of(lane.key.mapping)
        if placed[function] >= now.most_alone.get(function, inf):
            continue
        placed[function] += 1
        seats += 1
        if idle:
            result.takes.append(AssignLane(lane.key, idle.pop(0).number, is_alone=True))
    result.solos = min(now.solos_max, seats)


def _take_shared(now: PlanInput, result: Plan) -> None:
    """Take free lanes up to our share; work that is open comes first."""
    pool = _Pool(now)
    counts = _counts(now)
    lanes = [lane for lane in _takeable(now) if not lane.is_alone and not lane.is_exclusive]
    for lane in _in_turn(lanes):
        is_ours = counts[lane.key.mapping] < now.shares[lane.key.mapping]
        runner = pool.roomiest(lane.key.mapping)
        if runner is None or not (is_ours or lane.is_left):
            continue
        result.takes.append(AssignLane(lane.key, runner, is_adopted=not is_ours))
        pool.add(lane.key.mapping, runner)
        counts[lane.key.mapping] += is_ours


def _in_turn(lanes: Iterable[LaneView]) -> list[LaneView]:
    """Order lanes by what is open, then so that mappings take turns.

    WHY: the first runner has no room for all of them while others are on their way. What it does
    not take waits until those are up, and that must not be the lanes of one mapping.
    """
    turns: Counter[str] = Counter()
    keyed = []
    for lane in sorted(lanes, key=lambda lane: (not lane.is_open, lane.key)):
        keyed.append((not lane.is_open, turns[lane.key.mapping], lane.key, lane))
        turns[lane.key.mapping] += 1
    return [lane for *_, lane in sorted(keyed, key=lambda each: each[:3])]


def _balance(now: PlanInput, result: Plan) -> None:
    """Move one lane from the runner with too many to the one with too few."""
    if any(place.is_leaving for place in now.places.values()):
        return
    pool = _Pool(now)
    for key in sorted(now.places, key=lambda key: _is_open(now, key)):
        source = now.places[key].runner
        target = pool.roomiest(key.mapping)
        if target is None or source not in pool.totals or target == source:
            continue
        if pool.is_better(key.mapping, source, target):
            result.leaves.append(ReleaseLane(key))
            return


class _Pool:
    """Lanes in each pool runner, by mapping and in all."""

    def __init__(self, now: PlanInput) -> None:
        self._runners = {each.number: each for each in now.runners if not each.is_solo}
        self._lanes = Counter((place.runner, key.mapping) for key, place in now.places.items())
        self.totals = dict.fromkeys(self._runners, 0)
        for (runner, _), lanes in self._lanes.items():
            if runner in self.totals:
                self.totals[runner] += lanes
        runners = len(self._runners) + now.expected
        wanted = sum(now.shares.values())
        self._most = ceil(wanted / max(runners, 1)) if now.expected else len(now.lanes)

    def add(self, mapping: str, runner: int) -> None:
        """Count a lane."""
        self._lanes[runner, mapping] += 1
        self.totals[runner] += 1

    def roomiest(self, mapping: str) -> int | None:
        """Return the runner that should get the next lane of a mapping, if any may."""
        open_to = [
            number
            for number, runner in self._runners.items()
            if self.totals[number] < self._most and runner.limits.get(mapping, 1) > 0
        ]
        return min(
            open_to, key=lambda n: (self._lanes[n, mapping], self.totals[n], n), default=None
        )

    def is_better(self, mapping: str, source: int, target: int) -> bool:
        """Whether moving a lane evens things out: those of its mapping, or else all."""
        own = self._lanes[source, mapping] - self._lanes[target, mapping]
        total = self.totals[source] - self.totals[target]
        return own > 1 or (own == 1 and total > 1)


def _takeable(now: PlanInput) -> Iterable[LaneView]:
    for lane in now.lanes.values():
        has_more = lane.is_open or not (lane.is_drained or lane.is_finished)
        may_run = has_more and not lane.is_barred
        if may_run and lane.key not in now.places and _is_free(lane):
            yield lane


def _is_free(lane: LaneView) -> bool:
    return not lane.is_leased


def _is_open(now: PlanInput, key: LaneKey) -> bool:
    lane = now.lanes.get(key)
    return lane is not None and lane.is_open


def _counts(now: PlanInput) -> Counter[str]:
    """Count the lanes of each mapping that are ours and stay, without adopted ones."""
    adopted = _adopted(now)
    return Counter(
        key.mapping
        for key, place in now.places.items()
        if not place.is_leaving and key not in adopted
    )


def _adopted(now: PlanInput) -> set[LaneKey]:
    return {key for key in now.places if key in now.lanes and now.lanes[key].is_adopted}
