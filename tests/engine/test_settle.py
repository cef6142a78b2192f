"""Tests for `streamfn.engine.settle`: the rules, applied to whole batches."""

from datetime import timedelta
from math import ceil, log2

import pytest

from streamfn._core import Entry
from streamfn.clock import ManualClock
from streamfn.engine.outcome import Failed, Failure, Partial, Rejected, Reported, Success
from streamfn.engine.settle import SettleContext, settle, take_verdict
from streamfn.engine.worklist import Call, Worklist
from streamfn.model.policy import RetryPolicy

FAILED = Failed(Failure("ValueError", "no"))
REJECTED = Rejected(Failure("Reject", "never"))


def poisoned(*numbers, outcome=FAILED):
    """A function that fails when one of the numbers is among its records."""
    bad = set(numbers)
    return lambda records: Success() if bad.isdisjoint(records.sequence_numbers()) else outcome


def deadly(kit, number):
    """A function whose process dies of one record."""

    def function(records):
        if number in records.sequence_numbers():
            raise kit.Died
        return Success()

    return function


def bound(n, max_retries):
    """Most calls that one poison record in a batch of n may cost."""
    return 2 * ceil(log2(n)) + 1 + max_retries


def isolated(kit, batch, number, kind):
    """Play a batch with one poison record, as quickly as that goes.

    Returns the calls, the records that were done, and the records given up.
    """
    context = SettleContext(batch, RetryPolicy(), ManualClock())
    worklist = Worklist.of([Entry(batch.first, batch.last)])
    calls = done = 0
    discarded = []
    while worklist.calls:
        head = worklist.head
        outcome = FAILED if head.first <= number <= head.last else Success()
        calls += 1
        if isinstance(outcome, Success):
            done += len(head.records(batch))
        elif kind == "death":
            blamed = Call(tuple(kit.crashed(entry) for entry in head.entries))
            worklist, outcome = take_verdict(worklist.replaced([blamed]), kit.TIMEOUT)
        decision = settle(worklist, outcome, context)
        worklist = decision.worklist
        discarded += decision.discarded
    return calls, done, [letter.record.sequence_number for letter in discarded]


class TestOnePoisonRecord:
    """The bound of calls, for every batch up to 300 records with the poison at every place."""

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["raise", "death"])
    def test_the_bound_holds_and_no_innocent_is_touched(self, kit, kind):
        for n in range(1, 301):
            batch = kit.records_of(["k"] * n)
            for number in batch.sequence_numbers():
                calls, done, dead = isolated(kit, batch, number, kind)

                assert dead == [number], (n, number)
                assert done == n - 1, (n, number)
                assert calls <= bound(n, 3), (n, number)

    def test_the_example_of_the_documentation(self, kit):
        """n = 100 with 3 retries: 18."""
        batch = kit.records_of(["k"] * 100)

        most = max(
            len(kit.play_batch(batch, poisoned(record.sequence_number)).calls) for record in batch
        )

        assert bound(100, 3) == 18
        assert most <= 18

    @pytest.mark.parametrize("max_retries", [0, 1, 5])
    def test_it_is_called_alone_max_retries_plus_one_times(self, kit, max_retries):
        """K-21: N retries after the first try."""
        batch = kit.records_of("abcdefg")

        played = kit.play_batch(batch, poisoned(103), RetryPolicy(max_retries=max_retries))

        assert played.calls.count([103]) == max_retries + 1
        assert played.discarded[0].attempts == max_retries + 1
        assert played.discarded[0].condition == "RetryAttemptsExhausted"
        assert played.waits == max_retries

    def test_a_slot_fits_all_the_way(self, kit):
        """Even a batch of 100,000 records splits into fewer than 20 entries."""
        batch = kit.records_of(["k"] * 4096)

        played = kit.play_batch(batch, poisoned(100))

        assert max(map(len, played.slots)) <= ceil(log2(4096)) + 1

    def test_a_death_is_a_crash_in_the_dead_letter(self, kit):
        played = kit.play_batch(kit.records_of("abc"), deadly(kit, 101))

        failure = played.discarded[0].failure
        assert failure.error_type == "FunctionCrashed"
        assert "SIGSEGV" in failure.error_message

    def test_it_failed_first_when_its_batch_did(self, kit):
        clock = ManualClock()

        played = kit.play_batch(kit.records_of("ab"), poisoned(101), clock=clock)

        assert played.discarded[0].first_failed_us == kit.NOW_US


