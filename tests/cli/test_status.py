"""Tests for `streamfn status` and `streamfn workers`."""

import orjson
import pytest

from streamfn import Log, _core
from streamfn.health.state import State
from streamfn.health.worker_report import FunctionReport, WorkerReport, WorkerReportFile


@pytest.fixture
def member(log_dir):
    """A living worker of `shop.total`, idle, which has one record to read; and its report file."""
    with Log.open(log_dir) as log:
        log.create_stream("orders").put(b"x")
        _core.Mapping.register(log.core, "shop.total", factor=1).prepare("orders")
        body = orjson.dumps({"pid": 7, "mappings": ["shop.total"]})
        membership = _core.Membership.join(log.core, body)
        file = WorkerReportFile(log.core, membership.uuid)

        def report(state):
            function = FunctionReport(
                name="shop.total", stream="orders", state=state, since_us=1, troubles=[]
            )
            file.write(
                WorkerReport(
                    worker=membership.uuid, pid=7, host="here", started_us=10**15,
                    written_us=2**60, state=state, runners=[8, 9], functions=[function],
                )
            )  # fmt: skip

        report(State.IDLE)
        yield report
        membership.leave()


class TestStatus:
    """Tests for `status`."""

    def test_all_is_well(self, run, member):
        ended = run("status", "--max-lag", "1h", "--max-dead-letters", "0")

        assert (ended.code, ended.stdout) == (0, b"ok\n")
        shown = run("status", "--json")
        assert shown.json == {"ok": True, "exit_code": 0, "findings": []}

    def test_a_limit_is_passed(self, run, member):
        ended = run("status", "--max-lag", "0")

        assert ended.code == 1
        assert b"shop.total is " in ended.stdout
        assert ended.stdout.endswith(b" behind, the limit is 0 s\n")
        [finding] = run("status", "--max-lag", "0", "--json").json["findings"]
        assert (finding["kind"], finding["function"]) == ("lag", "shop.total")

    def test_without_a_worker_it_is_another_code(self, run, log_dir):
        with Log.open(log_dir):
            pass

        ended = run("status")
        assert (ended.code, ended.stdout) == (3, b"no worker runs on this log\n")

    def test_wrong_usage(self, run, member):
        assert run("status", "--max-lag", "soon").code == 2
        assert run("status", "--max-dead-letters", "-1").code == 2


class TestWorkers:
    """Tests for `workers`."""

    def test_it_lists_the_living_ones(self, run, member):
        [shown] = run("workers", "--json").json

        assert (shown["pid"], shown["host"], shown["runners"]) == (7, "here", [8, 9])
        assert (shown["functions"], shown["state"]) == (["shop.total"], "idle")
        assert shown["since"] == "2001-09-09T01:46:40.000000Z"
        head, line = run("workers").stdout.decode().splitlines()
        assert head.split() == ["WORKER", "PID", "HOST", "STATE", "SINCE", "FUNCTIONS", "RUNNERS"]
        assert line.split()[1:4] == ["7", "here", "idle"]

    def test_there_is_none(self, run, log_dir):
        with Log.open(log_dir):
            pass

        assert run("workers", "--json").json == []
        assert "no worker runs on this log" in run("workers").stderr
