"""Tests for `streamfn.health.functions`: a real log, real memberships, and reports by hand."""

from contextlib import contextmanager

import orjson
import pytest

from streamfn import _core
from streamfn.health import functions
from streamfn.health.functions import lane_state, read_health
from streamfn.health.state import State
from streamfn.health.worker_report import (
    FunctionReport,
    Trouble,
    WorkerReport,
    WorkerReportFile,
)

NOW_US = 2_000_000_000 * 10**6
FAILING = Trouble(
    state=State.FAILING, reason="ValueError: no", since_us=5, stream="orders",
    shard_id="shardId-000000000000", slot=1,
)  # fmt: skip


@pytest.fixture
def mapping(log):
    log.create_stream("orders").put_many([b"x"] * 10)
    mapping = _core.Mapping.register(log.core, "shop.total", factor=2)
    mapping.prepare("orders")
    return mapping


@pytest.fixture
def worker(log):
    """`with worker(["shop.total"], …)`: a living worker that announces functions and reports."""

    @contextmanager
    def join(announced, *reports, in_code=(), age=0.0, is_silent=False):
        body = orjson.dumps({"pid": 7, "mappings": announced})
        membership = _core.Membership.join(log.core, body)
        file = WorkerReportFile(log.core, membership.uuid)
        if not is_silent:
            file.write(
                WorkerReport(
                    worker=membership.uuid, pid=7, host="here", started_us=1, runners=[8],
                    written_us=NOW_US - round(age * 1e6), state=State.IDLE,
                    functions=list(reports), in_code=list(in_code or announced),
                )
            )  # fmt: skip
        try:
            yield membership.uuid
        finally:
            file.remove()
            membership.leave()

    return join


def told(state, *troubles, name="shop.total", **fields):
    return FunctionReport(
        name=name, stream="orders", state=state, since_us=4, troubles=list(troubles), **fields
    )


def health(log):
    [found] = read_health(log.core, NOW_US).functions
    return found


class TestState:
    """The state of a function."""

    def test_without_a_worker(self, log, mapping):
        found = health(log)

        assert (found.state, found.records_behind) == (State.NO_WORKER, 10)
        assert found.iterator_age_seconds > 0

    def test_the_worst_of_its_workers_counts_and_rates_add_up(self, log, mapping, worker):
        running = told(
            State.RUNNING, rate_in=9.0, rate_out=3.0, p99_seconds=0.1, memory_limit=2**27
        )
        failing = told(State.FAILING, FAILING, rate_in=9.0, rate_out=1.0, p99_seconds=0.2,
                       memory_highest=2**26)  # fmt: skip
        with worker(["shop.total"], running), worker(["shop.total"], failing):
            found = health(log)

        assert (found.state, found.trouble, found.lanes_concerned) == (State.FAILING, FAILING, 1)
        assert (found.rate_in, found.rate_out, found.p99_seconds) == (9.0, 4.0, 0.2)
        assert (found.memory_limit, found.memory_highest) == (2**27, 2**26)
        assert len(found.workers) == 2
        states = [lane_state(found, lane) for lane in found.lanes]
        assert states == [State.RUNNING, State.FAILING]

    def test_a_pause_counts_before_anything_else(self, log, mapping, worker):
        mapping.set_paused(True)
        with worker(["shop.total"], told(State.BLOCKED)):
            assert health(log).state is State.PAUSED
        assert health(log).state is State.PAUSED

    def test_a_function_that_is_not_in_the_code_that_runs(self, log, mapping, worker):
        with worker(["shop.other"]):
            found = health(log)
        assert found.state is State.NOT_IN_CODE
        assert (
            found.trouble.reason == "the code of app `shop` that worker 7 runs has no such function"
        )

        with worker(["others.f"]):
            assert health(log).state is State.NO_WORKER
        with worker(["shop.other"], in_code=["shop.other", "shop.total"]):
            assert health(log).state is State.NO_WORKER, "it is left out with --only"

    def test_a_worker_that_has_just_announced_itself_runs(self, log, mapping, worker):
        with worker(["shop.total"], is_silent=True):
            assert health(log).state is State.RUNNING

    def test_a_worker_that_hangs_blocks(self, log, mapping, worker):
        with worker(["shop.total"], told(State.IDLE), age=29):
            assert health(log).state is State.IDLE
        with worker(["shop.total"], told(State.IDLE), age=31):
            found = health(log)
        assert found.state is State.BLOCKED
        assert "worker 7 is stopped or hangs" in found.trouble.reason

    @pytest.mark.parametrize("announced", [["shop.total"], []])
    def test_a_full_disk_blocks_a_worker_that_cannot_report(
        self, log, mapping, worker, announced, monkeypatch
    ):
        monkeypatch.setattr(functions, "_is_full", lambda _: True)
        with worker(announced, is_silent=True):
            found = health(log)

        assert found.state is State.BLOCKED
        assert "free some space" in found.trouble.reason

    def test_damaged_files_of_one_function_do_not_hide_the_others(self, log, log_dir, mapping):
        _core.Mapping.register(log.core, "shop.broken", factor=1).prepare("orders")
        path = log_dir / "mappings" / "shop.broken" / "mapping"
        path.write_bytes(b"\xff" * path.stat().st_size)

        broken, total = read_health(log.core, NOW_US).functions

        assert (broken.state, total.state) == (State.BLOCKED, State.NO_WORKER)
        assert "streamfn fsck" in broken.trouble.reason


class TestLag:
    """How far a function is behind, in records and in seconds."""

    def test_records_of_a_stream_in_which_it_has_no_lanes_wait_for_it(self, log, worker):
        log.create_stream("orders").put_many([b"x"] * 10)
        _core.Mapping.register(log.core, "shop.total", factor=1)
        with worker(["shop.total"], told(State.BLOCKED)):
            found = health(log)

        assert (found.streams, found.records_behind) == (("orders",), 10)
        assert found.iterator_age_seconds > 0

    def test_a_function_at_the_end_is_not_behind(self, log, mapping):
        mapping.seek("orders", "latest")

        found = health(log)

        assert (found.records_behind, found.iterator_age_seconds) == (0, 0.0)
