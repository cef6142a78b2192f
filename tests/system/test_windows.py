"""kill -9 while tumbling windows open and close: the state of every final call is exact.

`STREAMFN_WINDOW_KILLS` sets how many kills there are, `STREAMFN_WINDOW_SEED` when and whom.
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

from streamfn import _core
from streamfn.engine.deadletter import DeadLetters

KILLS = int(os.environ.get("STREAMFN_WINDOW_KILLS", "24"))
SEED = int(os.environ.get("STREAMFN_WINDOW_SEED", "7"))
RECORDS = 6_000 + 250 * KILLS
SECONDS_A_KILL = 0.55
WIDTH_US = 250_000
WIDE_S = 12  # of a window in which a slow machine runs two workers


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
    stream = log.create_stream("orders", shards=2)
    script, seconds = Path(__file__).parent / "producer.py", SECONDS_A_KILL * KILLS
    numbers = map(str, (RECORDS, 50, seconds))
    producer = subprocess.Popen([sys.executable, script, log.path, "orders", *numbers])
    chance = random.Random(SEED)
    killed = 0
    worker = workers.start("windowed", "--processes", 2, FINALS=finals_dir)
    while killed < KILLS:
        time.sleep(chance.uniform(0.1, 2 * SECONDS_A_KILL - 0.1))
        if killed % 8 == 5:
            split_or_merge(stream)
        if killed % 3 == 2:
            killed += bool(kill_tree.worker(worker))
            worker.wait(240)
            worker = workers.start("windowed", "--processes", 2, FINALS=finals_dir)
        else:
            killed += bool(kill_tree.runner(worker, chance))
    assert producer.wait(240) == 0

    expected = expected_finals(stream)
    until(lambda: set(read_finals(finals_dir)) == set(expected), 240)
    finals = read_finals(finals_dir)
    count = sum(map(len, finals.values()))
    print(f"kills {killed}, windows {len(expected)}, final calls {count}")
    assert len(expected) > KILLS, "windows opened and closed all the time"
    assert count > len(expected), "some final calls were repeated"
    assert {window: [total] for window, total in expected.items()} == {
        window: unique(states) for window, states in finals.items()
    }


@pytest.mark.slow
def test_a_burst_leaves_the_window_open_and_the_next_worker_goes_on(
    log, workers, finals_dir, until
):
    """`--burst` waits for no window; what it counted is in the state that the next worker reads."""
    app = (workers.apps / "windowed.py").read_text().replace("250ms", f"{WIDE_S}s")
    (workers.folder / "wide.py").write_text(app)
    stream = log.create_stream("orders")
    wait_for_a_new_window(WIDE_S)
    stream.put_many([b"x"] * 30)

    assert workers.run("wide", "--burst", FINALS=finals_dir) == 0
    assert not read_finals(finals_dir)
    stream.put_many([b"x"] * 10)
    workers.start("wide", FINALS=finals_dir)
    until(lambda: read_finals(finals_dir))
    [states] = read_finals(finals_dir).values()
    assert unique(states) == [[40, sum(range(40))]]


@pytest.mark.slow
def test_a_pause_leaves_the_window_open_and_a_resume_goes_on(
    log, workers, finals_dir, until, run_streamfn
):
    """What was counted before the pause, and what came meanwhile, is in the state once."""
    stream = log.create_stream("orders")
    workers.start("windowed", "--processes", 1, FINALS=finals_dir)
    stream.put_many([b"x"] * 100)
    until(lambda: read_finals(finals_dir))

    assert run_streamfn("fn", "pause", "total", "--log-dir", log.path).returncode == 0
    before = read_finals(finals_dir)
    stream.put_many([b"x"] * 100)
    time.sleep(3 * WIDTH_US / 1e6)
    assert read_finals(finals_dir) == before, "no window closes meanwhile"
    stream.put_many([b"x"] * 100)
    assert run_streamfn("fn", "resume", "total", "--log-dir", log.path).returncode == 0

    expected = {window: [total] for window, total in expected_finals(stream).items()}
    until(lambda: set(read_finals(finals_dir)) == set(expected))
    assert {key: unique(states) for key, states in read_finals(finals_dir).items()} == expected


def replay(run_streamfn, log, *options):
    """Ask for a replay of `orders` to `total`."""
    ended = run_streamfn("replay", "orders", "--fn", "total", "--log-dir", log.path, *options)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_replay_has_states_of_its_own(log, workers, finals_dir, until, run_streamfn):
    """It makes the final call of its last window at its end; the live window goes on untouched."""
    app = (workers.apps / "windowed.py").read_text().replace("250ms", f"{WIDE_S}s")
    (workers.folder / "wide.py").write_text(app)
    stream = log.create_stream("orders")
    wait_for_a_new_window(WIDE_S)
    stream.put_many([b"x"] * 30)
    assert workers.run("wide", "--burst", FINALS=finals_dir) == 0

    replay(run_streamfn, log, "--from", 10, "--to", 20)
    assert workers.run("wide", "--burst", FINALS=finals_dir) == 0
    [(window, states)] = read_finals(finals_dir).items()
    assert unique(states) == [[10, 145]], "of a part of a window the state is that of the part"

    stream.put_many([b"x"] * 10)
    workers.start("wide", FINALS=finals_dir)
    until(lambda: len(unique(read_finals(finals_dir)[window])) > 1)
    assert unique(read_finals(finals_dir)[window]) == [[10, 145], [40, sum(range(40))]]
    assert set(read_finals(finals_dir)) == {window}


@pytest.mark.slow
def test_a_replay_has_the_windows_of_the_first_time_whoever_is_killed(
    log, workers, finals_dir, until, run_streamfn, kill_tree
):
    """Windows come from append times, so each final call says what it said before."""
    stream = log.create_stream("orders")
    for _ in range(12):
        stream.put_many([b"x"] * 250)
        time.sleep(0.08)
    time.sleep(WIDTH_US / 1e6)
    assert workers.run("windowed", "--burst", FINALS=finals_dir) == 0
    expected = {window: [total] for window, total in expected_finals(stream).items()}
    assert {key: unique(states) for key, states in read_finals(finals_dir).items()} == expected
    for path in finals_dir.iterdir():
        path.unlink()

    chance = random.Random(SEED)
    replay(run_streamfn, log)
    worker = workers.start("windowed", "--processes", 1, FINALS=finals_dir)
    for windows in (1, 2, 3):
        until(lambda: len(read_finals(finals_dir)) >= windows)  # noqa: B023 -- called in this round
        kill_tree.runner(worker, chance)
    until(lambda: _core.Mapping.names(log.core) == ["windowed.total"])

    assert {key: unique(states) for key, states in read_finals(finals_dir).items()} == expected


GIVING_UP = """
from streamfn import App, Batch

