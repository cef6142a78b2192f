"""Order per key, and which records are blamed, for any mixture of failures, against a model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streamfn._core import SLOT_ENTRIES_MAX
from streamfn.engine.outcome import Failed, Failure, Partial, Rejected, Reported, Success
from streamfn.model.policy import RetryPolicy

FAILED = Failed(Failure("ValueError", "no"))
REJECTED = Rejected(Failure("Reject", "never"))
ALWAYS = 99

plans = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", None]),
        st.sampled_from([0, 0, 0, 0, 1, 2, ALWAYS]),  # how often it fails
        st.sampled_from(["raise", "raise", "fail", "reject", "die", "report"]),
    ),
    min_size=1,
    max_size=40,
)
retries = st.integers(0, 3)


class World:
    """What the records of a plan do when they are called, and what must hold at each call."""

    def __init__(self, kit, plan):
        self.kit = kit
        self.batch = kit.records_of([key for key, _, _ in plan])
        self.left = {r.sequence_number: plan[n][1] for n, r in enumerate(self.batch)}
        self.kind = {r.sequence_number: plan[n][2] for n, r in enumerate(self.batch)}
        self.guilty = {number for number, times in self.left.items() if times}

    def misbehaves(self, number):
        """Whether this call of the record fails."""
        if self.left[number] == 0:
            return False
        self.left[number] -= 1
        return True

    def one(self, record):
        """A function of `input="record"`."""
        if not self.misbehaves(record.sequence_number):
            return None
        if self.kind[record.sequence_number] == "die":
            raise self.kit.Died
        return REJECTED if self.kind[record.sequence_number] == "reject" else FAILED

    def many(self, records):
        """A function of `input="batch"`: goes through its records as a loop would."""
        failures = {}
        for number in records.sequence_numbers():
            if not self.misbehaves(number):
                continue
            match self.kind[number]:
                case "die":
                    raise self.kit.Died
                case "raise":
                    return FAILED
                case "reject":
                    return REJECTED
                case "report":
                    lowest = min([number, *failures])  # as the invoker puts them together
                    return Reported(lowest, Failure("BatchItemFailures", "reported"))
                case "fail":
                    failures[number] = FAILED
        return Partial(failures) if failures else Success()


def check_order(world, played):
    """A record is never called while an earlier one of its key is open and not in that call."""
    settled_at = {}
    for number in world.batch.sequence_numbers():
        calls = [place for place, call in enumerate(played.calls) if number in call]
        settled_at[number] = calls[-1] if calls else -1
    for place, call in enumerate(played.calls):
        for number in call:
            key = world.batch[world.batch.index(number)].partition_key
            earlier = [
                record.sequence_number
                for record in world.batch
                if record.partition_key == key and record.sequence_number < number
            ]
            open_ones = [n for n in earlier if settled_at[n] > place]
            assert key is None or all(n in call for n in open_ones)


class TestOrder:
    """Any plan of failures."""

    @settings(max_examples=400, deadline=None)
    @given(plan=plans, max_retries=retries)
    def test_one_by_one(self, kit, plan, max_retries):
        world = World(kit, plan)

        played = kit.play_records(world.batch, world.one, RetryPolicy(max_retries=max_retries))

        numbers = world.batch.sequence_numbers()
        assert numbers == sorted(played.done + played.dead)
        assert set(played.dead) <= world.guilty
        assert max(map(len, played.slots), default=0) <= SLOT_ENTRIES_MAX
        for number in numbers:
            assert played.calls.count([number]) <= max_retries + 1
        check_order(world, played)

    @settings(max_examples=400, deadline=None)
    @given(plan=plans, max_retries=retries)
    def test_in_batches(self, kit, plan, max_retries):
        """The outcome of a whole call touches innocents too; none of them is given up."""
        world = World(kit, plan)

        played = kit.play_batch(world.batch, world.many, RetryPolicy(max_retries=max_retries))

        assert world.batch.sequence_numbers() == sorted(played.done + played.dead)
        assert set(played.dead) <= world.guilty
        assert {n for n, times in world.left.items() if times > ALWAYS // 2} <= set(played.dead)
        check_order(world, played)
