"""All errors that streamfn raises on purpose, as one tree.

    StreamfnError
    ├── ConfigError(ValueError)         a setting cannot be used
    ├── StorageError                    the log on disk
    │   ├── Corruption                  bytes differ from those written
    │   ├── StorageIO(OSError)          the operating system reported an error
    │   ├── UnsupportedFormat           written by a version that this one cannot read
    │   ├── LogFull                     no room on the disk
    │   ├── LockTimeout                 another process held a lock for too long
    │   ├── ForkedHandle                the handle belongs to the parent process
    │   └── StoragePoisoned             an earlier sync failed
    ├── StreamError                     a stream and its records
    │   ├── StreamNotFound · StreamExists · StreamClosed
    │   ├── RecordTooLarge(ValueError)
    │   └── SequenceTrimmed             the records asked for are no longer kept
    ├── CheckpointError
    │   ├── LeaseLost                   another runner owns the lane now
    │   └── CheckpointConflict          both checkpoint slots of a lane are damaged
    ├── SourceError
    │   └── SourceUnavailable · SourceRejected
    ├── DestinationError
    │   └── DestinationUnavailable · DestinationRejected
    ├── Reject                          raised by a function: to the dead letters at once
    ├── InvocationError                 how a call of a function ended
    │   ├── FunctionFailed · FunctionTimedOut · FunctionCrashed · FunctionOutOfMemory
    │   ├── InvalidResponse
    │   └── FunctionError               a call by request failed; what its caller gets
    ├── InvocationRefused               a call by request was not made
    │   └── FunctionNotFound · Throttled · WorkerUnavailable · InvalidRequest(ValueError)
    └── PluginError
        └── PluginNotFound · PluginConflict

`retryable` is true if the same call can succeed later without a change; `hint` is what a person can
do, where that is known. Constructors take positional fields and pass the same to `Exception`, so
that errors survive pickling between worker processes.
"""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Sequence
from typing import ClassVar


class StreamfnError(Exception):
    """Base of every error of this package."""

    retryable: ClassVar[bool] = False

    @property
    def hint(self) -> str | None:
        """What a person can do about it, as one lower-case sentence, or None."""
        return None


class ConfigError(StreamfnError, ValueError):
    """A setting cannot be used; the reason names the fix."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field, self.reason = field, reason

    def __str__(self) -> str:
        return f"`{self.field}`: {self.reason}"


# ---------------------------------------------------------------- storage


class StorageError(StreamfnError):
    """The log on disk cannot be used as asked."""


class Corruption(StorageError):
    """Bytes on disk differ from those written; nothing was cut or deleted."""

    def __init__(self, path: str, position: int, first: int, last: int, reason: str, /) -> None:
        super().__init__(path, position, first, last, reason)
        self.path, self.position, self.reason = path, position, reason
        self.first, self.last = first, last

    def __str__(self) -> str:
        affected = f"sequence numbers {self.first} to {self.last}"
        return f"{self.path} is damaged at byte {self.position} ({affected}): {self.reason}"

    @property
    def hint(self) -> str | None:
        """Damaged bytes are never deleted by streamfn, so a copy keeps all evidence."""
        return "keep a copy of the log directory before trying anything else"


class StorageIO(StorageError, OSError):
    """The operating system reported an error for a file of the log."""

    def __init__(self, errno: int, path: str, message: str) -> None:
        super().__init__(errno, message, path)
        self.path, self.message = path, message

    def __reduce__(self) -> tuple[type[StorageIO], tuple[int | None, str, str]]:
        # WHY: OSError pickles its own argument order, which is not this constructor's.
        return type(self), (self.errno, self.path, self.message)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class UnsupportedFormat(StorageError):
    """A file was written by a version, or with a feature, that this version cannot read."""

    def __init__(self, path: str, found: str, supported: str) -> None:
        super().__init__(path, found, supported)
        self.path, self.found, self.supported = path, found, supported

    def __str__(self) -> str:
        return f"{self.path} has {self.found}, this version reads {self.supported}"

    @property
    def hint(self) -> str | None:
        """A newer version wrote it."""
        return "install the version of streamfn that wrote it, or a later one"


class LogFull(StorageError):
    """No room on the disk: nothing of the call was written, and the log can still be used."""

    retryable = True

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"no space left on the disk for {self.path}"

    @property
    def hint(self) -> str | None:
        """Reads, checkpoints and running functions continue meanwhile."""
        return "free some space and try again; nothing acknowledged was lost"


class LockTimeout(StorageError):
    """A lock was not free in time: nothing of the call was written."""

    retryable = True

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(path, holder)
        self.path, self.holder = path, holder

    def __str__(self) -> str:
        return f"timed out waiting for {self.path}, held by {self.holder}"


class ForkedHandle(StorageError):
    """This handle was opened before a fork and belongs to the parent process."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"this handle on {self.path} was opened before a fork and belongs to the parent "
            "process: call `Log.open` again in this one"
        )


