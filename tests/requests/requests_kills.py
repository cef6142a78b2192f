"""kill -9 of fronts, supervisors, runners and callers at random moments, while calls are made.

Every caller must get an answer or an error within two seconds of a death, no call may run twice,
and nothing may be left over.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from requests_worker import MARK, Worker

from streamfn import App
from streamfn.errors import StreamfnError

KINDS = ("front", "supervisor", "runner", "caller")
CALLERS = 4
"""Processes that call, each with some threads."""
WITHIN = 2.0
"""Seconds after a death in which every caller has an answer or an error."""
CALLER = Path(__file__).resolve().parent / "requests_caller.py"
ALLOWED = {
    "ok",
    "Runtime.ExitError",
    "Runtime.WorkerLost",
    "Throttled",
    "WorkerUnavailable",
}
"""How a call may end."""


@dataclass
class Outcome:
    """What a run saw."""

    kills: Counter = field(default_factory=Counter)
    ends: Counter = field(default_factory=Counter)
    longest: float = 0.0
    """Seconds from a start or a death to the end of a call, without what its function took."""
    starts: int = 0
    findings: list = field(default_factory=list)


def run(kills, seed, folder):
    """Kill so many processes; returns the `Outcome`."""
    chance, outcome = random.Random(seed), Outcome()
    worker = Worker(folder, folder / "ran")
    worker.start()
    callers = [_start(folder, worker, number) for number in range(CALLERS)]
    deaths = []
    try:
        for number in range(kills):
            time.sleep(chance.uniform(0.05, 0.6))
            kind = KINDS[number % len(KINDS)]
            _kill(kind, worker, callers, folder, chance, deaths, outcome)
        time.sleep(WITHIN)
        _next_call_works(worker, outcome)
    finally:
        for each in callers:
            each.send_signal(signal.SIGTERM)
        for each in callers:
            # It may not yet have got as far as to wait for SIGTERM.
            if each.wait(30) not in (0, -signal.SIGTERM):
                outcome.findings.append(f"a caller ended with {each.returncode}")
        code = worker.stop()
    if code != 0:
        outcome.findings.append(f"the worker ended with {code}")
    outcome.findings += [f"left over: {each}" for each in worker.left_over()]
    outcome.starts = len(worker.events("runner_started"))
    _check_calls(folder, deaths, outcome)
    _check_runs(folder, outcome)
    return outcome


def _start(folder, worker, number):
    journal = folder / f"caller-{number}-{time.monotonic_ns()}"
    return subprocess.Popen(
        [sys.executable, str(CALLER), str(worker.log_dir), str(journal)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, MARK: worker.mark},
    )


def _kill(kind, worker, callers, folder, chance, deaths, outcome):
    """Kill a process of this kind, and start again what does not come back by itself."""
    if kind == "caller":
        place = chance.randrange(len(callers))
        callers[place].kill()
        callers[place].wait()
        callers[place] = _start(folder, worker, place)
        outcome.kills[kind] += 1
        return  # its calls go on, nobody waits for them
    if kind == "supervisor":
        deaths.append(time.monotonic())
        worker.process.kill()
        worker.process.wait()
        outcome.kills[kind] += 1
        worker.start()
        deaths.append(time.monotonic())  # what waited for the next worker waited until here
        return
    pids = worker.runners() if kind == "runner" else [worker.front()]
    pids = [pid for pid in pids if pid is not None]
    if pids and _killed(chance.choice(pids), worker):
        deaths.append(time.monotonic())
        outcome.kills[kind] += 1


def _killed(pid, worker):
    """Kill a child of the worker by a descriptor, so that it can be no other process."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid in worker.children():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        finally:
            os.close(descriptor)
    return False


def _next_call_works(worker, outcome):
    event = {"name": "last", "does": "good", "text": ""}
    try:
        answer = App("campaign").invoke("work", event, where="worker", log=worker.log_dir)
    except StreamfnError as error:
        answer = error
    if answer != {"name": "last", "text": ""}:
        outcome.findings.append(f"the call after all kills got {answer!r}")


def _check_calls(folder, deaths, outcome):
    """Each call that began in a caller that lived on has ended, rightly and in time."""
    for path in folder.glob("caller-*"):
        begun = {}
        for line in path.read_text().splitlines():
            said, _, rest = line.partition(" ")
            if said == "begin":
                name, at, seconds = rest.split(" ")
                begun[name] = float(at), float(seconds)
            elif said == "end":
                name, at, how = rest.split(" ", 2)
                _check_call(name, begun.pop(name), float(at), how, deaths, outcome)
            elif said == "stopped" and begun:
                outcome.findings.append(f"{path.name}: calls never ended: {sorted(begun)}")


def _check_call(name, begin, end, how, deaths, outcome):
    began, seconds = begin
    outcome.ends[how.split(" ")[0]] += 1
    if how.split(" ")[0] not in ALLOWED:
        outcome.findings.append(f"call {name} ended with {how}")
    last = max((each for each in deaths if began <= each <= end), default=began)
    took = end - last - seconds
    outcome.longest = max(outcome.longest, took)
    if took > WITHIN:
        outcome.findings.append(f"call {name} ended {took:.2f} s after the last death: {how}")


def _check_runs(folder, outcome):
    ran = Counter((folder / "ran").read_text().splitlines())
    twice = [name for name, times in ran.items() if times > 1]
    if twice:
        outcome.findings.append(f"calls that ran more than once: {twice[:10]}")


def summary(outcome):
    """Lines for a person."""
    kills = ", ".join(f"{count} {kind}" for kind, count in outcome.kills.items())
    ends = ", ".join(f"{count:,} {how}" for how, count in outcome.ends.most_common())
    return [
        f"killed: {kills}",
        f"calls: {ends}; {outcome.starts:,} starts of processes",
        f"the longest wait after a death: {outcome.longest:.2f} s",
    ]