app = App("shop")

@app.stream("orders", tumbling_window="100ms", max_retries=0, to="never")
def total(batch: Batch):
    if batch.is_final:
        raise ValueError("told to fail")
    batch.state = [*(batch.state or []), *(record.sequence_number for record in batch)]
"""


def test_a_state_that_a_replay_gives_up_hides_no_other(log, workers, run_streamfn, tmp_path):
    """All are about one window, the live one and those of two replays, and are not the same."""
    (tmp_path / "giving_up.py").write_text(GIVING_UP)
    wait_for_a_new_window(0.1)
    log.create_stream("orders").put_many([b"x"] * 5)
    time.sleep(0.1)
    assert workers.run("giving_up", "--burst") == 0

    for first in (2, 3):
        replay(run_streamfn, log, "--from", first)
        assert workers.run("giving_up", "--burst") == 0

    letters = DeadLetters(log, "shop.total").entries()
    found = {letter.id.partition(":")[2]: letter.data for letter in letters}
    assert found == {
        "5:window": b"[0,1,2,3,4]",
        "5:window@replay-1": b"[2,3,4]",
        "5:window@replay-2": b"[3,4]",
    }
    assert log.core.streams(internal=True).count("shop.total@replay-1.dlq") == 0


@pytest.mark.slow
def test_after_a_seek_the_windows_from_there_on_are_counted_afresh(
    log, workers, finals_dir, until, run_streamfn
):
    """The state of the window that was open is forgotten: each final call says what it said."""
    stream = log.create_stream("orders", shards=2)
    workers.start("windowed", "--processes", 1, FINALS=finals_dir)
    for _ in range(4):
        wait_for_a_new_window(WIDTH_US / 1e6)
        stream.put_many([b"x"] * 100, [f"k{n}" for n in range(100)])
    until(lambda: sum(map(len, read_finals(finals_dir).values())) >= 6)
    before = read_finals(finals_dir)

    seek = run_streamfn("fn", "seek", "total", "beginning", "--log-dir", log.path)
    assert seek.returncode == 0, seek.stderr

    expected = {window: [total] for window, total in expected_finals(stream).items()}
    until(lambda: all(len(read_finals(finals_dir)[w]) > len(before[w]) for w in expected))
    assert {key: unique(states) for key, states in read_finals(finals_dir).items()} == expected


def wait_for_a_new_window(width):
    """Sleep until a window of this width, in seconds, has begun just now."""
    time.sleep(width - time.time() % width + 0.01)


def split_or_merge(stream):
    """Split the first of two open shards; merge the first two of three."""
    shards = [shard for shard in stream.info().shards if shard.is_open]
    first, second, *more = [
        shard.shard_id for shard in sorted(shards, key=lambda shard: shard.hash_keys)
    ]
    if more:
        stream.merge(first, second)
    else:
        stream.split(first)


def unique(states):
    """The states without repetitions."""
    return [json.loads(text) for text in sorted({json.dumps(state) for state in states})]
