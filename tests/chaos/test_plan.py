"""A plan is its seed's, and has what was asked for."""

import pytest
from plan import KILLS, WEIGHTS, make_plan


def test_a_seed_gives_the_same_plan_each_time():
    assert make_plan(7, 100, 0.3) == make_plan(7, 100, 0.3)


def test_another_seed_gives_another():
    assert make_plan(7, 100, 0.3).fingerprint != make_plan(8, 100, 0.3).fingerprint


@pytest.mark.parametrize("kills", [1, 20, 100, 1000])
def test_it_kills_as_often_as_asked_and_does_everything_once(kills):
    plan = make_plan(1, kills, 0.3)

    assert sum(KILLS.get(event.kind, 0) for event in plan.events) >= kills
    assert {event.kind for event in plan.events} == set(WEIGHTS)
