"""Tests for `streamfn.invocation.frames`."""

import struct

import pytest

from streamfn.invocation.frames import (
    FRAME_BYTES_MAX,
    BadFrame,
    Frame,
    Frames,
    Kind,
    encode,
    frame_bytes,
    split,
)

ONE = Frame(Kind.CALL, {"id": 1, "function": "shop.price"}, b'{"a":1}')
TWO = Frame(Kind.PING, {"id": 2})


def test_frames_arrive_as_they_were_however_they_are_cut():
    data = encode(*ONE) + encode(*TWO)

    for size in range(1, len(data) + 1):
        frames, found = Frames(), []
        for at in range(0, len(data), size):
            found += frames.feed(data[at : at + size])
        assert found == [ONE, TWO]


def test_split_returns_what_is_complete_and_its_length():
    first, second = encode(*ONE), encode(*TWO)

    assert split(b"") == ([], 0)
    assert split(first[:-1]) == ([], 0)
    assert split(first + second[:-1]) == ([ONE], len(first))
    assert split(first + second) == ([ONE, TWO], len(first + second))


def test_the_length_of_a_frame_is_known_from_its_first_four_bytes():
    data = encode(*ONE)

    assert [frame_bytes(data[:size]) for size in range(5)] == [4, 4, 4, 4, len(data)]
    assert frame_bytes(b"xx" + data, 2) == len(data)


def test_a_frame_has_a_greatest_length():
    rest = FRAME_BYTES_MAX - 5 - len(b"{}")

    assert len(encode(Kind.RESULT, {}, bytes(rest))) == FRAME_BYTES_MAX + 4
    with pytest.raises(BadFrame, match="is longer than"):
        encode(Kind.RESULT, {}, bytes(rest + 1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (struct.pack("<I", FRAME_BYTES_MAX + 1), "cannot have 8,388,609 bytes"),
        (struct.pack("<I", 4), "cannot have 4 bytes"),
        (struct.pack("<IBI", 5, 3, 1), "longer than the frame"),
        (struct.pack("<IBI", 7, 3, 2) + b"{x", "cannot be read"),
        (struct.pack("<IBI", 7, 9, 2) + b"{}", "9 is not a valid Kind"),
        (struct.pack("<IBI", 7, 0, 2) + b"{}", "0 is not a valid Kind"),
    ],
)
def test_what_is_no_frame_is_refused(data, reason):
    with pytest.raises(BadFrame, match=reason):
        Frames().feed(data)
