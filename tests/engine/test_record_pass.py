"""Tests for `streamfn.engine.record_pass`: one record per call, with keys held back."""

from datetime import timedelta

import pytest

from streamfn._core import SLOT_ENTRIES_MAX, Entry
from streamfn.clock import ManualClock
from streamfn.engine.outcome import CAUSE_CRASHED, Failed, Failure, Rejected
from streamfn.engine.record_pass import RecordPass
from streamfn.engine.settle import SettleContext
from streamfn.model.policy import RetryPolicy

FAILED = Failed(Failure("ValueError", "no"))


def failing(*numbers, outcome=FAILED):
    return lambda record: outcome if record.sequence_number in numbers else None


def healing(times):
    """Fails each record as often as `times` says, then succeeds."""
    left = dict(times)

    def function(record):
        number = record.sequence_number
        if left.get(number, 0) == 0:
            return None
        left[number] -= 1
        return FAILED

    return function


class TestHoldPass:
    """Whole batches, pass after pass."""

    def test_a_batch_without_failures_is_one_stretch(self, kit):
        played = kit.play_records(kit.records_of("abcabc"), failing())

        assert [100, 101, 102, 103, 104, 105] == played.done
        assert len(played.slots) == 1
        assert played.waits == 0

    def test_other_keys_go_on_and_the_failed_key_waits(self, kit):
        batch = kit.records_of("abacba")

        played = kit.play_records(batch, healing({100: 1}))

        assert [100, 101, 103, 104, 100, 102, 105] == [number for [number] in played.calls]
        assert played.waits == 1

    def test_a_record_that_keeps_failing_is_given_up_and_its_key_goes_on(self, kit):
        played = kit.play_records(kit.records_of("aab"), failing(100), RetryPolicy(max_retries=2))

        assert [100, 102, 100, 100, 101] == [number for [number] in played.calls]
        assert [100] == played.dead
        assert played.discarded[0].attempts == 3
        assert played.waits == 2

    def test_a_rejected_record_goes_at_once(self, kit):
        rejected = Rejected(Failure("Reject", "never"))

        played = kit.play_records(kit.records_of("aab"), failing(100, outcome=rejected))

        assert [100, 101, 102] == [number for [number] in played.calls]
        assert played.discarded[0].condition == "Rejected"
        assert played.waits == 0

    def test_records_without_a_key_hold_nobody(self, kit):
        played = kit.play_records(kit.records_of([None, None, None]), healing({100: 1}))

        assert [100, 101, 102, 100] == [number for [number] in played.calls]

    def test_neighbours_of_a_held_key_share_an_entry(self, kit):
        played = kit.play_records(kit.records_of("aaaaab"), healing({100: 1}))

        assert (101, 104) in [(slot[1].first, slot[1].last) for slot in played.slots if slot[1:]]

    def test_a_death_names_its_record_and_nothing_is_bisected(self, kit):
        def function(record):
            if record.sequence_number == 103:
                raise kit.Died

        played = kit.play_records(kit.records_of("abcdef"), function)

        assert [103] == played.dead
        assert [103] * 4 == [number for [number] in played.calls if number == 103]
        assert [100, 101, 102, 104, 105] == played.done
        assert "SIGSEGV" in played.discarded[0].failure.error_message

    def test_a_death_that_names_no_record_is_narrowed_down_by_halves(self, kit):
        """After the death of a whole worker nobody knows which record ran."""
        batch = kit.records_of("abcdef")
        blamed = Entry(100, 105, 0, False, CAUSE_CRASHED, 9)

        hold = RecordPass([blamed], SettleContext(batch, RetryPolicy(), ManualClock()), kit.TIMEOUT)

        assert [(100, 102), (103, 105)] == [(e.first, e.last) for e in hold.entries]
        assert [100, 101, 102] == hold.next().records.sequence_numbers()


