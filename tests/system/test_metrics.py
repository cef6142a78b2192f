"""Metrics of real workers: they are right, and no death of a process takes a count back."""

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECORDS = 6_000
KILLS = 12
APP = """
import os, time
from streamfn import App, Backoff
from datetime import timedelta

app = App("shop")
QUICK = {"backoff": Backoff(base=timedelta(milliseconds=5), cap=timedelta(milliseconds=20))}


@app.stream("orders", batch_size=50, max_retries=-1, **QUICK)
def total(batch):
    time.sleep(0.004)


@app.stream("orders", input="record", max_retries=1, **QUICK)
def each(record):
    if record.data.endswith(b"7"):
        raise ValueError(record.data)
"""


@pytest.fixture
def page(run_streamfn, log_dir):
    """Reads the page of metrics: {name and labels: value}."""

    def read():
        ended = run_streamfn("metrics", "--log-dir", log_dir)
        assert ended.returncode == 0, ended.stderr
        lines = [line for line in ended.stdout.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    return read


def never_lower(before, after):
    """The counters and histograms that went back, with both values."""
    counted = re.compile(r"streamfn_\w+_(total|bucket|sum|count)\b")
    return {
        name: (value, after.get(name))
        for name, value in before.items()
        if counted.match(name) and after.get(name, -1) < value
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_counter_goes_back_when_processes_of_each_kind_are_killed(
    log, workers, kill_tree, page, tmp_path
):
    (tmp_path / "shop.py").write_text(APP)
    log.create_stream("orders", shards=2)
    chance, script = random.Random(5), Path(__file__).parent / "producer.py"
    arguments = [sys.executable, script, log.path, "orders", str(RECORDS), "50", "6"]
    producer = subprocess.Popen(arguments)
    readings, worker = [page()], workers.start("shop", "--processes", 2)
    for round_ in range(KILLS):
        time.sleep(chance.uniform(0.2, 0.6))
        readings.append(page())
        if round_ == KILLS // 2:
            producer.kill()
            producer.wait()
        elif round_ % 3:
            kill_tree.runner(worker, chance)
        else:
            kill_tree.worker(worker)
            worker.wait()
            worker = workers.start("shop", "--processes", 2)
        readings.append(page())
    kill_tree.worker(worker)
    worker.wait()
    assert workers.run("shop", "--burst") == 0
    readings.append(page())

    for before, after in itertools.pairwise(readings):
        assert never_lower(before, after) == {}
    last, records = readings[-1], sum(1 for batch in log.stream("orders").read() for _ in batch)
    for function in ("total", "each"):
        label = f'function="shop.{function}"'
        assert last[f"streamfn_records_delivered_total{{{label}}}"] >= records
        assert last[f"streamfn_lag_records{{{label}}}"] == 0
    assert last['streamfn_invocations_total{function="shop.total",outcome="ok"}'] >= records / 50
    given_up = 'streamfn_discarded_records_total{function="shop.each",reason="retries_exhausted"}'
    assert last[given_up] >= 0.09 * records


def test_the_page_has_what_one_worker_did_and_promtool_takes_it(
    log, workers, page, tmp_path, run_streamfn
):
    (tmp_path / "shop.py").write_text(APP)
    log.create_stream("orders").put_many([b"%d" % number for number in range(100)])
    assert workers.run("shop", "--burst") == 0

    found = page()

    each = 'function="shop.each"'
    assert found[f'streamfn_invocations_total{{{each},outcome="ok"}}'] == 90
    assert found[f'streamfn_invocations_total{{{each},outcome="error"}}'] == 20
    assert found[f"streamfn_records_delivered_total{{{each}}}"] == 110
    assert found[f"streamfn_invocation_duration_seconds_count{{{each}}}"] == 110
    assert found[f'streamfn_dlq_records{{{each},state="open"}}'] == 10
    total = 'function="shop.total"'
    assert found[f'streamfn_batch_size_records_bucket{{{total},le="20"}}'] == 0
    assert found[f'streamfn_batch_size_records_bucket{{{total},le="50"}}'] == 2
    assert found[f"streamfn_invocation_duration_seconds_sum{{{total}}}"] >= 0.008
    assert found["streamfn_records_appended_total"
                 '{stream="orders",shard="shardId-000000000000"}'] == 100  # fmt: skip
    for every in ("1s", "1h"):
        history = run_streamfn(
            "fn", "history", "each", "--every", every, "--json", "--log-dir", log.path
        )
        rows = json.loads(history.stdout)
        assert sum(row["failed"] for row in rows) == 20, "a short run is seen from its beginning"
        assert sum(row["calls"] * row["seconds"] for row in rows) == pytest.approx(110, rel=1e-3)
    removed = run_streamfn("fn", "rm", "each", "--yes", "--log-dir", log.path)
    assert removed.returncode == 0
    assert not [name for name in page() if each in name and "appended" not in name]

    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; all else of this test has passed")
    text = run_streamfn("metrics", "--log-dir", log.path).stdout
    checked = subprocess.run([promtool, "check", "metrics"], input=text, text=True,
                             capture_output=True, check=False)  # fmt: skip
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
