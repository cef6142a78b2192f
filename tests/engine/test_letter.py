"""Tests for `streamfn.engine.letter`: the dead-letter header."""

import json

import pytest

from streamfn._core import DEAD_LETTER_BYTES_EXTRA, Record
from streamfn.engine.letter import Origin, failed, redriven
from streamfn.engine.outcome import Failure
from streamfn.engine.settle import DiscardedRecord
from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.record import DEAD_LETTER_HEADER, origin
from streamfn.texts import cut

MAPPING = EventSourceMapping(
    name="shop.total", app="shop", function="total", stream="orders", version="abc"
)


def letter(record, traceback="Traceback …", attempts=4):
    failure = Failure("ValueError", "no", traceback)
    return DiscardedRecord(record, "RetryAttemptsExhausted", failure, attempts, 5)


def header(headers):
    return json.loads(headers[DEAD_LETTER_HEADER])


class TestFailed:
    """Tests for `failed`."""

    def test_a_letter_keeps_the_headers_and_says_where_it_was(self):
        record = Record(
            b"x", "k", sequence_number=7, stream="orders", timestamp_us=9, headers={"h": b"1"}
        )

        headers = failed(letter(record), MAPPING, 11, TRACEBACK_BYTES_MAX, "0123456789ab")

        assert headers["h"] == b"1"
        assert header(headers) == {
            "kind": "failed",
            "function": "shop.total",
            "function_version": "abc",
            "code_version": "0123456789ab",
            "condition": "RetryAttemptsExhausted",
            "error_type": "ValueError",
            "error_message": "no",
            "traceback": "Traceback …",
            "attempts": 4,
            "first_failed_us": 5,
            "last_failed_us": 11,
            "origin": {
                "stream": "orders",
                "shard_id": "shardId-000000000000",
                "sequence_number": 7,
                "timestamp_us": 9,
            },
            "round": 0,
        }

    def test_a_redriven_record_keeps_its_origin_and_adds_its_attempts(self):
        place = Origin("orders", "shardId-000000000003", 7, 9, 0, 4, 5)
        copy = Record(
            b"x", "k", sequence_number=0, stream="shop.total.redrive",
            headers=redriven("shop.total", place, {"h": b"1"}),
        )  # fmt: skip

        again = header(failed(letter(copy, attempts=2), MAPPING, 20, TRACEBACK_BYTES_MAX))

        assert again["origin"]["shard_id"] == "shardId-000000000003"
        assert (again["round"], again["attempts"], again["first_failed_us"]) == (1, 6, 5)
        assert origin(copy) == ("orders", "shardId-000000000003", 7)

    @pytest.mark.parametrize("text", ["x" * 10**6, "\0" * 10**6, '"\\' * 10**6, "é" * 10**6])
    def test_a_long_traceback_is_cut_so_that_the_record_fits(self, text):
        """Escapes can make a text six times as long."""
        headers = failed(letter(Record(b"x"), text), MAPPING, 0, TRACEBACK_BYTES_MAX)

        assert len(headers[DEAD_LETTER_HEADER]) < DEAD_LETTER_BYTES_EXTRA


class TestCut:
    """Tests for `cut`."""

    def test_a_short_text_stays(self):
        assert cut("short", 5) == "short"

    def test_the_middle_goes_and_both_ends_stay(self):
        text = "first" + "…" * 10_000 + "last"

        result = cut(text, 1_000)

        assert result.startswith("first")
        assert result.endswith("last")
        assert "characters cut" in result
        assert len(result.encode()) <= 1_000
