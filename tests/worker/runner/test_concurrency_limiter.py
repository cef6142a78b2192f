"""Tests for `streamfn.worker.runner.concurrency_limiter`."""

import random
from dataclasses import dataclass

import pytest

from streamfn.errors import LeaseLost
from streamfn.worker.runner.concurrency_limiter import ConcurrencyLimiter, ConcurrencyLimiters


@dataclass(frozen=True)
class Work:
    """Something a lane wants done."""

    lane: int


class TestGate:
    """Tests for `ConcurrencyLimiter`."""

    def test_without_a_limit_everybody_goes_in(self):
        limiter = ConcurrencyLimiter()

        assert all(limiter.acquire_or_park(Work(n)) for n in range(100))

    def test_over_the_limit_work_is_parked_and_goes_in_turn(self):
        limiter = ConcurrencyLimiter(1)

        assert [limiter.acquire_or_park(Work(n)) for n in range(3)] == [True, False, False]
        assert limiter.release_or_next() == Work(1)
        assert limiter.release_or_next() == Work(2)
        assert limiter.release_or_next() is None
        assert limiter.acquire_or_park(Work(3))

    def test_a_lower_limit_lets_those_inside_leave_first(self):
        limiter = ConcurrencyLimiter(2)
        limiter.acquire_or_park(Work(0))
        limiter.acquire_or_park(Work(1))
        limiter.set_limit(1, lambda: None)
        assert not limiter.acquire_or_park(Work(2))

        assert limiter.release_or_next() is None
        assert limiter.release_or_next() == Work(2)

    def test_what_was_parked_comes_out_when_the_limit_changes(self):
        """Nobody may be left inside to take it along."""
        limiter = ConcurrencyLimiter(0)
        limiter.acquire_or_park(Work(0))

        assert limiter.set_limit(1, lambda: None) == [Work(0)]
        assert limiter.acquire_or_park(Work(0))

    def test_one_lane_can_be_taken_out_again(self):
        limiter = ConcurrencyLimiter(0)
        limiter.acquire_or_park(Work(0))
        limiter.acquire_or_park(Work(1))

        assert limiter.unpark(1) == [Work(1)]
        assert limiter.unpark() == [Work(0)]

    def test_parking_is_told_before_another_thread_can_have_the_work(self):
        told = []
        limiter = ConcurrencyLimiter(1, lambda work: told.append((work, limiter._lock.locked())))
        limiter.acquire_or_park(Work(0))
        assert told == [], "who goes in is not parked"

        limiter.acquire_or_park(Work(1))

        assert told == [(Work(1), True)]

    def test_work_whose_parking_fails_is_not_parked(self):
        def parking(work):
            raise LeaseLost("shop.total", "another")

        limiter = ConcurrencyLimiter(0, parking)

        with pytest.raises(LeaseLost):
            limiter.acquire_or_park(Work(0))
        assert limiter.unpark() == []

    def test_a_limit_is_kept_when_those_over_it_have_left(self):
        limiter, told = ConcurrencyLimiter(), []
        for n in range(3):
            limiter.acquire_or_park(Work(n))

        limiter.set_limit(1, lambda: told.append(1))
        limiter.release_or_next()
        assert told == []
        limiter.release_or_next()
        assert told == [1]
        limiter.release_or_next()
        assert told == [1], "once"

    def test_a_limit_that_nobody_is_over_is_kept_at_once(self):
        limiter, told = ConcurrencyLimiter(), []
        limiter.acquire_or_park(Work(0))

        limiter.set_limit(1, lambda: told.append(1))

        assert told == [1]

    def test_of_two_changes_the_last_is_told(self):
        limiter, told = ConcurrencyLimiter(), []
        limiter.acquire_or_park(Work(0))

        limiter.set_limit(0, lambda: told.append("first"))
        limiter.set_limit(1, lambda: told.append("second"))
        limiter.release_or_next()

        assert told == ["second"]


FUNCTIONS = {"plain": False, "one": True, "other": True}
"""Whether they are exclusive."""