class StoragePoisoned(StorageError):
    """An earlier sync failed: the outcome of writes not yet acknowledged is unknown."""

    def __init__(self, path: str, errno: int) -> None:
        super().__init__(path, errno)
        self.path, self.errno = path, errno

    def __str__(self) -> str:
        cause = os.strerror(self.errno)
        return (
            f"an earlier sync of {self.path} failed ({cause}); it is unknown whether "
            "unacknowledged writes are on disk"
        )

    @property
    def hint(self) -> str | None:
        """A failed sync is never retried: the kernel may have dropped the pages."""
        return "check the disk; records acknowledged before can still be read"


# ---------------------------------------------------------------- streams


class StreamError(StreamfnError):
    """A stream, or a record of it, cannot be used as asked."""


class StreamNotFound(StreamError):
    """There is no stream of that name in this log."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"there is no stream `{self.name}`"

    @property
    def hint(self) -> str | None:
        """Two fixes: use the name of an existing stream, or create the stream."""
        return f"`streamfn stream ls` lists streams, `streamfn stream add {self.name}` creates it"


class StreamExists(StreamError):
    """A stream of that name is in this log already."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"stream `{self.name}` exists already"

    @property
    def hint(self) -> str | None:
        """Creating a stream is idempotent only with `exist_ok`."""
        return "pass `exist_ok=True` (`--exist-ok`) to use the existing stream"


class StreamClosed(StreamError):
    """This process closed the log; or the shard was closed, because it was split or merged."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"`{self.name}` was closed"


class RecordTooLarge(StreamError, ValueError):
    """A record is over a limit; nothing of its call was written."""

    def __init__(self, size: int, limit: int, what: str, index: int) -> None:
        super().__init__(size, limit, what, index)
        self.size, self.limit, self.what, self.index = size, limit, what, index

    def __str__(self) -> str:
        return f"entry {self.index} has {self.size:,} {self.what}, the limit is {self.limit:,}"

    @property
    def hint(self) -> str | None:
        """The log holds events, not files."""
        return "split it, or put the large part elsewhere and its address in the record"


class SequenceTrimmed(StreamError):
    """Retention removed the records asked for."""

    def __init__(self, lost_from: int, lost_to: int) -> None:
        super().__init__(lost_from, lost_to)
        self.lost_from, self.lost_to = lost_from, lost_to

    def __str__(self) -> str:
        return f"records {self.lost_from} to {self.lost_to} are no longer kept"


# ---------------------------------------------------------------- checkpoints


class CheckpointError(StreamfnError):
    """A lane's position cannot be read or written."""


class LeaseLost(CheckpointError):
    """Another runner has the lease of the lane now; it processes the batch again."""

    def __init__(self, lane: str, owner: str) -> None:
        super().__init__(lane, owner)
        self.lane, self.owner = lane, owner

    def __str__(self) -> str:
        return f"the lease on {self.lane} is now held by {self.owner}"


