"""What a call held is free when its lane is let go, without the garbage collector.

A cycle kept each batch, and the buffer it was read into, until the next collection: 250 page faults
a batch of 1 MiB, and three quarters of what a call cost.
"""

import gc

import pytest

from streamfn import App
from streamfn.testing import run_once
from streamfn.worker.runner.calls.base import LaneCalls


def record_fails(record):
    raise ValueError(record.data)


def batch_fails(batch):
    raise ValueError(len(batch))


def batch_sends_on(batch):
    yield from batch.values()


def context_is_looked_at(batch, context):
    assert context.request_id == batch.context.request_id


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (len, {"input": "batch"}),
        (context_is_looked_at, {}),
        (batch_fails, {"max_retries": 1}),
        (batch_sends_on, {"to": "elsewhere", "on_success": "told"}),
        (repr, {"input": "record"}),
        (record_fails, {"input": "record", "max_retries": 1}),
        (lambda batch: None, {"tumbling_window": "1s"}),
        (len, {"input": "lambda"}),
        (len, {"input": "arrow"}),
    ],
)
def test_a_run_is_gone_when_it_let_its_lane_go(function, options):
    app = App("shop")
    app.stream("orders", name="function", **options)(function)
    gc.collect()
    gc.disable()
    try:
        ran = run_once(app, {"orders": [b"a", b"b"]})
        left = [each for each in gc.get_objects() if isinstance(each, LaneCalls)]
    finally:
        gc.enable()

    assert ran.all_calls
    assert left == []
