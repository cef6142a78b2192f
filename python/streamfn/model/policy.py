"""How batches are formed and what happens when a call fails: the policies and their defaults.

Each default exists once, here. `PRESETS` is a table of other values for the same fields; nothing
in the engine looks at the name of a preset.
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
"""A lane's exponent stops counting here: caps are reached long before, and floats stay finite."""


RETRIES_MAX: Final = 1_000_000
CONCURRENCY_MAX: Final = 1_000_000


def check_duration(field: str, value: timedelta) -> None:
    """Refuse what no clock can wait for.

    Raises:
        ConfigError: The argument `field` is no duration, or longer than `DURATION_MAX`.
    """
    if not isinstance(value, timedelta):
        raise ConfigError(field, f"`{value}` is not a `timedelta`")
    if value > DURATION_MAX:
        most = format_duration(DURATION_MAX)
        raise ConfigError(field, f"{format_duration(value)} is longer than {most}, the limit")


class BackoffPolicy(Protocol):
    """How long a lane waits before it repeats the same records; `Backoff` is one."""

    def draw(self, exponent: int, random: Random) -> timedelta:
        """Return a wait, at least zero and at most 3,650 days.

        In place of anything else the lane waits as without a back-off of its own, and says so.

        Args:
            exponent: Waits of this lane since its last success, 0 before the first; at most 64.
            random: Where chance comes from, so that a test can repeat it.
        """
        ...


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """Longest wait after some waits without a success: `base`, times `factor` each, up to `cap`.

    The wait itself is drawn evenly between zero and that limit ("full jitter"), so that lanes that
    failed together do not come back together.
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
        """Read the two durations as all are read: `"500ms"`, seconds, or a `timedelta`.

        Raises:
            ConfigError: One is no duration, `base` is longer than `cap`, or `factor` is not
                between 1 and 1,000.
        """
        waits = {"base": _wait("base", base), "cap": _wait("cap", cap)}
        if waits["base"] > waits["cap"]:
            longest, most = format_duration(waits["base"]), format_duration(waits["cap"])
            reason = f"base {longest} is longer than cap {most}: raise `cap`, or lower `base`"
            raise ConfigError("backoff", reason)
        for name, value in {**waits, "factor": _growth(factor)}.items():
            object.__setattr__(self, name, value)  # WHY: a frozen value is set once, here

    def limit(self, exponent: int) -> timedelta:
        """Return the longest wait after `exponent` waits (0 before the first)."""
        steps = self.factor ** min(exponent, EXPONENT_MAX)
        return timedelta(seconds=min(self.base.total_seconds() * steps, self.cap.total_seconds()))

    def draw(self, exponent: int, random: Random) -> timedelta:
        """Return a wait between zero and `limit(exponent)`."""
        return self.limit(exponent) * random.random()


def _wait(argument: str, value: str | float | timedelta) -> timedelta:
    """Read one of a back-off's durations."""
    try:
        wait = parse_duration(value)
    except ValueError as error:
        raise ConfigError("backoff", f"{argument} {error}") from None
    check_duration("backoff", wait)
    return wait


def _growth(factor: object) -> float:
    """Read what a back-off's limit is multiplied by."""
    if not isinstance(factor, int | float) or not 1.0 <= factor <= FACTOR_MAX:
        raise ConfigError("backoff", f"factor {factor} is not between 1 and {FACTOR_MAX:,.0f}")
    return float(factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPolicy:
    """A batch closes on the first of these three."""

    size: int = 100
    """Most records in one call, 1 to 100,000. Raise it when the work per call is what costs."""
    window: timedelta = timedelta(0)
    """Longest wait for a fuller batch after its first record. Zero: call with what is there."""
    bytes: int = 6 * 2**20
    """Most payload bytes in one call; one record above it still comes, alone."""

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
    """Tumbling windows: adjacent stretches of time, each with a state and a final call."""

    width: timedelta
    """Windows are its multiples since 1970, UTC; records are in them by their append time."""
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
    """Repeats of the same records after the first call; a split is not one. -1: for ever."""
    backoff: BackoffPolicy = field(default_factory=Backoff)
    """How long a lane waits before it repeats the same records."""
    max_record_age: timedelta | None = None
    """Records older than this go to `on_failure` without a call. None: no limit."""
    bisect: bool = True
    """Split a failed batch in two until the guilty record is alone."""
    report_failures: bool = True
    """Believe a returned `{"batchItemFailures": [...]}`."""
    on_exhausted: OnExhausted = "record"
    """Of reported failures out of retries: give up the lowest record only, or the whole batch."""

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
    """What a preset lets an argument be."""

    low: Any
    high: Any
    step: timedelta | None = None
    """A duration must be a whole number of these."""

    def refusal(self, value: Any) -> str | None:  # noqa: ANN401 -- a number or a duration
        """Return why a value is out of bounds, or None."""
        if not self.low <= value <= self.high:
            return f"{value} is not between {self.low} and {self.high}"
        if self.step is not None and value % self.step:
            return f"{value} is not a multiple of {self.step}"
        return None


@dataclass(frozen=True, slots=True)
class PatternBounds:
    """What a preset lets a filter be."""

    patterns: int
    chars: int
    """Of one pattern as JSON text."""

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
    """Arguments that it sets; one given in the code wins."""
    bounds: Mapping[str, Bound]
    """Of arguments, whoever set them."""
    further: Mapping[str, Any] = field(default_factory=dict)
    """Values of the policies that no argument sets."""
    endless: Sequence[str] = ()
    """Arguments of which -1 is no limit."""


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
