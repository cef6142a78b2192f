"""`EventSourceMapping`: what `@app.stream` registers, as a value that converts to JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from streamfn._core import FACTOR_MAX, REPLAY_MARK, Filter
from streamfn.errors import ConfigError
from streamfn.model.function_config import check_memory
from streamfn.model.policy import (
    CONCURRENCY_MAX,
    Backoff,
    BackoffPolicy,
    BatchPolicy,
    OnExhausted,
    RetryPolicy,
    WindowPolicy,
    check_duration,
)
from streamfn.model.record import REDRIVE_SUFFIX

OnCorruption = Literal["raise", "skip"]
"""At damaged records: stop there, or skip them; skipped records are lost."""
Start = str | datetime
"""`"trim_horizon"`, `"latest"`, or an aware datetime; used only when the mapping is new."""
DEFAULT_TIMEOUT: Final = timedelta(seconds=60)
DLQ: Final = "dlq"
"""`on_failure`: the function's own dead-letter stream, not a stream of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMapping:
    """Source, function, policies and destinations; the `App` keeps the callable itself."""

    # Behaviour
    name: str
    """`<app>.<function>`, unique in a log."""
    app: str
    function: str
    """Name of the function, without its app."""
    stream: str
    """The stream it reads."""
    input: str = "batch"
    """Name of an `InputKind`: what one call receives."""
    start: Start = "trim_horizon"
    filter: tuple[str, ...] = ()
    """Event patterns as JSON texts; one of them must match. Empty: every record is delivered."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tumbling: WindowPolicy | None = None
    """Tumbling windows, with a state for each shard. None: no windows."""
    timeout: timedelta = DEFAULT_TIMEOUT
    """Longest duration of one call; after it the process is killed."""
    on_failure: str | None = DLQ
    """Where failed records go: `dlq`, another stream, or None: dropped, counted and logged."""
    to: str | None = None
    """Stream that receives what successful calls return or yield."""
    on_success: str | None = None
    """Stream that receives an invocation record for each successful call."""
    on_corruption: OnCorruption = "raise"
    """At damaged records: stop the lane and report it, or skip them, counted and logged."""
    version: str = ""
    """Changes with the function's code; see `streamfn.model.function.code_version`."""

    # Performance
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    parallelization_factor: int = 1
    """Lanes per shard, 1 to 256; order is kept per partition key."""
    max_concurrency: int | None = None
    """Lanes of this function that one worker calls at once. None: no limit per function."""
    memory: int | None = None
    """Bytes that its process may use. None: no limit. With a limit it has runners of its own."""
    concurrent: bool = False
    """Whether a function with an exclusive input is exempt from one call at a time per process."""

    def __post_init__(self) -> None:
        if not 1 <= self.parallelization_factor <= FACTOR_MAX:
            reason = f"{self.parallelization_factor} is not between 1 and {FACTOR_MAX}"
            raise ConfigError("parallelization_factor", reason)
        most = CONCURRENCY_MAX
        if self.max_concurrency is not None and not 1 <= self.max_concurrency <= most:
            reason = f"{self.max_concurrency} is not between 1 and {most:,}"
            raise ConfigError("max_concurrency", reason)
        if self.tumbling is not None and self.parallelization_factor > 1:
            reason = "the lanes of a shard cannot share a state, leave out `parallelization_factor`"
            raise ConfigError("tumbling_window", reason)
        if self.timeout <= timedelta(0):
            raise ConfigError("timeout", "a timeout must be above zero")
        check_duration("timeout", self.timeout)
        check_memory(self.memory)

    @property
    def window_seconds(self) -> float | None:
        """Width of the tumbling windows. None: no windows."""
        return None if self.tumbling is None else self.tumbling.width.total_seconds()

    @property
    def dlq_stream(self) -> str:
        """Name of the internal stream with this mapping's dead letters."""
        return f"{self.name}.dlq"

    @property
    def redrive_stream(self) -> str:
        """Name of the internal stream with redriven records; only this function reads it."""
        return f"{self.name}{REDRIVE_SUFFIX}"

    def filters_stream(self, stream: str) -> bool:
        """Whether the filter holds for a stream that the function reads.

        Redriven records were delivered before: a filter that has changed since must not drop them.
        """
        return stream != self.redrive_stream

    @property
    def failure_stream(self) -> str | None:
        """Stream that receives failed records. None: they are dropped."""
        return self.dlq_stream if self.on_failure == DLQ else self.on_failure

    @property
    def targets(self) -> dict[str, str]:
        """The user's streams that it appends to, by the argument that names them."""
        named = {"to": self.to, "on_success": self.on_success, "on_failure": self.on_failure}
        if self.on_failure == DLQ:
            del named["on_failure"]
        return {argument: stream for argument, stream in named.items() if stream is not None}

    def writes_on_success(self, stream: str) -> bool:
        """Whether the success of a record of that stream must be written somewhere.

        That is an output, an invocation record, or the marker that a redriven dead letter is
        resolved. The runner writes it after the calls of several records; until then it is only
        in the memory of that process, and the records are not done.
        """
        return bool(self.to or self.on_success) or stream == self.redrive_stream

    def compiled_filter(self) -> Filter | None:
        """Return the compiled filter. None: every record is delivered."""
        return Filter(self.filter, for_records=True) if self.filter else None

    def to_dict(self) -> dict[str, Any]:
        """Return the mapping as JSON values: durations in seconds, `start` as a word or ISO 8601.

        A back-off of the user's own becomes null.
        """
        retry, batch = self.retry, self.batch
        age = retry.max_record_age
        return {
            "name": self.name, "app": self.app, "function": self.function,
            "stream": self.stream, "input": self.input,
            "start": self.start.isoformat() if isinstance(self.start, datetime) else self.start,
            "filter": list(self.filter),
            "retry": {
                "max_retries": retry.max_retries,
                "backoff": _backoff_fields(retry.backoff),
                "max_record_age": None if age is None else age.total_seconds(),
                "bisect": retry.bisect,
                "report_failures": retry.report_failures,
                "on_exhausted": retry.on_exhausted,
            },
            "tumbling": _window_fields(self.tumbling),
            "timeout": self.timeout.total_seconds(),
            "on_failure": self.on_failure,
            "on_corruption": self.on_corruption,
            "to": self.to,
            "on_success": self.on_success,
            "version": self.version,
            "batch": {
                "size": batch.size, "window": batch.window.total_seconds(), "bytes": batch.bytes
            },
            "parallelization_factor": self.parallelization_factor,
            "max_concurrency": self.max_concurrency,
            "memory": self.memory,
            "concurrent": self.concurrent,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EventSourceMapping:
        """Make a mapping from the result of `to_dict`."""
        start = values["start"]
        return cls(
            **{
                **values,
                "start": start if start in STARTS else datetime.fromisoformat(start),
                "filter": tuple(values["filter"]),
                "retry": _retry(values["retry"]),
                "tumbling": _window(values["tumbling"]),
                "timeout": timedelta(seconds=values["timeout"]),
                "batch": BatchPolicy(
                    size=values["batch"]["size"],
                    window=timedelta(seconds=values["batch"]["window"]),
                    bytes=values["batch"]["bytes"],
                ),
            }
        )


STARTS: Final = ("trim_horizon", "latest")


def function_of(name: str) -> str:
    """Return the name of the mapping that a replay belongs to; other names are returned as is."""
    return name.partition(REPLAY_MARK)[0]


def _window_fields(policy: WindowPolicy | None) -> dict[str, float | None] | None:
    if policy is None:
        return None
    return {"width": policy.width.total_seconds(), "state_bytes_max": policy.state_bytes_max}


def _window(fields: dict[str, Any] | None) -> WindowPolicy | None:
    if fields is None:
        return None
    width = timedelta(seconds=fields["width"])
    return WindowPolicy(width=width, state_bytes_max=fields["state_bytes_max"])


def _backoff_fields(backoff: BackoffPolicy) -> dict[str, float] | None:
    """Return the fields of a `Backoff`; a user's own policy cannot be written as JSON."""
    if not isinstance(backoff, Backoff):
        return None
    base, cap = backoff.base.total_seconds(), backoff.cap.total_seconds()
    return {"base": base, "factor": backoff.factor, "cap": cap}


def _backoff(fields: dict[str, float] | None) -> Backoff:
    if fields is None:
        return Backoff()
    base, cap = timedelta(seconds=fields["base"]), timedelta(seconds=fields["cap"])
    return Backoff(base=base, factor=fields["factor"], cap=cap)


def _retry(values: dict[str, Any]) -> RetryPolicy:
    age = values["max_record_age"]
    return RetryPolicy(
        max_retries=values["max_retries"],
        backoff=_backoff(values["backoff"]),
        max_record_age=None if age is None else timedelta(seconds=age),
        bisect=values["bisect"],
        report_failures=values["report_failures"],
        on_exhausted=cast("OnExhausted", values["on_exhausted"]),
    )