class TestFailed:
    """A call that raised."""

    def test_halves_run_in_order_and_wait_for_nothing(self, kit):
        played = kit.play_batch(kit.records_of("abcd"), poisoned(103), RetryPolicy(max_retries=0))

        assert played.calls == [[100, 101, 102, 103], [100, 101], [102, 103], [102], [103]]
        assert played.waits == 0
        assert played.splits == 2

    def test_without_bisect_the_whole_batch_is_repeated_then_given_up(self, kit):
        policy = RetryPolicy(bisect=False, max_retries=2)

        played = kit.play_batch(kit.records_of("abc"), poisoned(101), policy)

        assert played.calls == [[100, 101, 102]] * 3
        assert played.dead == [100, 101, 102]
        assert {letter.attempts for letter in played.discarded} == {3}

    def test_retries_for_ever_give_nobody_up(self, kit):
        policy = RetryPolicy(max_retries=-1)

        with pytest.raises(AssertionError, match="it never ends"):
            kit.play_batch(kit.records_of("ab"), poisoned(101), policy, calls_max=200)

    def test_all_records_poisonous_are_all_given_up_each_on_its_own(self, kit):
        batch = kit.records_of("abcdefgh")

        played = kit.play_batch(batch, poisoned(*batch.sequence_numbers()))

        assert played.dead == batch.sequence_numbers()


class TestRejected:
    """A call that raised `Reject`."""

    def test_a_rejected_record_is_found_without_a_retry(self, kit):
        played = kit.play_batch(kit.records_of("abcd"), poisoned(102, outcome=REJECTED))

        assert played.dead == [102]
        assert played.discarded[0].condition == "Rejected"
        assert played.discarded[0].attempts == 1
        assert played.waits == 0
        assert played.done == [100, 101, 103]

    def test_without_bisect_the_whole_batch_goes_at_once(self, kit):
        played = kit.play_batch(
            kit.records_of("abc"), poisoned(101, outcome=REJECTED), RetryPolicy(bisect=False)
        )

        assert played.dead == [100, 101, 102]
        assert len(played.calls) == 1


class TestPartial:
    """A call that returned after `batch.fail`."""

    def fail(self, *numbers, outcome=FAILED):
        """A function that fails these records, each time it gets them."""

        def function(records):
            failures = {n: outcome for n in numbers if n in records.sequence_numbers()}
            return Partial(failures) if failures else Success()

        return function

    def test_the_failed_and_later_ones_of_their_key_are_tried_again(self, kit):
        batch = kit.records_of(["a", "b", "a", "c", "b", "a"])

        played = kit.play_batch(batch, self.fail(101), RetryPolicy(max_retries=1))

        assert played.calls == [[100, 101, 102, 103, 104, 105], [101, 104], [104]]
        assert played.dead == [101]
        assert played.done == [100, 102, 103, 105, 104]
        assert played.waits == 1

    def test_earlier_records_of_the_key_are_done(self, kit):
        played = kit.play_batch(
            kit.records_of(["a", "a", "a"]), self.fail(102), RetryPolicy(max_retries=1)
        )

        assert played.calls == [[100, 101, 102], [102]]

    def test_records_without_a_key_hold_nobody(self, kit):
        played = kit.play_batch(
            kit.records_of([None, None, None]), self.fail(100), RetryPolicy(max_retries=1)
        )

        assert played.calls == [[100, 101, 102], [100]]

    def test_held_records_start_afresh_when_the_failed_one_is_given_up(self, kit):
        """What was held with attempts of its own gets all its tries."""
        batch = kit.records_of(["a", "a"])

        played = kit.play_batch(batch, self.fail(100, 101), RetryPolicy(max_retries=2))

        assert played.dead == [100, 101]
        assert [letter.attempts for letter in played.discarded] == [3, 3]

    def test_attempts_count_for_each_record(self, kit):
        """100 fails in every call, 102 from the second on."""
        calls = []

        def function(records):
            calls.append(records.sequence_numbers())
            failures = {100: FAILED} if 100 in calls[-1] else {}
            if len(calls) > 1 and 102 in calls[-1]:
                failures[102] = FAILED
            return Partial(failures) if failures else Success()

        played = kit.play_batch(kit.records_of("aba"), function, RetryPolicy(max_retries=1))

        assert [
            (letter.record.sequence_number, letter.attempts) for letter in played.discarded
        ] == [
            (100, 2),
            (102, 2),
        ]

    def test_a_rejected_one_goes_at_once_and_its_key_goes_on(self, kit):
        played = kit.play_batch(kit.records_of("aab"), self.fail(100, outcome=REJECTED))

        assert played.dead == [100]
        assert played.calls == [[100, 101, 102], [101]]
        assert played.waits == 0

    def test_a_call_that_then_raises_is_split_and_keeps_the_attempts(self, kit):
        calls = []

        def function(records):
            calls.append(records.sequence_numbers())
            if len(calls) == 1:
                return Partial({100: FAILED})
            return FAILED if 100 in calls[-1] else Success()

        played = kit.play_batch(kit.records_of("aba"), function, RetryPolicy(max_retries=2))

        assert calls == [[100, 101, 102], [100, 102], [100], [100], [102]]
        assert played.discarded[0].attempts == 3


