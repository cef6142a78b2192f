"""Tests for `streamfn.worker.gate`."""

from dataclasses import dataclass

import pytest

from streamfn.errors import LeaseLost
from streamfn.worker.gate import Gate


@dataclass(frozen=True)
class Work:
    """Something a lane wants done."""

    lane: int


class TestGate:
    """Tests for `Gate`."""

    def test_without_a_limit_everybody_goes_in(self):
        gate = Gate()

        assert all(gate.enter(Work(n)) for n in range(100))

    def test_over_the_limit_work_is_parked_and_goes_in_turn(self):
        gate = Gate(1)

        assert [gate.enter(Work(n)) for n in range(3)] == [True, False, False]
        assert gate.leave() == Work(1)
        assert gate.leave() == Work(2)
        assert gate.leave() is None
        assert gate.enter(Work(3))

    def test_a_lower_limit_lets_those_inside_leave_first(self):
        gate = Gate(2)
        gate.enter(Work(0))
        gate.enter(Work(1))
        gate.set_limit(1, lambda: None)
        assert not gate.enter(Work(2))

        assert gate.leave() is None
        assert gate.leave() == Work(2)

    def test_what_was_parked_comes_out_when_the_limit_changes(self):
        """Nobody may be left inside to take it along."""
        gate = Gate(0)
        gate.enter(Work(0))

        assert gate.set_limit(1, lambda: None) == [Work(0)]
        assert gate.enter(Work(0))

    def test_one_lane_can_be_taken_out_again(self):
        gate = Gate(0)
        gate.enter(Work(0))
        gate.enter(Work(1))

        assert gate.unpark(1) == [Work(1)]
        assert gate.unpark() == [Work(0)]

    def test_parking_is_told_before_another_thread_can_have_the_work(self):
        told = []
        gate = Gate(1, lambda work: told.append((work, gate._lock.locked())))
        gate.enter(Work(0))
        assert told == [], "who goes in is not parked"

        gate.enter(Work(1))

        assert told == [(Work(1), True)]

    def test_work_whose_parking_fails_is_not_parked(self):
        def parking(work):
            raise LeaseLost("shop.total", "another")

        gate = Gate(0, parking)

        with pytest.raises(LeaseLost):
            gate.enter(Work(0))
        assert gate.unpark() == []

    def test_a_limit_is_kept_when_those_over_it_have_left(self):
        gate, told = Gate(), []
        for n in range(3):
            gate.enter(Work(n))

        gate.set_limit(1, lambda: told.append(1))
        gate.leave()
        assert told == []
        gate.leave()
        assert told == [1]
        gate.leave()
        assert told == [1], "once"

    def test_a_limit_that_nobody_is_over_is_kept_at_once(self):
        gate, told = Gate(), []
        gate.enter(Work(0))

        gate.set_limit(1, lambda: told.append(1))

        assert told == [1]

    def test_of_two_changes_the_last_is_told(self):
        gate, told = Gate(), []
        gate.enter(Work(0))

        gate.set_limit(0, lambda: told.append("first"))
        gate.set_limit(1, lambda: told.append("second"))
        gate.leave()

        assert told == ["second"]