def function_of(work):
    """Lanes 0 to 9 are of the first, and so on."""
    return list(FUNCTIONS)[work.lane // 10]


PLAIN, ONE, OTHER = 0, 10, 20


def limiters(**options):
    return ConcurrencyLimiters(FUNCTIONS, function_of, **options)


class TestGates:
    """Tests for `ConcurrencyLimiters`."""

    def test_of_exclusive_functions_one_is_in_whoever_it_is(self):
        doors = limiters()

        assert doors.acquire_or_park(Work(ONE)) == Work(ONE)
        assert doors.acquire_or_park(Work(ONE + 1)) is None
        assert doors.acquire_or_park(Work(OTHER)) is None

    def test_the_others_do_not_wait_for_them(self):
        doors = limiters()
        doors.acquire_or_park(Work(ONE))

        assert all(doors.acquire_or_park(Work(PLAIN + n)) for n in range(5))

    def test_they_have_their_turn_in_order_across_functions(self):
        doors = limiters()
        for lane in (ONE, OTHER, ONE + 1):
            doors.acquire_or_park(Work(lane))

        assert doors.release_or_next("one") == Work(OTHER)
        assert doors.release_or_next("other") == Work(ONE + 1)
        assert doors.release_or_next("one") is None
        assert doors.acquire_or_park(Work(OTHER)) == Work(OTHER)

    def test_a_permit_that_comes_free_is_not_a_turn(self):
        """What gets it waits behind those that had theirs before."""
        doors = limiters()
        doors.set_limit("one", 1, lambda: None)
        for lane in (ONE, ONE + 1, OTHER):
            doors.acquire_or_park(Work(lane))

        assert doors.release_or_next("one") == Work(OTHER)
        assert doors.release_or_next("other") == Work(ONE + 1)

    def test_a_lower_limit_lets_those_go_that_wait_for_their_turn(self):
        """They would keep their permits from other runners for as long as the call takes."""
        doors, told = limiters(), []
        for lane in (OTHER, ONE, ONE + 1):
            doors.acquire_or_park(Work(lane))

        taken = doors.set_limit("one", 0, lambda: told.append(1))

        assert taken == [Work(ONE), Work(ONE + 1)]
        assert told == [1]
        assert doors.release_or_next("other") is None

    def test_a_lane_is_taken_out_again_wherever_it_waits(self):
        doors = limiters()
        doors.set_limit("one", 1, lambda: None)
        for lane in (OTHER, ONE, ONE + 1):
            doors.acquire_or_park(Work(lane))

        assert doors.unpark(ONE + 1) == [Work(ONE + 1)]
        assert doors.unpark(ONE) == [Work(ONE)]
        assert doors.unpark() == []

    def test_with_a_lane_that_waits_for_its_turn_those_go_that_wait_for_its_permit(self):
        doors = limiters()
        doors.set_limit("one", 1, lambda: None)
        for lane in (OTHER, ONE, ONE + 1, ONE + 2):
            doors.acquire_or_park(Work(lane))

        assert doors.unpark(ONE) == [Work(ONE), Work(ONE + 1), Work(ONE + 2)]
        assert doors.release_or_next("other") is None
        assert doors.acquire_or_park(Work(ONE)) == Work(ONE), "its permit is free"

    def test_where_a_lane_is_lost_the_next_has_its_permit(self):
        gone, lost = {ONE + 1}, []

        def parking(work):
            if work.lane in gone and doors is not None:
                raise LeaseLost("shop.one", "another")

        doors = None
        doors = limiters(parking=parking, lost=lost.append)
        doors.set_limit("one", 1, lambda: None)
        doors.acquire_or_park(Work(OTHER))

        assert doors.acquire_or_park(Work(ONE + 1)) is None
        assert lost == [Work(ONE + 1)]
        assert doors.acquire_or_park(Work(ONE)) is None
        assert doors.release_or_next("other") == Work(ONE)

    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_order_things_happen_in_nothing_is_lost_and_one_is_in(self, seed):
        chance, crowd = random.Random(seed), Crowd()

        for _ in range(300):
            steps = [crowd.acquire_or_park, crowd.release_or_next] * 2
            chance.choice([*steps, crowd.limit, crowd.unpark])(chance)
            assert sum(FUNCTIONS[function_of(work)] for work in crowd.inside) <= 1
            assert len(crowd.inside) + len(crowd.parked) + len(crowd.outside) == 9
        for name in FUNCTIONS:
            crowd.set_limit(name, 9)
        while crowd.outside:
            crowd.acquire_or_park(chance)
        seen = {*crowd.inside}
        while crowd.inside:
            crowd.release_or_next(chance)
            seen |= {*crowd.inside}

        assert crowd.parked == []
        assert len(seen) == 9, "what was parked gets in once others have left"


class Crowd:
    """Three lanes of each function, which go in and out."""

    def __init__(self):
        self.doors = limiters()
        self.outside = [Work(first + n) for first in (PLAIN, ONE, OTHER) for n in range(3)]
        self.inside, self.parked = [], []

    def acquire_or_park(self, chance):
        if self.outside:
            work = self.outside.pop(chance.randrange(len(self.outside)))
            (self.inside if self.doors.acquire_or_park(work) else self.parked).append(work)

    def release_or_next(self, chance):
        if self.inside:
            work = self.inside.pop(chance.randrange(len(self.inside)))
            self.outside.append(work)
            following = self.doors.release_or_next(function_of(work))
            if following is not None:
                self.parked.remove(following)
                self.inside.append(following)

    def limit(self, chance):
        self.set_limit(chance.choice(list(FUNCTIONS)), chance.randint(0, 3))

    def unpark(self, chance):
        if self.parked:
            self._come_out(self.doors.unpark(chance.choice(self.parked).lane))

    def set_limit(self, name, limit):
        self._come_out(self.doors.set_limit(name, limit, lambda: None))

    def _come_out(self, works):
        for work in works:
            self.parked.remove(work)
        self.outside.extend(works)
