"""The limits of docs/limits.md that Python keeps: taken at the edge, refused one beyond it."""

from datetime import timedelta
from random import Random

import pytest

from streamfn import App, Backoff, ConfigError, Log
from streamfn.model.policy import BatchPolicy
from streamfn.testing import run_once


def refused(call, *arguments, **options):
    """The field that an error names."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    return caught.value.field


def register(app="app", stream="s", name="f", **options):
    """Register a function."""
    App(app).stream(stream, name=name, **options)(lambda batch: None)


class TestFunctions:
    """Tests for what a function is registered with."""

    @pytest.mark.parametrize(
        ("argument", "least", "most"),
        [
            ("batch_size", 1, 100_000),
            ("batch_bytes", 1, 2**63 - 1),
            ("parallelization_factor", 1, 256),
            ("max_concurrency", 1, 1_000_000),
            ("max_retries", -1, 1_000_000),
            ("memory", 16 * 2**20, 2**63 - 1),
        ],
    )
    def test_whole_numbers(self, argument, least, most):
        for value in (least, most):
            register(**{argument: value})

        for value in (least - 1, most + 1):
            assert refused(register, **{argument: value}) == argument

    @pytest.mark.parametrize(
        "argument", ["timeout", "batch_window", "max_record_age", "tumbling_window"]
    )
    def test_durations(self, argument):
        most = timedelta(days=3_650)
        for value in ("1us", most, "3650d", most.total_seconds()):
            register(**{argument: value})

        beyond = (most + timedelta(microseconds=1), "3000000d", timedelta.max, 10**400)
        for value in (*beyond, "-1us", timedelta.min, float("nan"), float("inf"), -1):
            assert refused(register, **{argument: value}) == argument
        with pytest.raises(ConfigError, match="3000000 d 00 h is longer than 3650 d 00 h"):
            register(**{argument: "3000000d"})

    def test_a_backoff(self):
        most = timedelta(days=3_650)
        Backoff(base=most, cap=most).draw(64, Random(1))

        for wrong in (most + timedelta(microseconds=1), timedelta.max, "11y", None):
            assert refused(Backoff, cap=wrong) == "backoff"
            assert refused(Backoff, base=wrong, cap=most) == "backoff"

    def test_at_all_limits_at_once_a_function_runs(self):
        """What is accepted overflows no clock, neither of a call nor of a wait."""
        app, most = App("app"), timedelta(days=3_650)
        names = ("timeout", "batch_window")
        options = {
            "backoff": Backoff(base=most, cap=most),
            "max_retries": 2,
            "batch_bytes": 2**63 - 1,
        }
        calls = []

        @app.stream("s", max_concurrency=1_000_000, **dict.fromkeys(names, most), **options)
        async def work(batch):
            calls.append(len(batch))
            raise ValueError

        driver = run_once(app, {"s": [b"x"]})

        assert len(calls) == 3
        assert [letter.attempts for letter in driver.dead_letters("work")] == [3]

    def test_a_batch_closes_by_bytes_and_time_of_any_size(self):
        assert BatchPolicy(size=1, window=timedelta(0), bytes=1).bytes == 1

    def test_names_of_apps_and_functions(self):
        """Each is limited, and both together: the longest internal stream is a file's name."""
        register("a" * 128, "s" * 128, "f" * 118)
        register("a" * 118, "s", "f" * 128)

        assert refused(register, "a" * 129) == "App"
        assert refused(register, "a", "s" * 129) == "source"
        assert refused(register, "a", "s", "f" * 129) == "name"
        assert refused(register, "a" * 128, "s", "f" * 119) == "name"


class TestStreams:
    """Tests for how a stream is made."""

    def test_a_retention_is_any_age_or_size(self, log_dir):
        with Log.open(log_dir) as log:
            for number, retention in enumerate(("1s", "100000d", "1B", "1TiB")):
                log.create_stream(f"s{number}", retention=retention)

            wrong = ("soon", "-1d", "0s", "0B", "-5B", ("1d", "2d"), "8388608TiB", "9" * 400 + "B")
            for retention in wrong:
                assert refused(log.create_stream, "none", retention=retention) == "retention"
            assert len(log.streams()) == 4
