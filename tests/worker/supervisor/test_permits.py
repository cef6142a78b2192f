"""Tests for `supervisor.permits`: `max_concurrency` is kept while permits change owners."""

from random import Random

import pytest

from streamfn.worker.supervisor.permits import Permits, Told, limit_of_seat


class TestPermits:
    """Tests for `Permits`."""

    def test_a_runner_that_comes_first_has_all_of_them(self):
        assert Permits(3).share_out({0: 3}) == [Told(0, 3, 1)]

    def test_a_runner_without_any_is_told_so_once(self):
        """What it is not told is no limit."""
        permits = Permits(1)

        assert permits.share_out({0: 1, 1: 0}) == [Told(0, 1, 1), Told(1, 0, 2)]
        assert permits.share_out({0: 1, 1: 0}) == []

    def test_nobody_gets_a_permit_before_its_owner_has_let_it_go(self):
        permits = Permits(1)
        permits.share_out({0: 1, 1: 0})

        [(runner, told, number)] = permits.share_out({0: 0, 1: 1})
        assert (runner, told) == (0, 0)
        assert permits.share_out({0: 0, 1: 1}) == []

        permits.answered(0, number)
        [(runner, told, _)] = permits.share_out({0: 0, 1: 1})
        assert (runner, told) == (1, 1)

    def test_an_answer_to_an_older_message_says_nothing(self):
        """The runner has got its permit back since, and may use it."""
        permits = Permits(1)
        permits.share_out({0: 1, 1: 0})
        [(_, _, old)] = permits.share_out({0: 0, 1: 0})
        permits.share_out({0: 1, 1: 0})
        permits.share_out({0: 0, 1: 0})

        permits.answered(0, old)

        assert permits.share_out({0: 0, 1: 1}) == []

    def test_who_comes_first_is_served_first(self):
        assert Permits(1).share_out({7: 1, 0: 1}) == [Told(7, 1, 1), Told(0, 0, 2)]

    def test_with_a_runner_its_permits_come_free(self):
        permits = Permits(2)
        permits.share_out({0: 2})

        permits.gone(0)

        assert permits.share_out({1: 2}) == [Told(1, 2, 2)]

    @pytest.mark.parametrize("seed", range(50))
    def test_whatever_order_things_happen_in_the_limit_is_kept_and_no_permit_is_lost(self, seed):
        random = Random(seed)
        most = random.randint(1, 4)
        runners = RunnerPool(most)
        for _ in range(500):
            each = random.choice(runners.runners)
            match random.randrange(5):
                case 0:
                    runners.share_out([random.randint(0, most) for _ in runners.runners])
                case 1 if random.random() < 0.1:
                    runners.replace(each)
                case 2:
                    each.read()
                case 3:
                    each.begin()
                case 4:
                    each.end()
            runners.hear()
            assert sum(runner.inside for runner in runners.runners) <= most

        for _ in range(2):  # some give, then the first gets
            runners.share_out([most, 0, 0, 0])
            runners.finish()
        assert [most, 0, 0, 0] == [runner.limit for runner in runners.runners]


class Runner:
    """Uses what the messages that have reached it allow."""

    def __init__(self, number):
        self.number, self.messages, self.unanswered = number, [], None
        self.limit = self.inside = 0

    def read(self):
        if self.messages:
            _, self.limit, self.unanswered = self.messages.pop(0)

    def begin(self):
        self.inside += self.inside < self.limit

    def end(self):
        self.inside -= self.inside > 0


class RunnerPool:
    """Four runners, and their supervisor."""

    def __init__(self, most):
        self.permits = Permits(most)
        self.runners = [Runner(number) for number in range(4)]

    def share_out(self, parts):
        wanted = {each.number: part for each, part in zip(self.runners, parts, strict=True)}
        for told in self.permits.share_out(wanted):
            [runner] = [each for each in self.runners if each.number == told.runner]
            runner.messages.append(told)

    def hear(self):
        """Runners answer as soon as they can."""
        for each in self.runners:
            if each.unanswered is not None and each.inside <= each.limit:
                self.permits.answered(each.number, each.unanswered)
                each.unanswered = None

    def replace(self, runner):
        """A runner dies, and another takes its seat."""
        self.permits.gone(runner.number)
        number = 1 + max(each.number for each in self.runners)
        self.runners[self.runners.index(runner)] = Runner(number)

    def finish(self):
        """All messages are read, and all calls end."""
        for each in self.runners:
            while each.messages:
                each.read()
            each.inside = 0
        self.hear()


@pytest.mark.parametrize("most", range(-1, 9))
@pytest.mark.parametrize("seats", range(1, 5))
def test_the_parts_of_all_seats_add_up_and_none_grows_with_more_seats(most, seats):
    parts = [limit_of_seat(most, seat, seats) for seat in range(seats)]
    more = [limit_of_seat(most, seat, seats + 1) for seat in range(seats)]

    assert sum(parts) == max(most, 0)
    assert all(after <= before for before, after in zip(parts, more, strict=True))
