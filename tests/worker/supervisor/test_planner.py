"""Tests for `supervisor.planner`: pure planning."""

from collections import Counter
from dataclasses import replace

import pytest

from streamfn.worker.supervisor.planner import (
    AssignLane,
    LaneKey,
    LanePlacement,
    LaneView,
    PlanInput,
    ReleaseLane,
    RunnerView,
    plan,
    plan_groups,
    shares,
)

POOL = [RunnerView(0), RunnerView(1)]


def key(slot, mapping="shop.total"):
    return LaneKey(mapping, "orders", "shardId-000000000000", slot)


def lanes(count, mapping="shop.total", **fields):
    return {key(n, mapping): LaneView(key(n, mapping), **fields) for n in range(count)}


WORKERS = "abcdefgh"


def situation(views, places=None, runners=POOL, workers=1, worker="a", **fields):
    """What the first of some workers sees, if it is not said to be another."""
    return PlanInput(
        lanes=views,
        places=places or {},
        runners=runners,
        worker=worker,
        workers={each.mapping: WORKERS[:workers] for each in views},
        **fields,
    )


def carried_out(now, steps=100):
    """Carry plans out until there is nothing to do; return the situation and the steps taken."""
    for taken in range(steps):
        made = plan(now)
        if not made.takes and not made.leaves:
            return now, taken
        places = dict(now.places)
        for leave in made.leaves:
            del places[leave.key]
        for take in made.takes:
            places[take.key] = LanePlacement(take.runner)
        now = replace(now, places=places)
    pytest.fail("it never comes to rest")


def held(now):
    """Lanes of each runner."""
    return {
        runner.number: sum(place.runner == runner.number for place in now.places.values())
        for runner in now.runners
    }


class TestShares:
    """Tests for `shares`."""

    @pytest.mark.parametrize("workers", range(1, 6))
    @pytest.mark.parametrize("mappings", range(1, 8))
    @pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
    def test_they_are_all_lanes_and_differ_by_one_at_most(self, workers, mappings, count):
        """Of each function; together, too, where all have as many lanes."""
        lanes = {f"shop.f{n}": count for n in range(mappings)}
        able = dict.fromkeys(lanes, WORKERS[:workers])

        parts = [shares(lanes, able, worker) for worker in WORKERS[:workers]]

        for each in lanes:
            sizes = [part[each] for part in parts]
            assert sum(sizes) == count
            assert max(sizes) - min(sizes) <= 1
        totals = [sum(part.values()) for part in parts]
        assert max(totals) - min(totals) <= 1

    def test_workers_that_run_different_functions_agree(self):
        """Each knows of its own functions only, and all lanes of each are somebody's."""
        lanes = {"shop.a": 1, "shop.b": 3, "shop.c": 1, "shop.d": 1}
        able = {"shop.a": "xy", "shop.b": "xyz", "shop.c": "yz", "shop.d": "xy"}

        wanted = Counter()
        for worker in "xyz":
            own = {name: count for name, count in lanes.items() if worker in able[name]}
            wanted.update(shares(own, {name: able[name] for name in own}, worker))

        assert wanted == lanes

    @pytest.mark.parametrize("changed", range(5))
    def test_more_lanes_of_one_function_move_none_of_the_others(self, changed):
        """When a shard is split or merged."""
        before = {f"shop.f{n}": 1 + n % 3 for n in range(5)}
        after = before | {f"shop.f{changed}": 7}
        able = dict.fromkeys(before, "abc")

        for worker in "abc":
            now, then = shares(after, able, worker), shares(before, able, worker)
            assert {name for name in before if now[name] != then[name]} <= {f"shop.f{changed}"}

    def test_a_replay_moves_none_of_the_functions(self):
        """Neither when it begins nor when it is over; its own lanes are all somebody's."""
        before = {f"shop.f{n}": 1 for n in range(5)}
        after = before | {"shop.f0@replay-1": 3}
        parts = [shares(after, dict.fromkeys(after, "ab"), worker) for worker in "ab"]

        for worker, part in zip("ab", parts, strict=True):
            rest = {name: part[name] for name in before}
            assert rest == shares(before, dict.fromkeys(before, "ab"), worker)
        assert sum(part["shop.f0@replay-1"] for part in parts) == 3

    def test_who_is_alone_wants_all(self):
        assert shares({"shop.total": 8}, {"shop.total": "a"}, "a") == {"shop.total": 8}


