"""Serverless stream functions on your own machine.

A durable, sharded event log, and workers that call your functions on it:

    from streamfn import App, Batch

    app = App("shop")

    @app.stream("orders", batch_size=500)
    def total(batch: Batch) -> None:
        for record in batch:
            print(record.partition_key, record.json()["amount"])

Put records with `Log.open(path).create_stream("orders").put(...)` or `streamfn put`. Run the
functions with `streamfn worker shop.py`.
"""

import importlib
import sys

if sys.platform != "linux":
    message = f"streamfn runs on Linux so far, and this is {sys.platform}"
    raise ImportError(message)

TYPE_CHECKING = False  # WHY: the working directory may contain a `typing.py` of the user's
if TYPE_CHECKING:
    from streamfn._core import ArrowBatch, Record, __version__
    from streamfn.app import App
    from streamfn.errors import (
        ConfigError,
        FunctionCrashed,
        FunctionError,
        FunctionFailed,
        FunctionNotFound,
        FunctionOutOfMemory,
        FunctionTimedOut,
        InvalidRequest,
        LockTimeout,
        LogFull,
        RecordTooLarge,
        Reject,
        StreamExists,
        StreamfnError,
        StreamNotFound,
        Throttled,
        WorkerUnavailable,
    )
    from streamfn.log import Log, Stream
    from streamfn.model.batch import Batch
    from streamfn.model.context import Context
    from streamfn.model.filter import Explanation, explain
    from streamfn.model.function_context import FunctionContext
    from streamfn.model.inputs import InputKind, register_input
    from streamfn.model.policy import Backoff
    from streamfn.model.put import PutResult, PutResults
    from streamfn.model.stream import ShardInfo, StreamInfo
del TYPE_CHECKING

_HOMES = {
    "streamfn._core": ("ArrowBatch", "Record", "__version__"),
    "streamfn.app": ("App",),
    "streamfn.errors": (
        "ConfigError",
        "FunctionCrashed",
        "FunctionError",
        "FunctionFailed",
        "FunctionNotFound",
        "FunctionOutOfMemory",
        "FunctionTimedOut",
        "InvalidRequest",
        "LockTimeout",
        "LogFull",
        "RecordTooLarge",
        "Reject",
        "StreamExists",
        "StreamfnError",
        "StreamNotFound",
        "Throttled",
        "WorkerUnavailable",
    ),
    "streamfn.log": ("Log", "Stream"),
    "streamfn.model.batch": ("Batch",),
    "streamfn.model.context": ("Context",),
    "streamfn.model.filter": ("Explanation", "explain"),
    "streamfn.model.function_context": ("FunctionContext",),
    "streamfn.model.inputs": ("InputKind", "register_input"),
    "streamfn.model.policy": ("Backoff",),
    "streamfn.model.put": ("PutResult", "PutResults"),
    "streamfn.model.stream": ("ShardInfo", "StreamInfo"),
}
"""The module that defines each public name; it is imported when the name is first used.

WHY: `streamfn --version` and a program that only puts records should not import everything
(`make bench`, CPython 3.11: 11 ms of CPU for `import streamfn`, 62 ms with `App`).
"""

_ROOMS = ("aio", "app", "clock", "errors", "log", "model", "testing", "units")
"""Public modules; each is imported when it is first used, as in `streamfn.errors`."""

__all__ = [
    "App",
    "ArrowBatch",
    "Backoff",
    "Batch",
    "ConfigError",
    "Context",
    "Explanation",
    "FunctionContext",
    "FunctionCrashed",
    "FunctionError",
    "FunctionFailed",
    "FunctionNotFound",
    "FunctionOutOfMemory",
    "FunctionTimedOut",
    "InputKind",
    "InvalidRequest",
    "LockTimeout",
    "Log",
    "LogFull",
    "PutResult",
    "PutResults",
    "Record",
    "RecordTooLarge",
    "Reject",
    "ShardInfo",
    "Stream",
    "StreamExists",
    "StreamInfo",
    "StreamNotFound",
    "StreamfnError",
    "Throttled",
    "WorkerUnavailable",
    "__version__",
    "explain",
    "register_input",
]


def __getattr__(name: str) -> object:
    """Import a public name or module on first use."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
