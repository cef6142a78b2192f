"""Tests for `streamfn.worker.supervisor.verdict`: which lanes are blamed."""

from signal import SIGKILL

import pytest

from streamfn._core import Entry
from streamfn.worker.supervisor.verdict import (
    Cell,
    RunnerExit,
    Verdict,
    after_runner_death,
    judged_entries,
    out_of_memory,
    unexplained,
    verdicts,
)

SEGFAULT = 11
NOW = 1_000
CRASHED, TIMED_OUT, OUT_OF_MEMORY = 1, 2, 3
KIB, MIB = 2**10, 2**20


def cell(lane, *, deadline=10.0, running=None):
    return Cell(lane, lane, deadline, running)


def plain(entries):
    return [(e.first, e.last, e.attempts, e.cause, e.detail) for e in entries]


class Slot:
    """What an in-flight slot says."""

    def __init__(self, entries, *, worker_deaths=0, is_alone=False, is_exclusive=False):
        self.entries, self.worker_deaths = entries, worker_deaths
        self.is_alone, self.is_exclusive = is_alone, is_exclusive


class TestVerdicts:
    """Tests for `verdicts`."""

    def test_a_single_call_is_blamed_and_goes_on_alone(self):
        found = verdicts(RunnerExit((cell(3),), SEGFAULT))

        assert found == {3: Verdict(None, CRASHED, SEGFAULT, is_alone=True)}

    def test_in_company_nobody_is_blamed_and_each_goes_on_alone(self):
        found = verdicts(RunnerExit((cell(3), cell(4), cell(5)), SEGFAULT))

        assert [0, 0, 0] == [each.cause for each in found.values()]
        assert all(each.is_alone for each in found.values())

    @pytest.mark.parametrize("count", [1, 3])
    def test_where_calls_fail_for_others_nobody_is_blamed_and_each_goes_on_alone(self, count):
        """The runner ended itself; the guilty one may have ended before."""
        found = verdicts(RunnerExit(tuple(map(cell, range(count))), -72, is_in_doubt=True))

        assert found == {lane: Verdict(is_alone=True) for lane in range(count)}

    def test_a_timeout_is_blamed_on_a_call_that_had_no_company(self):
        late = cell(3)

        found = verdicts(RunnerExit((late,), SIGKILL, frozenset([late])))

        assert found == {3: Verdict(None, TIMED_OUT, 0, is_alone=True)}

    @pytest.mark.parametrize("late", [1, 2])
    def test_of_several_calls_nobody_is_blamed_for_a_timeout_and_each_goes_on_alone(self, late):
        """One that is not past its time may have kept the interpreter from the one that is."""
        cells = (cell(3), cell(4))

        found = verdicts(RunnerExit(cells, SIGKILL, frozenset(cells[:late])))

        assert found == {3: Verdict(is_alone=True), 4: Verdict(is_alone=True)}

    def test_a_call_whose_company_has_left_is_not_blamed_for_a_timeout(self):
        """It may have lost its time by the neighbour that has ended just now."""
        late = cell(3)

        found = verdicts(RunnerExit((late,), SIGKILL, frozenset([late]), frozenset([late])))

        assert found == {3: Verdict(is_alone=True)}

    def test_a_call_that_ended_just_in_time_leaves_nobody_to_blame(self):
        """What is in its cell by then is the next call."""
        late, following = cell(3, deadline=10.0), cell(3, deadline=70.0)

        found = verdicts(RunnerExit((following,), SIGKILL, frozenset([late])))

        assert found == {3: Verdict()}

    def test_a_shutdown_blames_nobody(self):
        assert verdicts(RunnerExit((cell(3, running=7),), SIGKILL, is_blameless=True)) == {
            3: Verdict(7)
        }

    def test_a_death_between_two_calls_concerns_no_lane(self):
        assert verdicts(RunnerExit((), SEGFAULT)) == {}

    def test_a_lane_between_two_calls_is_company(self):
        """Its last call may have done what the process dies of now."""
        found = verdicts(RunnerExit((cell(3),), SEGFAULT), between_calls=1)

        assert found == {3: Verdict(is_alone=True)}


