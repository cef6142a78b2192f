"""The log of a worker on stderr: text on a terminal, JSON elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from streamfn.clock import SystemClock
from streamfn.telemetry.distinct_failures import DistinctFailures
from streamfn.telemetry.events import DEBUG, ERROR, INFO, WARN, level_and_message, level_of
from streamfn.telemetry.line_writer import LineWriter
from streamfn.telemetry.log_lines import LineFormatter, TextLines, as_json
from streamfn.units import format_count

from .console import output, shows_colour
from .log_options import log_settings

if TYPE_CHECKING:
    from streamfn.worker.supervisor.progress import MappingProgress

TOTALS_EVERY: Final = 60.0
"""Seconds between the lines of totals."""


class WorkerOutput:
    """Observes a supervisor and logs its events, and what functions print and log."""

    def __init__(
        self, format_line: LineFormatter, least: int = INFO, *, is_terminal: bool = False
    ) -> None:
        """Log to stderr.

        Args:
            format_line: Makes the lines.
            least: The lowest level that is logged.
            is_terminal: Whether stderr is a terminal.
        """
        self._is_terminal = is_terminal
        self._format, self.least = format_line, least
        self._clock = SystemClock()
        self._latest: list[MappingProgress] = []
        self._told: dict[str, MappingProgress] = {}
        """The totals of the last lines of them."""
        self._next_totals = time.monotonic() + TOTALS_EVERY
        self._failures = DistinctFailures()
        self._writer = LineWriter(lambda: sys.stderr, self._dropped_line)

    def on_event(self, event: dict[str, Any]) -> None:
        """Log an event; a failure that came in the last minute is only counted."""
        if event["event"] == "output":
            self._on_output(event)
        elif event["event"] == "block":
            self._writer.write(event["text"])
        elif self._failures.is_new(event, time.monotonic()):
            if self._is_terminal and "Ctrl+C" in str(event.get("message")):
                self._writer.write("")  # WHY: the terminal has just shown `^C`
            self._log(event)

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Keep the figures, and log what is due once a minute."""
        self._latest = progress
        now = time.monotonic()
        for event in self._failures.due(now):
            self._log(event)
        if now >= self._next_totals:
            self._next_totals = now + TOTALS_EVERY
            self._log_totals(only_changed=True)

    def close(self) -> None:
        """Log the totals of each function, and write all lines."""
        for event in self._failures.due(time.monotonic(), is_end=True):
            self._log(event)
        self._log_totals(only_changed=False)
        self._writer.close()

    def _on_output(self, event: dict[str, Any]) -> None:
        """Log a line that user code printed or logged."""
        raw = event.get("raw")
        if raw is not None:
            self._writer.write(raw)
            return
        level = event.get("level", INFO)
        if level >= self.least:
            fields = {
                name: value for name, value in event.items() if name not in ("event", "level")
            }
            self._write(level, event["message"], fields)

    def _log_totals(self, *, only_changed: bool) -> None:
        for each in self._latest:
            if not only_changed or self._has_changed(each):
                self._told[each.name] = each
                self._log(totals_of(each))

    def _has_changed(self, each: MappingProgress) -> bool:
        told = self._told.get(each.name)
        figures = (each.records, each.calls, each.failures, each.throttled)
        if told is None:
            return any(figures)
        return figures != (told.records, told.calls, told.failures, told.throttled)

    def _log(self, event: Mapping[str, Any]) -> None:
        level, message = level_and_message(event)
        if level >= self.least:
            self._write(level, message, event)

    def _write(self, level: int, message: str, event: Mapping[str, Any]) -> None:
        self._writer.write(self._format(self._clock.now(), level, message, event))

    def _dropped_line(self, lines: int) -> str:
        event = {"event": "lines_dropped", "lines": lines}
        return self._format(self._clock.now(), WARN, level_and_message(event)[1], event)


def totals_of(each: MappingProgress) -> dict[str, Any]:
    """Return the event with the totals of one function since its worker started."""
    message = format_count(each.calls, "call")
    if not each.is_by_request:
        message = f"{format_count(each.records, 'record')} in {message}"
    figures = {"retried": each.retries, "bisected": each.bisects,
               "dead-lettered": each.dead_lettered,
               "lost": each.lost}  # fmt: skip
    if each.matched or each.filtered or each.not_json:
        figures |= {"matched": each.matched, "filtered out": each.filtered,
                    "not JSON": each.not_json}  # fmt: skip
    if each.is_by_request:
        figures |= {"failed": each.failures, "throttled": each.throttled, "waiting": each.behind}
    message += "".join(f", {format_count(n)} {name}" for name, n in figures.items() if n)
    return {
        "event": "totals",
        "mapping": each.name,
        "message": message,
        "records": each.records,
        "calls": each.calls,
        "failures": each.failures,
        "retries": each.retries,
        "bisects": each.bisects,
        "dead_letters": each.dead_lettered,
        "lost": each.lost,
        "matched": each.matched,
        "filtered": each.filtered,
        "not_json": each.not_json,
        "throttled": each.throttled,
        "behind": each.behind,
    }


def observer() -> WorkerOutput:
    """Return the observer that logs to stderr, as the options say."""
    least = ERROR if output.quiet else DEBUG if output.verbose else INFO
    if log_settings.level is not None:
        least = level_of(log_settings.level)
    is_terminal = sys.stderr.isatty()
    if log_settings.form == "json" or (log_settings.form == "auto" and not is_terminal):
        return WorkerOutput(as_json, least)
    return WorkerOutput(
        TextLines(
            is_coloured=shows_colour(sys.stderr),
            is_verbose=bool(output.verbose),
            columns=shutil.get_terminal_size().columns if is_terminal else None,
        ),
        least,
        is_terminal=is_terminal,
    )
