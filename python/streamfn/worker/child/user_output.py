"""What user code prints and logs goes to the supervisor, line by line, with its call.

`print` and `logging` are caught in Python, so that their lines know the call. What C code and child
processes write to descriptors 1 and 2 arrives at the supervisor by a pipe, without a call.

A fault in here never fails a call.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import threading
from typing import Any, Final

import orjson

from streamfn.error_text import message_of, traceback_of, type_of
from streamfn.telemetry.events import DEBUG, ERROR, INFO, WARN
from streamfn.texts import cut
from streamfn.units import from_microseconds

from .current_call import CURRENT_CALL, PARTIAL_LINES, fields_of_current, tail_of_current

LINE_BYTES_MAX: Final = 64 * 2**10
"""Longest line; the rest of a longer one is cut off, and the end says so."""
LOGGING_LEVELS: Final = {
    DEBUG: logging.DEBUG,
    INFO: logging.INFO,
    WARN: logging.WARNING,
    ERROR: logging.ERROR,
}
BITS_MAX: Final = 64
"""JSON's integers have fewer bits here, so that they fit a signed integer of 64 bits."""
_ORDINARY: Final = frozenset(
    [*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"]
)  # fmt: skip
"""Attributes of every log record; others come from `extra`."""
WARNED_AT: Final = re.compile(r".+?:\d+(?=: )")
"""Where the message of a warning begins: `shop.py:12`."""
_PLAIN: Final = (str, int, float, bool, type(None), list, dict, tuple)


class OutputLink:
    """Sends lines to the supervisor through a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._identity = descriptor, _identity(descriptor)
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def send(self, fields: dict[str, Any]) -> None:
        """Send the fields of one line; if user code closed the pipe, write them to stderr."""
        line = _encoded(fields)
        with self._lock:
            # WHY: a function may have closed the descriptor, and opened its own under that number.
            descriptor = self._descriptor
            if _identity(descriptor) != self._identity:
                descriptor, line = 2, f"{fields.get('raw') or fields['message']}\n".encode()
            while line:
                line = line[os.write(descriptor, line) :]

    def _renew_lock(self) -> None:
        """Replace the lock in a forked child: another thread may have had it."""
        self._lock = threading.RLock()


class CapturedStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a child process: each line becomes an event."""

    def __init__(self, name: str, descriptor: int, link: OutputLink) -> None:
        self._name, self._descriptor, self._link = name, descriptor, link
        self.buffer = _CapturedBytes(self)

    name = property(lambda self: f"<{self._name}>")
    encoding = property(lambda _: "utf-8")
    errors = property(lambda _: "backslashreplace")
    line_buffering = property(lambda _: True)

    def writable(self) -> bool:
        """Return that it can be written."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, for child processes."""
        return self._descriptor

    def reconfigure(self, **_options: object) -> None:
        """Accept the options of a text stream, and do nothing: lines are always UTF-8."""

    def write(self, text: str) -> int:
        """Write text; each whole line is sent."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with contextlib.suppress(Exception):
            tail = tail_of_current()
            if tail is not None:
                tail.write(text)
            *lines, rest = (self._take_partial() + text).split("\n")
            for line in lines:
                self._send(line)
            if len(rest) > LINE_BYTES_MAX:
                self._send(rest)
                rest = ""
            self._keep_partial(rest)
        return len(text)

    def flush(self) -> None:
        """Do nothing: a line is sent when it is whole."""

    def close(self) -> None:
        """Stay open: others print after the one who closed it."""

    def end_line(self) -> None:
        """Send what the current call wrote without a line break."""
        rest = self._take_partial()
        if rest:
            self._send(rest)

    def _send(self, line: str) -> None:
        line = line.removesuffix("\r")
        if is_json_object(line):
            self._link.send({"raw": line})
        elif line.strip():
            message = cut(line, LINE_BYTES_MAX)
            self._link.send({"message": message, "logger": self._name, **fields_of_current()})

    def _take_partial(self) -> str:
        return PARTIAL_LINES.pop(self._key(), "") if PARTIAL_LINES else ""

    def _keep_partial(self, rest: str) -> None:
        if rest:
            PARTIAL_LINES[self._key()] = rest

    def _key(self) -> tuple[str, int]:
        call = CURRENT_CALL.get()
        return self._name, threading.get_ident() if call is None else id(call)


class _CapturedBytes(io.BufferedIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, stream: CapturedStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:  # noqa: ANN401 -- anything with a buffer
        view = bytes(data)
        self._stream.write(view.decode("utf-8", "backslashreplace"))
        return len(view)


class LogHandler(logging.Handler):
    """Sends the records of `logging`, with what `extra` gave them."""

    def __init__(self, link: OutputLink) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            message = record.getMessage().rstrip("\n")
            tail = tail_of_current()
            if tail is not None:
                tail.write(_line_of(record, message))
            if is_json_object(message):
                self._link.send({"raw": message})
                return
            fields = fields_of_current()
            extra = {name: value if isinstance(value, _PLAIN) else _text(value)
                     for name, value in vars(record).items() if name not in _ORDINARY}  # fmt: skip
            if extra:
                fields["extra"] = extra
            error = record.exc_info[1] if record.exc_info else None
            if error is not None:
                fields |= {"error_type": type_of(error), "error_message": message_of(error),
                           "traceback": traceback_of(error)}  # fmt: skip
            elif record.exc_text:
                fields["traceback"] = record.exc_text
            self._link.send({
                **fields,
                "level": _level(record.levelno),
                "message": cut(message, LINE_BYTES_MAX),
                "logger": record.name,
                "location": _location(record, message),
            })  # fmt: skip
        except Exception:  # noqa: BLE001 -- as `logging` does: a log line never fails the caller
            self.handleError(record)


class UserOutput:
    """The output of user code in this process."""

    def __init__(self, descriptor: int) -> None:
        """Catch what is printed from now on.

        Args:
            descriptor: The pipe to the supervisor.
        """
        self._link = OutputLink(descriptor)
        self._streams = (
            CapturedStream("stdout", 1, self._link),
            CapturedStream("stderr", 2, self._link),
        )
        sys.stdout, sys.stderr = self._streams

    def catch_logging(self, least: int) -> None:
        """Catch the records of `logging` and of `warnings`, unless the app has set logging up.

        Args:
            least: The lowest level that the worker logs.
        """
        root = logging.getLogger()
        if root.handlers:
            return
        root.addHandler(LogHandler(self._link))
        if root.level in (logging.WARNING, logging.NOTSET):
            root.setLevel(LOGGING_LEVELS[least])
        logging.captureWarnings(capture=True)

    def end_lines(self) -> None:
        """Send what the current call wrote without a line break."""
        with contextlib.suppress(Exception):
            for stream in self._streams:
                stream.end_line()


def is_json_object(line: str) -> bool:
    """Whether a line is a whole JSON object, as structured loggers write it."""
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return "\n" not in line


def _encoded(fields: dict[str, Any]) -> bytes:
    """Return fields as a line of JSON; lone surrogates and huge integers become text."""
    try:
        line = orjson.dumps(fields, default=_text, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        line = orjson.dumps(_encodable(fields), default=_text, option=orjson.OPT_NON_STR_KEYS)
    return line + b"\n"


def _encodable(value: object) -> object:
    match value:
        case dict():
            return {_encodable(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case int() if value.bit_length() >= BITS_MAX:
            return str(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
    return value


def _level(number: int) -> int:
    if number >= logging.ERROR:
        return ERROR
    if number >= logging.WARNING:
        return WARN
    return INFO if number >= logging.INFO else DEBUG


def _line_of(record: logging.LogRecord, message: str) -> str:
    """Return a log record as AWS writes it for a tail, with the traceback."""
    if is_json_object(message):
        return f"{message}\n"
    time = from_microseconds(int(record.created * 1e6)).isoformat(timespec="milliseconds")
    request_id = fields_of_current().get("request_id", "")
    line = f"[{record.levelname}]\t{time.replace('+00:00', 'Z')}\t{request_id}\t{message}\n"
    error = record.exc_info[1] if record.exc_info else None
    return line if error is None else line + traceback_of(error)


def _location(record: logging.LogRecord, message: str) -> str:
    """Return file and line of a log call; of a warning, those that its message begins with."""
    told = WARNED_AT.match(message) if record.name == "py.warnings" else None
    return told[0] if told else f"{record.pathname}:{record.lineno}"


def _text(value: object) -> str:
    try:
        return cut(str(value), LINE_BYTES_MAX)
    except Exception as error:  # noqa: BLE001 -- that of a user's object
        return f"<{type_of(error)} in __str__>"


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
