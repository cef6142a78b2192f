"""Tests for the connections of callers that block: threads, limits, paths, forks."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_front import (
    FakeFront,
    called,
    echo,
    late,
    refusing,
    seconds,
)

from streamfn import Log
from streamfn.errors import (
    ForkedHandle,
    StreamClosed,
    WorkerUnavailable,
)
from streamfn.invocation import connection as connections
from streamfn.invocation import peers


class TestConnections:
    def test_threads_have_a_connection_each_and_they_are_kept(self, log, front):
        there = front(behave=late(0.1))
        payloads = [b"%d" % n for n in range(64)]
        with ThreadPoolExecutor(64) as pool:
            for _ in range(3):
                replies = list(pool.map(lambda each: called(log, each), payloads))

                assert [each.payload for each in replies] == payloads

        assert len(there.connections) == 64

    def test_no_more_than_64_idle_ones_are_kept(self, log, front):
        there = front(behave=late(0.5))
        with ThreadPoolExecutor(80) as pool:
            list(pool.map(lambda _: called(log), range(80)))
        time.sleep(0.2)

        assert len(there.connections) == peers.IDLE_MAX == 64

    def test_an_interrupted_call_drops_its_connection(self, log, front):
        there = front(behave=late(1.0))

        def interrupt(_number, _frame):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                called(log, b'"first"')
        finally:
            signal.signal(signal.SIGALRM, before)
        there.behave = echo

        assert called(log, b'"second"').payload == b'"second"'
        assert [each.body for each in there.calls] == [b'"first"', b'"second"']

    def test_connections_of_workers_long_gone_are_closed(self, log, front, monkeypatch):
        monkeypatch.setattr(peers, "PEERS_MAX", 2)
        fronts = []
        for _ in range(4):
            fronts.append(front())
            called(log)
            fronts[-1].behave = refusing(503)
            fronts[-1].leave()
        time.sleep(0.1)

        assert [len(each.connections) for each in fronts] == [0, 0, 1, 1]

    def test_a_front_that_takes_nothing_gets_no_call(self, log, front, monkeypatch):
        """It may be stopped in the middle of a frame; a part of a call is never made."""
        monkeypatch.setattr(connections, "SEND_SECONDS", 0.5)
        there = front()
        there.reads.clear()

        took, error = seconds(lambda: called(log, b"[" + b" " * 4_000_000 + b"]"))
        there.reads.set()

        assert isinstance(error, WorkerUnavailable)
        assert took < 2.0
        time.sleep(0.1)
        assert there.calls == []

    @pytest.mark.parametrize("longest", [107, 108, 200, 240])
    def test_a_path_of_any_length_leads_to_a_worker(self, tmp_path, longest):
        """Linux allows 107 bytes for the path of a socket."""
        rest = len("/workers/") + 32 + len(".sock")
        folder = tmp_path
        while len(str(folder)) + rest < longest:
            missing = longest - rest - len(str(folder)) - 1
            folder = folder / ("d" * max(min(missing, 100), 1))
        with Log.open(folder) as log:
            there = FakeFront(log)
            try:
                assert called(log, b"2").payload == b"2"
            finally:
                there.close()

    def test_a_copied_log_has_no_workers(self, tmp_path, log, front):
        """The file of the socket is copied, or is left by a machine that stopped."""
        import shutil

        front()
        copy = tmp_path / "copy"
        shutil.copytree(log.path, copy, ignore=shutil.ignore_patterns("*.sock"))
        (copy / "workers" / ("a" * 32 + ".sock")).touch()
        with Log.open(copy) as copied, pytest.raises(WorkerUnavailable):
            called(copied)

    def test_a_closed_log_is_refused(self, log_dir, front, log):
        there = front()
        with Log.open(log_dir) as mine:
            called(mine)

        with pytest.raises(StreamClosed):
            called(mine)
        assert len(there.calls) == 1


class TestFork:
    CHILD = """
import os, sys
sys.path.insert(0, {here!r})
from fake_front import FakeFront, late
from streamfn import Log
from streamfn.errors import ForkedHandle
from streamfn.invocation.client import invoke_through_worker as invoke

log = Log.open({log!r})
front = FakeFront(log)
assert invoke(log, "shop.price", b"1").payload == b"1"
sys.stdout.flush()
child = os.fork()
if child == 0:
    try:
        invoke(log, "shop.price", b"2")
    except ForkedHandle:
        pass
    else:
        os._exit(1)
    with Log.open({log!r}) as own:
        assert invoke(own, "shop.price", b"3").payload == b"3"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert invoke(log, "shop.price", b"4").payload == b"4"
bodies = [call.body for call in front.calls]
assert bodies == [b"1", b"3", b"4"], bodies
assert front.opened == 2, front.opened
front.close()
"""

    def test_a_child_has_connections_of_its_own(self, tmp_path):
        """In a process of its own, because pytest's has threads of other tests."""
        script = self.CHILD.format(here=str(Path(__file__).parent), log=str(tmp_path / "log"))

        done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)

        assert done.returncode == 0, done.stderr.decode()

    def test_a_child_does_not_keep_the_connections_of_its_parent_open(self, log, front):
        there = front()
        called(log)
        child = os.fork()
        if child == 0:
            time.sleep(20)
            os._exit(0)
        try:
            peers._close_all()
            time.sleep(0.2)

            assert there.connections == []
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_an_old_handle_in_a_child_is_refused(self, log, front):
        front()
        called(log)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                called(log)
            except ForkedHandle:
                os.write(writing, b"refused")
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)

        assert os.read(reading, 100) == b"refused"
        os.close(reading)