class CheckpointConflict(CheckpointError):
    """Both checkpoint slots of a lane are damaged; the lane is not restarted from `start`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


# ---------------------------------------------------------------- sources, destinations, plug-ins


class SourceError(StreamfnError):
    """An event source cannot be read."""


class SourceUnavailable(SourceError):
    """The source does not answer at the moment."""

    retryable = True


class SourceRejected(SourceError):
    """The source answered and refused the request."""


class DestinationError(StreamfnError):
    """A destination did not take a record."""


class DestinationUnavailable(DestinationError):
    """The destination does not answer at the moment."""

    retryable = True


class DestinationRejected(DestinationError):
    """The destination answered and refused the record."""


class PluginError(StreamfnError):
    """A connector cannot be loaded."""


class PluginNotFound(PluginError):
    """No installed package offers a connector of that name."""


class PluginConflict(PluginError):
    """Two installed packages offer a connector of the same name."""


# ---------------------------------------------------------------- functions


class Reject(StreamfnError):
    """Raise it in a function: the records of the call go to the dead letters, without retries."""

    def __init__(self, reason: str = "rejected by the function") -> None:
        super().__init__(reason)
        self.reason = reason


class InvocationError(StreamfnError):
    """A call of a function did not succeed; the mapping's policy decides whether it is repeated."""

    retryable = True


class FunctionFailed(InvocationError):
    """The function raised; `__cause__` is its exception, if available."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class FunctionTimedOut(InvocationError):
    """The call exceeded the mapping's `timeout`, and its process was killed."""

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return f"the call took longer than its timeout of {self.timeout_seconds:g} s"


class FunctionCrashed(InvocationError):
    """The call ended its process: by a signal, or by an exit."""

    def __init__(self, signal: int | None, exit_code: int | None) -> None:
        super().__init__(signal, exit_code)
        self.signal, self.exit_code = signal, exit_code

    def __str__(self) -> str:
        if self.signal is None:
            return f"the call ended its process with exit code {self.exit_code}"
        try:
            name = signals.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"the call killed its process ({name})"


class FunctionOutOfMemory(InvocationError):
    """The process of the call exceeded the function's `memory`, and was killed."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        mebibytes = f"{self.limit / 2**20:,.1f}".removesuffix(".0")
        return f"the call's process exceeded its memory limit of {mebibytes} MiB"


class InvalidResponse(InvocationError):
    """The function returned something that is neither success nor a report of failures."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FunctionError(InvocationError):
    """A function called by request failed: it raised, timed out or ended its process.

    The fields are those of AWS Lambda's error object.
    """

    retryable = False

    def __init__(
        self,
        error_type: str,
        error_message: str,
        stack_trace: Sequence[str] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(error_type, error_message, tuple(stack_trace), request_id)
        self.error_type, self.error_message = error_type, error_message
        self.stack_trace, self.request_id = tuple(stack_trace), request_id

    def __str__(self) -> str:
        return f"{self.error_type}: {self.error_message}"


# ---------------------------------------------------------------- calls that were not made


class InvocationRefused(StreamfnError):
    """A call by request was not made: no code of the function has run for it."""


class FunctionNotFound(InvocationRefused):
    """There is no function of that name, in the app or in the workers of the log."""

    def __init__(self, name: str, advice: str = "") -> None:
        super().__init__(name, advice)
        self.name, self.advice = name, advice

    def __str__(self) -> str:
        return f"there is no function `{self.name}` to call by request"

    @property
    def hint(self) -> str | None:
        """The nearest name, if one is near."""
        return self.advice or None


class Throttled(InvocationRefused):
    """The function is at its `concurrency`, or no runner was free within its timeout."""

    retryable = True

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"`{self.name}` was not called: {self.reason}"

    @property
    def hint(self) -> str | None:
        """Wait, or allow more calls at once."""
        return "try again later, or raise `concurrency` or `--max-runners`"


class WorkerUnavailable(InvocationRefused):
    """No worker of the log answers for the function."""

    retryable = True

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"`{self.name}` was not called: {self.reason}"

    @property
    def hint(self) -> str | None:
        """Start one, or call in this process."""
        return 'start one with `streamfn worker APP`, or call with `where="local"`'


class InvalidRequest(InvocationRefused, ValueError):
    """The payload is no JSON value, or too large."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
