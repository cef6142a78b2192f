"""Testing functions without files, processes or sleeps.

    from streamfn.testing import run_once

    ran = run_once(app, {"orders": [{"amount": 12}, {"amount": None}]})
    assert ran.calls("total") == [[0, 1], [0], [1]]
    assert [letter.error_type for letter in ran.dead_letters("total")] == ["TypeError"]

    answer = invoke(app, "price", {"amount": 12})

The engine of production runs here, on a log in memory and with a manual clock. So batches, retries,
bisect, dead letters and crashes behave as in production, and waits take no time.
"""

from streamfn.clock import ManualClock

from .driver import Call, Driver, run_once
from .invoker import Crash
from .memory import MemoryLog
from .request import invoke

__all__ = ["Call", "Crash", "Driver", "ManualClock", "MemoryLog", "invoke", "run_once"]
