"""kill -9 while tumbling windows open and close: the state of every final call is exact.

`STREAMFN_WINDOW_KILLS` sets how many kills there are.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

KILLS = int(os.environ.get("STREAMFN_WINDOW_KILLS", "24"))
RECORDS = 6_000 + 250 * KILLS
SECONDS_A_KILL = 0.55
WIDTH_US = 250_000


@pytest.fixture
def finals_dir(tmp_path):
    """Where the function writes down its final calls."""
    folder = tmp_path / "finals"
    folder.mkdir()
    return folder


def read_finals(folder):
    """All final calls: what was seen for each shard and window."""
    finals = defaultdict(list)
    for path in folder.iterdir():
        text = path.read_text()
        for line in text[: text.rfind("\n") + 1].splitlines():
            shard_id, start, end, state = json.loads(line)
            finals[shard_id, start, end].append(state)
    return finals


def expected_finals(stream):
    """What the final calls have to say, from the records' own times."""
    totals = defaultdict(lambda: [0, 0])
    for batch in stream.read():
        for record in batch:
            start = record.timestamp_us - record.timestamp_us % WIDTH_US
            total = totals[record.shard_id, start, start + WIDTH_US]
            total[0] += 1
            total[1] += record.sequence_number
    return dict(totals)


@pytest.mark.slow
@pytest.mark.fact("W-4")
@pytest.mark.timeout(120 + 3 * KILLS)
def test_the_state_of_a_final_call_is_exact_whatever_is_killed(
    log, workers, finals_dir, kill_tree, until
):
    """A repeated final call has the same window and state; by shard and window it is one result."""
    log.create_stream("orders", shards=2)
    script, seconds = Path(__file__).parent / "producer.py", SECONDS_A_KILL * KILLS
    numbers = map(str, (RECORDS, 50, seconds))
    producer = subprocess.Popen([sys.executable, script, log.path, "orders", *numbers])
    chance = random.Random(7)
    killed = 0
    worker = workers.start("windowed", "--processes", 2, FINALS=finals_dir)
    while killed < KILLS:
        time.sleep(chance.uniform(0.1, 2 * SECONDS_A_KILL - 0.1))
        if killed % 3 == 2:
            killed += bool(kill_tree.worker(worker))
            worker.wait(10)
            worker = workers.start("windowed", "--processes", 2, FINALS=finals_dir)
        else:
            killed += bool(kill_tree.runner(worker, chance))
    assert producer.wait(60) == 0

    expected = expected_finals(log.stream("orders"))
    until(lambda: set(read_finals(finals_dir)) == set(expected), 60)
    finals = read_finals(finals_dir)
    assert len(expected) > KILLS, "windows opened and closed all the time"
    assert {window: [total] for window, total in expected.items()} == {
        window: unique(states) for window, states in finals.items()
    }


@pytest.mark.slow
def test_a_burst_leaves_the_window_open_and_the_next_worker_goes_on(
    log, workers, finals_dir, until
):
    """`--burst` waits for no window; what it counted is in the state that the next worker reads."""
    app = (workers.apps / "windowed.py").read_text().replace("250ms", "4s")
    (workers.folder / "wide.py").write_text(app)
    stream = log.create_stream("orders")
    wait_for_a_new_window(4.0)
    stream.put_many([b"x"] * 30)

    assert workers.run("wide", "--burst", FINALS=finals_dir) == 0
    assert not read_finals(finals_dir)
    stream.put_many([b"x"] * 10)
    workers.start("wide", FINALS=finals_dir)
    until(lambda: read_finals(finals_dir))
    [states] = read_finals(finals_dir).values()
    assert unique(states) == [[40, sum(range(40))]]


def wait_for_a_new_window(width):
    """Sleep until a window of this width, in seconds, has begun just now."""
    time.sleep(width - time.time() % width + 0.01)


def unique(states):
    """The states without repetitions."""
    return [json.loads(text) for text in sorted({json.dumps(state) for state in states})]
