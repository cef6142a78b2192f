"""What asks for a reload of the code: SIGHUP, and with `--reload` a change of the app's files."""

from __future__ import annotations

from .app_code import PinnedCode
from .file_watch import FileWatch
from .rollover import Rollover
from .signals import Terminal


class ReloadRequests:
    """Asks the rollover for reloads, and gives it its turns."""

    def __init__(self, code: PinnedCode, rollover: Rollover, *, is_watching: bool) -> None:
        """Start; `is_watching`: the app's files are watched."""
        self._code, self._rollover = code, rollover
        self._watch = FileWatch(self._files, rollover.ask) if is_watching else None
        self._terminal = Terminal()

    def turn(self, now: float) -> None:
        """Do what is due; `now` is monotonic."""
        self._rollover.turn(now)
        if self._watch is not None:
            self._watch.look(now)

    def hang_up(self) -> bool:
        """Handle SIGHUP; return whether the worker is to end, because its terminal was closed."""
        if self._terminal.is_closed:
            return True
        self._rollover.ask()
        return False

    def _files(self) -> dict[str, str]:
        return {**dict.fromkeys(self._rollover.at_fault, ""), **self._code.files}
