"""Errors of any size in a worker: what it logs and keeps of them is short."""

import pytest

from streamfn.engine.deadletter import DeadLetters

STDERR_BYTES_MAX = 64 * 2**10

APP = """
from streamfn import App, Batch, Reject

app = App("shop")
LARGE = 20_000_000


class Unreadable(Exception):
    def __str__(self):
        return "x" * LARGE


def message():
    raise ValueError("x" * LARGE)


def key():
    return {{}}["x" * LARGE]


def rejection():
    raise Reject("x" * LARGE)


def text():
    raise Unreadable


def name():
    raise type("E" * LARGE, (Exception,), {{}})


def group():
    raise ExceptionGroup("many", [ValueError("x" * 1_000)] * 100_000)


def causes():
    error = None
    for _ in range(2_000):
        try:
            raise ValueError("x" * 10_000) from error
        except ValueError as caught:
            error = caught
    raise error


def note():
    error = ValueError("no")
    error.add_note("x" * LARGE)
    raise error


@app.stream("orders", max_retries=1, {options})
def fn(batch: Batch):
    kind = batch[0].text()
    if kind == "marked":
        return batch.fail(batch[0], "x" * LARGE)
    if kind == "reported":
        return {{"batchItemFailures": ["x" * LARGE]}}
    if kind == "unreadable report":
        return {{"batchItemFailures": [dict.fromkeys(range(2_000_000))]}}
    return globals()[kind]()
"""

KINDS = [
    "message", "key", "rejection", "text", "name", "group", "causes", "note",
    "marked", "reported", "unreadable report",
]  # fmt: skip


@pytest.fixture
def shop(log, workers, tmp_path):
    """Runs the app until nothing is left; returns what it wrote to stderr, and the dead letters."""

    def shop(*kinds, options="report_failures=True", app=APP):
        (tmp_path / "shop.py").write_text(app.format(options=options))
        log.create_stream("orders").put_many([kind.encode() for kind in kinds])
        worker = workers.start("shop", "--burst", "--processes", 1)
        assert worker.wait(100) == 0
        return workers.errors_of(worker), DeadLetters(log, "shop.fn").entries()

    return shop


@pytest.mark.parametrize("kind", KINDS)
def test_one_record_with_a_large_error_takes_little_of_the_log(kind, shop):
    said, [letter] = shop(kind)

    assert len(said.encode()) < STDERR_BYTES_MAX
    assert letter.data == kind.encode()
    assert letter.error_type
    assert len(letter.error_type) + len(letter.error_message) + len(letter.traceback) < 40_000


def test_neither_does_one_of_an_async_function_called_with_each_record(shop):
    app = APP.replace("def fn(batch: Batch)", "async def fn(record)")
    app = app.replace("batch[0].text()", "record.text()")

    said, letters = shop("message", "group", options='input="record"', app=app)
    assert len(said.encode()) < 2 * STDERR_BYTES_MAX
    assert [letter.data for letter in letters] == [b"message", b"group"]


def test_an_app_that_fails_to_import_with_a_large_error_is_told_in_short(workers, tmp_path):
    (tmp_path / "shop.py").write_text('raise ValueError("x" * 20_000_000)\n')

    worker = workers.start("shop", "--burst")
    assert worker.wait(100) == 2
    said = workers.errors_of(worker)
    assert len(said.encode()) < STDERR_BYTES_MAX
    assert "`ValueError" in said or "(ValueError: xxx" in said
    assert 'shop.py", line 1' in said


def test_a_setting_with_a_large_value_is_told_in_short(workers, tmp_path):
    text = 'from streamfn import App\nApp("shop").stream("orders", start="x" * 20_000_000)\n'
    (tmp_path / "shop.py").write_text(text)

    worker = workers.start("shop", "--burst")
    assert worker.wait(100) == 78
    assert len(workers.errors_of(worker).encode()) < STDERR_BYTES_MAX
