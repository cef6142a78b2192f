"""Assigns the lanes of a worker to its runners.

`scan` reads the status of all lanes of the worker's mappings, `planner` plans, and the plan is sent
to the runners as messages; their answers are handled here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from streamfn._core import WORKER_DEATHS_MAX, InFlight
from streamfn.model.mapping import function_of
from streamfn.worker.messages import Alone, Assign, Assigned, Limit, Limited, Release
from streamfn.worker.report import Report

from .adopted_lanes import AdoptedLanes
from .mapping_registry import LaneSnapshot, MappingRegistry
from .permits import Permits, limit_of_seat
from .planner import (
    AssignLane,
    LaneKey,
    LanePlacement,
    LaneView,
    Plan,
    PlanInput,
    ReleaseLane,
    RunnerView,
    plan_groups,
)
from .runner_pool import RunnerPool
from .runner_process import RunnerProcess
from .verdict_writer import VerdictWriter

T = TypeVar("T")

PARENTS_REST: Final = timedelta(milliseconds=200)
"""Pause before a lane is tried again whose parent shards are not finished."""
REFUSED_REST: Final = timedelta(seconds=2)
"""Pause before a lane is tried again that could not be opened."""
LEFT: Final = timedelta(seconds=2)
"""How long a lane must be free before a worker takes it beyond its own share."""


@dataclass(frozen=True, slots=True)
class PlanContext:
    """The input of a plan besides the lanes."""

    worker: str
    """UUID of this worker."""
    living: Mapping[str, Iterable[str]]
    """Mappings that each live worker can run, by UUID."""
    pools: Mapping[str, int]
    """Number of shared runners that each group should have."""
    now: float
    """Monotonic time."""


class LaneScheduler:
    """Knows which runner has which lane."""

    def __init__(
        self,
        registry: MappingRegistry,
        runners: RunnerPool,
        verdicts: VerdictWriter,
        report: Report,
    ) -> None:
        self._registry, self._runners, self._verdicts = registry, runners, verdicts
        self._report = report
        self.found: list[LaneSnapshot] = []
        """The result of the last scan."""
        self.solos: dict[str, int] = {}
        """Number of solo runners in the last plan, by group."""
        self._places: dict[LaneKey, LanePlacement] = {}
        self._numbers: dict[int, LaneKey] = {}
        self._by_key: dict[LaneKey, int] = {}
        self._rests: dict[LaneKey, float] = {}
        self._pauses: dict[LaneKey, float] = {}
        """Lanes that run alone and wait before a retry, with the end of the wait."""
        self._permits: dict[str, Permits] = {}
        """Permits of the functions that have a limit."""
        self._free_since: dict[LaneKey, float] = {}
        """Lanes that no worker has although they could be taken, with the time since then."""
        self._adopted = AdoptedLanes()
        """Lanes taken beyond our share."""
        self._workers: Mapping[str, Sequence[str]] = {}
        """Workers in the last plan that can run each mapping."""
        self._met: dict[str, float] = {}
        """When the set of workers of each mapping changed last."""

    @property
    def busy(self) -> set[int]:
        """Numbers of the runners that have a lane."""
        return {place.runner for place in self._places.values()}

    def key_of(self, lane: int) -> LaneKey:
        """Return the lane with a number."""
        return self._numbers[lane]

    def lanes_of(self, runner: int) -> dict[LaneKey, int]:
        """Return the lanes of a runner, with their numbers."""
        places = self._places.items()
        return {key: self._by_key[key] for key, place in places if place.runner == runner}

    def scan(self) -> None:
        """Read the status of all lanes."""
        self.found = self._registry.scan()

    def judge_orphans(self, context: PlanContext) -> None:
        """Take over the lanes that dead workers left in the middle of a call.

        Args:
            context: Made after the scan, so that it includes every worker whose writes it saw.
        """
        has_judged = False
        for found in self.found:
            slot = found.status.in_flight
            if slot is None or not slot.is_calling or found.status.is_leased:
                continue
            if slot.worker not in context.living:
                self._verdicts.worker_died(found.key)
                has_judged = True
            elif slot.worker == context.worker and found.key not in self._places:
                self._verdicts.call_was_lost(found.key)
        if has_judged:
            self.scan()

    def arrange(self, context: PlanContext) -> None:
        """Plan, and send the plan to the runners."""
        self._note_workers(context)
        self._forget_what_is_over(context.now)
        self._share_permits(context)  # a new runner must know its limits before its first lane
        views = {found.key: self._view(found, context) for found in self.found}
        lanes = {group: self._of_group(group, views) for group in context.pools}
        for group, shared in context.pools.items():
            self._give_seats(lanes[group], group, shared)
        inputs = {group: self._plan_input(group, lanes[group], context) for group in lanes}
        plans = plan_groups(inputs)
        self.solos = {group: made.solos for group, made in plans.items()}
        for group, made in plans.items():
            self._carry_out(made, inputs[group], context.now)
        self._share_permits(context)

    def _plan_input(
        self, group: str, lanes: Mapping[LaneKey, LaneView], context: PlanContext
    ) -> PlanInput:
        """Return the input of the plan of one group."""
        shared = context.pools[group]
        ready = [each for each in self._runners if _is_open(each) and each.seat.group == group]
        return PlanInput(
            lanes=lanes,
            places=self._of_group(group, self._places),
            runners=[self._runner_view(runner, shared) for runner in ready],
            worker=context.worker,
            workers=self._workers,
            expected=self._runners.expected(group, shared),
            solos_max=shared,
            most_alone=dict(self._limited()),
        )

    def _of_group(self, group: str, lanes: Mapping[LaneKey, T]) -> dict[LaneKey, T]:
        """Return the lanes whose functions run in a group's runners."""
        return {key: each for key, each in lanes.items() if self._group(key.mapping) == group}

    def _group(self, mapping: str) -> str:
        return self._registry[mapping].group

    def on_assigned(self, message: Assigned, now: float) -> None:
        """Handle the answer to an `Assign`."""
        key = self._numbers[message.lane]
        if message.answer == "ok":
            return
        self._places.pop(key, None)
        if message.answer == "parents":
            self._rests[key] = now + PARENTS_REST.total_seconds()
        if message.answer == "refused":
            self._rests[key] = now + REFUSED_REST.total_seconds()
            self._report("lane_refused", **key._asdict(), error_message=message.reason)

    def on_released(self, lane: int) -> None:
        """Note that a lane was released."""
        self._places.pop(self._numbers[lane], None)

    def on_limited(self, runner: int, message: Limited) -> None:
        """Note that a runner keeps a limit."""
        self._permits[message.mapping].answered(runner, message.number)

    def on_alone(self, message: Alone, now: float) -> None:
        """Release a lane that ran alone if its batch is settled; otherwise note that it waits."""
        key = self._numbers[message.lane]
        place = self._places.get(key)
        if place is None or place.is_leaving:
            return
        if message.seconds is None:
            self._leave(ReleaseLane(key))
        else:
            self._pauses[key] = now + message.seconds

    def runner_exited(self, runner: int) -> None:
        """Remove the lanes and permits of a runner that has exited."""
        for key in self.lanes_of(runner):
            del self._places[key]
        for permits in self._permits.values():
            permits.gone(runner)

    def _note_workers(self, context: PlanContext) -> None:
        """Note the live workers; if those of a mapping have changed, its shares change."""
        workers = {
            each.name: sorted(
                w for w, names in context.living.items() if each.mapping.name in names
            )
            for each in (*self._registry, *self._registry.replays)
        }
        for name, able in workers.items():
            # A mapping that is new here is a replay; nothing changes for the other mappings.
            if able != self._workers.get(name, able):
                self._met[name] = context.now
                self._adopted.forget(name)
        self._workers = workers

    def _forget_what_is_over(self, now: float) -> None:
        """Remove pauses that are over, and note the free lanes."""
        self._rests = {key: end for key, end in self._rests.items() if end > now}
        self._pauses = {key: end for key, end in self._pauses.items() if end > now}
        self._adopted.look(now)
        self._free_since = {
            found.key: self._free_since.get(found.key, now)
            for found in self.found
            if not (found.status.is_leased or found.key in self._places or self._is_barred(found))
        }

    def _view(self, found: LaneSnapshot, context: PlanContext) -> LaneView:
        key, slot = found.key, found.status.in_flight
        free_since = self._free_since.get(key, context.now)
        met = self._met.get(key.mapping, free_since)
        return LaneView(
            key,
            is_leased=found.status.is_leased,
            is_open=slot is not None,
            is_alone=slot is not None and slot.is_alone,
            is_exclusive=slot is not None and slot.worker_deaths >= WORKER_DEATHS_MAX,
            worker_deaths=0 if slot is None else slot.worker_deaths,
            is_barred=self._is_barred(found) or self._is_waiting(found, context.now),
            is_finished=found.status.is_finished,
            free_since=free_since,
            is_left=context.now - max(free_since, met) >= LEFT.total_seconds(),
            is_adopted=key in self._adopted,
            is_drained=found.is_changing,
        )

    def _is_barred(self, found: LaneSnapshot) -> bool:
        key, slot = found.key, found.status.in_flight
        is_others = _was_calling(slot) and key not in self._places  # its supervisor decides first
        is_resting = key in self._rests or key in self._verdicts
        return found.is_paused or is_others or is_resting

    def _is_waiting(self, found: LaneSnapshot, now: float) -> bool:
        """Whether a lane that must run alone was released while it waits before a retry."""
        slot = found.status.in_flight
        if slot is None or not slot.is_alone or found.key in self._places:
            return False
        return slot.not_before > now

    def _runner_view(self, runner: RunnerProcess, pool: int) -> RunnerView:
        if runner.seat.is_solo:
            return RunnerView(runner.number, is_solo=True)
        limits = {}
        for each in (*self._registry, *self._registry.replays):
            most = each.mapping.max_concurrency
            if most is not None:
                # WHY: a seat without a permit keeps no lanes of the function. If no shared seat has
                # a permit, lanes stay where they are until there is one.
                shared = max(most - self._alone(each.mapping.name).total(), 0)
                limits[each.name] = limit_of_seat(shared or most, runner.seat.number, pool)
        return RunnerView(runner.number, limits=limits)

    def _give_seats(self, lanes: Mapping[LaneKey, LaneView], group: str, seats: int) -> None:
        """Release lanes that wait before a retry if other lanes need their solo runners."""
        places = self._of_group(group, self._places)
        solos = {runner.number for runner in self._runners if runner.seat.is_solo}
        taken = sum(place.runner in solos and not place.is_leaving for place in places.values())
        wanted = sum(
            _is_waiting_alone(lane) for lane in lanes.values() if lane.key not in self._places
        )
        missing = taken + wanted - seats
        for key in self._pauses:
            place, lane = places.get(key), lanes.get(key)
            if place is None or place.is_leaving or lane is None:
                continue
            if lane.is_exclusive or missing > 0:
                self._leave(ReleaseLane(key))
                missing -= 1

    def _limited(self) -> list[tuple[str, int]]:
        """Return the functions that have a `max_concurrency`, with its value."""
        mappings = [each.mapping for each in self._registry]
        return [(m.name, m.max_concurrency) for m in mappings if m.max_concurrency is not None]

    def _share_permits(self, context: PlanContext) -> None:
        """Distribute `max_concurrency`: first to lanes that run alone, the rest over the seats.

        A lane that waits before a retry needs no permit.
        """
        runners = sorted(filter(_is_open, self._runners), key=lambda each: not each.seat.is_solo)
        for name, most in self._limited():
            group = self._group(name)
            alone, shared = self._alone(name), context.pools[group]
            wanted = {
                each.number: alone[each.number]
                if each.seat.is_solo
                else limit_of_seat(most - alone.total(), each.seat.number, shared)
                for each in runners
                if each.seat.group == group
            }
            permits = self._permits.setdefault(name, Permits(most))
            permits.most = most  # new code may have another limit
            for told in permits.share_out(wanted):
                runner = self._runners.get(told.runner)
                if runner is not None:
                    runner.send(Limit(name, told.permits, told.number))

    def _alone(self, function: str) -> Counter[int]:
        """Count the lanes of a function that run alone and do not wait, by runner."""
        solos = {runner.number for runner in self._runners if runner.seat.is_solo}
        return Counter(
            place.runner
            for key, place in self._places.items()
            if place.runner in solos
            and key not in self._pauses
            and function_of(key.mapping) == function
        )

    def _carry_out(self, made: Plan, situation: PlanInput, now: float) -> None:
        for leave in made.leaves:
            self._leave(leave)
        for take in made.takes:
            self._take(take, situation.lanes[take.key])
            if take.is_adopted:
                self._adopted.add(take.key, now)
            else:
                self._adopted.discard(take.key)

    def _take(self, take: AssignLane, lane: LaneView) -> None:
        runner = self._runners.get(take.runner)
        if runner is None:
            return
        number = self._number(take.key)
        self._places[take.key] = LanePlacement(take.runner)
        self._pauses.pop(take.key, None)
        runner.send(
            Assign(
                lane=number,
                index=self._registry[take.key.mapping].index,
                **take.key._asdict(),
                is_open=lane.is_open,
                is_alone=take.is_alone,
                is_exclusive=take.is_exclusive,
            )
        )

    def _leave(self, leave: ReleaseLane) -> None:
        place = self._places[leave.key]
        runner = self._runners.get(place.runner)
        if runner is None:
            return
        self._places[leave.key] = LanePlacement(place.runner, is_leaving=True)
        runner.send(Release(self._number(leave.key), leave.when_settled))

    def _number(self, key: LaneKey) -> int:
        """Return the number of a lane in messages and on boards."""
        if key not in self._by_key:
            number = len(self._by_key)
            self._by_key[key], self._numbers[number] = number, key
        return self._by_key[key]


def _is_waiting_alone(lane: LaneView) -> bool:
    return lane.is_alone and not (lane.is_barred or lane.is_leased)


def _was_calling(slot: InFlight | None) -> bool:
    return slot is not None and slot.is_calling


def _is_open(runner: RunnerProcess) -> bool:
    return runner.state == "ready" and not runner.is_outdated
