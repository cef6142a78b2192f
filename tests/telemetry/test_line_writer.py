"""Tests for `telemetry.line_writer`."""

import io
import threading

import pytest

from streamfn.telemetry.line_writer import BYTES_MAX, LINES_MAX, LineWriter


class Stuck(io.StringIO):
    """A stream that takes nothing before it is let go."""

    def __init__(self):
        super().__init__()
        self.is_let_go, self.is_reached = threading.Event(), threading.Event()

    def write(self, text):
        self.is_reached.set()
        self.is_let_go.wait(60)
        return super().write(text)


@pytest.fixture
def stuck():
    stream = Stuck()
    yield stream
    stream.is_let_go.set()


def writer_to(stream):
    return LineWriter(lambda: stream, lambda lines: f"{lines} dropped")


def test_lines_come_whole_and_in_order():
    stream = io.StringIO()
    writer = writer_to(stream)
    lines = [f"line {number}" for number in range(1000)]
    for line in lines:
        writer.write(line)
    writer.close()
    assert stream.getvalue().splitlines() == lines


def test_a_stream_that_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted(stuck):
    writer = writer_to(stuck)
    writer.write("first")
    assert stuck.is_reached.wait(60)
    for number in range(LINES_MAX + 3):
        writer.write(str(number))
    stuck.is_let_go.set()
    writer.flush(60)
    writer.write("last")
    writer.close()
    lines = stuck.getvalue().splitlines()
    assert lines == ["first", *map(str, range(LINES_MAX)), "3 dropped", "last"]


def test_lines_are_bounded_by_their_length_too(stuck):
    writer = writer_to(stuck)
    writer.write("first")
    assert stuck.is_reached.wait(60)
    writer.write("x" * BYTES_MAX)
    writer.write("y")
    stuck.is_let_go.set()
    writer.close()
    assert stuck.getvalue().splitlines() == ["first", "x" * BYTES_MAX, "1 dropped"]


def test_a_closed_stream_is_borne():
    stream = io.StringIO()
    stream.close()
    writer = writer_to(stream)
    writer.write("nobody reads this")
    writer.close()
