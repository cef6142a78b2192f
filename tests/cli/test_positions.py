"""Tests for `streamfn.cli.positions`."""

from datetime import UTC, datetime

import click
import pytest

from streamfn.cli.positions import check_one_shard, parse_position


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", "trim_horizon"),
        ("end", "latest"),
        ("0", 0),
        ("18446744073709551615", 2**64 - 1),
        ("@1769860800", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("@2026-01-31T12:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_every_spelling_is_read(text, position):
    assert parse_position(text) == position


@pytest.mark.parametrize("text", ["", "middle", "-3", "1.5", "٣", "0x1", "@", "@soon", "END", " 1"])
def test_anything_else_is_refused_with_what_was_written(text):
    with pytest.raises(click.BadParameter, match="is not") as caught:
        parse_position(text)

    assert f"`{text}`" in caught.value.message


def test_only_words_that_make_sense_are_taken_and_named():
    message = "`end` is not beginning, -N, @TIME or a sequence number"
    with pytest.raises(click.BadParameter) as caught:
        parse_position("end", words=["beginning"], more="-N")
    assert caught.value.message == message

    with pytest.raises(click.BadParameter) as caught:
        parse_position("end", words=())
    assert caught.value.message == "`end` is not @TIME or a sequence number"


def test_a_sequence_number_needs_one_shard():
    for position, shards in [(7, 1), ("latest", 2), (datetime(2026, 1, 31, tzinfo=UTC), 2)]:
        check_one_shard(position, "orders", shards, fix="name a time")

    with pytest.raises(click.BadParameter) as caught:
        check_one_shard(7, "orders", 2, fix="name a time")
    expected = "`7` is a sequence number of one shard, and `orders` has 2: name a time"
    assert caught.value.message == expected
