"""Serverless stream functions on your own machine.

A durable, sharded event log, and workers that call your functions on it:

    from streamfn import App, Batch

    app = App("shop")

    @app.stream("orders", batch_size=500)
    def total(batch: Batch) -> None:
        for record in batch:
            print(record.partition_key, record.json()["amount"])

Put records with `Log.open(path).create_stream("orders").put(...)` or `streamfn put`, run the
functions with `streamfn worker shop.py`.
"""

import sys

if sys.platform != "linux":
    message = f"streamfn runs on Linux so far, and this is {sys.platform}"
    raise ImportError(message)

from streamfn._core import ArrowBatch, Record, __version__
from streamfn.app import App
from streamfn.errors import (
    ConfigError,
    FunctionCrashed,
    FunctionFailed,
    FunctionTimedOut,
    Reject,
    StreamfnError,
)
from streamfn.log import Log, Stream
from streamfn.model.batch import Batch
from streamfn.model.context import Context
from streamfn.model.filter import Explanation, explain
from streamfn.model.inputs import InputKind, register_input
from streamfn.model.policy import Backoff
from streamfn.model.put import PutResult, PutResults
from streamfn.model.stream import ShardInfo, StreamInfo

__all__ = [
    "App",
    "ArrowBatch",
    "Backoff",
    "Batch",
    "ConfigError",
    "Context",
    "Explanation",
    "FunctionCrashed",
    "FunctionFailed",
    "FunctionTimedOut",
    "InputKind",
    "Log",
    "PutResult",
    "PutResults",
    "Record",
    "Reject",
    "ShardInfo",
    "Stream",
    "StreamInfo",
    "StreamfnError",
    "__version__",
    "explain",
    "register_input",
]
