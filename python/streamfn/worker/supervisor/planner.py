"""Plans which lanes this worker takes and releases, and which runner gets each lane. Pure.

* A worker wants its share of the lanes of each mapping. It releases lanes beyond its share, so that
  workers that join later get some. Each worker computes the shares from data that all workers see;
  the shares of all live workers add up to the number of lanes.
* A lane that is free for a while is adopted by any worker that can run it, until workers join or
  leave: the worker whose share it is may be stopped, or its runners may not start.
* Lanes go to the runner with the fewest lanes of their mapping, then with the fewest lanes at all.
* A finished lane, at the end of a closed shard, is released and does not count any more.
* A lane that must run alone goes to a solo runner: one lane per solo runner, few solo runners. The
  lane that has waited longest is next, so a lane that must run alone again comes last.
* A lane whose batch was in flight at two deaths of workers runs with nothing else in this worker.

A plan is made again and again from the current state; each plan is one step.
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
    """The properties of a lane that planning uses."""

    key: LaneKey
    is_leased: bool = False
    """Whether a runner has its lease, perhaps one of our own."""
    is_open: bool = False
    """Whether its work list is not empty."""
    is_alone: bool = False
    """Whether it must run alone in its runner."""
    is_exclusive: bool = False
    """Whether it must run with nothing else in this worker."""
    worker_deaths: int = 0
    """Consecutive deaths of workers with its batch in flight."""
    is_barred: bool = False
    """Whether it must not run now: it is paused or resting, or a verdict is not written yet."""
    is_finished: bool = False
    """Whether it is at the end of a closed shard."""
    free_since: float = 0.0
    """Time since which it could be taken, on the monotonic clock."""
    is_left: bool = False
    """Whether it has been free for so long that any worker may adopt it."""
    is_adopted: bool = False
    """Whether this worker has it beyond its share because it was left free."""
    is_drained: bool = False
    """Whether it is released once its work list is empty: the factor of its shard changes."""


@dataclass(frozen=True, slots=True)
class LanePlacement:
    """The runner that has a lane."""

    runner: int
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class RunnerView:
    """A runner that can get lanes."""

    number: int
    is_solo: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    """Its part of `max_concurrency`, by mapping; other mappings have no limit."""


@dataclass(frozen=True, kw_only=True)
class PlanInput:
    """The input of a plan."""

    lanes: Mapping[LaneKey, LaneView]
    places: Mapping[LaneKey, LanePlacement]
    runners: Sequence[RunnerView]
    """The runners that are ready."""
    worker: str
    """UUID of this worker."""
    workers: Mapping[str, Sequence[str]]
    """UUIDs of the live workers that can run each mapping, including this one, in order."""
    expected: int = 0
    """Shared runners that are starting for the first time; lanes are left for them."""
    solos_max: int = 1
    most_alone: Mapping[str, int] = field(default_factory=dict)
    """`max_concurrency` by function: the most lanes that may run alone. Others have no limit."""

    @cached_property
    def shares(self) -> Mapping[str, int]:
        """The number of lanes of each mapping that this worker wants."""
        lanes = Counter(dict.fromkeys((key.mapping for key in self.lanes), 0))
        lanes.update(key.mapping for key, lane in self.lanes.items() if not lane.is_finished)
        return shares(lanes, self.workers, self.worker)


class AssignLane(NamedTuple):
    """A step: a runner takes a lane."""

    key: LaneKey
    runner: int
    is_alone: bool = False
    is_exclusive: bool = False
    is_adopted: bool = False


class ReleaseLane(NamedTuple):
    """A step: the runner that has a lane releases it."""

    key: LaneKey
    when_settled: bool = False


@dataclass(slots=True)
class Plan:
    """The next steps."""

    takes: list[AssignLane] = field(default_factory=list)
    leaves: list[ReleaseLane] = field(default_factory=list)
    solos: int = 0
    """Number of solo runners needed."""


def plan(now: PlanInput) -> Plan:
    """Return the next steps; none if the assignment is as it should be."""
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

    Groups are independent, except for a batch that must run with nothing else in the worker: then
    the other groups are empty too.
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
    """Return a worker's share of the lanes of each mapping; all shares add up to the lanes.

    The lanes of a mapping are divided evenly. The remainder goes to workers in rotation, starting
    at a different worker for each function; otherwise the first worker would get every single
    lane. So functions with equal numbers of lanes are also even in sum. The start of the rotation
    depends on which functions there are, not on their lanes. So a replay or a split moves no other
    lanes.

    Args:
        lanes: Number of lanes of each mapping.
        workers: UUIDs of the workers that can run each mapping, in order.
        worker: The worker whose shares are returned.
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
    """Number the functions that the same set of workers can run: these workers know all of them."""
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
    # WHY not by the key first: a lane that kills workers would keep the others out forever. Its
    # `free_since` is lost with the worker, but its `worker_deaths` is larger then.
    return min(wanted, key=lambda lane: _order_of_exclusive(now, lane), default=None)


