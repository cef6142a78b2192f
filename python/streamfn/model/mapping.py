"""One event source mapping: what `@app.stream` registers, as a value that can travel as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast

from streamfn._core import FACTOR_MAX, REPLAY_MARK, Filter
from streamfn.errors import ConfigError
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
"""Where bytes of the log are damaged: stop there, or pass them and give up the records."""
Start = str | datetime
"""`"trim_horizon"`, `"latest"`, or an aware datetime; counts only when the mapping is new."""
DEFAULT_TIMEOUT: Final = timedelta(seconds=60)
DLQ: Final = "dlq"
"""`on_failure`: the function's own dead letters, not a stream of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMapping:
    """Source, function, policies and destination; the callable itself stays with its `App`."""

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
    """Event patterns as JSON texts, any of which may match. None: every record is delivered."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    tumbling: WindowPolicy | None = None
    """Tumbling windows, with a state for each shard; None: there are none."""
    timeout: timedelta = DEFAULT_TIMEOUT
    """Longest duration of one call; then its process is killed."""
    on_failure: str | None = DLQ
    """`dlq`, another stream's name, or None: drop, counted and logged."""
    to: str | None = None
    """Stream that takes what successful calls return or yield."""
    on_success: str | None = None
    """Stream that takes an invocation record of each successful call."""
    on_corruption: OnCorruption = "raise"
    """Where records are damaged: stop the lane and say so, or pass them, counted and logged."""
    version: str = ""
    """Changes with the function's code; see `streamfn.model.function.code_version`."""

    # Performance
    batch: BatchPolicy = field(default_factory=BatchPolicy)
    parallelization_factor: int = 1
    """Lanes per shard, 1 to 256; order is kept per partition key."""
    max_concurrency: int | None = None
    """Lanes of this function that one worker calls at once. None: no limit of its own."""
    concurrent: bool = False
    """Whether a process may call it while it calls an exclusive function; see `InputKind`."""

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

    @property
    def window_seconds(self) -> float | None:
        """Width of the tumbling windows; None: there are none."""
        return None if self.tumbling is None else self.tumbling.width.total_seconds()

    @property
    def dlq_stream(self) -> str:
        """Internal stream of this mapping's dead letters."""
        return f"{self.name}.dlq"

    @property
    def redrive_stream(self) -> str:
        """Internal stream of records to be tried again, read by this function alone."""
        return f"{self.name}{REDRIVE_SUFFIX}"

    @property
    def failure_stream(self) -> str | None:
        """Stream that takes what is given up; None: it is dropped."""
        return self.dlq_stream if self.on_failure == DLQ else self.on_failure

    @property
    def targets(self) -> dict[str, str]:
        """Streams of the user's own that it appends to, by the argument that names them."""
        named = {"to": self.to, "on_success": self.on_success, "on_failure": self.on_failure}
        if self.on_failure == DLQ:
            del named["on_failure"]
        return {argument: stream for argument, stream in named.items() if stream is not None}

    def writes_on_success(self, stream: str) -> bool:
        """Whether a record of that stream is done only once something is written for its success.

        What it sends on, or that its dead letter is resolved. It is written after the calls of
        several records, and is lost with the process that made them.
        """
        return bool(self.to or self.on_success) or stream == self.redrive_stream

    def compiled_filter(self) -> Filter | None:
        """Return the filter ready to match records; None: every record is delivered."""
        return Filter(self.filter, for_records=True) if self.filter else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values: durations in seconds, `start` as a word or ISO 8601."""
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
            "concurrent": self.concurrent,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EventSourceMapping:
        """Read what `to_dict` returned."""
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
    """Return the mapping that a replay is of, by its name; any other name is its own."""
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
    """Return the fields of ours; a policy of the user's own stays in the process that waits."""
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