class TestReported:
    """A call that returned `batchItemFailures`."""

    def report(self, *numbers):
        """A function that stops at, and reports, the first of these records it gets."""

        def function(records):
            for number in records.sequence_numbers():
                if number in numbers:
                    return Reported(number, Failure("BatchItemFailures", "reported"))
            return Success()

        return function

    def test_progress_restarts_the_count(self, kit):
        """K-30: of a batch of 3, the last delivered 5 times with 3 retries; 4 attempts counted."""
        played = kit.play_batch(kit.records_of("abc"), self.report(102))

        assert played.calls == [[100, 101, 102], [102], [102], [102], [102]]
        assert played.discarded[0].attempts == 4

    def test_all_from_the_lowest_on_comes_again(self, kit):
        """K-26: records that the function handled after it included."""
        played = kit.play_batch(
            kit.records_of("abcd"), self.report(101), RetryPolicy(max_retries=1)
        )

        assert played.calls == [[100, 101, 102, 103], [101, 102, 103], [101, 102, 103], [102, 103]]
        assert played.dead == [101]
        assert played.done == [100, 102, 103]

    def test_on_exhausted_batch_gives_all_of_it_up(self, kit):
        """AWS's way."""
        policy = RetryPolicy(max_retries=0, on_exhausted="batch")

        played = kit.play_batch(kit.records_of("abcd"), self.report(101), policy)

        assert played.dead == [101, 102, 103]

    def test_two_bad_records_are_both_given_up_and_nothing_else(self, kit):
        played = kit.play_batch(kit.records_of("abcdef"), self.report(101, 104))

        assert played.dead == [101, 104]


class TestExpire:
    """`max_record_age`, record by record (K-32)."""

    def test_old_records_are_given_up_uncalled_and_the_rest_is_called(self, kit):
        clock = ManualClock()
        clock.advance(timedelta(minutes=10))
        batch = kit.records_of("abc")
        policy = RetryPolicy(max_record_age=timedelta(minutes=5))

        played = kit.play_batch(batch, poisoned(), policy, clock)

        assert played.calls == []
        assert [letter.condition for letter in played.discarded] == ["RecordAgeExceeded"] * 3

    def test_a_record_may_expire_while_it_is_retried(self, kit):
        """Each wait of this play takes a second."""
        policy = RetryPolicy(max_retries=-1, max_record_age=timedelta(seconds=3))

        played = kit.play_batch(kit.records_of("ab"), poisoned(101), policy)

        assert played.dead == [101]
        assert played.discarded[0].condition == "RecordAgeExceeded"
        assert 3 <= played.calls.count([101]) <= 5

    def test_fresh_records_are_none_of_its_business(self, kit):
        policy = RetryPolicy(max_record_age=timedelta(minutes=5))

        played = kit.play_batch(kit.records_of("ab"), poisoned(), policy)

        assert played.discarded == []
