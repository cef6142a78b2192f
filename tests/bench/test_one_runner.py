"""Tests for `OneRunner`: it ends, whatever the function does."""

import signal

import pytest

from streamfn import App, Log
from streamfn.bench.one_runner import OneRunner

PATIENCE = 240


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "log") as log:
        log.create_stream("orders", shards=2).put_many([b"%d" % n for n in range(100)])
        yield log


def app_of(function, **options):
    app = App("shop")
    app.stream("orders", name="function", batch_size=10, **options)(function)
    return app


@pytest.mark.parametrize(("kind", "count"), [("batch", len), ("record", lambda record: 1)])
def test_it_calls_the_function_with_all_that_is_there(log, kind, count):
    seen = []
    app = app_of(lambda given: seen.append(count(given)), input=kind)

    with OneRunner(log, app) as runner:
        runner.run(lambda: sum(seen) >= 100)

    assert sum(seen) == 100


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("kind", ["batch", "record"])
def test_a_function_that_fails_ends_it(log, kind):
    def function(given):
        raise LookupError("no")

    with (
        pytest.raises(RuntimeError, match=r"function_failed.*LookupError"),
        OneRunner(log, app_of(function, input=kind)) as runner,
    ):
        runner.run(lambda: False)


@pytest.mark.timeout(PATIENCE)
@pytest.mark.parametrize("kind", ["batch", "record"])
def test_ctrl_c_during_a_call_ends_it(log, kind):
    def function(given):
        signal.raise_signal(signal.SIGINT)

    with (
        pytest.raises(KeyboardInterrupt),
        OneRunner(log, app_of(function, input=kind)) as runner,
    ):
        runner.run(lambda: False)


@pytest.mark.timeout(PATIENCE)
def test_ctrl_c_between_two_calls_ends_it(log):
    def is_done():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), OneRunner(log, app_of(len)) as runner:
        runner.run(is_done)


def test_lanes_that_another_has_are_not_waited_for(log):
    with (
        OneRunner(log, app_of(len)),
        pytest.raises(RuntimeError, match="is not to be had"),
        OneRunner(log, app_of(len)),
    ):
        pass
