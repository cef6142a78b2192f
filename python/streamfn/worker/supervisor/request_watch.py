"""Finds the state of one function by request, and remembers since when it has been in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamfn.health.worker_report import TROUBLES_MAX, FunctionReport, RequestReport, Trouble
from streamfn.model.function_config import FunctionConfig
from streamfn.telemetry.counters import Counter

from .call_watch import CallInput, CallWatch
from .front_messages import Load
from .troubles import blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInput(CallInput):
    """What a look at one function needs."""

    config: FunctionConfig
    load: Load


class RequestWatch(CallWatch):
    """What is remembered of one function between two looks."""

    def look(self, seen: RequestInput) -> FunctionReport:
        """Find the state of the function."""
        self._note(seen, Counter.CALLS)
        is_running = seen.is_calling or seen.load.queued > 0
        state, troubles = self._decide(seen, self._find(seen), is_running=is_running)
        p50, p99 = self._quantiles
        return FunctionReport(
            name=self.name,
            stream="",
            state=state,
            since_us=self.since_us,
            troubles=troubles[:TROUBLES_MAX],
            rate_out=self._rate_out.per_second(),
            p50_seconds=p50,
            p99_seconds=p99,
            code_version=seen.code_version,
            memory_limit=seen.config.memory,
            memory_highest=seen.memory_highest,
            request=RequestReport(
                running=seen.load.running,
                queued=seen.load.queued,
                concurrency=seen.config.concurrency,
            ),
        )

    def _find(self, seen: RequestInput) -> Iterator[Trouble]:
        if self._began("start", seen, seen.start_error is not None):
            yield blocked("no runner can start", None, seen.start_error, self._since["start"])
        if (failing := self._failing(seen)) is not None:
            yield failing
