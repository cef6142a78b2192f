"""Tests for `streamfn.worker.supervisor.adopted_lanes`."""

from streamfn.worker.supervisor.adopted_lanes import TERM, TERM_MAX, AdoptedLanes
from streamfn.worker.supervisor.planner import LaneKey

FIRST = TERM.total_seconds()


def key(slot, mapping="shop.total"):
    return LaneKey(mapping, "orders", "shardId-000000000000", slot)


def is_kept(adoptions, now, slot=0):
    adoptions.look(now)
    return key(slot) in adoptions


class TestAdoptions:
    """Tests for `AdoptedLanes`."""

    def test_a_lane_is_kept_for_its_term(self):
        adoptions = AdoptedLanes()
        adoptions.add(key(0), 100.0)

        assert is_kept(adoptions, 100.0 + FIRST - 0.1)
        assert not is_kept(adoptions, 100.0 + FIRST)

    def test_each_term_is_twice_as_long_up_to_a_limit(self):
        adoptions, now, terms = AdoptedLanes(), 0.0, []
        for _ in range(10):
            adoptions.add(key(0), now)
            seconds = next(
                n * FIRST for n in range(1, 1000) if not is_kept(adoptions, now + n * FIRST)
            )
            terms.append(seconds)
            now += seconds + 2

        assert terms[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
        assert terms[-2:] == [TERM_MAX.total_seconds()] * 2

    def test_the_lanes_of_a_mapping_are_offered_together(self):
        """Which of them is given up is not said, and each offer costs a pause."""
        adoptions = AdoptedLanes()
        adoptions.add(key(0), 0.0)
        adoptions.add(key(1), FIRST / 2)
        adoptions.add(key(1, "shop.other"), FIRST / 2)

        adoptions.look(FIRST)

        assert key(1) not in adoptions
        assert key(1, "shop.other") in adoptions

    def test_another_lane_of_the_mapping_goes_on_where_the_first_was(self):
        adoptions = AdoptedLanes()
        adoptions.add(key(0), 0.0)

        adoptions.add(key(1), FIRST + 2)

        assert is_kept(adoptions, 2 + 3 * FIRST - 0.1, slot=1)

    def test_a_lane_that_is_within_the_share_is_adopted_no_more(self):
        adoptions = AdoptedLanes()
        adoptions.add(key(0), 0.0)

        adoptions.discard(key(0))

        assert key(0) not in adoptions

    def test_with_other_workers_it_begins_anew(self):
        """For that mapping alone."""
        adoptions = AdoptedLanes()
        adoptions.add(key(0), 0.0)
        adoptions.add(key(0, "shop.other"), 0.0)

        adoptions.forget("shop.total")

        assert key(0) not in adoptions
        assert key(0, "shop.other") in adoptions
        adoptions.add(key(0), FIRST + 2)
        assert not is_kept(adoptions, 2 * FIRST + 2)
