"""Many calls at once, of which some end their processes: every answer must be its call's own."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from requests_plan import make_calls
from requests_worker import Worker

from streamfn import App, Log
from streamfn.errors import StreamfnError, Throttled


@dataclass
class Outcome:
    """What a run saw."""

    calls: int = 0
    seconds: float = 0.0
    kinds: Counter = field(default_factory=Counter)
    throttled: int = 0
    """Calls that found no process within their timeout, and were made again."""
    durations: list = field(default_factory=list)
    """Seconds of each good call."""
    starts: int = 0
    findings: list = field(default_factory=list)


def run(calls, callers, seed, folder):
    """Call a worker; returns the `Outcome`."""
    outcome, lock = Outcome(calls), threading.Lock()
    left = iter(make_calls(seed, calls))
    worker = Worker(folder)
    worker.start()
    began = time.monotonic()
    with Log.open(worker.log_dir) as log:
        threads = [
            threading.Thread(target=_caller, args=(log, left, outcome, lock))
            for _ in range(callers)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    outcome.seconds = time.monotonic() - began
    code = worker.stop()
    if code != 0:
        outcome.findings.append(f"the worker ended with {code}")
    outcome.findings += [f"left over: {each}" for each in worker.left_over()]
    outcome.starts = len(worker.events("runner_started"))
    if sum(outcome.kinds.values()) != calls:
        outcome.findings.append(f"{sum(outcome.kinds.values())} calls were answered, not {calls}")
    return outcome


def _caller(log, left, outcome, lock):
    app = App("campaign")
    while True:
        with lock:
            call = next(left, None)
        if call is None:
            return
        began = time.monotonic()
        answer, throttled = _answer(app, log, call)
        took = time.monotonic() - began
        finding = call.finding(answer)
        with lock:
            outcome.kinds[call.does] += 1
            outcome.throttled += throttled
            if call.does == "good":
                outcome.durations.append(took)
            if finding is not None:
                outcome.findings.append(finding)


def _answer(app, log, call):
    """The value or the error of a call, and how often it was throttled before."""
    throttled = 0
    while True:
        try:
            return app.invoke(call.function, call.payload, where="worker", log=log), throttled
        except Throttled:
            throttled += 1  # nothing was called
        except StreamfnError as error:
            return error, throttled


def summary(outcome):
    """Lines for a person."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcome.kinds.items()))
    durations = sorted(outcome.durations)
    p50, p99 = (durations[int(len(durations) * share)] * 1e3 for share in (0.5, 0.99))
    rate = f"{outcome.calls:,} calls in {outcome.seconds:.1f} s"
    good = f"good calls: p50 {p50:.1f} ms, p99 {p99:.0f} ms"
    again = f"{outcome.throttled:,} throttled and made again"
    return [
        f"{rate} ({outcome.calls / outcome.seconds:,.0f}/s): {kinds}",
        f"{good}; {again}; {outcome.starts:,} starts of processes",
    ]
