"""Messages between a supervisor and its front: one JSON object a line. Source: docs/front.md.

supervisor ──> front    Settings · Functions · RunnerStarted · RunnerEnded · StartFailed
                        DrainFront
front ──> supervisor    FrontReady · StartRunner · RunnerDismissed · FrontLoad
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streamfn.worker.messages import Message

EndReason = Literal["exit", "signal", "timeout", "memory", "drain"]


class Settings(Message, frozen=True, tag="settings"):
    """The first message."""

    worker: str
    runners_max: int
    """Most function runners, of all groups together."""
    starts_max: int
    """Most that start at once."""
    idle_seconds: float
    """How long one without calls stays."""
    supervisor: int
    """Process id of the supervisor."""


class FrontFunction(msgspec.Struct, frozen=True):
    """What the front has to know of a function."""

    name: str
    group: str
    timeout: float
    """Seconds."""
    concurrency: int | None
    per_process: int


class Functions(Message, frozen=True, tag="functions"):
    """All functions of the app; they take the place of those before."""

    functions: list[FrontFunction]


class RunnerStarted(Message, frozen=True, tag="runner_started"):
    """A function runner was started, and will connect."""

    runner: int
    group: str
    token: str
    busy: bool = False
    """Whether it is in a call of a front before, and connects after that."""


class RunnerEnded(Message, frozen=True, tag="runner_ended"):
    """A function runner has exited."""

    runner: int
    reason: EndReason
    detail: int = 0
    """Exit code, number of the signal, or the memory limit in bytes."""
    late: tuple[int, ...] = ()
    """Seats whose calls are past their timeouts."""


class StartFailed(Message, frozen=True, tag="start_failed"):
    """No runner of a group can start; its waiting calls fail with this error."""

    group: str
    error_type: str
    error_message: str


class DrainFront(Message, frozen=True, tag="drain"):
    """Take no more calls, finish those that run, end the runners, exit."""


class FrontReady(Message, frozen=True, tag="front_ready"):
    """The front takes calls."""


class StartRunner(Message, frozen=True, tag="start_runner"):
    """A function runner is needed."""

    group: str


class RunnerDismissed(Message, frozen=True, tag="runner_dismissed"):
    """The front has told a function runner to leave."""

    runner: int


class Load(msgspec.Struct, frozen=True):
    """What runs and waits of a function."""

    running: int = 0
    queued: int = 0
    calls: int = 0
    """Calls taken since the front started."""
    throttled: int = 0
    """Calls refused since then."""


class FrontLoad(Message, frozen=True, tag="load"):
    """What runs and waits."""

    functions: dict[str, Load]


FrontReport = FrontReady | StartRunner | RunnerDismissed | FrontLoad

_reports: msgspec.json.Decoder[FrontReport] = msgspec.json.Decoder(FrontReport)


def decode_front_report(line: bytes) -> FrontReport:
    """Decode a line from the front."""
    return _reports.decode(line)
