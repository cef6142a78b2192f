"""Tests for `supervisor.lane_scheduler`: the state that it keeps between plans."""

from types import SimpleNamespace

import pytest

from streamfn.worker.messages import Assign, Release
from streamfn.worker.supervisor.lane_scheduler import LaneScheduler, PlanContext
from streamfn.worker.supervisor.mapping_registry import LaneSnapshot
from streamfn.worker.supervisor.planner import LaneKey
from streamfn.worker.supervisor.runner_group import APP_GROUP
from streamfn.worker.supervisor.runner_process import Seat

FUNCTION, REPLAY = "shop.total", "shop.total@replay-1"


class MappingRegistry(dict):
    """Mappings by their names; replays may come and go."""

    def __init__(self):
        self.add(FUNCTION)

    def add(self, name, max_concurrency=None):
        mapping = SimpleNamespace(name=FUNCTION, max_concurrency=max_concurrency)
        self[name] = SimpleNamespace(name=name, mapping=mapping, index=0, group=APP_GROUP)

    def __iter__(self):
        return iter([self[FUNCTION]])

    @property
    def replays(self):
        return [self[REPLAY]] if REPLAY in self.keys() else []


class RunnerPool(list):
    """Its runners keep what they are told."""

    def get(self, number):
        return self[number]

    def expected(self, group, shared):
        return 0


def runner(number, *, is_solo=False, seat=0):
    told = []
    seat = Seat(seat, is_solo=is_solo)
    return SimpleNamespace(
        number=number, seat=seat, state="ready", is_outdated=False, told=told, send=told.append
    )


def found(mapping=FUNCTION, slot=0, *, is_leased=False, in_flight=None):
    status = SimpleNamespace(is_leased=is_leased, in_flight=in_flight, is_finished=False)
    return LaneSnapshot(
        LaneKey(mapping, "orders", "shardId-000000000000", slot),
        status,
        is_paused=False,
        is_changing=False,
    )


def alone(worker="ours", not_before=0.0):
    return SimpleNamespace(
        is_calling=False, is_alone=True, worker_deaths=0, worker=worker, not_before=not_before
    )


@pytest.fixture
def scheduler():
    """Of a worker with one pool runner and one solo runner."""
    runners = RunnerPool([runner(0), runner(1, is_solo=True)])
    return SimpleNamespace(
        registry=(registry := MappingRegistry()),
        pool=runners[0],
        solo=runners[1],
        lanes=LaneScheduler(registry, runners, set(), lambda *_, **__: None),
    )


def look(scheduler, now, lanes, others=("another",), pool=1):
    """Let it plan; our UUID comes last, so a single lane is the other's."""
    scheduler.lanes.found = lanes
    living = dict.fromkeys((*others, "ours"), frozenset({FUNCTION}))
    context = PlanContext(worker="ours", living=living, pools={APP_GROUP: pool}, now=now)
    scheduler.lanes.arrange(context)


def taken(runner):
    return [command.slot for command in runner.told if isinstance(command, Assign)]


class TestAdoption:
    """Lanes that the one whose share they are does not take."""

    def test_a_lane_that_is_free_for_a_while_is_taken(self, scheduler):
        for now, lanes in [(10.0, []), (11.9, []), (12.0, [0])]:
            look(scheduler, now, [found()])
            assert taken(scheduler.pool) == lanes

    def test_a_replay_that_begins_or_ends_does_not_put_it_off(self, scheduler):
        look(scheduler, 10.0, [found()])
        scheduler.registry.add(REPLAY)
        look(scheduler, 11.0, [found(), found(REPLAY, is_leased=True)])
        del scheduler.registry[REPLAY]

        look(scheduler, 12.0, [found()])

        assert taken(scheduler.pool) == [0]

    def test_a_replay_that_begins_does_not_take_it_away(self, scheduler):
        look(scheduler, 10.0, [found()])
        look(scheduler, 12.0, [found()])
        scheduler.registry.add(REPLAY)

        look(scheduler, 13.0, [found(is_leased=True), found(REPLAY, is_leased=True)])

        assert not [each for each in scheduler.pool.told if isinstance(each, Release)]

    def test_a_worker_that_comes_has_its_time_to_take_it(self, scheduler):
        look(scheduler, 10.0, [found()])

        look(scheduler, 12.0, [found()], others=("another", "more"))
        assert taken(scheduler.pool) == []
        look(scheduler, 14.0, [found()], others=("another", "more"))
        assert taken(scheduler.pool) == [0]


class TestSeats:
    """Lanes that must run alone."""

    def test_who_waits_before_a_retry_keeps_its_seat_if_another_worker_has_the_rest(
        self, scheduler
    ):
        """What another worker runs alone needs no seat here."""
        look(scheduler, 10.0, [found(in_flight=alone())])
        [assigned] = scheduler.solo.told
        scheduler.lanes.on_alone(SimpleNamespace(lane=assigned.lane, seconds=20.0), 10.0)
        others = found(slot=1, is_leased=True, in_flight=alone("another"))

        look(scheduler, 11.0, [found(is_leased=True, in_flight=alone()), others])

        assert scheduler.solo.told == [assigned]

    def test_it_leaves_its_seat_to_one_that_is_free(self, scheduler):
        look(scheduler, 10.0, [found(in_flight=alone())])
        [assigned] = scheduler.solo.told
        scheduler.lanes.on_alone(SimpleNamespace(lane=assigned.lane, seconds=20.0), 10.0)

        look(
            scheduler,
            11.0,
            [found(is_leased=True, in_flight=alone()), found(slot=1, in_flight=alone())],
        )

        assert [type(each) for each in scheduler.solo.told] == [Assign, Release]

    @pytest.mark.parametrize("worker", ["ours", "another"])
    def test_who_left_its_seat_gets_one_when_its_wait_is_over(self, scheduler, worker):
        """However long that is, and whoever had it before."""
        waiting = found(in_flight=alone(worker, not_before=3_600.0))

        for now, lanes in [(10.0, []), (3_599.0, []), (3_600.0, [0])]:
            look(scheduler, now, [waiting])
            assert taken(scheduler.solo) == lanes


@pytest.mark.parametrize(("limit", "moved"), [(2, [1]), (1, []), (3, [])])
def test_a_seat_gives_its_lanes_to_another_if_only_that_has_a_permit(limit, moved):
    """While a lane runs alone: of two permits one is left, of one none, of three one a seat."""
    registry = MappingRegistry()
    registry.add(FUNCTION, max_concurrency=limit)
    runners = RunnerPool([runner(0), runner(1, seat=1), runner(2, is_solo=True)])
    lanes = LaneScheduler(registry, runners, set(), lambda *_, **__: None)
    scheduler = SimpleNamespace(lanes=lanes)
    free = [found(slot=slot) for slot in (0, 1)]
    look(scheduler, 10.0, free, others=(), pool=2)
    before = [taken(each) for each in runners]

    waits = found(slot=2, in_flight=alone())
    for now in (11.0, 12.0):
        look(scheduler, now, [*free, waits], others=(), pool=2)

    assert before == ([[0], [1], []] if limit > 1 else [[0, 1], [], []])
    assert taken(runners[2]) == [2]
    released = [each.lane for each in runners[1].told if isinstance(each, Release)]
    assert released == moved
    assert not [each for each in runners[0].told if isinstance(each, Release)]

    for lane in released:
        lanes.on_released(lane)
    look(scheduler, 13.0, [*free, waits], others=(), pool=2)
    assert taken(runners[0])[len(before[0]) :] == moved
