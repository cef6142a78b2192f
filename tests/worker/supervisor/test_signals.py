"""What SIGHUP means: a reload, or the end of the terminal."""

import os
import signal
import sys

from streamfn.worker.supervisor.signals import SignalBox, Terminal


class TestTerminal:
    """Tests for `Terminal`."""

    def test_one_that_was_closed_is_told_from_one_that_was_never_there(self, monkeypatch, tmp_path):
        master, slave = os.openpty()
        with os.fdopen(slave, "w") as stream, (tmp_path / "stderr").open("w") as file:
            monkeypatch.setattr(sys, "stderr", stream)
            seen = Terminal()
            assert not seen.is_closed
            os.close(master)
            assert seen.is_closed
            monkeypatch.setattr(sys, "stderr", file)
            assert not Terminal().is_closed
            monkeypatch.undo()


class TestSignalBox:
    """Tests for `SignalBox`."""

    def test_sighup_is_taken_unless_nohup_ignores_it(self):
        before = signal.getsignal(signal.SIGHUP)
        try:
            with SignalBox() as box:
                os.kill(os.getpid(), signal.SIGHUP)
                assert box.take() == [signal.SIGHUP]
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            with SignalBox() as box:
                os.kill(os.getpid(), signal.SIGHUP)
                assert box.take() == []
        finally:
            signal.signal(signal.SIGHUP, before)
