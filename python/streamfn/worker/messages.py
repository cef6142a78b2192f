"""Messages between a supervisor and its runners: one JSON object per line, over a socket.

supervisor ──> runner    Start · Assign · Release · Limit · Drain
runner ──> supervisor    Ready | NotReady · Assigned · Released · Limited · Alone · Event · Leaving

supervisor ──> function runner    StartFunctions · Go · Drain
function runner ──> supervisor    Ready | NotReady · Event · Leaving
"""

from __future__ import annotations

import socket
from typing import Any, Final, Literal

import msgspec

RECEIVE_BYTES: Final = 1 << 16

Answer = Literal["ok", "held", "judge", "stale", "parents", "exclusive", "refused"]
"""The result of taking a lane: `refused`, or a result of `LaneSet.add`."""


class Message(msgspec.Struct, frozen=True, tag_field="say"):
    """Base of all messages."""


class Start(Message, frozen=True, tag="start"):
    """The first message of a supervisor: the settings of the runner."""

    app: str
    factory: bool
    log_dir: str
    worker: str
    """UUID of the worker."""
    runner: int
    threads: int
    is_burst: bool
    log_level: int = 1
    """Lowest level of what user code logs, see `telemetry.events`."""


class StartFunctions(Message, frozen=True, tag="start_functions"):
    """The first message of a supervisor to a function runner: its settings."""

    app: str
    factory: bool
    log_dir: str
    worker: str
    """UUID of the worker."""
    runner: int
    group: str
    """It runs the functions of this group, see `FunctionConfig.group`."""
    token: str
    """Shown to the front, see docs/front.md."""
    log_level: int = 1
    """Lowest level of what user code logs, see `telemetry.events`."""
    socket: str = ""
    """Path of the front's socket, relative to the log directory."""


class Go(Message, frozen=True, tag="go"):
    """The code of this function runner is the worker's: connect to the front, and take calls."""


class Assign(Message, frozen=True, tag="assign"):
    """Take this lane."""

    lane: int
    index: int
    """Index of the mapping on the boards."""
    mapping: str
    stream: str
    shard_id: str
    slot: int
    is_open: bool = False
    """Whether its work list is not empty."""
    is_alone: bool = False
    is_exclusive: bool = False


class Release(Message, frozen=True, tag="release"):
    """Release this lane."""

    lane: int
    when_settled: bool = False
    """Finish its work list first. Otherwise finish only the running call, or the running record."""


class Limit(Message, frozen=True, tag="limit"):
    """Call at most so many lanes of this function at once."""

    mapping: str
    lanes: int
    number: int
    """Number of this message, repeated in the answer."""


class Drain(Message, frozen=True, tag="drain"):
    """Form no new batches, finish the batches in flight, release all lanes and exit."""

    finish_seconds: float
    """After this time, finish only the running calls; with `input="record"` at once."""


class Ready(Message, frozen=True, tag="ready"):
    """The app is imported and the log open."""

    mappings: list[dict[str, Any]]
    """`EventSourceMapping.to_dict` of each mapping."""
    asynchronous: list[str]
    """Names of the mappings with an `async` function."""
    code_version: str
    files: dict[str, str]
    """`AppCode.version` and `AppCode.files` of the app as this runner imported it."""
    streams: list[dict[str, Any]] = []
    """`StreamDeclaration.to_dict` of each stream that the app declares."""
    functions: list[dict[str, Any]] = []
    """`FunctionConfig.to_dict` of each function of the app that is called by request."""


class NotReady(Message, frozen=True, tag="not_ready"):
    """The app cannot be loaded."""

    field: str
    """`ConfigError.field`; empty for other errors."""
    reason: str
    traceback: str
    files: list[str]
    """Files of the app that were loaded, and the one with the error if it is known."""

    @property
    def cause(self) -> str:
        """Why, with the argument of the app's code that cannot be used."""
        return f"`{self.field}`: {self.reason}" if self.field not in ("", "APP") else self.reason


class Assigned(Message, frozen=True, tag="assigned"):
    """The result of an `Assign`."""

    lane: int
    answer: Answer
    reason: str = ""


class Released(Message, frozen=True, tag="released"):
    """The lane is released, on request or because its lease was lost."""

    lane: int


class Limited(Message, frozen=True, tag="limited"):
    """A `Limit` is in force: calls above it have ended, and no new ones begin."""

    mapping: str
    number: int


class Alone(Message, frozen=True, tag="alone"):
    """A lane that runs alone has made its calls for now."""

    lane: int
    seconds: float | None
    """None: its batch is settled. Otherwise it is open and may continue after so many seconds."""


class Event(Message, frozen=True, tag="event"):
    """An event for the log output of the worker."""

    fields: dict[str, Any]


class Leaving(Message, frozen=True, tag="leaving"):
    """No call runs any more; the runner exits after the exit functions of its process."""

    exit_code: int
    """0: all lanes are released."""


Command = Start | Assign | Release | Limit | Drain
FunctionCommand = StartFunctions | Go | Drain
RunnerReport = Ready | NotReady | Assigned | Released | Limited | Alone | Event | Leaving

_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_function_commands: msgspec.json.Decoder[FunctionCommand] = msgspec.json.Decoder(FunctionCommand)
_reports: msgspec.json.Decoder[RunnerReport] = msgspec.json.Decoder(RunnerReport)
_encoder = msgspec.json.Encoder(enc_hook=str)


def encode(message: Message) -> bytes:
    """Return the message as a line."""
    return _encoder.encode(message) + b"\n"


def decode_command(line: bytes) -> Command:
    """Decode a line from a supervisor."""
    return _commands.decode(line)


def decode_function_command(line: bytes) -> FunctionCommand:
    """Decode a line from a supervisor to a function runner."""
    return _function_commands.decode(line)


def decode_report(line: bytes) -> RunnerReport:
    """Decode a line from a runner."""
    return _reports.decode(line)


class Lines:
    """Splits received data into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add received data, and return the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines


def receive_lines(connection: socket.socket, lines: Lines) -> list[bytes] | None:
    """Receive lines, waiting for data if there is none; None: the other side has closed."""
    data = connection.recv(RECEIVE_BYTES)
    return lines.feed(data) if data else None
