"""Calls side by side in one process, one of which keeps the others from going on."""

import pytest

from streamfn.engine.deadletter import DeadLetters
from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor import Supervisor


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
