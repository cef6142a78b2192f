"""How a worker ends: by signals, by its drain timeout, by kill -9; and what comes after."""

import signal
import time

import pytest

RECORDS = 12


@pytest.fixture
def orders(log):
    """A stream with a few records in one shard."""
    stream = log.create_stream("orders")
    stream.put_many([b"%d" % n for n in range(RECORDS)])
    return stream


@pytest.fixture
def start(workers, notes, orders, until):
    """Starts a worker on the stream and waits for its first call."""

    def start(*arguments, **environment):
        worker = workers.start(
            "paced", "--processes", 1, *arguments, NOTES=notes.path, **environment
        )
        until(lambda: notes("began"))
        return worker

    return start


@pytest.fixture
def finish(workers, notes):
    """Runs a worker until everything is processed."""

    def finish(**environment):
        assert workers.run("paced", "--burst", NOTES=notes.path, **environment) == 0

    return finish


def numbers(found):
    return [number for note in found for number in note.numbers]


class TestDrain:
    """SIGTERM, and the first SIGINT."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_what_is_in_flight_is_finished_and_the_rest_is_left(
        self, start, finish, notes, kill, number
    ):
        worker = start(SLOW=0.3)

        kill(worker.pid, number)

        assert worker.wait(240) == 0
        assert numbers(notes("began")) == numbers(notes("ended"))
        assert len(notes("ended")) < RECORDS
        finish()
        assert list(range(RECORDS)) == numbers(notes("ended"))

    def test_of_a_batch_that_goes_record_by_record_no_further_one_begins(
        self, start, finish, notes, kill
    ):
        """Half a minute may pass otherwise, in which the worker seems not to have heard."""
        worker = start(INPUT="record", SIZE=RECORDS, SLOW=0.5)

        kill(worker.pid, signal.SIGINT)

        assert worker.wait(240) == 0
        assert numbers(notes("began")) == numbers(notes("ended"))
        assert len(notes("ended")) <= 2, "the one that ran, and one that began meanwhile"
        finish(INPUT="record", SIZE=RECORDS)
        assert list(range(RECORDS)) == numbers(notes("ended"))
        assert {1} == {note.attempt for note in notes()}

    def test_a_terminal_that_signals_the_whole_group_does_no_harm(
        self, start, workers, notes, kill, children_of
    ):
        worker = start(SLOW=0.3)

        for process in [*children_of(worker.pid), worker.pid]:
            kill(process, signal.SIGINT)

        assert worker.wait(240) == 0
        assert numbers(notes("began")) == numbers(notes("ended"))

    def test_a_wait_is_cut_short(self, start, kill):
        """The function fails, and the lane rests for up to a minute."""
        worker = start(FAIL=1, BACKOFF=60)
        time.sleep(0.2)
        began = time.monotonic()

        kill(worker.pid, signal.SIGTERM)

        assert worker.wait(240) == 0
        assert time.monotonic() - began < 5

    def test_past_its_timeout_the_rest_is_abandoned_and_counts_for_nothing(
        self, start, finish, notes, kill
    ):
        worker = start("--drain-timeout", "300ms", SLOW=60)

        kill(worker.pid, signal.SIGTERM)

        assert worker.wait(240) == 143
        finish()
        assert {1} == {note.attempt for note in notes()}
        assert list(range(RECORDS)) == numbers(notes("ended"))


class TestAtOnce:
    """The second SIGINT, and SIGQUIT."""

    def test_a_second_control_c_ends_it_at_once(self, start, finish, notes, kill, workers, until):
        worker = start(SLOW=60)
        kill(worker.pid, signal.SIGINT)
        until(lambda: "stops at once" in workers.errors_of(worker))

        kill(worker.pid, signal.SIGINT)

        assert worker.wait(240) == 130
        assert "gave up 1 call in flight, its records are delivered again" in workers.errors_of(
            worker
        )
        finish()
        assert {1} == {note.attempt for note in notes()}

    def test_sigquit_ends_it_at_once(self, start, finish, notes, kill):
        worker = start(HANG=1)

        kill(worker.pid, signal.SIGQUIT)

        assert worker.wait(240) == 131
        finish()
        assert list(range(RECORDS)) == numbers(notes("ended"))
        assert {1} == {note.attempt for note in notes()}


class TestKill:
    """kill -9 of the supervisor alone."""

    def test_its_runners_end_with_it_whatever_they_are_doing(
        self, start, kill, children_of, until, is_running
    ):
        """The function holds the interpreter for ever."""
        worker = start(HANG=1)
        runners = children_of(worker.pid)
        assert runners

        kill(worker.pid)

        worker.wait(240)
        until(lambda: not any(map(is_running, runners)), seconds=5)


def test_sigusr1_writes_the_stacks_and_what_is_in_flight(start, workers, kill, until):
    worker = start(SLOW=60)

    kill(worker.pid, signal.SIGUSR1)

    until(lambda: "in work" in workers.errors_of(worker))
    text = workers.errors_of(worker)
    assert "paced.work on orders/shardId-000000000000" in text
    assert worker.poll() is None
