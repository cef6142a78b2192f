"""Tests for `streamfn.cli.shapes`."""

import orjson
import pytest

from streamfn import Record
from streamfn.cli.shapes import payload_shape, record_shape


def printed(shape):
    """What a reader of the JSON sees."""
    return orjson.loads(orjson.dumps(shape))


class TestPayload:
    """The first of `json`, `text` and `base64` that fits the bytes."""

    @pytest.mark.parametrize(
        ("data", "shape"),
        [
            (b'{"a": [1, null]}', {"json": {"a": [1, None]}}),
            (b"17", {"json": 17}),
            (b'"x"', {"json": "x"}),
            (b'{\n "a": 1\r\n}', {"json": {"a": 1}}),
            (b"plain", {"text": "plain"}),
            ("é".encode(), {"text": "é"}),
            (b"NaN", {"text": "NaN"}),
            (b"", {"text": ""}),
            (b"\xff\x00", {"base64": "/wA="}),
        ],
    )
    def test_the_first_that_fits(self, data, shape):
        assert printed(payload_shape(data)) == shape

    def test_json_is_one_line_whatever_the_payload(self):
        assert b"\n" not in orjson.dumps(payload_shape(b'{\n "a": 1\r\n}'))

    def test_a_number_beyond_64_bits_keeps_its_digits(self):
        assert orjson.dumps(payload_shape(b"123456789012345678901234567890")) == (
            b'{"json":123456789012345678901234567890}'
        )


def test_a_header_that_is_not_text_is_base64():
    record = Record(b"", "k", headers={"plain": b"x", "binary": b"\xff"})

    assert record_shape(record)["headers"] == {"plain": "x", "binary": {"base64": "/w=="}}


def test_a_time_has_microseconds_and_a_z():
    shape = record_shape(Record(b"", timestamp_us=1_769_860_800_000_001))

    assert shape["timestamp"] == "2026-01-31T12:00:00.000001Z"
