"""Tests for `streamfn.worker.supervisor.deadlines`."""

from streamfn.worker.supervisor.deadlines import DeadlineWatch
from streamfn.worker.supervisor.verdict import Cell

TIMEOUT = 1.0


def looks(*steps):
    """Look at times; each step is a time and the cells in progress. Returns what was late when."""
    watch = DeadlineWatch(lambda lane: TIMEOUT, steps[0][0])
    return [sorted(watch.look(cells, now)) for now, cells in steps]


def steady(cells, until, step=0.05):
    return [(n * step, cells) for n in range(round(until / step) + 1)]


class TestDeadlineWatch:
    """Tests for `DeadlineWatch`."""

    def test_a_batch_has_until_its_deadline(self):
        call = Cell(0, 3, 1.0, None)

        late = looks(*steady([call], 1.2))

        assert late.index([call]) == 20  # at 1.0 s

    def test_each_record_has_the_timeout_for_itself(self):
        """The deadline of the stretch does not matter as long as records go by."""
        late = looks(*[(n * 0.05, [Cell(0, 3, 1.0, n // 10)]) for n in range(100)])

        assert not any(late)

    def test_a_record_that_stays_is_late(self):
        late = looks(*steady([Cell(0, 3, 1.0, 7)], 1.5))

        assert late.index([Cell(0, 3, 1.0, 7)]) == 20

    def test_the_same_record_called_again_starts_anew(self):
        """A new stretch has another deadline."""
        first, again = Cell(0, 3, 1.0, 7), Cell(0, 3, 1.9, 7)

        late = looks(*steady([first], 0.9), *[(0.9 + n * 0.05, [again]) for n in range(1, 19)])

        assert not any(late)

    def test_a_late_tick_moves_all_deadlines(self):
        """The whole process group was stopped for a minute."""
        call = Cell(0, 3, 1.0, None)
        before = steady([call], 0.5)
        after = [(60.5 + n * 0.05, [call]) for n in range(12)]

        late = looks(*before, *after)

        assert not any(late[: len(before) + 6])
        assert any(late)

    def test_a_call_that_began_just_before_a_late_tick_gets_its_time_as_well(self):
        call = Cell(0, 3, 1.2, None)

        late = looks((0.0, []), (60.0, [call]), (60.5, [call]))

        assert not any(late)

    def test_a_call_without_a_deadline_has_the_timeout(self):
        call = Cell(0, 3, None, None)

        assert looks(*steady([call], 1.2)).index([call]) == 20

    def test_what_has_ended_is_forgotten(self):
        call = Cell(0, 3, 1.0, None)

        assert not any(looks(*steady([call], 0.9), (0.95, []), (1.5, [])))

    def test_a_call_that_had_company_is_known_by_it_until_it_ends(self):
        one, other = Cell(0, 3, 5.0, None), Cell(1, 4, 5.0, None)
        following = Cell(0, 3, 9.0, None)
        watch = DeadlineWatch(lambda lane: TIMEOUT, 0.0)
        accompanied = []

        for cells in ([one], [one, other], [one], [following], [other]):
            watch.look(cells, 0.0)
            accompanied.append(watch.accompanied)

        assert accompanied == [set(), {one, other}, {one}, set(), set()]
