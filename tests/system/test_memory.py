"""Functions with `memory=`: a leak costs no record, and a record that eats memory is found."""

import collections
import json

import pytest

from streamfn.engine.deadletter import DeadLetters
from streamfn.telemetry.counters import Counter, read_counters

HEAD = """
import os, time
from streamfn import App
app = App("shop")
LEAKED = []
MIB = 2**20

def note(name, record):
    with open(os.path.dirname(__file__) + "/calls", "a") as file:
        file.write(f"{os.getpid()} {name} {record.text()}\\n")

@app.stream("orders", input="record", max_retries=0)
def neighbour(record):
    note("neighbour", record)
"""
LIMIT = "the call's process exceeded its memory limit of 128 MiB"


class Run:
    """What a worker left behind."""

    def __init__(self, folder, log, stderr):
        self.stderr = stderr
        self._log = log
        lines = [line.split() for line in (folder / "calls").read_text().splitlines()]
        self.calls = [(int(pid), name, text) for pid, name, text in lines]

    def letters(self, name):
        entries = DeadLetters(self._log, name).entries()
        return [(e.data.decode(), e.error_type, e.error_message) for e in entries]

    def attempts(self, name):
        return [e.attempts for e in DeadLetters(self._log, name).entries()]

    def records(self, name):
        return collections.Counter(text for _, each, text in self.calls if each == name)

    def processes(self, name):
        return {pid for pid, each, _ in self.calls if each == name}

    def has_untouched_neighbour(self, records):
        """Whether the other function was called once with each record, and shared no process."""
        is_apart = not self.processes("neighbour") & self.processes("handle")
        return is_apart and self.records("neighbour") == collections.Counter(records)


@pytest.fixture
def run(tmp_path, log, workers):
    """Runs an app over records until nothing is left."""

    def run(body, records, *arguments, shards=1, keys=None):
        (tmp_path / "shop.py").write_text(HEAD + body)
        log.create_stream("orders", shards=shards).put_many([r.encode() for r in records], keys)
        worker = workers.start("shop", "--burst", *arguments)
        assert worker.wait(300) == 0, workers.errors_of(worker)
        return Run(tmp_path, log, workers.errors_of(worker))

    return run


@pytest.mark.parametrize("kind", ["record", "batch"])
def test_a_leak_costs_no_record(run, kind):
    """Without retries: the process is replaced, and no attempt counts."""
    records = [f"r{n}" for n in range(30)]
    ran = run(
        f"""
@app.stream("orders", input="{kind}", batch_size={30 if kind == "record" else 2},
            max_retries=0, memory="128MiB")
def handle(event):
    for record in [event] if "{kind}" == "record" else event:
        LEAKED.append(bytearray(20 * MIB))
        time.sleep(0.06)
        note("handle", record)
""",
        records,
    )

    assert ran.letters("shop.handle") == []
    assert set(ran.records("handle")) == set(records)
    assert len(ran.processes("handle")) > 3
    assert ran.has_untouched_neighbour(records)
    assert "exceeded its memory limit of 128 MiB" in ran.stderr


@pytest.mark.parametrize(
    "options",
    ["max_retries=0", 'max_retries=0, filter={"partitionKey": [{"anything-but": "s3"}]}'],
    ids=["all", "filtered"],
)
def test_a_record_that_eats_memory_is_found_and_no_other(run, log, options):
    records = [f"r{n}" for n in range(20)] + ["bad"] + [f"s{n}" for n in range(20)]
    ran = run(
        f"""
@app.stream("orders", input="record", memory="128MiB", {options})
def handle(record):
    note("handle", record)
    if record.text() == "bad":
        eaten = bytearray(1024 * MIB)
        time.sleep(5)
""",
        records,
        keys=records,
    )

    assert ran.letters("shop.handle") == [("bad", "FunctionOutOfMemory", LIMIT)]
    of_it = '"event":"memory_exceeded"'
    told = next(line for line in ran.stderr.splitlines() if of_it in line)
    event = json.loads(told)
    assert (event["level"], event["function"]) == ("WARN", "shop.handle")
    assert event["memory_limit"] == 128 * 2**20 < event["memory_found"]
    assert event["message"].startswith("process exceeded its memory limit of 128 MiB (")
    counters = read_counters(log.core, "shop.handle")
    assert (counters[Counter.CRASHES], counters[Counter.FAILED_CALLS]) == (1, 1)
    assert set(ran.records("handle")) == set(records) - ({"s3"} if "filter" in options else set())
    assert max(v for k, v in ran.records("handle").items() if k != "bad") == 1
    assert ran.has_untouched_neighbour(records)