def _order_of_exclusive(now: PlanInput, lane: LaneView) -> tuple[bool, int, float, LaneKey]:
    return lane.key not in now.places, lane.worker_deaths, lane.free_since, lane.key


def _leave_all(places: Mapping[LaneKey, LanePlacement]) -> list[ReleaseLane]:
    return [ReleaseLane(key) for key, place in places.items() if not place.is_leaving]


def _run_exclusively(now: PlanInput, lane: LaneView, *, is_worker_empty: bool = True) -> Plan:
    """Empty the group; once the other groups are empty too, run the one lane."""
    others = {key: place for key, place in now.places.items() if key != lane.key}
    result = Plan(leaves=_leave_all(others), solos=1)
    solo = next((runner for runner in now.runners if runner.is_solo), None)
    is_empty = is_worker_empty and not others
    if is_empty and lane.key not in now.places and solo is not None:
        result.takes.append(AssignLane(lane.key, solo.number, is_alone=True, is_exclusive=True))
    return result


def _give_up(now: PlanInput, result: Plan) -> None:
    """Release lanes that must not run, that drain for a new factor, or that exceed our share."""
    counts, adopted = _counts(now), _adopted(now)
    closed = {(each.number, m) for each in now.runners for m, n in each.limits.items() if n <= 0}
    solos = {runner.number for runner in now.runners if runner.is_solo}
    for key, place in now.places.items():
        lane = now.lanes.get(key)
        if place.is_leaving:
            continue
        # WHY: another worker has settled the batch that had to run alone. Without this, the lane
        # would keep the solo runner and a permit of its function until the next record.
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
    """Order lanes: idle ones first, then those of the runner with the most lanes of a mapping."""
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
    # WHY by the wait: a lane that kills its runner comes back again and again. Ordered by key, it
    # would occupy the only solo runner until it is settled, and the other lanes would wait.
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
    """Take free lanes up to our share; lanes with an open work list come first."""
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
    """Order lanes: open ones first, then so that mappings take turns.

    WHY: while other runners are starting, the first runner takes only a part of the lanes. The
    rest waits until the others are ready; these must not be all lanes of one mapping.
    """
    turns: Counter[str] = Counter()
    keyed = []
    for lane in sorted(lanes, key=lambda lane: (not lane.is_open, lane.key)):
        keyed.append((not lane.is_open, turns[lane.key.mapping], lane.key, lane))
        turns[lane.key.mapping] += 1
    return [lane for *_, lane in sorted(keyed, key=lambda each: each[:3])]


def _balance(now: PlanInput, result: Plan) -> None:
    """Release one lane of a runner with too many lanes, for a runner with too few."""
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
    """Number of lanes in each shared runner, by mapping and in total."""

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
        """Return the runner that should get the next lane of a mapping; None: none may."""
        open_to = [
            number
            for number, runner in self._runners.items()
            if self.totals[number] < self._most and runner.limits.get(mapping, 1) > 0
        ]
        return min(
            open_to, key=lambda n: (self._lanes[n, mapping], self.totals[n], n), default=None
        )

    def is_better(self, mapping: str, source: int, target: int) -> bool:
        """Whether moving a lane makes the lanes of its mapping, or all lanes, more even."""
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
    """Count our lanes of each mapping, without those being released and adopted ones."""
    adopted = _adopted(now)
    return Counter(
        key.mapping
        for key, place in now.places.items()
        if not place.is_leaving and key not in adopted
    )


def _adopted(now: PlanInput) -> set[LaneKey]:
    return {key for key in now.places if key in now.lanes and now.lanes[key].is_adopted}
