"""What a supervisor and its runners say to each other: one JSON object a line, over a socket.

supervisor ──> runner    Start · Assign · Release · Limit · Drain
runner ──> supervisor    Ready | NotReady · Assigned · Released · Limited · Alone · Event · Leaving
"""

from __future__ import annotations

import socket
from typing import Any, Final, Literal

import msgspec

RECEIVE_BYTES: Final = 1 << 16

Answer = Literal["ok", "held", "judge", "stale", "parents", "exclusive", "refused"]
"""How taking a lane went; all but the last are what `LaneSet.add` says."""


class Message(msgspec.Struct, frozen=True, tag_field="say"):
    """Base of all messages."""


class Start(Message, frozen=True, tag="start"):
    """The first message of a supervisor: what the runner is for."""

    app: str
    factory: bool
    log_dir: str
    worker: str
    """UUID of the worker."""
    runner: int
    threads: int
    is_burst: bool


class Assign(Message, frozen=True, tag="assign"):
    """Take this lane."""

    lane: int
    index: int
    """Place of the mapping on the boards."""
    mapping: str
    stream: str
    shard_id: str
    slot: int
    is_open: bool = False
    """Its work list is not empty."""
    is_alone: bool = False
    is_exclusive: bool = False


class Release(Message, frozen=True, tag="release"):
    """Give this lane back."""

    lane: int
    when_settled: bool = False
    """Finish its work list first; otherwise the call that runs now, or the record."""


class Limit(Message, frozen=True, tag="limit"):
    """Call at most so many lanes of this function at once."""

    mapping: str
    lanes: int
    number: int
    """Of this message, for the answer."""


class Drain(Message, frozen=True, tag="drain"):
    """Form no new batch, finish what is in flight, give all lanes back and end."""

    finish_seconds: float
    """After so long, finish only the calls that run then; under `input="record"` at once."""


class Ready(Message, frozen=True, tag="ready"):
    """The app is imported and the log open."""

    mappings: list[dict[str, Any]]
    """`EventSourceMapping.to_dict` of each."""
    asynchronous: list[str]
    """Names of those whose function is `async`."""


class NotReady(Message, frozen=True, tag="not_ready"):
    """The app does not import, or something it needs is not there."""

    field: str
    """Of the `ConfigError`; empty: it is another error."""
    reason: str
    traceback: str


class Assigned(Message, frozen=True, tag="assigned"):
    """What became of an `Assign`."""

    lane: int
    answer: Answer
    reason: str = ""


class Released(Message, frozen=True, tag="released"):
    """The lane is given back, by request or because its lease was lost."""

    lane: int


class Limited(Message, frozen=True, tag="limited"):
    """The runner keeps to a `Limit`: calls over it have ended, and none begins."""

    mapping: str
    number: int


class Alone(Message, frozen=True, tag="alone"):
    """A lane that runs alone was let go."""

    lane: int
    seconds: float | None
    """None: its batch is settled. A number: it is open, and may go on in so many seconds."""


class Event(Message, frozen=True, tag="event"):
    """Something to be logged."""

    fields: dict[str, Any]


class Leaving(Message, frozen=True, tag="leaving"):
    """No call runs any more: the runner ends once the exit functions of its process are over."""

    exit_code: int
    """0: all lanes are given back."""


Command = Start | Assign | Release | Limit | Drain
RunnerReport = Ready | NotReady | Assigned | Released | Limited | Alone | Event | Leaving

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_reports: msgspec.json.Decoder[RunnerReport] = msgspec.json.Decoder(RunnerReport)
_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(message: Message) -> bytes:
    """Return the message as a line."""
    return _encoder.encode(message) + b"\n"


def decode_command(line: bytes) -> Command:
    """Read a line of a supervisor."""
    return _commands.decode(line)


def decode_report(line: bytes) -> RunnerReport:
    """Read a line of a runner."""
    return _reports.decode(line)


class Lines:
    """Cuts what a socket delivers into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in data and return the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def receive_lines(connection: socket.socket, lines: Lines) -> list[bytes] | None:
    """Read what is there, or wait for something; None: the other side is gone."""
    data = connection.recv(RECEIVE_BYTES)
    return lines.feed(data) if data else None
