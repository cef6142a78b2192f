"""Tests for `streamfn.model.policy`."""

from datetime import timedelta
from random import Random

import pytest

from streamfn import App
from streamfn.errors import ConfigError
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.options import StreamOptions, mapping_fields
from streamfn.model.policy import PRESETS, Backoff, BatchPolicy, RetryPolicy

PATTERN = {"partitionKey": ["a"]}


def long_pattern(chars):
    """A pattern that is so many characters of JSON."""
    return {"partitionKey": ["a" * (chars - len('{"partitionKey":[""]}'))]}


class TestBackoff:
    """Tests for `Backoff`."""

    def test_the_limit_doubles_up_to_the_cap(self):
        limits = [Backoff().limit(exponent).total_seconds() for exponent in range(9)]

        assert limits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]

    def test_a_lane_that_is_stuck_for_weeks_overflows_nothing(self):
        assert Backoff(factor=1000.0).limit(10**9) == timedelta(seconds=60)

    def test_a_wait_is_drawn_evenly_from_zero_to_the_limit(self):
        backoff, random = Backoff(), Random(1)

        waits = [backoff.draw(2, random).total_seconds() for _ in range(1_000)]

        assert min(waits) >= 0
        assert max(waits) <= 2
        assert 0.9 < sum(waits) / len(waits) < 1.1

    @pytest.mark.parametrize(
        "values",
        [
            {"base": timedelta(seconds=-1)},
            {"base": timedelta(seconds=61)},
            {"factor": 0.5},
            {"factor": float("inf")},
            {"factor": "2"},
        ],
    )
    def test_a_back_off_that_makes_no_sense_is_refused(self, values):
        with pytest.raises(ConfigError, match="`backoff`"):
            Backoff(**values)

    def test_durations_are_written_as_everywhere_else(self):
        written = Backoff(base="500ms", cap=90)

        assert written == Backoff(base=timedelta(milliseconds=500), cap=timedelta(seconds=90))
        assert written.limit(1) == timedelta(seconds=1)

    @pytest.mark.parametrize("argument", ["base", "cap"])
    @pytest.mark.parametrize("value", ["soon", "", None, float("nan"), True])
    def test_a_text_that_is_no_duration_is_named(self, argument, value):
        with pytest.raises(ConfigError, match=f"^`backoff`: {argument} `{value}` is not a dur"):
            Backoff(**{argument: value})

    def test_a_base_above_the_cap_says_what_to_raise(self):
        with pytest.raises(
            ConfigError, match="base 2 m 00 s is longer than cap 1 m 00 s: raise `cap`"
        ):
            Backoff(base="2m")


class TestLimits:
    """Tests for the bounds of policies."""

    @pytest.mark.parametrize(
        ("make", "field"),
        [
            (lambda: BatchPolicy(size=0), "batch_size"),
            (lambda: BatchPolicy(size=100_001), "batch_size"),
            (lambda: BatchPolicy(window=timedelta(-1)), "batch_window"),
            (lambda: BatchPolicy(bytes=0), "batch_bytes"),
            (lambda: RetryPolicy(max_retries=-2), "max_retries"),
            (lambda: RetryPolicy(max_record_age=timedelta(0)), "max_record_age"),
            (lambda: RetryPolicy(on_exhausted="all"), "on_exhausted"),
        ],
    )
    def test_a_value_out_of_bounds_names_its_field(self, make, field):
        with pytest.raises(ConfigError) as caught:
            make()

        assert caught.value.field == field


class TestPresets:
    """Tests for `PRESETS`."""

    def test_a_preset_sets_only_what_the_decorator_takes(self):
        for preset in PRESETS.values():
            known = set(StreamOptions.__annotations__)
            assert set(preset.values) <= known
            assert set(preset.bounds) <= known

    def test_aws_has_the_values_of_aws(self):
        """The defaults of CreateEventSourceMapping, and the 3 s of a new function."""
        fields = mapping_fields(PRESETS["aws"].values)

        assert fields["retry"].max_retries == -1
        assert not fields["retry"].bisect
        assert not fields["retry"].report_failures
        assert fields["retry"].on_exhausted == "batch"
        assert fields["batch"] == BatchPolicy()
        assert fields["timeout"] == timedelta(seconds=3)
        assert fields["on_failure"] is None

    @pytest.mark.parametrize(
        ("argument", "allowed", "refused"),
        [
            ("batch_size", [1, 10_000], [10_001]),
            ("batch_window", [0, 300], [301, 0.5]),
            ("max_retries", [-1, 0, 10_000], [10_001]),
            ("max_record_age", [None, 60, 604_800], [59, 604_801]),
            ("parallelization_factor", [1, 10], [11]),
            ("timeout", [1, 900], [0.9, 901]),
            ("filter", [[PATTERN] * 5, long_pattern(4_096)], [[PATTERN] * 6, long_pattern(4_097)]),
        ],
    )
    def test_aws_has_the_bounds_of_aws(self, argument, allowed, refused):
        """The ranges of CreateEventSourceMapping; streamfn's own are wider."""
        bounds = PRESETS["aws"].bounds
        for value in allowed:
            mapping_fields({argument: value}, bounds)
        for value in refused:
            mapping_fields({argument: value})
            with pytest.raises(ConfigError, match="AWS") as caught:
                mapping_fields({argument: value}, bounds)
            assert caught.value.field == argument

    def test_bounds_hold_for_what_the_code_says_beside_the_preset(self):
        with pytest.raises(ConfigError) as caught:
            App("shop").stream("orders", preset="aws", batch_size=20_000)

        assert caught.value.field == "batch_size"


def test_a_backoff_of_the_users_own_is_no_matter_of_the_supervisor():
    """It stays in the process that waits; what travels has ours in its place."""

    class Fixed:
        def draw(self, exponent, random):
            return timedelta(seconds=1)

    mapping = EventSourceMapping(
        name="a.b", app="a", function="b", stream="s", retry=RetryPolicy(backoff=Fixed())
    )

    assert EventSourceMapping.from_dict(mapping.to_dict()).retry == RetryPolicy()


def test_a_mapping_travels_as_json():
    """A supervisor never imports the app: it reads this."""
    mapping = EventSourceMapping(
        name="shop.total",
        app="shop",
        function="total",
        stream="orders",
        input="record",
        batch=BatchPolicy(size=7, window=timedelta(milliseconds=200), bytes=9),
        retry=RetryPolicy(
            max_retries=-1,
            backoff=Backoff(base=timedelta(milliseconds=1), factor=3, cap=timedelta(seconds=2)),
            max_record_age=timedelta(days=1),
            bisect=False,
            report_failures=False,
            on_exhausted="batch",
        ),
        timeout=timedelta(milliseconds=1500),
        on_failure=None,
        version="0123456789ab",
        parallelization_factor=4,
        max_concurrency=2,
        memory=2**29,
        concurrent=True,
    )

    import json

    assert EventSourceMapping.from_dict(json.loads(json.dumps(mapping.to_dict()))) == mapping
    assert mapping.dlq_stream == "shop.total.dlq"
    assert mapping.redrive_stream == "shop.total.redrive"


def test_a_starting_time_travels_too():
    from datetime import UTC, datetime

    mapping = EventSourceMapping(
        name="a.b", app="a", function="b", stream="s", start=datetime(2026, 1, 2, 3, tzinfo=UTC)
    )

    assert EventSourceMapping.from_dict(mapping.to_dict()) == mapping
