"""Tests for `streamfn.engine.bisect`."""

from streamfn._core import Entry
from streamfn.engine.bisect import halves
from streamfn.engine.worklist import Call, Worklist


class TestHalves:
    """Tests for `halves`."""

    def test_the_first_half_is_the_smaller_one(self, kit):
        """The split is at floor(n/2)."""
        batch = kit.records_of("abcde", first=1)

        first, second = halves(Call((Entry(1, 5),)), batch)

        assert [1, 2] == first.records(batch).sequence_numbers()
        assert [3, 4, 5] == second.records(batch).sequence_numbers()

    def test_a_single_record_cannot_be_split(self, kit):
        """A poison record can be isolated and sent on."""
        batch = kit.records_of("abc", first=7, step=7)
        call = Call((Entry(8, 15),))

        assert (call,) == halves(call, call.records(batch))

    def test_the_ranges_count_records_not_numbers(self, kit):
        """A lane sees a few of its shard's sequence numbers."""
        batch = kit.records_of("abcd", first=100, step=50)

        first, second = halves(Call((Entry(90, 400),)), batch)

        assert [(90, 150), (200, 400)] == [(c.first, c.last) for c in (first, second)]

    def test_a_chain_is_cut_between_or_inside_its_entries(self, kit):
        batch = kit.records_of("abcdef", first=1)
        chain = Worklist.of([Entry(1, 1, 2), Entry(3, 5, 0, True), Entry(6, 6, 1, True)]).head

        first, second = halves(chain, chain.records(batch))

        worklist = Worklist((first, second)).entries()
        assert kit.plain(worklist) == [
            (1, 1, 2, False, 0, 0, 0),
            (3, 3, 0, True, 0, 0, 0),
            (4, 5, 0, False, 0, 0, 0),
            (6, 6, 1, True, 0, 0, 0),
        ]
