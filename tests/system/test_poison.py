"""One bad record among 10,000: found, set aside, and nobody else is touched."""

from math import ceil, log2

import pytest

from streamfn._core import slot_of
from streamfn.engine.deadletter import DeadLetters
from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor.supervisor import Supervisor

RECORDS = 10_000
POISON = 7_777
KEYS = 100
BATCH = 100
RETRIES = 3
ERRORS = {
    "raise": ("ValueError", "this record is poison"),
    "segfault": ("FunctionCrashed", "SIGSEGV"),
    "exit": ("FunctionCrashed", "exit code 1"),
    "kill": ("FunctionCrashed", "SIGKILL"),
    "loop": ("FunctionTimedOut", "timeout of 1 s"),
}


class Watched:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.events, self.progress = [], {}

    def on_event(self, event):
        self.events.append(event)

    def on_progress(self, progress):
        self.progress = {each.name: each for each in progress}

    def named(self, name):
        return [event for event in self.events if event["event"] == name]


@pytest.fixture
def run_poisoned(log, tmp_path, apps, monkeypatch):
    """Puts the records, runs the functions, returns what was called and told."""

    def run(kind, stream, *, threads=1, factor=1, slow=0.0):
        calls = tmp_path / "calls"
        for name, value in {
            "CALLS": calls, "POISON": kind, "FACTOR": factor, "SLOW": slow
        }.items():  # fmt: skip
            monkeypatch.setenv(name, str(value))
        data = [b"poison" if n == POISON else b"%d" % n for n in range(RECORDS)]
        log.create_stream(stream).put_many(data, [f"k{n % KEYS}" for n in range(RECORDS)])
        watched = Watched()
        config = WorkerConfig(
            app=str(apps / "poison.py"),
            log_dir=log.path,
            processes=2,
            threads=threads,
            burst=True,
            only=(stream,),
        )
        log.create_stream("batches", exist_ok=True)
        log.create_stream("singles", exist_ok=True)

        assert Supervisor(config, watched).run() == 0

        called = [tuple(map(int, line.split())) for line in calls.read_text().splitlines()]
        return called, watched

    return run


def bound(n):
    """Most calls that one poison record in a batch of n may cost."""
    return 2 * ceil(log2(n)) + 1 + RETRIES


def check_dead_letter(log, stream, kind):
    [letter] = DeadLetters(log, f"poison.{stream}").entries()
    error_type, message = ERRORS[kind]
    assert letter.data == b"poison"
    assert letter.partition_key == f"k{POISON % KEYS}"
    assert (letter.sequence_number, letter.attempts) == (POISON, RETRIES + 1)
    assert letter.error_type == error_type
    assert message in letter.error_message
    if kind == "raise":
        assert 'raise ValueError("this record is poison")' in letter.traceback
    return letter


def died_in_company(watched):
    """Batches that were in flight when another one, or their own, killed their process."""
    deaths = [event["in_flight"] for event in watched.named("runner_died")]
    return sum(in_flight for in_flight in deaths if in_flight > 1)


def check_calls(called, watched, factor):
    """The calls about the batch with the poison are within the bound; all others are clean."""
    lane_of = lambda number: slot_of(f"k{number % KEYS}", number, factor)  # noqa: E731
    lane = [call for call in called if lane_of(call[0]) == lane_of(POISON)]
    first, last, _ = next(call for call in lane if call[0] <= POISON <= call[1])
    guilty = [call for call in lane if first <= call[0] and call[1] <= last]
    innocent = [call for call in called if call not in guilty]
    again = len(innocent) - len(set(innocent))
    assert again <= died_in_company(watched)
    assert len(guilty) <= bound(BATCH) + (died_in_company(watched) > 0)
    return again


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("kind", ERRORS)
class TestBatches:
    """`input="batch"`: the record is found by halves."""

    def test_exactly_the_poison_is_set_aside(self, log, run_poisoned, kind, threads):
        """With one lane, no innocent batch is ever beside it."""
        called, watched = run_poisoned(kind, "batches", threads=threads)

        check_dead_letter(log, "batches", kind)
        assert watched.progress["poison.batches"].records == RECORDS - 1
        clean = ceil(RECORDS / BATCH) - 1
        assert len(called) <= bound(BATCH) + clean
        assert check_calls(called, watched, factor=1) == 0

    def test_seven_innocent_lanes_run_beside_it(self, log, run_poisoned, kind, threads):
        """A factor of 8; every call takes a moment, so that many die in company."""
        called, watched = run_poisoned(kind, "batches", threads=threads, factor=8, slow=0.01)

        check_dead_letter(log, "batches", kind)
        assert watched.progress["poison.batches"].dead_lettered == 1
        check_calls(called, watched, factor=8)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("kind", ERRORS)
class TestSingles:
    """`input="record"`: the record is named, by itself or by the memory its runner left."""

    def test_only_the_poison_is_called_again(self, log, run_poisoned, kind, threads):
        called, watched = run_poisoned(kind, "singles", threads=threads, factor=8)

        check_dead_letter(log, "singles", kind)
        numbers = [first for first, _, _ in called]
        assert set(numbers) == set(range(RECORDS))
        again = len(numbers) - RECORDS
        assert again <= RETRIES + died_in_company(watched)
        assert watched.progress["poison.singles"].records == RECORDS - 1