class TestBound:
    """The slot holds 20 entries; so no more are ever open."""

    @pytest.mark.parametrize("keys", [[None] * 100, [f"k{n}" for n in range(100)]])
    def test_no_further_record_starts_when_20_are_open(self, kit, keys):
        batch = kit.records_of(keys)

        played = kit.play_records(batch, failing(*batch.sequence_numbers()))

        assert max(map(len, played.slots)) <= SLOT_ENTRIES_MAX
        assert batch.sequence_numbers() == sorted(played.dead)
        first_pass = played.calls.index([100], 1)
        assert first_pass == SLOT_ENTRIES_MAX - 1  # the 20th entry is the rest of the batch

    def test_two_keys_in_turn_fill_the_slot_with_what_they_hold(self, kit):
        batch = kit.records_of("ab" * 50)

        played = kit.play_records(batch, failing(100, 101))

        assert max(map(len, played.slots)) <= SLOT_ENTRIES_MAX
        assert {100, 101} == set(played.dead)
        assert batch.sequence_numbers()[2:] == sorted(played.done)


class TestOutage:
    """Everything fails: few dead letters for many waits."""

    def test_one_record_is_repeated_for_each_wait(self, kit):
        """Their first failures came in one pass; the two repeats of each wait one by one."""
        batch = kit.records_of([f"k{n}" for n in range(SLOT_ENTRIES_MAX - 1)])

        played = kit.play_records(batch, failing(*batch.sequence_numbers()))

        assert played.waits >= 2 * (SLOT_ENTRIES_MAX - 1)

    def test_a_success_lets_the_others_be_repeated_at_once(self, kit):
        batch = kit.records_of("abcd")

        played = kit.play_records(batch, healing({100: 1, 101: 1, 102: 1, 103: 1}))

        assert played.waits == 1

    def test_one_that_fails_for_ever_does_not_starve_another(self, kit):
        """Those with the fewest attempts come first."""
        batch = kit.records_of("ab")
        counts = {100: 0, 101: 0}

        def function(record):
            counts[record.sequence_number] += 1
            return FAILED if record.sequence_number == 100 or counts[101] < 5 else None

        with pytest.raises(AssertionError, match="it never ends"):
            kit.play_records(batch, function, RetryPolicy(max_retries=-1), calls_max=50)

        assert counts[101] == 5


class TestVerdicts:
    """What a supervisor wrote into the slot counts as a failure of the pass that reads it."""

    def test_the_blamed_record_is_not_called_before_a_wait(self, kit):
        batch = kit.records_of("aab")
        blamed = Entry(100, 100, 0, False, CAUSE_CRASHED, kit.SEGFAULT)

        hold = RecordPass(
            [blamed, Entry(101, 102)],
            SettleContext(batch, RetryPolicy(), ManualClock()),
            kit.TIMEOUT,
        )

        record_range = hold.next()
        assert hold.entries[0].attempts == 1
        assert [102] == record_range.records.sequence_numbers()
        hold.settled(record_range, 1, None)
        assert hold.next() is None
        assert [(100, 1), (101, 0)] == [(entry.first, entry.attempts) for entry in hold.entries]

    def test_a_repeat_that_was_not_called_keeps_its_attempts_and_is_next_again(self, kit):
        batch = kit.records_of("ab")
        hold = RecordPass(
            [Entry(100, 100, 2), Entry(101, 101)],
            SettleContext(batch, RetryPolicy(), ManualClock()),
            1.0,
        )

        hold.settled(hold.next(), 0, None)

        assert [100] == hold.next().records.sequence_numbers()
        assert [(100, 2), (101, 0)] == [(entry.first, entry.attempts) for entry in hold.entries]

    def test_the_last_attempt_gives_it_up(self, kit):
        batch = kit.records_of("ab")
        blamed = Entry(100, 100, 3, False, CAUSE_CRASHED, -7)

        hold = RecordPass(
            [blamed, Entry(101, 101)], SettleContext(batch, RetryPolicy(), ManualClock()), 1.0
        )

        [letter] = hold.take_discarded()
        assert "exit code 7" in letter.failure.error_message
        assert [101] == hold.next().records.sequence_numbers()

    def test_expired_records_hold_nobody(self, kit):
        from streamfn.engine.outcome import Expired

        batch = kit.records_of("aa")
        policy = RetryPolicy(max_record_age=timedelta(seconds=1))
        hold = RecordPass([Entry(100, 101)], SettleContext(batch, policy, ManualClock()), 1.0)

        hold.settled(hold.next(), 0, Expired())

        assert [101] == hold.next().records.sequence_numbers()
        assert ["RecordAgeExceeded"] == [letter.condition for letter in hold.take_discarded()]
