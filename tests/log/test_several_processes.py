"""One log, several processes: they append and read at once, are killed, fork and are stopped."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamfn import _core
from streamfn.errors import ForkedHandle, LockTimeout, StreamClosed

SHARD = "shardId-000000000000"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run `code` in a fresh interpreter; its arguments are in `sys.argv`."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a process that must succeed; returns what it printed."""
    try:
        printed, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0
    return printed


def read_all(stream: _core.Stream, shard: str = SHARD) -> _core.Records:
    """Every visible record of a shard."""
    return stream.reader(shard).poll(10_000_000, 1 << 40)


PRODUCER = """
    import sys
    from streamfn import _core
    path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    stream = _core.Log.open(path).stream("s")
    for n in range(count):
        stream.put(f"{name} {n}".encode(), name)
        print(n, flush=True)
"""

READER = """
    import sys
    from streamfn import _core
    path, count = sys.argv[1], int(sys.argv[2])
    reader = _core.Log.open(path).stream("s").reader("shardId-000000000000")
    seen = 0
    while seen < count:
        records = reader.poll(1000, wait=30.0)
        assert len(records), "woken without a record for 30 s"
        for record in records:
            print(record.sequence_number, record.text(), flush=True)
        seen += len(records)
"""


@pytest.mark.parametrize("durability", ["process", "group"])
def test_producers_and_readers_at_once(tmp_path: Path, durability: str) -> None:
    """Readers see every record once, in one order, and each producer's in the order of its puts."""
    log = _core.Log.open(str(tmp_path))
    log.create_stream("s", durability=durability)
    readers = [start(READER, tmp_path, 4 * 200) for _ in range(2)]
    producers = [start(PRODUCER, tmp_path, name, 200) for name in "abcd"]
    for producer in producers:
        finish(producer)

    seen = [finish(reader).splitlines() for reader in readers]

    assert seen[0] == seen[1]
    numbers = [int(line.split()[0]) for line in seen[0]]
    assert list(range(800)) == numbers
    for name in "abcd":
        own = [line.split()[2] for line in seen[0] if line.split()[1] == name]
        assert [str(n) for n in range(200)] == own


@pytest.mark.parametrize("durability", ["process", "group"])
def test_killed_producers_lose_nothing_that_was_acknowledged(
    tmp_path: Path, durability: str
) -> None:
    """20 producers die at some moment; the log has all that they were told is in it."""
    log = _core.Log.open(str(tmp_path))
    stream = log.create_stream("s", durability=durability)
    acknowledged: list[tuple[str, int]] = []
    for round_ in range(20):
        producer = start(PRODUCER, tmp_path, f"p{round_}", 1_000_000)
        assert producer.stdout is not None
        producer.stdout.readline()
        time.sleep(0.002 * round_)
        producer.send_signal(signal.SIGKILL)
        printed, _ = producer.communicate(timeout=240)
        last = max([0, *map(int, printed.split())])
        acknowledged += [(f"p{round_}", n) for n in range(last + 1)]
    stream.put(b"end 0", "end")

    records = read_all(stream)

    assert list(range(len(records))) == records.sequence_numbers()
    found = [tuple(value.decode().split()) for value in records.values()]
    assert {(name, str(n)) for name, n in acknowledged} <= set(found)
    assert len(found) == len(set(found))


def test_a_stream_is_looked_at_while_its_segments_go(tmp_path: Path) -> None:
    """A file that retention takes between two looks is not counted, and is no error."""
    log = _core.Log.open(str(tmp_path))
    stream = log.create_stream("s", durability="process", compression="none", segment_bytes=1 << 20)
    code = """
        import os, sys
        from streamfn import _core
        stream = _core.Log.open(sys.argv[1]).stream("s")
        print("looking", flush=True)
        while not os.path.exists(sys.argv[2]):
            stream.shards()
    """
    looker = start(code, tmp_path, tmp_path / "stop")
    assert looker.stdout is not None
    looker.stdout.readline()
    for _ in range(5):
        last = [stream.put(bytes(1 << 20))[1] for _ in range(20)][-1]
        stream.trim(SHARD, last)
    (tmp_path / "stop").touch()

    finish(looker)


