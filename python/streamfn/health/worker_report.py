"""What a worker knows of its functions and no other process can see: `metrics/<uuid>.worker`.

The supervisor writes it once a second, and earlier when a state changes. The file is written in
place, so that this works when the disk has become full; if the disk has been full from the start,
the file is in `/dev/shm` until there is room. docs/format.md describes it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec

from streamfn._core import Log
from streamfn.telemetry.history import METRICS_FOLDER

from .state import State

SUFFIX: Final = ".worker"
MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- the name has the UUIDs of log and worker
STEP: Final = 16 * 2**10
"""The file has a multiple of so many bytes."""
FRESH_SECONDS: Final = 30.0
"""A report that is older says nothing about the present: its supervisor is stopped or hangs."""
_HEAD: Final = struct.Struct("<II")
_READS_MAX: Final = 20
UUID_CHARS: Final = 32


class Trouble(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a function, or one of its lanes, is not running or idle."""

    state: State
    reason: str
    """One line: what is wrong and, for `blocked`, what to do."""
    since_us: int
    error_type: str | None = None
    error_message: str | None = None
    next_try_us: int | None = None
    """When the next call may be made, µs since 1970; None: unknown, or at once."""
    stream: str | None = None
    """The lane, with the next two fields; None: it concerns the function."""
    shard_id: str | None = None
    slot: int | None = None


class RequestReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The calls of a function by request in one worker."""

    running: int = 0
    queued: int = 0
    """Calls that wait for a process."""
    concurrency: int | None = None
    """Most calls that a worker runs at once; None: no limit."""


class FunctionReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One function, or replay, as its worker sees it."""

    name: str
    stream: str
    """The stream that it reads, which may not exist yet; "" for a function by request."""
    state: State
    since_us: int
    """When it came into this state."""
    troubles: list[Trouble] = []
    """What is wrong, worst first; the first one explains the state. At most `TROUBLES_MAX`."""
    rate_in: float | None = None
    """Records per second that were appended to its stream in the last seconds."""
    rate_out: float | None = None
    """Records per second that this worker processed in the last seconds; for a function by request
    calls."""
    p50_seconds: float | None = None
    """Duration that half of the calls of the last seconds did not exceed, by all workers."""
    p99_seconds: float | None = None
    code_version: str | None = None
    """Version of the code that this worker runs, see `app.fingerprint`."""
    memory_limit: int | None = None
    """Bytes that each of its processes may use; None: no limit."""
    memory_highest: int | None = None
    """The most bytes that one of them used since this worker started; None: there is no limit."""
    request: RequestReport | None = None
    """None: it reads a stream."""


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The report of one worker."""

    worker: str
    """Its UUID."""
    pid: int
    host: str
    started_us: int
    written_us: int
    state: State
    """The worst state of its functions."""
    is_draining: bool = False
    runners: list[int] = []
    """Process ids of its runners."""
    in_code: list[str] = []
    """Names of all functions of its app, those that it does not run (`--only`) included."""
    functions: list[FunctionReport] = []

    def is_fresh(self, now_us: int) -> bool:
        """Whether the report tells about the present."""
        return now_us - self.written_us < FRESH_SECONDS * 1e6


TROUBLES_MAX: Final = 20
_decoder = msgspec.json.Decoder(WorkerReport)
_encoder = msgspec.json.Encoder()


class WorkerReportFile:
    """The report file of a living worker."""

    def __init__(self, log: Log, worker: str) -> None:
        """Name the file; `write` creates it."""
        self._places = [_Place(path) for path in _paths(log, worker)]

    def write(self, report: WorkerReport) -> bool:
        """Replace the report; False: it could not be written, and the last one stays."""
        body = _encoder.encode(report)
        data = _HEAD.pack(len(body), zlib.crc32(body)) + body
        for number, place in enumerate(self._places):
            if place.write(data):
                for other in self._places[number + 1 :]:
                    other.remove()
                return True
        return False

    def remove(self) -> None:
        """Remove the file, at the end of the worker."""
        for place in self._places:
            place.remove()


class _Place:
    """A file that is overwritten in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._size = 0

    def write(self, data: bytes) -> bool:
        """Overwrite the file; False: there is no room, or somebody removed its folder."""
        try:
            return os.pwrite(self._opened(len(data)), data, 0) == len(data)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file, if it was created."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd, self._size = None, 0
            self._path.unlink(missing_ok=True)

    def _opened(self, size: int) -> int:
        """Return the open file; it has all blocks for so many bytes."""
        if self._fd is None:
            self._path.parent.mkdir(exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o644)
        if size > self._size:
            wanted = -(-size // STEP) * STEP
            os.posix_fallocate(self._fd, 0, wanted)
            self._size = wanted
        return self._fd


def read_reports(log: Log, living: Iterable[str]) -> dict[str, WorkerReport]:
    """Return the reports of living workers by UUID; a worker without a whole one is left out.

    Args:
        log: The log.
        living: UUIDs of the living workers: other reports are stale.
    """
    found = {}
    for uuid in living:
        reports = [report for path in _paths(log, uuid) if (report := _read(path)) is not None]
        if reports:
            found[uuid] = max(reports, key=lambda report: report.written_us)
    return found


def remove_stale(log: Log, living: Collection[str]) -> None:
    """Remove the reports of workers that were killed."""
    for pattern in _paths(log, "*"):
        for path in pattern.parent.glob(pattern.name):
            if path.name.removesuffix(SUFFIX)[-UUID_CHARS:] not in living:
                path.unlink(missing_ok=True)


def _paths(log: Log, worker: str) -> tuple[Path, Path]:
    """Return where the report of a worker may be: in the log, or in memory."""
    return (
        Path(log.path) / METRICS_FOLDER / f"{worker}{SUFFIX}",
        MEMORY / f"streamfn-{log.uuid}-{worker}{SUFFIX}",
    )


def _read(path: Path) -> WorkerReport | None:
    """Read one file; while it is being written its checksum is wrong, and it is read again."""
    for _ in range(_READS_MAX):
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) < _HEAD.size:
            return None
        length, checksum = _HEAD.unpack_from(data)
        body = data[_HEAD.size : _HEAD.size + length]
        if len(body) == length and zlib.crc32(body) == checksum:
            try:
                return _decoder.decode(body)
            except msgspec.MsgspecError:  # another version wrote it
                return None
    return None
