"""Tests for `streamfn.engine.worklist`."""

from streamfn._core import Entry
from streamfn.engine.worklist import Call, Mark, Worklist, chain


class TestWorklist:
    """Tests for `Worklist`."""

    def test_joined_entries_are_one_call(self, kit):
        entries = [Entry(3, 3, 1), Entry(7, 7, 0, True), Entry(20, 29), Entry(30, 40)]

        worklist = Worklist.of(entries)

        assert [len(call.entries) for call in worklist.calls] == [2, 1, 1]
        assert kit.plain(entries) == kit.plain(worklist.entries())

    def test_the_first_entry_begins_a_call_whatever_it_says(self):
        """A slot never begins with a joined entry; one that does is not lost."""
        worklist = Worklist.of([Entry(3, 3, 0, True), Entry(4, 4)])

        assert [call.first for call in worklist.calls] == [3, 4]

    def test_replacing_the_head_keeps_the_order_of_the_rest(self):
        worklist = Worklist.of([Entry(1, 4), Entry(5, 8), Entry(9, 9)])

        halved = worklist.replaced([Call((Entry(1, 2),)), Call((Entry(3, 4),))])

        assert [(call.first, call.last) for call in halved.calls] == [
            (1, 2),
            (3, 4),
            (5, 8),
            (9, 9),
        ]

    def test_the_records_of_a_chain_leave_out_what_lies_between(self, kit):
        batch = kit.records_of("abcdef", first=1)
        call = Worklist.of([Entry(1, 2), Entry(4, 4, 0, True)]).head

        assert [1, 2, 4] == call.records(batch).sequence_numbers()


class TestChain:
    """Tests for `chain`."""

    def test_neighbours_with_equal_history_share_an_entry(self, kit):
        batch = kit.records_of("abcdef", first=10, step=3)
        whole = Entry(10, 25)
        marks = [
            Mark(number, whole, attempts, since)
            for number, attempts, since in [(10, 1, 5), (13, 1, 5), (16, 0, 0), (22, 0, 0)]
        ]

        call = chain(batch, marks)

        assert kit.plain(call.entries) == [
            (10, 13, 1, False, 0, 0, 5),
            (16, 16, 0, True, 0, 0, 0),
            (22, 22, 0, True, 0, 0, 0),
        ]

    def test_records_of_two_entries_never_share_one(self, kit):
        """Others of the lane lie between them, and are done."""
        batch = kit.records_of("ab", first=10, step=5)
        marks = [Mark(n, Entry(n, n), 0, 0) for n in batch.sequence_numbers()]

        call = chain(batch, marks)

        assert [(entry.first, entry.last) for entry in call.entries] == [(10, 10), (15, 15)]

    def test_without_records_there_is_no_call(self, kit):
        assert chain(kit.records_of("a"), []) is None
