"""Tests for `streamfn.units`."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from streamfn.units import (
    format_count,
    format_duration,
    format_size,
    from_microseconds,
    parse_duration,
    parse_size,
    to_microseconds,
)


class TestParseDuration:
    """Tests for `parse_duration`."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("500ms", 0.5),
            ("250us", 0.00025),
            ("5s", 5),
            ("5 s", 5),
            ("2m", 120),
            ("1h", 3600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("7d", 604_800),
            ("0.5s", 0.5),
            ("10", 10),
            ("0", 0),
            (10, 10),
            (0.2, 0.2),
            (0, 0),
            (timedelta(seconds=3), 3),
        ],
    )
    def test_units_are_understood_and_a_bare_number_is_seconds(self, text, seconds):
        assert timedelta(seconds=seconds) == parse_duration(text)

    @pytest.mark.parametrize(
        "text", ["", " ", "5 parsecs", "-1s", -1, "s", "1h 30", "5s!", "1..5s", True, None, []]
    )
    def test_what_is_not_a_duration_is_refused_with_examples(self, text):
        with pytest.raises(ValueError, match="write 500ms, 5s"):
            parse_duration(text)

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), 1e300, 10**400, "9" * 400, "999999999999d"]
    )
    def test_a_number_beyond_all_bounds_is_refused_too(self, value):
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(value)


class TestParseSize:
    """Tests for `parse_size`."""

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1GiB", 2**30),
            ("1.5MiB", 1_572_864),
            ("1MB", 1_000_000),
            ("10", 10),
            (6 * 2**20, 6 * 2**20),
            ("0", 0),
        ],
    )
    def test_units_are_understood_and_a_bare_number_is_bytes(self, text, size):
        assert size == parse_size(text)

    @pytest.mark.parametrize("text", ["", "6 MibiBytes", "-1", -1, 1.5, True, None, "MiB"])
    def test_what_is_not_a_size_is_refused_with_examples(self, text):
        with pytest.raises(ValueError, match="write 64KiB"):
            parse_size(text)


class TestFormatting:
    """Tests for what people read."""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0 s"),
            (0.00085, "850 µs"),
            (0.0142, "14.2 ms"),
            (3.1, "3.1 s"),
            (59.99, "60 s"),
            (125, "2 m 05 s"),
            (7_260, "2 h 01 m"),
            (3 * 86_400 + 3_600, "3 d 01 h"),
        ],
    )
    def test_a_duration_has_two_or_three_figures(self, seconds, text):
        assert text == format_duration(timedelta(seconds=seconds))

    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (2**20 - 1, "1 MiB"),
            (6 * 2**20, "6 MiB"),
            (1_000 * 2**20, "0.977 GiB"),
            (3 * 2**40, "3 TiB"),
        ],
    )
    def test_a_size_is_in_the_largest_unit_that_fits(self, size, text):
        assert text == format_size(size)

    def test_a_count_has_its_thousands_apart(self):
        assert format_count(6_099) == "6,099"
        assert format_count(0, "record") == "0 records"
        assert format_count(1, "record") == "1 record"


class TestMicroseconds:
    """Tests for `to_microseconds` and `from_microseconds`."""

    @pytest.mark.parametrize(
        ("microseconds", "time"),
        [
            (0, datetime(1970, 1, 1, tzinfo=UTC)),
            (1, datetime(1970, 1, 1, microsecond=1, tzinfo=UTC)),
            (-1, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
            (1_769_860_800_000_001, datetime(2026, 1, 31, 12, microsecond=1, tzinfo=UTC)),
            (2**53 + 1, datetime(2255, 6, 5, 23, 47, 34, 740_993, tzinfo=UTC)),
            (-62_135_596_800_000_000, datetime.min.replace(tzinfo=UTC)),
            (253_402_300_799_999_999, datetime.max.replace(tzinfo=UTC)),
        ],
    )
    def test_they_are_exact_and_undo_each_other(self, microseconds, time):
        """Also beyond 2^53, where a float has no room for the last digit."""
        assert to_microseconds(time) == microseconds
        assert from_microseconds(microseconds) == time
        assert from_microseconds(microseconds).tzinfo is UTC

    def test_a_time_in_another_zone_is_the_same_moment(self):
        there = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))

        assert to_microseconds(there) == to_microseconds(datetime(2026, 1, 31, 12, tzinfo=UTC))

    def test_a_time_without_a_zone_is_refused(self):
        with pytest.raises(TypeError):
            to_microseconds(datetime(2026, 1, 31, 12))  # noqa: DTZ001 -- the mistake

    @pytest.mark.parametrize("microseconds", [253_402_300_800_000_000, 2**63 - 1, -(2**63)])
    def test_what_no_calendar_has_is_refused(self, microseconds):
        with pytest.raises(OverflowError):
            from_microseconds(microseconds)
