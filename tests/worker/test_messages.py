"""Tests for `streamfn.worker.messages`."""

import pytest

from streamfn.worker.messages import (
    Alone,
    Assign,
    Assigned,
    Drain,
    Event,
    Go,
    Leaving,
    Limit,
    Limited,
    Lines,
    NotReady,
    Ready,
    Release,
    Released,
    Start,
    StartFunctions,
    decode_command,
    decode_function_command,
    decode_report,
    encode,
)

COMMANDS = [
    Start("app.py", False, "log", "ab" * 16, 3, 8, True),
    Assign(1, 0, "shop.total", "orders", "shardId-000000000000", 2, is_alone=True),
    Release(1, when_settled=True),
    Limit("shop.total", 2, 7),
    Drain(15.0),
]
FUNCTION_COMMANDS = [
    StartFunctions("app.py", False, "log", "ab" * 16, 3, "shop", "secret", 2, "workers/ab.sock"),
    Go(),
    Drain(15.0),
]
ANSWERS = [
    Ready([], [], "0123456789ab", {}, functions=[{"name": "shop.price"}]),
    Ready([{"name": "shop.total"}], ["shop.total"], "0123456789ab", {"/app.py": "ab"}),
    NotReady("APP", "it does not import", "Traceback …", ["/app.py"]),
    Assigned(1, "held"),
    Released(1),
    Limited("shop.total", 7),
    Alone(1, None),
    Alone(1, 0.5),
    Event({"event": "function_failed", "traceback": "line\nline"}),
    Leaving(72),
]


class TestMessages:
    """Tests for `encode` and its counterparts."""

    @pytest.mark.parametrize("message", COMMANDS)
    def test_a_command_arrives_as_it_was(self, message):
        assert decode_command(encode(message).rstrip()) == message

    @pytest.mark.parametrize("message", FUNCTION_COMMANDS)
    def test_a_command_for_a_function_runner_arrives_as_it_was(self, message):
        assert decode_function_command(encode(message).rstrip()) == message

    @pytest.mark.parametrize("message", ANSWERS)
    def test_an_answer_arrives_as_it_was(self, message):
        line = encode(message)

        assert line.count(b"\n") == 1
        assert decode_report(line.rstrip()) == message


class TestLines:
    """Tests for `Lines`."""

    def test_lines_come_out_whole_however_they_went_in(self):
        lines = Lines()

        fed = [lines.feed(part) for part in (b"on", b"e\ntwo\nth", b"", b"ree\n")]

        assert fed == [[], [b"one", b"two"], [], [b"three"]]