class TestTaking:
    """Lanes that nobody has."""

    def test_they_are_spread_over_the_runners(self):
        now, _ = carried_out(situation(lanes(8)))

        assert held(now) == {0: 4, 1: 4}

    def test_each_mapping_is_spread_on_its_own(self):
        views = lanes(2) | lanes(2, "shop.notify")

        now, _ = carried_out(situation(views))

        for mapping in ("shop.total", "shop.notify"):
            assert {now.places[key(n, mapping)].runner for n in range(2)} == {0, 1}

    def test_what_others_hold_is_left_to_them(self):
        assert plan(situation(lanes(4, is_leased=True))).takes == []

    def test_no_more_than_the_share_is_taken(self):
        now, _ = carried_out(situation(lanes(8), workers=2))

        assert len(now.places) == 4

    def test_single_lanes_go_round(self):
        views = {k: v for n in range(6) for k, v in lanes(1, f"shop.f{n}").items()}

        for worker in "ab":
            now, _ = carried_out(situation(views, workers=2, worker=worker))
            assert len(now.places) == 3

    def test_what_nobody_takes_is_adopted(self):
        """The one whose share it is cannot; the count of what is ours stays what it was."""
        views = lanes(4, is_left=True)

        takes = plan(situation(views, workers=2)).takes

        assert [take.is_adopted for take in takes] == [False, False, True, True]

    def test_open_work_comes_first(self):
        views = lanes(4)
        views[key(3)] = LaneView(key(3), is_open=True)

        takes = plan(situation(views, workers=4)).takes

        assert [take.key for take in takes] == [key(3)]

    def test_barred_lanes_wait(self):
        assert plan(situation(lanes(4, is_barred=True))).takes == []

    def test_room_is_left_for_runners_on_their_way(self):
        now, _ = carried_out(situation(lanes(8), runners=POOL[:1], expected=1))

        assert held(now) == {0: 4}

    def test_a_runner_that_is_up_first_takes_some_of_each_mapping(self):
        """Or all of one would wait until the others are up."""
        views = lanes(4) | lanes(4, "shop.notify") | lanes(4, "shop.third")

        now, _ = carried_out(situation(views, runners=POOL[:1], expected=1))

        assert Counter(key.mapping for key in now.places) == {
            "shop.total": 2, "shop.notify": 2, "shop.third": 2
        }  # fmt: skip

    def test_a_runner_at_its_limit_gets_none(self):
        """`max_concurrency` below the number of runners."""
        runners = [RunnerView(0, limits={"shop.total": 0}), RunnerView(1, limits={"shop.total": 1})]

        now, _ = carried_out(situation(lanes(4), runners=runners))

        assert held(now) == {0: 0, 1: 4}


