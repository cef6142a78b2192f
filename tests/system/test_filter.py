"""A worker with a filter: what is delivered, where the checkpoint stands, what is counted."""

import json
import subprocess
import sys

import pytest

from streamfn import _core

EVENS = '{"data":{"even":[true]}}'


@pytest.fixture
def seen(tmp_path):
    """Returns (batch size, sequence number, data) of what the functions saw, in order."""
    folder = tmp_path / "seen"
    folder.mkdir()

    def read():
        texts = [path.read_text() for path in folder.iterdir()]
        # The last line may be on its way.
        lines = [line for text in texts for line in text[: text.rfind("\n") + 1].splitlines()]
        parts = [line.split(" ", 2) for line in lines]
        return sorted((int(number), int(size), data) for size, number, data in parts)

    read.path = folder
    return read


def put(log, count, **more):
    orders = log.stream("orders")
    values = [json.dumps({"n": n, "even": n % 2 == 0, **more}).encode() for n in range(count)]
    orders.put_many(values, [f"k{n % 7}" for n in range(count)])


def lanes(log, stream="orders"):
    return _core.Mapping.open(log.core, "sifted.work").lanes(stream)


def totals(errors):
    """The line that says at the end what each function did."""
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("event") == "totals"]
    return line["message"]


def test_only_matching_records_are_delivered_in_full_batches(log, workers, seen):
    """Filters run before batching: a batch counts matching records."""
    log.create_stream("orders", shards=1)
    put(log, 1_000)

    assert workers.run("sifted", "--burst", FILTER=EVENS, NOTES=seen.path, SIZE=50) == 0

    numbers = [number for number, _, _ in seen()]
    assert numbers == list(range(0, 1_000, 2))
    assert {size for _, size, _ in seen()} == {50}


@pytest.mark.parametrize("factor", [1, 3])
def test_the_checkpoint_passes_what_is_filtered(log, workers, seen, factor):
    """Also at the end, where no batch follows; so the next run has nothing to look at."""
    log.create_stream("orders", shards=2)
    put(log, 1_001)
    environment = {"FILTER": EVENS, "NOTES": seen.path, "FACTOR": factor}

    assert workers.run("sifted", "--burst", **environment) == 0

    assert len(seen()) == 501
    assert [lane.checkpoint for lane in lanes(log)] == [lane.end for lane in lanes(log)]
    again = workers.start("sifted", "--burst", **environment)
    assert again.wait(240) == 0
    assert "matched" not in totals(workers.errors_of(again))


def test_a_filter_that_matches_nothing_ends_a_burst_and_keeps_its_place(log, workers, seen):
    log.create_stream("orders", shards=1)
    put(log, 500)
    log.stream("orders").put(b"not json")

    worker = workers.start("sifted", "--burst", FILTER='{"data":{"n":[-1]}}', NOTES=seen.path)

    assert worker.wait(240) == 0
    assert seen() == []
    assert [lane.checkpoint for lane in lanes(log)] == [501]
    assert totals(workers.errors_of(worker)).endswith("500 filtered out, 1 not JSON")


def test_a_running_worker_writes_the_place_of_a_lane_that_matches_nothing(
    log, workers, seen, until
):
    log.create_stream("orders", shards=1)
    workers.start("sifted", "--processes", 1, FILTER='{"data":{"n":[-1]}}', NOTES=seen.path)
    until(lambda: _core.Mapping.open(log.core, "sifted.work") and lanes(log))

    put(log, 100)

    until(lambda: [lane.checkpoint for lane in lanes(log)] == [100])


def test_what_is_redriven_is_not_filtered_again(log, log_dir, workers, seen):
    """A filter that has changed since must not swallow it."""
    log.create_stream("orders", shards=1)
    log.stream("orders").put(b'{"even":true,"poison":1}')
    assert workers.run("sifted", "--burst", FILTER=EVENS, NOTES=seen.path) == 0
    assert len(seen()) == 1
    redrive = ["dlq", "redrive", "work", "--log-dir", str(log_dir)]
    subprocess.run([sys.executable, "-m", "streamfn", *redrive], check=True, timeout=60)

    worker = workers.start("sifted", "--burst", FILTER='{"data":{"n":[-1]}}', NOTES=seen.path)

    assert worker.wait(240) == 0
    assert len(seen()) == 2
    assert "matched" not in totals(workers.errors_of(worker))


def test_a_killed_worker_repeats_matching_records_only(log, workers, seen, until, kill):
    """What was in flight is read again through the filter."""
    log.create_stream("orders", shards=2)
    put(log, 2_000)
    environment = {"FILTER": EVENS, "NOTES": seen.path, "SLOW": 0.05, "FACTOR": 2}
    worker = workers.start("sifted", "--processes", 2, **environment)
    until(lambda: len(seen()) > 200)

    kill(worker.pid)
    worker.wait(240)
    assert workers.run("sifted", "--burst", **environment | {"SLOW": 0}) == 0

    ns = [json.loads(data)["n"] for _, _, data in seen()]
    assert set(ns) == set(range(0, 2_000, 2))
    assert [lane.checkpoint for lane in lanes(log)] == [lane.end for lane in lanes(log)]
