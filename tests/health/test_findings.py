"""Tests for `streamfn.health.findings`, `sentences` and `gauges`."""

from datetime import timedelta

import pytest

from streamfn.health.findings import Limits, findings
from streamfn.health.functions import FunctionHealth, Health
from streamfn.health.gauges import gauges
from streamfn.health.sentences import sentence
from streamfn.health.state import State
from streamfn.health.worker_report import Trouble, WorkerReport
from streamfn.health.workers import Worker
from streamfn.telemetry.metrics import page

NOW_US = 1_800_000_000 * 10**6
REPORT = WorkerReport(
    worker="ab" * 16, pid=7, host="here", started_us=1, written_us=2, state=State.IDLE,
    runners=[8, 9],
)  # fmt: skip
WORKERS = [Worker("ab" * 16, 7, frozenset({"shop.f"}), REPORT)]


def function(state, name="shop.f", **fields):
    trouble = Trouble(state=state, reason="something", since_us=NOW_US - 10**6)
    told = {
        "name": name, "state": state, "trouble": trouble, "since_us": None, "troubles": (),
        "lanes_concerned": 1, "streams": ("orders",), "lanes": (), "records_behind": 0,
        "iterator_age_seconds": 0.0, "rate_in": None, "rate_out": None, "p50_seconds": None,
        "p99_seconds": None, "retries": 0, "code_version": None, "workers": (), "mapping": None,
    }  # fmt: skip
    return FunctionHealth(**told | fields)


def kinds(*functions, workers=WORKERS, letters=None, limits=None):
    health = Health(functions, workers)
    found = findings(health, letters or {}, limits or Limits(), NOW_US)
    return [each.kind for each in found]


class TestFindings:
    """Tests for `findings`."""

    @pytest.mark.parametrize("state", list(State))
    def test_states(self, state):
        expected = {State.FAILING: ["state"], State.BLOCKED: ["state"]}
        expected[State.NO_WORKER] = ["no-worker"]

        assert kinds(function(state)) == expected.get(state, [])

    def test_without_workers_it_is_said_once(self):
        both = [function(State.NO_WORKER), function(State.NO_WORKER, "shop.g")]

        assert kinds(*both, workers=[]) == ["no-worker"]
        assert kinds(workers=[]) == ["no-worker"]

    @pytest.mark.parametrize(
        ("age", "expected"), [(None, []), (0.0, []), (60.0, []), (60.1, ["lag"])]
    )
    def test_only_above_the_limit_of_lag(self, age, expected):
        one = function(State.RUNNING, iterator_age_seconds=age)

        assert kinds(one, limits=Limits(lag=timedelta(minutes=1))) == expected
        assert kinds(one) == []

    @pytest.mark.parametrize(("count", "expected"), [(0, []), (2, []), (3, ["dead-letters"])])
    def test_only_above_the_limit_of_dead_letters(self, count, expected):
        one = function(State.IDLE)

        assert kinds(one, letters={"shop.f": count}, limits=Limits(dead_letters=2)) == expected


class TestSentence:
    """Tests for `sentence`."""

    def test_it_says_what_since_when_and_what_comes(self):
        trouble = Trouble(
            state=State.FAILING, reason="ConnectionError: refused", since_us=NOW_US,
            next_try_us=NOW_US + 12 * 10**6,
        )  # fmt: skip
        line = sentence(function(State.FAILING, trouble=trouble), NOW_US)

        assert line.startswith("shop.f is failing: ConnectionError: refused, since ")
        assert line.endswith(", next try in 12 s")

    def test_a_wait_that_is_over_is_not_told(self):
        trouble = Trouble(state=State.FAILING, reason="no", since_us=NOW_US, next_try_us=NOW_US)

        assert "next try" not in sentence(function(State.FAILING, trouble=trouble), NOW_US)

    @pytest.mark.parametrize("state", [State.RUNNING, State.IDLE, State.PAUSED])
    def test_there_is_none_when_nothing_is_wrong(self, state):
        assert sentence(function(state), NOW_US) is None


def test_the_page_of_metrics_has_one_state_of_each_function():
    functions = [function(State.FAILING, records_behind=3, iterator_age_seconds=None)]
    functions.append(function(State.IDLE, "shop.f@replay-1"))

    lines = page(gauges(Health(functions, WORKERS))).splitlines()

    assert 'streamfn_function_state{function="shop.f",state="failing"} 1' in lines
    assert sum(line.startswith("streamfn_function_state{") for line in lines) == len(State)
    assert 'streamfn_lag_records{function="shop.f"} 3' in lines
    assert not any(line.startswith("streamfn_iterator_age_seconds") for line in lines)
    assert {"streamfn_workers 1", "streamfn_worker_children 2"} <= set(lines)
