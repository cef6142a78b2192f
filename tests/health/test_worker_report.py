"""Tests for `streamfn.health.worker_report`."""

import errno
import os
from pathlib import Path

import pytest

from streamfn.health import worker_report
from streamfn.health.state import State
from streamfn.health.worker_report import (
    STEP,
    FunctionReport,
    Trouble,
    WorkerReport,
    WorkerReportFile,
    read_reports,
    remove_stale,
)

WORKER = "ab" * 16


def report(**fields):
    told = {
        "worker": WORKER, "pid": 7, "host": "here", "started_us": 1, "written_us": 2,
        "state": State.FAILING,
    }  # fmt: skip
    return WorkerReport(**told | fields)


@pytest.fixture
def path(log, log_dir):
    return log_dir / "metrics" / f"{WORKER}.worker"


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The folder that stands for `/dev/shm`."""
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(worker_report, "MEMORY", folder)
    return folder


def test_what_is_written_is_read(log):
    trouble = Trouble(state=State.FAILING, reason="no", since_us=3, slot=1, next_try_us=9)
    function = FunctionReport(
        name="shop.f", stream="orders", state=State.FAILING, since_us=3, troubles=[trouble]
    )
    written = report(functions=[function], runners=[8, 9], in_code=["shop.f"])

    assert WorkerReportFile(log.core, WORKER).write(written)

    assert read_reports(log.core, [WORKER, "cd" * 16]) == {WORKER: written}


def test_a_shorter_report_replaces_a_longer_one_in_place(log, path):
    file = WorkerReportFile(log.core, WORKER)
    file.write(report(in_code=["shop.f"] * 3000))
    large, first = path.stat(), path.read_bytes()
    file.write(report())

    assert path.stat().st_size == large.st_size == 2 * STEP
    assert path.stat().st_ino == large.st_ino
    assert path.stat().st_blocks * 512 >= large.st_size, "all its blocks are allocated"
    assert path.read_bytes() != first
    assert read_reports(log.core, [WORKER]) == {WORKER: report()}


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x05\0\0\0\0\0\0\0hello", b"\xff\xff\xff\xff\0\0\0\0{}"]
)
def test_a_file_that_is_not_whole_is_no_report(log, path, data):
    WorkerReportFile(log.core, WORKER).write(report())
    path.write_bytes(data)

    assert read_reports(log.core, [WORKER]) == {}


def test_a_report_that_is_being_written_is_read_again(log, path, monkeypatch):
    WorkerReportFile(log.core, WORKER).write(report())
    whole = path.read_bytes()
    reads = iter([whole[:20] + b"torn" + whole[24:], whole])
    monkeypatch.setattr(type(path), "read_bytes", lambda _: next(reads))

    assert worker_report._read(path) == report()


def test_on_a_full_disk_it_is_in_memory_until_there_is_room(log, path, memory, monkeypatch):
    allocate = os.posix_fallocate

    def full(fd, start, size):
        if "metrics" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, "full")
        allocate(fd, start, size)

    monkeypatch.setattr(os, "posix_fallocate", full)
    file = WorkerReportFile(log.core, WORKER)
    assert file.write(report(pid=1))
    assert [each.name for each in memory.iterdir()] == [f"streamfn-{log.core.uuid}-{WORKER}.worker"]
    assert read_reports(log.core, [WORKER])[WORKER].pid == 1

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    assert file.write(report(pid=2))
    assert not list(memory.iterdir())
    assert read_reports(log.core, [WORKER])[WORKER].pid == 2

    file.remove()
    assert not path.exists()


def test_reports_of_dead_workers_are_removed(log, path, memory):
    living = "cd" * 16
    for worker in (WORKER, living):
        WorkerReportFile(log.core, worker).write(report())
        (memory / f"streamfn-{log.core.uuid}-{worker}.worker").touch()
    (memory / f"streamfn-{'0' * 32}-{WORKER}.worker").touch()

    remove_stale(log.core, {living})

    assert [each.name for each in path.parent.glob("*.worker")] == [f"{living}.worker"]
    assert {each.name for each in memory.iterdir()} == {
        f"streamfn-{log.core.uuid}-{living}.worker",
        f"streamfn-{'0' * 32}-{WORKER}.worker",  # of another log
    }


def test_a_report_is_old_after_thirty_seconds():
    told = report(written_us=10**9)

    assert told.is_fresh(10**9 + 29_999_999)
    assert not told.is_fresh(10**9 + 30_000_000)