def test_all_processes_killed_and_the_log_opened_again(tmp_path: Path) -> None:
    """The page cache outlives the processes: numbering goes on, without a new epoch."""
    code = """
        import os, signal, sys
        from streamfn import _core
        log = _core.Log.open(sys.argv[1])
        stream = log.create_stream("s", durability=sys.argv[2], exist_ok=True)
        print(stream.put(b"x", "k")[1], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for durability in ("process", "group"):
        folder = tmp_path / durability
        numbers = []
        for _ in range(3):
            process = start(code, folder, durability)
            printed, _ = process.communicate(timeout=240)
            numbers.append(int(printed))

        assert [0, 1, 2] == numbers
        assert 3 == len(read_all(_core.Log.open(str(folder)).stream("s")))


class TestFork:
    """A handle belongs to the process that opened it."""

    def test_the_child_is_told_to_open_again_and_can(self, tmp_path: Path) -> None:
        """Inherited handles raise; a log opened in the child works; the parent's goes on."""
        code = """
            import os, sys, warnings
            warnings.simplefilter("ignore")
            from streamfn import _core
            from streamfn.errors import ForkedHandle
            log = _core.Log.open(sys.argv[1])
            stream = log.create_stream("s")
            stream.put(b"parent", "k")
            child = os.fork()
            if child == 0:
                try:
                    stream.put(b"child", "k")
                except ForkedHandle:
                    own = _core.Log.open(sys.argv[1])
                    own.stream("s").put(b"child", "k")
                    own.close()
                    os._exit(0)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            stream.put(b"parent again", "k")
            reader = stream.reader("shardId-000000000000")
            assert reader.poll(10).values() == [b"parent", b"child", b"parent again"]
        """
        finish(start(code, tmp_path))

    def test_forks_while_threads_put_leave_no_child_hanging(self, tmp_path: Path) -> None:
        """A lock that a thread held at the moment of the fork is nobody's in the child."""
        code = """
            import os, signal, sys, threading, warnings
            warnings.simplefilter("ignore")
            from streamfn import _core
            log = _core.Log.open(sys.argv[1])
            stream = log.create_stream("s", durability="process")
            done = threading.Event()
            def put():
                while not done.is_set():
                    stream.put(b"parent", "k")
            threads = [threading.Thread(target=put) for _ in range(4)]
            for thread in threads:
                thread.start()
            for n in range(60):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)
                    own = _core.Log.open(sys.argv[1])
                    own.stream("s").put(b"child", "k")
                    own.close()
                    os._exit(0)
                _, status = os.waitpid(child, 0)
                assert status == 0, (n, status)
            done.set()
        """
        finish(start(code, tmp_path))

        values = read_all(_core.Log.open(str(tmp_path)).stream("s")).values()
        assert 60 == values.count(b"child")

    def test_a_child_that_lives_on_does_not_keep_the_locks(self, tmp_path: Path) -> None:
        """The parent dies, the child sleeps: the next opener is alone with the log."""
        code = """
            import os, sys, time, warnings
            warnings.simplefilter("ignore")
            from streamfn import _core
            log = _core.Log.open(sys.argv[1])
            log.create_stream("s").put(b"x", "k")
            child = os.fork()
            if child == 0:
                os.close(1)
                time.sleep(60)
                os._exit(0)
            print(child, flush=True)
            os.kill(os.getpid(), 9)
        """
        process = start(code, tmp_path)
        printed, _ = process.communicate(timeout=240)
        child = int(printed)
        try:
            with (tmp_path / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(child, signal.SIGKILL)

    def test_the_error_names_the_folder(self) -> None:
        """A person sees which log it was."""
        assert "/a/log" in str(ForkedHandle("/a/log"))


def test_a_put_that_waits_for_a_stopped_process_names_it(tmp_path: Path) -> None:
    """`timeout=` ends the wait; nothing was written."""
    log = _core.Log.open(str(tmp_path))
    stream = log.create_stream("s")
    with (tmp_path / "streams/s" / SHARD / "append.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(LockTimeout, match=f"process {os.getpid()} "):
            stream.put(b"x", "k", timeout=0.2)

    assert [] == read_all(stream).values()
    stream.put(b"y", "k")
    assert [b"y"] == read_all(stream).values()


def test_ctrl_c_ends_a_put_that_waits(tmp_path: Path) -> None:
    """A blocked call looks at signals; the default wait is 30 s."""
    _core.Log.open(str(tmp_path)).create_stream("s")
    code = """
        import signal, sys
        from streamfn import _core
        # A shell without job control has its background jobs, and so this process, ignore SIGINT.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stream = _core.Log.open(sys.argv[1]).stream("s")
        print("ready", flush=True)
        try:
            stream.put(b"x", "k")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with (tmp_path / "streams/s" / SHARD / "append.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(code, tmp_path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)

        printed, _ = process.communicate(timeout=240)

    assert "interrupted\n" == printed


class TestHandles:
    """One directory opened twice in one process: each handle is closed for itself."""

    def test_closing_one_leaves_the_other_open(self, tmp_path: Path) -> None:
        """A library that opens and closes the log does not take it from the program."""
        log = _core.Log.open(str(tmp_path))
        stream = log.create_stream("s")
        other = _core.Log.open(str(tmp_path))
        other_stream = other.stream("s")

        other.close()

        assert 0 == stream.put(b"x", "k")[1]
        for use in (other.streams, lambda: other_stream.put(b"y", "k"), other_stream.shards):
            with pytest.raises(StreamClosed):
                use()

    def test_the_last_one_closed_lets_go_of_the_directory(self, tmp_path: Path) -> None:
        """Afterwards another process could be alone with it, and it can be opened again."""
        handles = [_core.Log.open(str(tmp_path)) for _ in range(3)]
        handles[0].create_stream("s").put(b"x", "k")
        for handle in handles:
            handle.close()
            handle.close()

        with (tmp_path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(lock, fcntl.LOCK_UN)
        assert 1 == len(read_all(_core.Log.open(str(tmp_path)).stream("s")))

    def test_a_stream_keeps_its_log_open(self, tmp_path: Path) -> None:
        """The handle may go out of scope while something made from it is in use."""
        stream = _core.Log.open(str(tmp_path)).create_stream("s")

        stream.put(b"x", "k")

        assert [b"x"] == read_all(stream).values()


def forget_the_boot(control: Path) -> None:
    """Leave the pages of a boot that was another."""
    with control.open("r+b") as file:
        file.seek(32)
        file.write(bytes(16))


class TestOpeningAlone:
    """Who is first has the log to itself until it is ready, and may die before that."""

    OPENER = """
        import sys
        from streamfn import Log
        print("opening", flush=True)
        with Log.open(sys.argv[1], create=False) as log:
            print(log.stream("s").put(b"x").sequence_number)
    """

    @pytest.mark.parametrize(
        "leave", [Path.unlink, lambda path: os.truncate(path, 0), forget_the_boot]
    )
    def test_those_who_wait_go_on_when_it_dies(
        self, tmp_path: Path, leave: Callable[[Path], None]
    ) -> None:
        """All that it left undone is done by one of them, alone in its turn."""
        log = _core.Log.open(str(tmp_path))
        log.create_stream("s")
        log.close()
        control = tmp_path / "control"
        with (tmp_path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            openers = [start(self.OPENER, tmp_path) for _ in range(3)]
            for opener in openers:
                assert opener.stdout is not None
                opener.stdout.readline()
            time.sleep(1.5)  # longer than anybody believes in a log that is not ready
            leave(control)

        assert [0, 1, 2] == sorted(int(finish(opener)) for opener in openers)
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        assert bytes.fromhex(boot_id) == control.read_bytes()[32:48]