class TestUnexplained:
    """Tests for `unexplained`: deaths of which the board does not say whose they are."""

    @pytest.mark.parametrize(
        ("cells", "detail", "more", "expected"),
        [
            ((), SEGFAULT, {}, True),
            ((), -71, {}, True),
            ((cell(3),), -70, {}, True),
            ((cell(3),), -72, {}, True),
            ((cell(3),), -1, {}, False),
            ((cell(3),), SEGFAULT, {}, False),
            ((cell(3),), SEGFAULT, {"is_broken": True}, True),
            ((), SIGKILL, {"is_blameless": True}, False),
            ((), SIGKILL, {"expired": frozenset([cell(3)])}, False),
        ],
    )
    def test_a_runner_that_ends_itself_says_nothing_about_the_calls(
        self, cells, detail, more, expected
    ):
        assert expected == RunnerExit(cells, detail, **more).is_unexplained

    def test_once_it_is_nobodys_twice_the_records_go_on_alone_and_there_it_is_theirs(self):
        in_company, alone = RunnerExit((), -71), RunnerExit((), -71, is_solo=True)

        assert unexplained(in_company, None, 1) == Verdict()
        assert unexplained(in_company, None, 2) == Verdict(is_alone=True)
        assert unexplained(alone, None, 3) == Verdict(None, CRASHED, -71, is_alone=True)

    def test_a_fault_of_the_log_is_given_one_chance_more(self):
        broken = RunnerExit((), -70, is_broken=True, is_solo=True)

        assert unexplained(broken, 7, 2) == Verdict(7, is_alone=True)
        assert unexplained(broken, 7, 3) == Verdict(7, CRASHED, -70, is_alone=True)


class TestJudgedEntries:
    """Tests for `judged_entries`."""

    def test_the_head_is_marked_and_counts_later(self):
        """The runner that takes the lane over counts the attempt, by the rules for a raise."""
        entries = [Entry(1, 4), Entry(5, 9)]

        judged = judged_entries(entries, Verdict(None, CRASHED, SEGFAULT), NOW)

        assert plain(judged) == [(1, 4, 0, CRASHED, SEGFAULT), (5, 9, 0, 0, 0)]
        assert judged[0].first_failed_us == NOW

    def test_the_whole_chain_of_the_head_is_marked(self):
        entries = [Entry(1, 1, 2), Entry(5, 5, 0, True), Entry(7, 9)]

        judged = judged_entries(entries, Verdict(None, TIMED_OUT), NOW)

        assert [each.cause for each in judged] == [TIMED_OUT, TIMED_OUT, 0]
        assert [each.attempts for each in judged] == [2, 0, 0]

    def test_a_running_record_is_marked_alone_and_what_was_done_is_dropped(self):
        entries = [Entry(2, 2, 1), Entry(10, 90)]

        judged = judged_entries(entries, Verdict(50, CRASHED, -1), NOW)

        assert plain(judged) == [
            (2, 2, 1, 0, 0), (50, 50, 0, CRASHED, -1), (51, 90, 0, 0, 0)
        ]  # fmt: skip

    @pytest.mark.parametrize(("running", "expected"), [(50, [(50, 90)]), (90, [(90, 90)])])
    def test_nobody_blamed_what_was_done_is_dropped_all_the_same(self, running, expected):
        judged = judged_entries([Entry(10, 90)], Verdict(running), NOW)

        assert [(each.first, each.last) for each in judged] == expected

    def test_the_last_record_leaves_nothing_behind_it(self):
        judged = judged_entries([Entry(10, 90)], Verdict(90, CRASHED, SEGFAULT), NOW)

        assert plain(judged) == [(90, 90, 0, CRASHED, SEGFAULT)]

    def test_a_repeated_record_keeps_its_attempts(self):
        entries = [Entry(5, 5, 2), Entry(9, 9)]

        judged = judged_entries(entries, Verdict(5, CRASHED, SEGFAULT), NOW)

        assert plain(judged) == [(5, 5, 2, CRASHED, SEGFAULT), (9, 9, 0, 0, 0)]

    def test_without_a_verdict_nothing_changes(self):
        entries = [Entry(1, 4, 1)]

        assert plain(judged_entries(entries, Verdict(), NOW)) == plain(entries)


