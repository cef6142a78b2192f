"""The limits of docs/limits.md that Python keeps: taken at the edge, refused one beyond it."""

from datetime import timedelta

import pytest

from streamfn import App, ConfigError, Log
from streamfn.model.policy import BatchPolicy


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
        [("batch_size", 1, 100_000), ("parallelization_factor", 1, 256)],
    )
    def test_whole_numbers(self, argument, least, most):
        for value in (least, most):
            register(**{argument: value})

        for value in (least - 1, most + 1):
            assert refused(register, **{argument: value}) == argument

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

            for retention in ("soon", "-1d", "0s", "0B", "-5B", ("1d", "2d")):
                assert refused(log.create_stream, "none", retention=retention) == "retention"
            assert len(log.streams()) == 4
