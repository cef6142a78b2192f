"""Tests for `streamfn.cli.positions`: the grammar of positions that all commands share."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from streamfn.cli.positions import StreamPosition, parse_position, parse_time

ALL = ("beginning", "end", "-N", "@TIME", "SEQ")


class TestParsePosition:
    """Tests for `parse_position`."""

    @pytest.mark.parametrize(
        ("text", "start", "last_records"),
        [
            ("beginning", "trim_horizon", None),
            ("trim_horizon", "trim_horizon", None),
            ("TRIM_HORIZON", "trim_horizon", None),
            ("end", "latest", None),
            ("LATEST", "latest", None),
            ("0", 0, None),
            ("007", 7, None),
            (str(2**64 - 1), 2**64 - 1, None),
            ("-4", "latest", 4),
            ("-0", "latest", 0),
            ("@1769860800", datetime(2026, 1, 31, 12, tzinfo=UTC), None),
        ],
    )
    def test_each_kind_has_its_spellings(self, text, start, last_records):
        assert parse_position(text, ALL) == StreamPosition(text, start, last_records)

    @pytest.mark.parametrize(
        "text", ["", "middle", "1.5", "²", "+1", "--1", "-", str(2**64), "9" * 10_000, "first"]
    )
    def test_anything_else_is_refused_with_what_can_be_written(self, text):
        with pytest.raises(ValueError, match="is not beginning, end, -N, @TIME or a sequence num"):
            parse_position(text, ALL)

    @pytest.mark.parametrize(
        ("text", "kinds", "message"),
        [
            ("end", ("beginning", "@TIME", "SEQ"), "`end` is not beginning, @TIME or a seq"),
            ("latest", ("beginning", "@TIME"), "`latest` is not beginning or @TIME"),
            ("-3", ("end", "SEQ"), "`-3` is not end or a sequence number"),
        ],
    )
    def test_a_kind_without_meaning_for_a_command_is_refused_alike(self, text, kinds, message):
        with pytest.raises(ValueError, match=message):
            parse_position(text, kinds)


class TestParseTime:
    """Tests for `parse_time`."""

    @pytest.mark.parametrize(
        ("text", "time"),
        [
            ("2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
            ("2026-01-31T13:00+01:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
            ("0", datetime(1970, 1, 1, tzinfo=UTC)),
            ("1769860800.25", datetime(2026, 1, 31, 12, microsecond=250_000, tzinfo=UTC)),
        ],
    )
    def test_iso_8601_and_unix_seconds(self, text, time):
        assert parse_time(text) == time

    def test_an_age_is_before_now(self):
        time = parse_time("-5m")

        assert timedelta(minutes=5) <= datetime.now(UTC) - time < timedelta(minutes=6)

    def test_without_a_zone_it_is_local_time(self):
        assert parse_time("2026-01-31T12:00") == datetime(2026, 1, 31, 12).astimezone()

    @pytest.mark.parametrize(
        "text",
        ["", "noon", "-", "-1x", "-99999999d", "9" * 20, "9" * 400, "0001-01-01T00:00+23:59"],
    )
    def test_another_text_is_refused_with_examples(self, text):
        with pytest.raises(ValueError, match="is not a time: write @2026-01-31T12:00, @17698"):
            parse_time(text)


class TestStreamPosition:
    """Tests for `StreamPosition`."""

    def test_it_prints_as_written_and_a_time_also_in_utc(self):
        assert str(parse_position("LATEST", ALL)) == "LATEST"
        assert str(parse_position("@1769860800", ALL)) == "@1769860800 (2026-01-31 12:00:00Z)"

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ("8", "4", True),
            ("4", "4", False),
            ("@2", "@1", True),
            ("@1", "@2", False),
            ("end", "beginning", False),
            ("4", "@1", False),
        ],
    )
    def test_only_two_of_a_kind_have_an_order(self, first, second, expected):
        assert parse_position(first, ALL).is_after(parse_position(second, ALL)) is expected

    def test_a_sequence_number_needs_one_shard(self):
        number = parse_position("5", ALL)

        number.check_shards(1, "s")
        parse_position("end", ALL).check_shards(2, "s")
        with pytest.raises(click.UsageError, match="`5` belongs to one shard, and `s` has 2: add"):
            number.check_shards(2, "s")

    def test_a_time_in_the_future_is_no_position(self):
        parse_position("@-5m", ALL).check_past()
        parse_position("5", ALL).check_past()
        with pytest.raises(click.UsageError, match="is in the future, no record is as new: use"):
            parse_position("@9999-01-01", ALL).check_past()
