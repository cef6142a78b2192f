"""The memory of a call is free when its lane is released, without the garbage collector.

A reference cycle would keep each batch and its buffer until the next collection. That cost 250 page
faults per batch of 1 MiB, three quarters of the cost of a call.
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