class TestLeaving:
    """Lanes that are given back."""

    def test_what_is_beyond_the_share_goes_idle_lanes_first(self):
        views = lanes(4, is_leased=True)
        views[key(0)] = LaneView(key(0), is_leased=True, is_open=True)
        places = {each: LanePlacement(n % 2) for n, each in enumerate(views)}

        leaves = plan(situation(views, places, workers=2)).leaves

        assert len(leaves) == 2
        assert key(0) not in {leave.key for leave in leaves}

    def test_what_is_leaving_is_counted_as_gone(self):
        views = lanes(4, is_leased=True)
        places = {each: LanePlacement(n % 2, is_leaving=n < 2) for n, each in enumerate(views)}

        assert plan(situation(views, places, workers=2)).leaves == []

    def test_each_runner_gives_its_part(self):
        """Or those that stay would have to be moved among the runners afterwards."""
        views = lanes(8, is_leased=True)
        places = {each: LanePlacement(n // 4) for n, each in enumerate(views)}

        leaves = plan(situation(views, places, workers=2)).leaves

        assert Counter(places[leave.key].runner for leave in leaves) == {0: 2, 1: 2}

    def test_adopted_lanes_stay_and_are_not_counted(self):
        views = lanes(4, is_leased=True)
        for n in (2, 3):
            views[key(n)] = LaneView(key(n), is_leased=True, is_adopted=True)
        places = {each: LanePlacement(0) for each in views}

        assert plan(situation(views, places, POOL[:1], workers=2)).leaves == []

    def test_a_paused_lane_goes(self):
        views = lanes(1, is_leased=True, is_barred=True)

        assert plan(situation(views, {key(0): LanePlacement(0)})).leaves == [ReleaseLane(key(0))]

    def test_a_lane_at_the_end_of_its_shard_goes_and_is_not_taken_again(self):
        views = lanes(1, is_leased=True, is_finished=True)
        assert plan(situation(views, {key(0): LanePlacement(0)})).leaves == [ReleaseLane(key(0))]

        assert plan(situation(lanes(1, is_finished=True))).takes == []

    def test_such_lanes_are_not_shared_out(self):
        """Of two workers each has half of those that are still read."""
        views = lanes(8)
        for slot in range(4):
            views[key(slot)] = LaneView(key(slot), is_finished=True)

        now, _ = carried_out(situation(views, workers=2))

        assert set(now.places) == {key(4), key(5)}

    def test_a_lane_leaves_a_runner_that_may_not_call_it_any_more(self):
        """The number of runners grew, and another one has the only place."""
        runners = [RunnerView(0, limits={"shop.total": 0}), RunnerView(1, limits={"shop.total": 1})]
        places = {each: LanePlacement(0) for each in lanes(2)}

        now, _ = carried_out(situation(lanes(2), places, runners))

        assert held(now) == {0: 0, 1: 2}

    def test_a_lane_of_a_shard_that_changes_its_factor_is_emptied_first(self):
        views = lanes(1, is_leased=True, is_drained=True, is_open=True)

        leaves = plan(situation(views, {key(0): LanePlacement(0)})).leaves

        assert leaves == [ReleaseLane(key(0), when_settled=True)]

    def test_only_open_lanes_of_such_a_shard_are_taken(self):
        views = lanes(2, is_drained=True)
        views[key(1)] = LaneView(key(1), is_drained=True, is_open=True)

        assert [take.key for take in plan(situation(views)).takes] == [key(1)]


class TestBalance:
    """A runner that came later gets its part."""

    def test_lanes_move_one_at_a_time_until_it_is_even(self):
        views = lanes(8)
        places = {each: LanePlacement(0) for each in views}

        now, steps = carried_out(situation(views, places))

        assert held(now) == {0: 4, 1: 4}
        assert steps >= 8

    def test_single_lanes_of_several_mappings_are_evened_out_too(self):
        views = {k: v for n in range(6) for k, v in lanes(1, f"shop.f{n}").items()}
        places = {each: LanePlacement(0) for each in views}

        now, _ = carried_out(situation(views, places))

        assert held(now) == {0: 3, 1: 3}

    @pytest.mark.parametrize("count", range(1, 12))
    def test_it_comes_to_rest(self, count):
        views = lanes(count) | lanes(count + 1, "shop.notify") | lanes(1, "shop.third")
        places = {each: LanePlacement(1) for each in views}

        now, _ = carried_out(situation(views, places))

        assert abs(held(now)[0] - held(now)[1]) <= 1


class TestAlone:
    """Lanes that must run alone in their runner."""

    def test_a_solo_runner_is_asked_for_and_gets_one(self):
        views = lanes(3, is_alone=True)

        without = plan(situation(views, solos_max=2))
        assert (without.solos, without.takes) == (2, [])

        runners = [*POOL, RunnerView(7, is_solo=True), RunnerView(8, is_solo=True)]
        takes = plan(situation(views, runners=runners, solos_max=2)).takes
        assert takes == [AssignLane(key(0), 7, is_alone=True), AssignLane(key(1), 8, is_alone=True)]

    def test_a_solo_runner_has_one_lane_at_a_time(self):
        views = lanes(2, is_alone=True, is_open=True)
        views[key(0)] = LaneView(key(0), is_alone=True, is_open=True, is_leased=True)
        runners = [*POOL, RunnerView(7, is_solo=True)]

        made = plan(situation(views, {key(0): LanePlacement(7)}, runners, solos_max=2))

        assert (made.takes, made.leaves) == ([], [])
        assert made.solos == 2

    def test_one_that_has_nothing_to_settle_any_more_leaves(self):
        """Another worker was faster; it would keep its seat until the next record comes."""
        views = lanes(1, is_leased=True)
        runners = [*POOL, RunnerView(7, is_solo=True)]

        made = plan(situation(views, {key(0): LanePlacement(7)}, runners))

        assert made.leaves == [ReleaseLane(key(0))]

    def test_max_concurrency_holds_for_them_too(self):
        """A replay's lanes count with those of its function."""
        views = lanes(2, is_alone=True) | lanes(1, "shop.total@replay-1", is_alone=True)
        views |= lanes(1, "shop.without", is_alone=True)
        runners = [*POOL, *(RunnerView(n, is_solo=True) for n in range(6, 10))]

        takes = plan(
            situation(views, runners=runners, solos_max=4, most_alone={"shop.total": 1})
        ).takes

        assert [take.key for take in takes] == [key(0), key(0, "shop.without")]

    def test_the_one_that_has_waited_longest_is_next(self):
        views = lanes(3, is_alone=True, free_since=7.0)
        views[key(2)] = replace(views[key(2)], free_since=5.0)
        runners = [*POOL, RunnerView(7, is_solo=True)]

        takes = plan(situation(views, runners=runners)).takes

        assert [take.key for take in takes] == [key(2)]

    @pytest.mark.parametrize("guilty", range(3))
    def test_one_that_dies_again_and_again_takes_turns_with_the_others(self, guilty):
        """Each comes back at once and must run alone again; one seat is all there is."""
        views = lanes(3, is_alone=True)
        turns = []
        for time in range(1, 13):
            runners = [*POOL, RunnerView(6 + time, is_solo=True)]
            [take] = plan(situation(views, runners=runners)).takes
            turns.append(take.key.slot)
            is_done = take.key.slot != guilty and turns.count(take.key.slot) == 3
            views[take.key] = replace(views[take.key], is_leased=is_done, free_since=float(time))

        assert turns[:9] == [0, 1, 2] * 3
        assert turns[9:] == [guilty] * 3

    def test_no_seat_is_asked_for_that_max_concurrency_leaves_empty(self):
        views = lanes(6, is_alone=True, is_open=True)
        views[key(0)] = replace(views[key(0)], is_leased=True)
        views |= lanes(1, "shop.without", is_alone=True)
        runners = [*POOL, RunnerView(7, is_solo=True)]

        made = plan(
            situation(
                views,
                {key(0): LanePlacement(7)},
                runners,
                solos_max=4,
                most_alone={"shop.total": 1},
            )
        )

        assert (made.solos, made.takes) == (2, [])

    def test_the_pool_never_gets_one(self):
        assert plan(situation(lanes(2, is_alone=True))).takes == []


class TestExclusive:
    """A batch that was in flight at two deaths of whole workers."""

    def test_everything_else_leaves_first(self):
        views = lanes(3, is_leased=True)
        views[key(2)] = LaneView(key(2), is_exclusive=True, is_alone=True)
        places = {key(0): LanePlacement(0), key(1): LanePlacement(1)}

        made = plan(situation(views, places))

        assert made.leaves == [ReleaseLane(key(0)), ReleaseLane(key(1))]
        assert made.takes == []

    def test_then_it_runs_with_nothing_beside_it(self):
        views = lanes(3)
        views[key(2)] = LaneView(key(2), is_exclusive=True, is_alone=True)
        runners = [*POOL, RunnerView(7, is_solo=True)]

        made = plan(situation(views, {}, runners))

        assert made.takes == [AssignLane(key(2), 7, is_alone=True, is_exclusive=True)]

    def test_of_several_the_one_with_the_fewest_deaths_is_first(self):
        """Whoever takes the worker along has one more, and lets the others go first."""
        views = lanes(2, is_exclusive=True, is_alone=True, worker_deaths=2)
        views[key(0)] = replace(views[key(0)], worker_deaths=3)

        takes = plan(situation(views, runners=[RunnerView(7, is_solo=True)])).takes

        assert [take.key for take in takes] == [key(1)]

    def test_while_it_runs_nothing_else_is_taken(self):
        views = lanes(3)
        views[key(2)] = LaneView(key(2), is_exclusive=True, is_alone=True, is_leased=True)

        made = plan(
            situation(views, {key(2): LanePlacement(7)}, [*POOL, RunnerView(7, is_solo=True)])
        )

        assert (made.takes, made.leaves) == ([], [])

    def test_while_it_rests_the_others_go_on(self):
        views = lanes(3)
        views[key(2)] = LaneView(key(2), is_exclusive=True, is_alone=True, is_barred=True)

        assert {take.key for take in plan(situation(views)).takes} == {key(0), key(1)}


class TestGroups:
    """Functions of different groups share the worker, but no runner."""

    LIGHT, HEAVY = "shop.total", "shop.resize"

    def inputs(self, heavy=None, light_places=None, heavy_places=None):
        light = situation(lanes(2, self.LIGHT), light_places, [RunnerView(0)])
        views = lanes(2, self.HEAVY) if heavy is None else heavy
        return {
            "app": light,
            "heavy": situation(views, heavy_places, [RunnerView(1), RunnerView(2, is_solo=True)]),
        }

    def test_lanes_go_to_the_runners_of_their_own_group(self):
        made = plan_groups(self.inputs())

        assert {take.runner for take in made["app"].takes} == {0}
        assert {take.key.mapping for take in made["app"].takes} == {self.LIGHT}
        assert {take.runner for take in made["heavy"].takes} == {1}

    def test_a_batch_that_needs_the_worker_for_itself_empties_the_other_groups_first(self):
        views = {key(0, self.HEAVY): LaneView(key(0, self.HEAVY), is_exclusive=True, is_alone=True)}
        held = {key(0, self.LIGHT): LanePlacement(0)}

        made = plan_groups(self.inputs(views, light_places=held))
        assert made["app"].leaves == [ReleaseLane(key(0, self.LIGHT))]
        assert (made["app"].takes, made["heavy"].takes) == ([], [])

        made = plan_groups(self.inputs(views))
        assert made["app"].takes == []
        [take] = made["heavy"].takes
        assert (take.runner, take.is_exclusive) == (2, True)
