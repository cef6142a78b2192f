"""Calls side by side in one process, one of which keeps the others from going on."""

import time

import pytest

from streamfn.engine.deadletter import DeadLetters
from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor.supervisor import Supervisor


def letters_of(log, apps, stream, functions):
    """What became of one record, for each function that read it."""
    log.create_stream(stream).put(b"x")
    config = WorkerConfig(
        app=str(apps / "company.py"),
        log_dir=log.path,
        processes=1,
        threads=2,
        burst=True,
        only=functions,
    )
    assert Supervisor(config).run() == 0
    return [
        [(each.error_type, each.attempts) for each in DeadLetters(log, f"company.{name}").entries()]
        for name in functions
    ]


@pytest.mark.parametrize(
    ("stream", "innocent", "guilty"),
    [("threads", "sleeps", "backtracks"), ("stuck", "waits_beside", "blocks_for_ever")],
)
def test_a_call_that_keeps_its_neighbour_past_its_time_is_blamed_itself(
    log, apps, stream, innocent, guilty
):
    """The neighbour's time is up first, or at the same moment."""
    letters = letters_of(log, apps, stream, (innocent, guilty))

    assert letters == [[], [("FunctionTimedOut", 1)]]


def test_who_waits_for_a_loop_that_another_call_blocks_loses_no_time(log, apps):
    assert letters_of(log, apps, "loop", ("waits", "blocks_for_a_while")) == [[], []]


@pytest.mark.parametrize("guilty", [0, 3])
def test_a_record_that_hangs_silences_the_neighbours_for_one_call_alone_at_most(
    tmp_path, log, workers, until, guilty
):
    """Each death sends it back to the end of the queue for the only seat, whichever shard it is."""
    orders, notes = log.create_stream("orders", shards=4), tmp_path / "notes"
    keys = {orders.put(b"x", f"k{n}").shard_id: f"k{n}" for n in range(40)}
    shards = sorted(keys)
    workers.start("hanging", "--processes", 1, "--threads", 4, NOTES=notes)

    def calls():
        text = notes.read_text() if notes.exists() else ""
        return [tuple(line.split(" ")) for line in text.split("\n")[:-1]]

    until(lambda: {shard for shard, _ in calls()} == set(shards))
    orders.put_many([b"x"] * 4 + [b"hang"] + [b"x"] * 3, [keys[shards[guilty]]] * 8)

    def has_hung():
        """All the while there is work for everybody."""
        orders.put_many([b"x"] * 4, keys.values())
        time.sleep(0.05)
        return sum(what == "hangs" for _, what in calls()) >= 4

    until(has_hung, 240)
    seen = calls()
    for shard in set(shards) - {shards[guilty]}:
        assert most_between(seen, shard) <= 2, "in their company, and once alone"


def most_between(calls, shard):
    """Count the calls that hung between two calls of a shard, where they were most."""
    most = hung = 0
    for each, what in calls:
        hung = 0 if each == shard else hung + (what == "hangs")
        most = max(most, hung)
    return most
