"""Policies and their defaults: how batches are formed, and what happens when a call fails.

Each default is defined only here. `PRESETS` has other values for the same fields; the engine does
not depend on the name of a preset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from streamfn._core import BATCH_SIZE_MAX
from streamfn.errors import ConfigError
from streamfn.units import DURATION_MAX, format_duration, parse_duration

if TYPE_CHECKING:
    from random import Random

FACTOR_MAX = 1_000.0
"""Largest `Backoff.factor`; `factor ** EXPONENT_MAX` must stay a float."""
OnExhausted = Literal["record", "batch"]

EXPONENT_MAX = 64
"""Largest back-off exponent of a lane. Caps are reached long before, and floats stay finite."""


RETRIES_MAX: Final = 1_000_000
CONCURRENCY_MAX: Final = 1_000_000


def check_duration(field: str, value: timedelta) -> None:
    """Refuse a value that cannot be waited for.

    Raises:
        ConfigError: The argument `field` is not a duration, or is longer than `DURATION_MAX`.
    """
    if not isinstance(value, timedelta):
        raise ConfigError(field, f"`{value}` is not a `timedelta`")
    if value > DURATION_MAX:
        most = format_duration(DURATION_MAX)
        raise ConfigError(field, f"{format_duration(value)} is longer than {most}, the limit")


class BackoffPolicy(Protocol):
    """How long a lane waits before it retries the same records; `Backoff` implements it."""

    def draw(self, exponent: int, random: Random) -> timedelta:
        """Return the next wait: at least zero, at most 3,650 days.

        If this raises or returns anything else, the worker reports it and uses the default
        `Backoff` for this wait.

        Args:
            exponent: Number of waits since the lane's last successful call, from 0 to 64.
            random: Source of random numbers; tests seed it.
        """
        ...


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """Exponential back-off: the limit starts at `base` and grows by `factor` per wait up to `cap`.

    The wait is drawn uniformly between zero and the limit ("full jitter"), so that lanes that
    failed together do not retry together. A successful call resets the limit to `base`.
    """

    base: timedelta
    factor: float
    cap: timedelta

    def __init__(
        self,
        *,
        base: str | float | timedelta = timedelta(milliseconds=500),
        factor: float = 2.0,
        cap: str | float | timedelta = timedelta(seconds=60),
    ) -> None:
        """Make a back-off; durations are strings such as `"500ms"`, seconds, or a `timedelta`.

        Raises:
            ConfigError: `base` or `cap` is not a duration, `base` is longer than `cap`, or `factor`
                is not between 1 and 1,000.
        """
        waits = {"base": _wait("base", base), "cap": _wait("cap", cap)}
        if waits["base"] > waits["cap"]:
            longest, most = format_duration(waits["base"]), format_duration(waits["cap"])
            reason = f"base {longest} is longer than cap {most}: raise `cap`, or lower `base`"
            raise ConfigError("backoff", reason)
        for name, value in {**waits, "factor": _growth(factor)}.items():
            object.__setattr__(self, name, value)  # WHY: a frozen value is set once, here

    def limit(self, exponent: int) -> timedelta:
        """Return the longest wait after `exponent` waits (0: the first wait)."""
        steps = self.factor ** min(exponent, EXPONENT_MAX)
        return timedelta(seconds=min(self.base.total_seconds() * steps, self.cap.total_seconds()))

    def draw(self, exponent: int, random: Random) -> timedelta:
        """Return a wait between zero and `limit(exponent)`."""
        return self.limit(exponent) * random.random()


def _wait(argument: str, value: str | float | timedelta) -> timedelta:
    """Parse one duration of a back-off."""
    try:
        wait = parse_duration(value)
    except ValueError as error:
        raise ConfigError("backoff", f"{argument} {error}") from None
    check_duration("backoff", wait)
    return wait


def _growth(factor: object) -> float:
    """Check the factor of a back-off."""
    if not isinstance(factor, int | float) or not 1.0 <= factor <= FACTOR_MAX:
        raise ConfigError("backoff", f"factor {factor} is not between 1 and {FACTOR_MAX:,.0f}")
    return float(factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """When a batch is complete: at the first of these three limits."""

    size: int = 100
    """Most records in one call, 1 to 100,000. Raise it when the cost per call dominates."""
    window: timedelta = timedelta(0)
    """Longest wait for more records after the first. Zero: call at once with those there are."""
    bytes: int = 6 * 2**20
    """Most payload bytes in one call; a larger record is delivered alone."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= BATCH_SIZE_MAX:
            raise ConfigError("batch_size", f"{self.size} is not between 1 and {BATCH_SIZE_MAX:,}")
        if self.window < timedelta(0):
            raise ConfigError("batch_window", "a window cannot be negative; 0 switches it off")
        check_duration("batch_window", self.window)
        if self.bytes < 1:
            raise ConfigError("batch_bytes", f"{self.bytes} is not a size above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPolicy:
    """Tumbling windows: adjacent periods of equal length, each with a state and a final call."""

    width: timedelta
    """Windows start at multiples of it since 1970, UTC; a record's append time chooses its own."""
    state_bytes_max: int | None = None
    """A larger state closes the window early. None: no limit."""

    def __post_init__(self) -> None:
        if self.width <= timedelta(0):
            raise ConfigError("tumbling_window", "a window cannot be negative; 0 switches it off")
        check_duration("tumbling_window", self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What happens to a batch whose call failed."""

    max_retries: int = 3
    """Retries of the same records after the first call; a split is not a retry. -1: no limit."""
    backoff: BackoffPolicy = field(default_factory=Backoff)
    """How long a lane waits before it retries the same records."""
    max_record_age: timedelta | None = None
    """Records older than this go to `on_failure` without a call. None: no limit."""
    bisect: bool = True
    """Split a failed batch in two until the failing record is alone."""
    report_failures: bool = True
    """Accept a returned `{"batchItemFailures": [...]}`."""
    on_exhausted: OnExhausted = "record"
    """When reported failures have no retry left: give up the lowest record, or the whole batch."""

    def __post_init__(self) -> None:
        if self.max_retries < -1:
            reason = f"{self.max_retries} is not a number of retries; 0 is none, -1 is for ever"
            raise ConfigError("max_retries", reason)
        if self.max_retries > RETRIES_MAX:
            reason = f"{self.max_retries} is more than {RETRIES_MAX:,}; -1 is for ever"
            raise ConfigError("max_retries", reason)
        if self.max_record_age is not None:
            if self.max_record_age <= timedelta(0):
                reason = "an age must be above zero; leave it out for none"
                raise ConfigError("max_record_age", reason)
            check_duration("max_record_age", self.max_record_age)
        if self.on_exhausted not in get_args(OnExhausted):
            raise ConfigError("on_exhausted", f"`{self.on_exhausted}` is not `record` or `batch`")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range that a preset allows for an argument."""

    low: Any
    high: Any
    step: timedelta | None = None
    """A duration must be a multiple of it."""

    def refusal(self, value: Any) -> str | None:  # noqa: ANN401 -- a number or a duration
        """Return why a value is out of bounds, or None."""
        if not self.low <= value <= self.high:
            return f"{value} is not between {self.low} and {self.high}"
        if self.step is not None and value % self.step:
            return f"{value} is not a multiple of {self.step}"
        return None


@dataclass(frozen=True, slots=True)
class PatternBounds:
    """The number and length of patterns that a preset allows for a filter."""

    patterns: int
    chars: int
    """Longest pattern as JSON text."""

    def refusal(self, value: Sequence[str]) -> str | None:
        """Return why patterns are out of bounds, or None."""
        if len(value) > self.patterns:
            return f"{len(value)} patterns are more than {self.patterns}"
        longest = max(map(len, value), default=0)
        if longest > self.chars:
            return f"a pattern of {longest:,} characters is longer than {self.chars:,}"
        return None


Bound = Bounds | PatternBounds


@dataclass(frozen=True, slots=True)
class Preset:
    """Other defaults for `@app.stream`, and narrower bounds."""

    values: Mapping[str, Any]
    """Arguments that the preset sets; the user's own arguments override them."""
    bounds: Mapping[str, Bound]
    """Bounds of arguments, whether the preset or the user set them."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """Values of policies that no argument sets."""
    endless: Sequence[str] = ()
    """Arguments whose value -1 means no limit."""


# SOURCE: AWS Lambda API, CreateEventSourceMapping (defaults and ranges), and the quotas of Lambda
# functions.
PRESETS: Final[dict[str, Preset]] = {
    "aws": Preset(
        values={
            "batch_size": 100,
            "batch_window": timedelta(0),
            "batch_bytes": 6 * 2**20,
            "max_retries": -1,
            "max_record_age": None,
            "bisect": False,
            "report_failures": False,
            "on_exhausted": "batch",
            "parallelization_factor": 1,
            "timeout": timedelta(seconds=3),
            "on_failure": None,
        },
        bounds={
            "batch_size": Bounds(1, 10_000),
            "batch_window": Bounds(timedelta(0), timedelta(seconds=300), timedelta(seconds=1)),
            "max_retries": Bounds(-1, 10_000),
            "max_record_age": Bounds(timedelta(seconds=60), timedelta(seconds=604_800)),
            "parallelization_factor": Bounds(1, 10),
            "tumbling_window": Bounds(timedelta(0), timedelta(seconds=900), timedelta(seconds=1)),
            "timeout": Bounds(timedelta(seconds=1), timedelta(seconds=900)),
            "filter": PatternBounds(patterns=5, chars=4_096),
        },
        further={"state_bytes_max": 2**20},
        endless=("max_record_age",),
    ),
}
