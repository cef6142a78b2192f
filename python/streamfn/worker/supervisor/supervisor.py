"""The supervisor of a worker, as others start it; what it does stands in `loop`."""

from __future__ import annotations

from streamfn import _core
from streamfn._core import Board, Membership
from streamfn.clock import Clock, SystemClock
from streamfn.errors import ConfigError
from streamfn.model.worker import WorkerConfig

from .announcement import membership_body
from .loop import SupervisorLoop, SupervisorSetup
from .progress import MappingProgress, Observer, Unobserved
from .signals import SignalBox

__all__ = ["MappingProgress", "Observer", "Supervisor"]


class Supervisor:
    """Runs an app's functions in runner processes, until it is told to stop or has nothing to do.

    It never imports the app: nothing of a user's can stop it, crash it or hold its interpreter.
    """

    def __init__(
        self, config: WorkerConfig, observer: Observer | None = None, *, clock: Clock | None = None
    ) -> None:
        """Make a supervisor; `observer` is told what happens."""
        if config.threads > Board.CELLS:
            raise ConfigError("threads", f"{config.threads} is more than {Board.CELLS}")
        self._config = config
        self._observer = observer or Unobserved()
        self._clock = clock or SystemClock()

    def run(self) -> int:
        """Work, and return the exit code of `streamfn worker`.

        In the main thread it answers to signals: SIGTERM and SIGINT drain.

        Returns:
            0: drained, or with `burst` all is processed. 3: no runner came up. 130, 131: stopped
            at once by a second SIGINT, by SIGQUIT. 143: the drain took too long.

        Raises:
            ConfigError: The app does not import (field `APP`; its traceback is on stderr by then),
                or a setup cannot be used.
            StreamNotFound: With `burst`, a source stream does not exist.
            StreamfnError: The log cannot be used.
        """
        _core.raise_file_limit()
        log = _core.Log.open(self._config.log_dir)
        try:
            membership = Membership.join(log, membership_body(()))
            try:
                with SignalBox() as signals:
                    setup = SupervisorSetup(
                        self._config, log, membership, self._observer, self._clock
                    )
                    return SupervisorLoop(setup).run(signals)
            finally:
                membership.leave()
        finally:
            log.close()
