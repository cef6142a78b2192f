"""The code that a worker runs: pinned by its first runner, so that versions never mix.

Every runner is a fresh process that imports the app from disk. One that imported other code than
the pinned is refused. `Rollover` is the only one to pin new code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamfn.worker.messages import NotReady, Ready
from streamfn.worker.report import Report

from .child_process import ChildProcess

FILES_TOLD_MAX: Final = 5
HINT: Final = "SIGHUP or restart to take the new code"


class PinnedCode:
    """The pinned code, and what was told about runners with other code."""

    def __init__(self, report: Report) -> None:
        """Start without code: the first runner pins it."""
        self._report = report
        self._told: set[str] = set()
        self.version = ""
        """`AppCode.version`; empty until a runner is ready."""
        self.files: Mapping[str, str] = {}
        """`AppCode.files`."""
        self.refusal = ""
        """Why the last runner could not start; empty after one has started."""

    def pin(self, message: Ready) -> None:
        """Pin the code of a runner that is ready."""
        self.version, self.files = message.code_version, message.files
        self._told.clear()
        self.refusal = ""

    def is_other(self, message: Ready) -> bool:
        """Whether a runner imported other code than the pinned."""
        return bool(self.version) and message.code_version != self.version

    def refuse(self, runner: ChildProcess, message: Ready) -> None:
        """End a runner with other code; told once for each version."""
        runner.end()
        changed = self._changed(message)
        self.refusal = f"the code has changed ({', '.join(changed)})"
        if self._is_new(message.code_version):
            self._report(
                "code_changed",
                runner=runner.number,
                code_version=self.version,
                found_version=message.code_version,
                changed=changed,
                hint=HINT,
            )

    def not_imported(self, runner: ChildProcess, message: NotReady) -> None:
        """Note that a runner could not import the app; told once for each reason."""
        runner.is_blameless = True
        self.refusal = message.cause
        if self._is_new(message.cause):
            self._report(
                "runner_not_ready",
                runner=runner.number,
                error_message=message.cause,
                traceback=message.traceback,
                code_version=self.version,
            )

    def _is_new(self, reason: str) -> bool:
        is_new = reason not in self._told
        self._told.add(reason)
        return is_new

    def _changed(self, message: Ready) -> list[str]:
        """Return the files that differ, or `mappings` if only these do."""
        paths = self.files.keys() | message.files.keys()
        found = sorted(path for path in paths if self.files.get(path) != message.files.get(path))
        more = [f"and {len(found) - FILES_TOLD_MAX} more"] if len(found) > FILES_TOLD_MAX else []
        return [*found[:FILES_TOLD_MAX], *more] or ["mappings"]


def gives_up(refusal: str) -> str:
    """Return why a worker ends in which no runner starts, with a hint.

    Args:
        refusal: `PinnedCode.refusal`.
    """
    if refusal:
        why = f"no runner is left, and no new one can start: {refusal}"
        return f"{why} (hint: restart the worker; `streamfn worker APP` shows whether APP imports)"
    why = "runner processes end before they have imported the app"
    return f"{why} (hint: import it with `python -X faulthandler` to see where)"