class TestSlots:
    """Tests for `after_runner_death`; what follows the death of a worker is in the core."""

    def test_alone_stays_alone(self):
        slot = Slot([Entry(1, 2)], is_alone=True)

        rewrite = after_runner_death(slot, Verdict(), NOW, writes_on_success=False)

        assert rewrite.is_alone

    @pytest.mark.parametrize(
        ("verdict", "expected"),
        [
            (Verdict(50), [(2, 2, 1, 0, 0), (10, 90, 0, 0, 0)]),
            (Verdict(50, CRASHED, 9), [(2, 2, 1, 0, 0), (10, 49, 0, 0, 0), (50, 90, 0, 0, 0)]),
            (Verdict(90, TIMED_OUT), [(2, 2, 1, 0, 0), (10, 89, 0, 0, 0), (90, 90, 0, 0, 0)]),
            (
                Verdict(10, CRASHED, 9),
                [(2, 2, 1, 0, 0), (10, 10, 0, CRASHED, 9), (11, 90, 0, 0, 0)],
            ),
            (Verdict(2, CRASHED, 9), [(2, 2, 1, CRASHED, 9), (10, 90, 0, 0, 0)]),
            (
                Verdict(50, is_split=True),
                [(2, 2, 1, 0, 0), (10, 49, 0, 0, 0), (50, 90, 0, 0, 0)],
            ),
            (Verdict(10, is_split=True), [(2, 2, 1, 0, 0), (10, 90, 0, 0, 0)]),
            (Verdict(2, is_split=True), [(2, 2, 1, 0, 0), (10, 90, 0, 0, 0)]),
        ],
    )
    def test_what_was_done_comes_again_where_its_writes_died_with_the_runner(
        self, verdict, expected
    ):
        """Nothing is dropped; and the running record counts once nothing lies before it."""
        slot = Slot([Entry(2, 2, 1), Entry(10, 90)])

        rewrite = after_runner_death(slot, verdict, NOW, writes_on_success=True)

        assert plain(rewrite.entries) == expected


class TestOutOfMemory:
    """Tests for `out_of_memory`: whose fault it is that a process exceeded its memory limit."""

    def verdict(self, *, running=None, calls, cells=None, times=1, limit=128 * MIB, first=10):
        call = cell(3, running=running)
        death = RunnerExit(
            (call,) if cells is None else cells, SIGKILL, memory_limit=limit, calls=calls
        )
        return out_of_memory(death, call, Slot([Entry(first, 90)]), times)

    @pytest.mark.parametrize(("running", "calls"), [(None, 1), (10, 0)])
    def test_the_first_call_of_a_process_is_blamed(self, running, calls):
        found = self.verdict(running=running, calls=calls)

        assert found == Verdict(running, OUT_OF_MEMORY, 128 * KIB, is_alone=True)

    @pytest.mark.parametrize(("running", "calls"), [(None, 2), (10, 1), (11, 0)])
    def test_a_call_after_others_is_not(self, running, calls):
        """Any of them may have leaked what was found."""
        found = self.verdict(running=running, calls=calls)

        assert found == Verdict(running, is_split=True)

    def test_records_that_exceed_it_a_second_time_run_alone(self):
        found = self.verdict(running=11, calls=0, times=2)

        assert found == Verdict(11, is_alone=True, is_split=True)

    def test_nobody_is_blamed_in_company(self):
        found = self.verdict(calls=0, running=10, cells=(cell(3, running=10), cell(4)))

        assert found == Verdict(10, is_split=True)

    def test_a_lane_between_two_calls_is_not_blamed(self):
        death = RunnerExit((), SIGKILL, memory_limit=MIB, calls=1)

        assert out_of_memory(death, None, Slot([Entry(1, 2)]), 1) == Verdict(is_split=True)

    @pytest.mark.parametrize(
        ("limit", "detail"),
        [(20_000_000, 19_531), (2**31 * KIB - KIB, 2**31 - 1), (2**31 * KIB, 2**31 - 1)],
    )
    def test_the_limit_goes_into_the_slot_in_kib_as_far_as_there_is_room(self, limit, detail):
        found = self.verdict(calls=1, limit=limit)

        assert Entry(1, 2, cause=found.cause, detail=found.detail).detail == detail

    def test_such_an_exit_is_explained(self):
        assert not RunnerExit((), SIGKILL, memory_limit=MIB).is_unexplained
        assert RunnerExit((), SIGKILL).is_unexplained
