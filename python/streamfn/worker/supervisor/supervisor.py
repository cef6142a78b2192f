"""`Supervisor`: the entry point of a worker; `loop` has its main loop."""

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
    """Runs an app's functions in runner processes, until a signal or the end of a burst.

    It never imports the app, so user code cannot crash it or block its interpreter.
    """

    def __init__(
        self, config: WorkerConfig, observer: Observer | None = None, *, clock: Clock | None = None
    ) -> None:
        """Make a supervisor; it reports events and progress to `observer`."""
        if config.threads > Board.CELLS:
            raise ConfigError("threads", f"{config.threads} is more than {Board.CELLS}")
        self._config = config
        self._observer = observer or Unobserved()
        self._clock = clock or SystemClock()

    def run(self) -> int:
        """Run the worker, and return the exit code of `streamfn worker`.

        In the main thread it handles signals: SIGTERM and SIGINT drain.

        Returns:
            0: drained, or with `burst` all records are processed. 3: no runner started
            successfully. 5: with `burst`, lanes stopped at damage. 130, 131: stopped at once by a
            second SIGINT or by SIGQUIT. 143: the drain took too long.

        Raises:
            ConfigError: The app does not import (field `APP`; its traceback is on stderr), or a
                setting is invalid.
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
