"""`to=` and `on_success=`: functions in a row, each fed by what the one before returned."""

import random
import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

APP = """
import os, time
from streamfn import App

app = App("row")

@app.stream("orders", to="lines", batch_size=20)
def split(batch):
    time.sleep(float(os.environ.get("SLOW", "0")))
    for record in batch:
        order = record.json()
        for line in order["lines"]:
            yield {"order": order["id"], "line": line}, record.partition_key

@app.stream("lines", input="record", to="totals", on_success="audit", parallelization_factor=2)
def price(record):
    line = record.json()
    return f"{line['order']}/{line['line']}"
"""
ORDERS = 300


LETHAL_APP = """
import os, signal
from pathlib import Path
from streamfn import App

app = App("row")

@app.stream("orders", input="record", to="lines")
def price(record):
    if record.sequence_number == 60:
        try:
            Path(os.environ["DIED"]).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return record.data
"""


def put_orders(log):
    orders = log.create_stream("orders", shards=2)
    data = [orjson.dumps({"id": n, "lines": list(range(n % 4))}) for n in range(ORDERS)]
    orders.put_many(data, [f"customer-{n % 9}" for n in range(ORDERS)])


def records_of(log, name):
    return [record for batch in log.stream(name).read() for record in batch]


def expected():
    return {f"{n}/{line}" for n in range(ORDERS) for line in range(n % 4)}


@pytest.fixture
def app(tmp_path):
    (tmp_path / "row.py").write_text(APP)
    return "row"


def test_a_burst_brings_every_value_through_the_row(log, workers, app):
    put_orders(log)

    assert workers.run(app, "--burst") == 0

    totals = records_of(log, "totals")
    assert sorted(record.text() for record in totals) == sorted(expected())
    for record in totals:
        order = int(record.text().partition("/")[0])
        assert record.partition_key == f"customer-{order % 9}", "the key goes all the way"
    audit = [record.json() for record in records_of(log, "audit")]
    assert len(audit) == len(totals)
    assert {each["requestContext"]["condition"] for each in audit} == {"Success"}


def test_what_a_killed_worker_had_not_sent_is_sent_by_the_next(log, workers, app, kill_tree, until):
    """At least once: values may come twice, none is missing."""
    chance = random.Random(11)
    put_orders(log)
    for _ in range(6):
        worker = workers.start(app, "--processes", 2, SLOW=0.01)
        until((Path(log.path) / "streams" / "lines").exists)
        time.sleep(chance.uniform(0.1, 0.5))
        kill_tree.worker(worker)
        worker.wait()

    assert workers.run(app, "--burst") == 0

    found = Counter(record.text() for record in records_of(log, "totals"))
    assert set(found) == expected()


def test_what_a_killed_runner_had_not_sent_is_sent_by_the_next(log, workers, tmp_path):
    """Its supervisor knows which record ran, but not what the records before it had to send."""
    (tmp_path / "lethal.py").write_text(LETHAL_APP)
    data = [b"%d" % n for n in range(100)]
    log.create_stream("orders").put_many(data, ["ada"] * 100)

    assert workers.run("lethal", "--burst", DIED=tmp_path / "died") == 0

    assert list(dict.fromkeys(record.data for record in records_of(log, "lines"))) == data
