"""What is wrong with a function, as one sentence."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from streamfn.units import format_count, format_duration, from_microseconds

from .functions import FunctionHealth
from .state import HEALTHY, State

DAY_US: Final = 86_400 * 10**6
_SILENT: Final = HEALTHY | {State.PAUSED}


def sentence(health: FunctionHealth, now_us: int) -> str | None:
    """Return what is wrong with a function; None: nothing, or it is paused.

    Times are in the local time zone.
    """
    trouble = health.trouble
    if health.state in _SILENT or trouble is None:
        return None
    parts = [f"{health.name} is {health.state}: {trouble.reason}"]
    lanes = sum("." not in lane.stream and not lane.is_finished for lane in health.lanes)
    if trouble.slot is not None and lanes > 1:
        parts.append(f"{health.lanes_concerned} of {format_count(lanes, 'lane')}")
    if trouble.since_us:
        parts.append(f"since {_clock(trouble.since_us, now_us)}")
    if trouble.next_try_us is not None and trouble.next_try_us > now_us:
        wait = timedelta(microseconds=trouble.next_try_us - now_us)
        parts.append(f"next try in {format_duration(wait)}")
    return ", ".join(parts)


def _clock(time_us: int, now_us: int) -> str:
    """Return a time as `10:02:11`, with the date if it is longer ago than a day."""
    local = from_microseconds(time_us).astimezone()
    return local.strftime("%H:%M:%S" if now_us - time_us < DAY_US else "%Y-%m-%d %H:%M:%S")
