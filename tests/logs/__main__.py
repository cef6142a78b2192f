"""`python tests/logs`: many failing calls, and what the log of their worker has of them.

A worker runs functions that fail in three ways, as often as asked for. Its log must have one line a
minute for each distinct failure, with counts that add up, and no traceback twice in a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from datetime import datetime
from itertools import pairwise
from pathlib import Path

APP = """
from datetime import timedelta
from streamfn import App, Backoff, Batch

app = App("shop")
NOTHING = Backoff(base=timedelta(0), cap=timedelta(0))


@app.stream("orders", input="record", max_retries=1, backoff=NOTHING, on_failure=None)
def each(record):
    match record.sequence_number % 3:
        case 0:
            raise ValueError(f"no {record.sequence_number}")
        case 1:
            raise LookupError("one")
    {}["missing"]
"""
MINUTE = 60.0
KINDS = ("function_failed", "record_dropped")


def run(calls, folder):
    """Run a worker until so many calls have failed; returns the lines of its log, and seconds."""
    from streamfn import Log

    (folder / "shop.py").write_text(APP)
    with Log.open(folder / "log") as log:
        log.create_stream("orders", durability="process").put_many([b"x"] * (calls // 2))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STREAMFN_")}
    command = [sys.executable, "-m", "streamfn", "worker", "shop.py", "--burst", "--log-dir", "log"]
    began = time.monotonic()
    with (folder / "stderr").open("w") as stderr:
        code = subprocess.run(command, cwd=folder, env=environment, stderr=stderr,
                              stdin=subprocess.DEVNULL, check=False).returncode  # fmt: skip
    assert code == 0, (folder / "stderr").read_text()[-2000:]
    return (folder / "stderr").read_text().splitlines(), time.monotonic() - began


def check(lines, calls):
    """Assert what the module says; returns the number of failed calls that the log counts."""
    events = [json.loads(line) for line in lines]
    shown, counted, tracebacks = defaultdict(list), Counter(), defaultdict(list)
    for event in events:
        at = datetime.fromisoformat(event["timestamp"]).timestamp()
        name = event.get("event")
        if name in KINDS:
            shown[name, event["errorType"], event["location"]].append(at)
            counted[name] += 1
        elif name == "failures_repeated":
            shown[event["failure"], event["errorType"], event["location"]].append(at)
            counted[event["failure"]] += event["times"]
        if event.get("stackTrace"):
            tracebacks[event["stackTrace"].splitlines()[-1]].append(at)
    assert len(shown) == 3 * len(KINDS), sorted(shown)
    for kind, times in shown.items():
        # The count at the end of the worker comes whenever that is.
        closest = min((b - a for a, b in pairwise(times[:-1])), default=MINUTE)
        assert closest >= MINUTE - 1, (kind, times)
    for text, times in tracebacks.items():
        closest = min((b - a for a, b in pairwise(times)), default=MINUTE)
        assert closest >= MINUTE - 1, (text, times)
    assert counted["function_failed"] == calls // 2 * 2, counted
    assert counted["record_dropped"] == calls // 2, counted
    [totals] = [each for each in events if each.get("event") == "totals"][-1:]
    assert totals["failures"] == counted["function_failed"], totals
    return counted["function_failed"]


def main():
    parser = argparse.ArgumentParser(prog="python tests/logs", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000, help="failing calls")
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        lines, seconds = run(calls, Path(folder))
        failed = check(lines, calls)
        size = (Path(folder) / "stderr").stat().st_size
    print(f"{failed:,} failed calls in {seconds:.0f} s: {len(lines)} lines, {size:,} bytes of log")


if __name__ == "__main__":
    main()
