"""`FunctionConfig`: what `@app.function` registers, as a value that converts to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

from streamfn.errors import ConfigError
from streamfn.model.policy import CONCURRENCY_MAX, check_duration
from streamfn.units import format_size

DEFAULT_TIMEOUT: Final = timedelta(seconds=60)
REQUEST_BYTES_MAX: Final = 6_291_456
"""Longest payload of a call (6 MiB). Source: G-2, AWS Lambda's limit."""
RESPONSE_BYTES_MAX: Final = 6_291_556
"""Longest answer of a call. Source: G-2."""
MEMORY_MIN: Final = 16 * 2**20
"""Smallest memory limit: an empty Python process needs about as much."""


def check_memory(limit: int | None) -> None:
    """Refuse a memory limit in which no process can work.

    Raises:
        ConfigError: It is less than `MEMORY_MIN`.
    """
    if limit is not None and limit < MEMORY_MIN:
        most, least = format_size(limit), format_size(MEMORY_MIN)
        raise ConfigError("memory", f"{most} is too little for a process, use at least {least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionConfig:
    """A function that is called by request; the `App` keeps the callable itself."""

    name: str
    """`<app>.<function>`."""
    app: str
    function: str
    """Name of the function, without its app."""
    timeout: timedelta = DEFAULT_TIMEOUT
    """Longest duration of one call; after it the process is killed."""
    concurrency: int | None = None
    """Calls that one worker runs at once; 0: none at all. None: no limit."""
    memory: int | None = None
    """Bytes that its process may use. None: no limit. With a limit it has processes of its own."""
    is_async: bool = False
    """Whether it is an `async def`: then a process runs several of its calls at once."""
    per_process: int = 1
    """Calls that one process runs at once."""
    version: str = ""
    """Changes with the function's code; see `streamfn.model.function.code_version`."""

    def __post_init__(self) -> None:
        if self.timeout <= timedelta(0):
            raise ConfigError("timeout", "a timeout must be above zero")
        check_duration("timeout", self.timeout)
        if self.concurrency is not None and not 0 <= self.concurrency <= CONCURRENCY_MAX:
            reason = f"{self.concurrency} is not between 0 and {CONCURRENCY_MAX:,}"
            raise ConfigError("concurrency", reason)
        check_memory(self.memory)

    @property
    def group(self) -> str:
        """The group of processes that may run it, see `worker.supervisor.runner_group`."""
        if self.memory is not None:
            return self.name
        # WHY the number: all processes of a group have the same seats.
        return self.app if self.per_process == 1 else f"{self.app}/async-{self.per_process}"

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object with all fields; `timeout` in seconds."""
        return asdict(self) | {"timeout": self.timeout.total_seconds()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> FunctionConfig:
        """Return the value of `to_dict`'s object."""
        return cls(**fields | {"timeout": timedelta(seconds=fields["timeout"])})
