"""Tests for `streamfn.health.by_request`, and the health of functions by request."""

from contextlib import contextmanager

import pytest

from streamfn import Log, _core
from streamfn._core import Counts
from streamfn.health.by_request import called_by, forget, functions_by_request
from streamfn.health.functions import read_health
from streamfn.health.samples import log_samples
from streamfn.health.state import State
from streamfn.health.worker_report import (
    FunctionReport,
    RequestReport,
    WorkerReport,
    WorkerReportFile,
)
from streamfn.health.workers import read_workers
from streamfn.telemetry.counters import Counter
from streamfn.telemetry.metrics import page
from streamfn.worker.supervisor.announcement import membership_body

NOW_US = 2_000_000_000 * 10**6


@pytest.fixture
def worker(log):
    """`with worker(["shop.price"], …)`: a living worker with functions by request, and reports."""

    @contextmanager
    def join(announced, *reports, in_code=(), mappings=()):
        membership = _core.Membership.join(log.core, membership_body(mappings, (), announced))
        file = WorkerReportFile(log.core, membership.uuid)
        if reports:
            file.write(
                WorkerReport(
                    worker=membership.uuid, pid=7, host="here", started_us=1, runners=[8],
                    written_us=NOW_US, state=State.IDLE, functions=list(reports),
                    in_code=list(in_code or announced),
                )
            )  # fmt: skip
        try:
            yield membership.uuid
        finally:
            file.remove()
            membership.leave()

    return join


def told(state, name="shop.price", **fields):
    request = RequestReport(**fields)
    return FunctionReport(
        name=name, stream="", state=state, since_us=4, rate_out=2.0, request=request
    )


def count(log, name="shop.price", counter=Counter.CALLS, amount=1):
    Counts.open(log.core, name).add(counter, amount)


def known(log):
    return functions_by_request(log.core, read_workers(log.core))


def health(log):
    [found] = read_health(log.core, NOW_US).functions
    return found


class TestWhichAreKnown:
    """A log knows them while a worker has them, and afterwards by their counts."""

    def test_those_that_workers_announce_or_report(self, log, worker):
        with worker(["shop.a"]), worker([], told(State.IDLE, "shop.b")):
            assert known(log) == called_by(read_workers(log.core)) == {"shop.a", "shop.b"}
        assert known(log) == set()

    def test_those_that_were_called(self, log):
        count(log)

        assert known(log) == {"shop.price"}
        assert called_by(read_workers(log.core)) == set()

    def test_counts_of_functions_on_streams_are_none(self, log):
        _core.Mapping.register(log.core, "shop.total", factor=1)
        count(log, "shop.total")

        assert known(log) == set()

    def test_one_that_was_forgotten_is_known_no_more(self, log):
        count(log)
        count(log, "shop.price_list")

        forget(log.core, "shop.price")

        assert known(log) == {"shop.price_list"}


class TestHealth:
    """Their state, and what runs and waits."""

    def test_what_all_workers_run_adds_up(self, log, worker):
        """Also while one of them has older code, in which nothing limits the calls."""
        first = told(State.RUNNING, running=2, queued=1, concurrency=5)
        with worker(["shop.price"], first), worker(["shop.price"], told(State.IDLE, running=1)):
            found = health(log)

        assert (found.state, found.streams, found.lanes) == (State.RUNNING, (), ())
        assert found.request == RequestReport(running=3, queued=1, concurrency=5)
        assert (found.rate_out, found.iterator_age_seconds) == (4.0, None)
        assert len(found.workers) == 2

    def test_without_a_worker(self, log):
        count(log)

        found = health(log)

        assert (found.state, found.request) == (State.NO_WORKER, RequestReport())

    def test_one_that_the_code_has_no_more(self, log, worker):
        count(log)
        with worker(["shop.other"], told(State.IDLE, "shop.other")):
            found = {each.name: each.state for each in read_health(log.core, NOW_US).functions}

        assert found == {"shop.other": State.IDLE, "shop.price": State.NOT_IN_CODE}

    def test_one_that_a_worker_leaves_out(self, log, worker):
        count(log)
        report, in_code = told(State.IDLE, "shop.other"), ["shop.other", "shop.price"]
        with worker(["shop.other"], report, in_code=in_code):
            [_, price] = read_health(log.core, NOW_US).functions

        assert price.state is State.NO_WORKER

    def test_a_function_that_read_a_stream_before_is_shown_as_what_it_is_now(self, log, worker):
        _core.Mapping.register(log.core, "shop.price", factor=1)
        assert health(log).request is None

        with worker(["shop.price"], told(State.IDLE, running=1)):
            found = health(log)

        assert (found.mapping, found.request.running) == (None, 1)


class TestSamples:
    """What `streamfn metrics` shows."""

    def test_calls_by_outcome_and_what_runs_and_waits(self, log_dir, log, worker):
        count(log, counter=Counter.SUCCEEDED, amount=4)
        count(log, counter=Counter.THROTTLED, amount=3)
        _core.Mapping.register(log.core, "shop.price", factor=1)

        with worker(["shop.price"], told(State.RUNNING, running=2, queued=1)):
            shown = page(log_samples(Log.open(log_dir)))

        lines = [line for line in shown.splitlines() if 'function="shop.price"' in line]
        assert len(lines) == len(set(lines))
        own = 'function="shop.price"'
        assert f'streamfn_invocations_total{{{own},outcome="ok"}} 4' in lines
        assert f'streamfn_invocations_total{{{own},outcome="throttled"}} 3' in lines
        assert f"streamfn_in_flight_calls{{{own}}} 2" in lines
        assert f"streamfn_queued_calls{{{own}}} 1" in lines
        assert not any("records" in line or "lag" in line for line in lines)
