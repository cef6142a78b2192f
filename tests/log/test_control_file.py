"""The control file is a hint: made and rebuilt only by who is alone with the log.

It is deleted, cut, exchanged and copied here, with and without another process beside it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamfn import _core
from streamfn.errors import ConfigError

SHARD = "shardId-000000000000"
PAGE = 4096
BOOT_ID = slice(32, 48)
"""In page 0."""
COMMITTED, DURABLE, VISIBLE, NEXT_SEQ = 64, 128, 192, 256
"""Words of a shard's page."""

Damage = Callable[[Path, Path], None]
"""What happens to the control file of a log, with another log at hand."""


def delete(control: Path, _other: Path) -> None:
    """Remove it."""
    control.unlink()


def cut(control: Path, _other: Path) -> None:
    """Exchange it for its first 100 bytes; who has it mapped keeps the old one."""
    staged = control.with_name("staged")
    staged.write_bytes(control.read_bytes()[:100])
    staged.rename(control)


def exchange(control: Path, other: Path) -> None:
    """Put another log's in its place."""
    staged = control.with_name("staged")
    shutil.copyfile(other / "control", staged)
    staged.rename(control)


def zero(control: Path, _other: Path) -> None:
    """Exchange it for zeros of the right length."""
    staged = control.with_name("staged")
    staged.write_bytes(bytes(control.stat().st_size))
    staged.rename(control)


DAMAGES = [delete, cut, exchange, zero]


def read_all(log: _core.Log) -> list[bytes]:
    """Every visible record."""
    return log.stream("s").reader(SHARD).poll(1_000_000, 1 << 40).values()


def fill(path: Path, *, name: str = "before", count: int = 20) -> None:
    """A log of some records whose process was killed."""
    code = """
        import os, signal, sys
        from streamfn import _core
        log = _core.Log.open(sys.argv[1])
        stream = log.create_stream("s", durability="group", exist_ok=True)
        for n in range(int(sys.argv[3])):
            stream.put(f"{sys.argv[2]} {n}".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(path), name, str(count)]
    assert subprocess.run(run, check=False, timeout=240).returncode == -9


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log of twenty records, in no process's hands."""
    fill(tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another log, with more in it."""
    fill(tmp_path / "other", name="other", count=40)
    return tmp_path / "other"


WRITTEN = [f"before {n}".encode() for n in range(20)]


@contextmanager
def opened_elsewhere(path: Path) -> Iterator[Callable[[], str]]:
    """Another process has the log open; calling what is yielded lets it put a record."""
    code = """
        import sys
        from streamfn import _core
        stream = _core.Log.open(sys.argv[1]).stream("s")
        print("open", flush=True)
        for line in sys.stdin:
            print(stream.put(line.strip().encode())[1], flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"

        def put() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("beside\n")
            process.stdin.flush()
            return process.stdout.readline()

        try:
            yield put
        finally:
            process.stdin.close()
            process.wait(timeout=240)


class TestBesideAnotherProcess:
    """Somebody has the log open: nobody makes a second control file."""

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_it_is_refused_and_left_alone(
        self, log_path: Path, other: Path, damage: Damage
    ) -> None:
        """The error says what to do; the file is what the damage made it; the other goes on."""
        control = log_path / "control"
        with opened_elsewhere(log_path) as put:
            damage(control, other)
            found = control.read_bytes() if control.exists() else None

            with pytest.raises(ConfigError, match="close all programs") as caught:
                _core.Log.open(str(log_path))

            assert caught.value.field == "log_dir"
            assert found == (control.read_bytes() if control.exists() else None)
            assert put().strip().isdigit()

        assert [*WRITTEN, b"beside"] == read_all(_core.Log.open(str(log_path)))


class TestAlone:
    """Nobody else has the log open: the file is made anew from the segments."""

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_it_is_rebuilt(self, log_path: Path, other: Path, damage: Damage) -> None:
        """Every record is there, and no number comes twice."""
        damage(log_path / "control", other)

        log = _core.Log.open(str(log_path))

        assert log.stream("s").put(b"after")[1] >= len(WRITTEN)
        assert [*WRITTEN, b"after"] == read_all(log)

    def test_openers_at_once_make_one(self, log_path: Path) -> None:
        """Four processes come at the same moment; one rebuilds, all see what all put."""
        (log_path / "control").unlink()
        code = """
            import sys
            from streamfn import _core
            stream = _core.Log.open(sys.argv[1]).stream("s")
            for n in range(25):
                print(stream.put(b"after")[1])
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(log_path)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        printed = [process.communicate(timeout=240)[0].split() for process in processes]

        assert [0] * 4 == [process.returncode for process in processes]
        numbers = [number for one in printed for number in one]
        assert 100 == len(set(numbers))
        assert [*WRITTEN, *[b"after"] * 100] == read_all(_core.Log.open(str(log_path)))

    def test_a_page_of_another_boot_is_not_believed(self, log_path: Path) -> None:
        """It may say anything: what it knew of may not have reached the disk, or more has."""
        control = log_path / "control"
        pages = bytearray(control.read_bytes())
        pages[BOOT_ID] = bytes(16)
        for word in (COMMITTED, DURABLE, VISIBLE):
            pages[PAGE + word : PAGE + word + 8] = (PAGE // 8).to_bytes(8, "little")
        for word in (DURABLE + 8, VISIBLE + 8, NEXT_SEQ):
            pages[PAGE + word : PAGE + word + 8] = bytes(8)
        control.write_bytes(pages)

        log = _core.Log.open(str(log_path))

        assert log.stream("s").put(b"after")[1] >= len(WRITTEN)
        assert [*WRITTEN, b"after"] == read_all(log)


class TestACopy:
    """A folder that was copied has pages with the right uuid and boot that tell of other files."""

    def test_both_go_on_by_themselves(self, log_path: Path, tmp_path: Path) -> None:
        """What is put into one is not in the other."""
        copy = tmp_path / "copy"
        shutil.copytree(log_path, copy)

        logs = [_core.Log.open(str(path)) for path in (log_path, copy)]
        for name, log in zip((b"original", b"copy"), logs, strict=True):
            log.stream("s").put(name)

        assert [*WRITTEN, b"original"] == read_all(logs[0])
        assert [*WRITTEN, b"copy"] == read_all(logs[1])

    def test_a_control_file_newer_than_the_segments_is_not_believed(
        self, log_path: Path, tmp_path: Path
    ) -> None:
        """A copy of a log in use, file by file: the page tells of records that were not copied."""
        copy = tmp_path / "copy"
        shutil.copytree(log_path, copy)
        fill(log_path, name="later")
        shutil.copyfile(log_path / "control", copy / "control")

        log = _core.Log.open(str(copy))

        assert WRITTEN == read_all(log)
        log.stream("s").put(b"after")
        assert [*WRITTEN, b"after"] == read_all(log)