@pytest.mark.parametrize(("head", "shards"), [("def", 1), ("def", 4), ("async def", 4)])
def test_a_slow_leak_of_many_calls_blames_none(run, head, shards):
    records = [f"r{n}" for n in range(200)]
    ran = run(
        f"""
@app.stream("orders", input="record", batch_size=50, max_retries=0, memory="64MiB")
{head} handle(record):
    LEAKED.append(bytearray(MIB))
    time.sleep(0.01)
    note("handle", record)
""",
        records,
        shards=shards,
        keys=records,
    )

    assert ran.letters("shop.handle") == []
    assert set(ran.records("handle")) == set(records)
    assert len(ran.processes("handle")) > 2
    assert ran.has_untouched_neighbour(records)


def test_a_leak_ends_too_where_a_success_must_be_written(run, log):
    """What records return is in the memory of the process that is killed: they are called again."""
    records = [f"r{n}" for n in range(20)]
    ran = run(
        """
@app.stream("orders", input="record", max_retries=0, memory="128MiB", to="results")
def handle(record):
    LEAKED.append(bytearray(20 * MIB))
    time.sleep(0.06)
    note("handle", record)
    return record.data
""",
        records,
    )

    assert ran.letters("shop.handle") == []
    assert {r.text() for batch in log.stream("results").read() for r in batch} == set(records)


@pytest.mark.parametrize("head", ["def", "async def"])
def test_in_company_only_the_call_that_eats_memory_is_blamed(run, head):
    records = [f"r{n}" for n in range(40)] + ["bad"] + [f"s{n}" for n in range(40)]
    ran = run(
        f"""
import asyncio

@app.stream("orders", input="record", max_retries=1, memory="128MiB", parallelization_factor=4)
{head} handle(record):
    note("handle", record)
    if record.text() == "bad":
        eaten = bytearray(1024 * MIB)
        time.sleep(5)
    {"await asyncio" if head != "def" else "time"}.sleep(0.02)
""",
        records,
        "--threads=4",
        shards=2,
        keys=records,
    )

    assert ran.letters("shop.handle") == [("bad", "FunctionOutOfMemory", LIMIT)]
    assert ran.attempts("shop.handle") == [2]
    assert set(ran.records("handle")) == set(records)
    assert ran.has_untouched_neighbour(records)


def test_a_batch_is_split_until_the_record_that_eats_memory_is_alone(run):
    records = [f"r{n}" for n in range(7)] + ["bad"] + [f"s{n}" for n in range(8)]
    ran = run(
        """
@app.stream("orders", max_retries=0, memory="128MiB")
def handle(batch):
    for record in batch:
        note("handle", record)
        if record.text() == "bad":
            eaten = bytearray(1024 * MIB)
            time.sleep(5)
""",
        records,
    )

    assert ran.letters("shop.handle") == [("bad", "FunctionOutOfMemory", LIMIT)]
    assert set(ran.records("handle")) == set(records)
    assert ran.has_untouched_neighbour(records)


def test_with_a_destination_the_record_is_found_after_the_ones_before_it_are_written(run, log):
    """It had records before it: they are called again first, which costs no retry."""
    records = [f"r{n}" for n in range(10)] + ["bad"] + [f"s{n}" for n in range(10)]
    ran = run(
        """
@app.stream("orders", input="record", max_retries=1, memory="128MiB", to="results")
def handle(record):
    note("handle", record)
    if record.text() == "bad":
        eaten = bytearray(1024 * MIB)
        time.sleep(5)
    return record.data
""",
        records,
    )

    assert ran.letters("shop.handle") == [("bad", "FunctionOutOfMemory", LIMIT)]
    assert ran.attempts("shop.handle") == [2]
    results = [r.text() for batch in log.stream("results").read() for r in batch]
    assert results == [record for record in records if record != "bad"]


def test_a_leak_in_windows_loses_no_state(run, log):
    records = [str(n) for n in range(24)]
    ran = run(
        """
@app.stream("orders", batch_size=2, max_retries=0, memory="128MiB", tumbling_window="3650d")
def handle(batch):
    LEAKED.append(bytearray(30 * MIB))
    time.sleep(0.06)
    batch.state = {"sum": (batch.state or {"sum": 0})["sum"] + sum(int(r.text()) for r in batch)}
    for record in batch:
        note("handle", record)
        note("state-" + str(batch.state["sum"]), record)
""",
        records,
    )

    assert ran.letters("shop.handle") == []
    assert set(ran.records("handle")) == set(records)
    last = [name for _, name, _ in ran.calls if name.startswith("state-")][-1]
    assert last == f"state-{sum(range(24))}"
