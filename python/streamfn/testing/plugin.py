"""Fixtures for pytest; pytest loads them automatically where streamfn is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # WHY not at run time: every run of pytest in the environment imports this file.
    from .driver import Driver
    from .memory import MemoryLog


@pytest.fixture
def streamfn_log() -> Iterator[MemoryLog]:
    """An empty log in memory; `streamfn_log.clock` is its clock."""
    from .memory import MemoryLog  # noqa: PLC0415

    with MemoryLog() as log:
        yield log


@pytest.fixture
def streamfn_run(streamfn_log: MemoryLog) -> Callable[..., Driver]:
    """`streamfn_run(app, {"orders": [...]})`: see `streamfn.testing.run_once`."""
    from .driver import run_once  # noqa: PLC0415

    def run(*arguments: object, **options: object) -> Driver:
        return run_once(*arguments, log=streamfn_log, **options)  # type: ignore[arg-type]  # as given

    return run


@pytest.fixture
def streamfn_invoke(streamfn_log: MemoryLog) -> Callable[..., Any]:
    """`streamfn_invoke(app, "price", {...})`: see `streamfn.testing.invoke`."""
    from .request import invoke  # noqa: PLC0415

    def call(*arguments: object, **options: object) -> Any:  # noqa: ANN401 -- any JSON value
        return invoke(*arguments, log=streamfn_log, **options)  # type: ignore[arg-type]  # as given

    return call
