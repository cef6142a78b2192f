"""The demo as `make demo` runs it: its totals are those of a plain count of the CSV."""

import csv
import json
import lzma
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from streamfn import Log
from streamfn.demo import story
from streamfn.demo.flights import DATA
from streamfn.engine.deadletter import DeadLetters

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def plain():
    """What a plain script counts, without streamfn: flights, and flights that were cancelled."""
    with lzma.open(DATA, "rt") as file:
        rows = list(csv.DictReader(file))
    return rows, [row for row in rows if row["dep_time"] == "NA"]


class Silent:
    """Watches the demo without showing it."""

    def __init__(self):
        self.acts = []

    def __getattr__(self, act):
        return lambda *_: self.acts.append(act)

    def runs(self, *_):
        self.acts.append("runs")
        return Silent()


def test_the_totals_are_those_of_a_plain_count(plain, log_dir):
    rows, cancelled = plain
    screen = Silent()

    totals = story.run(str(log_dir), screen)

    acts = ["begins", "has_put", "runs", "has_failed", "has_queued", "runs", "ends"]
    assert screen.acts == acts
    assert totals.put == len(rows)
    first, other = totals.first[story.BUGGY], totals.first[story.OTHER]
    assert first.records == len(rows) - len(cancelled)
    assert first.dead_lettered == first.retries == len(cancelled)
    assert (other.records, other.failures, other.dead_lettered) == (len(rows), 0, 0)
    assert totals.queued == len(cancelled)
    assert totals.second[story.BUGGY].records == len(cancelled)
    assert totals.left == 0
    assert totals.departed == len(rows) - len(cancelled)
    assert totals.cancelled == len(cancelled)
    assert totals.by_carrier == Counter(row["carrier"] for row in rows)
    hours = Counter(f"{int(row['dep_time']) // 100}h" for row in rows if row not in cancelled)
    assert totals.by_hour == hours + Counter(cancelled=len(cancelled))

    # The dead letters are exactly the cancelled flights, with payload and traceback.
    dead = Counter(tuple(sorted(json.loads(each.data).items())) for each in totals.dead)
    assert dead == Counter(tuple(sorted(row.items())) for row in cancelled)
    assert all('int(flight["dep_time"])' in each.traceback for each in totals.dead)
    with Log.open(log_dir) as log:
        resolved = DeadLetters(log, story.BUGGY).entries("resolved")
    assert len(resolved) == len(cancelled)


def test_the_screen_states_the_totals_and_fits_any_terminal(plain, run_streamfn):
    rows, cancelled = plain

    ended = run_streamfn("demo", env={"COLUMNS": "80"})

    assert (ended.returncode, ended.stderr) == (0, "")
    lines = [line.rstrip() for line in ended.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in ended.stdout
    end = next(line for line in lines if "departures, in the end" in line)
    assert re.split(r"\s{2,}", end.strip())[1:3] == [f"{len(rows):,}", str(len(cancelled))]
    assert end.endswith("0 left")
    assert f"{len(rows) - len(cancelled):,} departed, {len(cancelled)} cancelled" in ended.stdout
    assert lines.index(end) > next(n for n, line in enumerate(lines) if line.startswith("Totals"))


def test_a_terminal_without_our_letters_shows_others(run_streamfn):
    ended = run_streamfn("demo", env={"PYTHONIOENCODING": "ascii"})

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_log_can_be_kept_and_looked_at(run_streamfn, tmp_path):
    kept = run_streamfn("demo", "--log-dir", "flights-log")

    assert kept.returncode == 0
    assert "export STREAMFN_LOG_DIR=flights-log" in kept.stdout
    tail = run_streamfn("tail", "flights", "-e", "--log-dir", "flights-log")
    assert len(tail.stdout.splitlines()) == 6_099

    again = run_streamfn("demo", "--log-dir", "flights-log")
    assert again.returncode == 1
    assert "error: the demo has already run in flights-log" in again.stderr


def test_control_c_ends_it_cleanly_and_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "streamfn", "demo"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    demo = subprocess.Popen(command, env=environment, text=True, **pipes)
    try:
        while "2 processes" not in demo.stdout.readline():
            assert demo.poll() is None, demo.stderr.read()
        time.sleep(0.2)  # the worker takes over the signals as it starts
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=240)
    finally:
        demo.kill()

    assert demo.returncode == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
