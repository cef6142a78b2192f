"""Tests for `streamfn.worker.lane_keeper`: what it remembers from one plan to the next."""

from types import SimpleNamespace

import pytest

from streamfn.worker.assignment import LaneKey
from streamfn.worker.catalog import Found
from streamfn.worker.lane_keeper import LaneKeeper, Surroundings
from streamfn.worker.messages import Assign, Release
from streamfn.worker.runner_process import Seat

FUNCTION, REPLAY = "shop.total", "shop.total@replay-1"


class Catalog(dict):
    """Mappings by their names; replays may come and go."""

    def __init__(self):
        self.add(FUNCTION)

    def add(self, name, max_concurrency=None):
        mapping = SimpleNamespace(name=FUNCTION, max_concurrency=max_concurrency)
        self[name] = SimpleNamespace(name=name, mapping=mapping, index=0)

    def __iter__(self):
        return iter([self[FUNCTION]])

    @property
    def replays(self):
        return [self[REPLAY]] if REPLAY in self.keys() else []


class Crew(list):
    """Its runners keep what they are told."""

    def get(self, number):
        return self[number]

    def expected(self, pool):
        return 0


def runner(number, *, is_solo=False, seat=0):
    told = []
    seat = Seat(seat, is_solo=is_solo)
    return SimpleNamespace(number=number, seat=seat, state="ready", told=told, send=told.append)


def found(mapping=FUNCTION, slot=0, *, is_leased=False, in_flight=None):
    status = SimpleNamespace(is_leased=is_leased, in_flight=in_flight, is_finished=False)
    return Found(
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
def keeper():
    """Of a worker with one pool runner and one solo runner."""
    crew = Crew([runner(0), runner(1, is_solo=True)])
    return SimpleNamespace(
        catalog=(catalog := Catalog()),
        pool=crew[0],
        solo=crew[1],
        lanes=LaneKeeper(catalog, crew, set(), lambda *_, **__: None),
    )


def look(keeper, now, lanes, others=("another",), pool=1):
    """Let it plan; our UUID comes last, so a single lane is the other's."""
    keeper.lanes.found = lanes
    living = dict.fromkeys((*others, "ours"), frozenset({FUNCTION}))
    keeper.lanes.arrange(Surroundings(worker="ours", living=living, pool=pool, now=now))


def taken(runner):
    return [command.slot for command in runner.told if isinstance(command, Assign)]


class TestAdoption:
    """Lanes that the one whose share they are does not take."""

    def test_a_lane_that_is_free_for_a_while_is_taken(self, keeper):
        for now, lanes in [(10.0, []), (11.9, []), (12.0, [0])]:
            look(keeper, now, [found()])
            assert taken(keeper.pool) == lanes

    def test_a_replay_that_begins_or_ends_does_not_put_it_off(self, keeper):
        look(keeper, 10.0, [found()])
        keeper.catalog.add(REPLAY)
        look(keeper, 11.0, [found(), found(REPLAY, is_leased=True)])
        del keeper.catalog[REPLAY]

        look(keeper, 12.0, [found()])

        assert taken(keeper.pool) == [0]

    def test_a_replay_that_begins_does_not_take_it_away(self, keeper):
        look(keeper, 10.0, [found()])
        look(keeper, 12.0, [found()])
        keeper.catalog.add(REPLAY)

        look(keeper, 13.0, [found(is_leased=True), found(REPLAY, is_leased=True)])

        assert not [each for each in keeper.pool.told if isinstance(each, Release)]

    def test_a_worker_that_comes_has_its_time_to_take_it(self, keeper):
        look(keeper, 10.0, [found()])

        look(keeper, 12.0, [found()], others=("another", "more"))
        assert taken(keeper.pool) == []
        look(keeper, 14.0, [found()], others=("another", "more"))
        assert taken(keeper.pool) == [0]


class TestSeats:
    """Lanes that must run alone."""

    def test_who_waits_before_a_retry_keeps_its_seat_if_another_worker_has_the_rest(self, keeper):
        """What another worker runs alone needs no seat here."""
        look(keeper, 10.0, [found(in_flight=alone())])
        [assigned] = keeper.solo.told
        keeper.lanes.on_alone(SimpleNamespace(lane=assigned.lane, seconds=20.0), 10.0)
        others = found(slot=1, is_leased=True, in_flight=alone("another"))

        look(keeper, 11.0, [found(is_leased=True, in_flight=alone()), others])

        assert keeper.solo.told == [assigned]

    def test_it_leaves_its_seat_to_one_that_is_free(self, keeper):
        look(keeper, 10.0, [found(in_flight=alone())])
        [assigned] = keeper.solo.told
        keeper.lanes.on_alone(SimpleNamespace(lane=assigned.lane, seconds=20.0), 10.0)

        look(
            keeper,
            11.0,
            [found(is_leased=True, in_flight=alone()), found(slot=1, in_flight=alone())],
        )

        assert [type(each) for each in keeper.solo.told] == [Assign, Release]

    @pytest.mark.parametrize("worker", ["ours", "another"])
    def test_who_left_its_seat_gets_one_when_its_wait_is_over(self, keeper, worker):
        """However long that is, and whoever had it before."""
        waiting = found(in_flight=alone(worker, not_before=3_600.0))

        for now, lanes in [(10.0, []), (3_599.0, []), (3_600.0, [0])]:
            look(keeper, now, [waiting])
            assert taken(keeper.solo) == lanes


@pytest.mark.parametrize(("limit", "moved"), [(2, [1]), (1, []), (3, [])])
def test_a_seat_gives_its_lanes_to_another_if_only_that_has_a_permit(limit, moved):
    """While a lane runs alone: of two permits one is left, of one none, of three one a seat."""
    catalog = Catalog()
    catalog.add(FUNCTION, max_concurrency=limit)
    crew = Crew([runner(0), runner(1, seat=1), runner(2, is_solo=True)])
    lanes = LaneKeeper(catalog, crew, set(), lambda *_, **__: None)
    keeper = SimpleNamespace(lanes=lanes)
    free = [found(slot=slot) for slot in (0, 1)]
    look(keeper, 10.0, free, others=(), pool=2)
    before = [taken(each) for each in crew]

    waits = found(slot=2, in_flight=alone())
    for now in (11.0, 12.0):
        look(keeper, now, [*free, waits], others=(), pool=2)

    assert before == ([[0], [1], []] if limit > 1 else [[0, 1], [], []])
    assert taken(crew[2]) == [2]
    released = [each.lane for each in crew[1].told if isinstance(each, Release)]
    assert released == moved
    assert not [each for each in crew[0].told if isinstance(each, Release)]

    for lane in released:
        lanes.on_released(lane)
    look(keeper, 13.0, [*free, waits], others=(), pool=2)
    assert taken(crew[0])[len(before[0]) :] == moved
