"""Tests for `streamfn.cli.worker_output`."""

import json
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from streamfn.cli.console import CommandOutput, output
from streamfn.cli.log_options import log_settings
from streamfn.cli.worker_output import WorkerOutput, observer
from streamfn.telemetry.log_lines import TextLines
from streamfn.worker.supervisor.progress import MappingProgress

FAILED = {
    "event": "function_failed",
    "mapping": "shop.total",
    "stream": "orders",
    "shard_id": "shardId-000000000003",
    "first": 18_231,
    "last": 18_330,
    "records": 100,
    "attempt": 1,
    "error_type": "ValueError",
    "error_message": "no\nreally",
    "traceback": "Traceback (most recent call last):\n  …",
}
DEAD = {
    "event": "dead_lettered",
    "mapping": "shop.total",
    "stream": "orders",
    "shard_id": "shardId-000000000000",
    "sequence_number": 7,
    "partition_key": "a",
    "attempts": 4,
    "error_type": "ValueError",
    "error_message": "no",
}


@pytest.fixture
def lines(capsys, monkeypatch):
    """Writes events in a format, and returns the lines on stderr."""

    def lines(form, *events, **options):
        for field in ("quiet", "verbose", "no_color"):
            monkeypatch.setattr(output, field, options.get(field, getattr(CommandOutput(), field)))
        monkeypatch.setattr(log_settings, "form", form)
        worker_output = observer()
        for event in events:
            worker_output.on_event(event)
        worker_output.close()
        return capsys.readouterr().err.splitlines()

    return lines


class TestJson:
    """One object a line, with the keys of Lambda's structured logs."""

    def test_an_error_has_its_type_message_and_traceback(self, lines):
        [line] = map(json.loads, lines("json", FAILED))

        assert line.pop("timestamp").endswith("Z")
        assert line == {
            "level": "WARN",
            "message": "100 records failed, attempt 1: ValueError: no",
            "logger": "streamfn.worker",
            "event": "function_failed",
            "function": "shop.total",
            "stream": "orders",
            "shard": "shardId-000000000003",
            "sequence": 18_231,
            "last": 18_330,
            "records": 100,
            "attempt": 1,
            "errorType": "ValueError",
            "errorMessage": "no\nreally",
            "stackTrace": "Traceback (most recent call last):\n  …",
        }

    def test_it_is_the_default_where_no_terminal_is(self, monkeypatch, capsys):
        monkeypatch.setattr(output, "quiet", False)

        worker_output = observer()
        worker_output.on_event({"event": "worker_started", "runners": 2})
        worker_output.close()
        assert json.loads(capsys.readouterr().err)["runners"] == 2


class TestText:
    """Lines for people."""

    def test_a_line_says_where_and_what(self, lines):
        [line, *_] = lines("text", FAILED)

        time, rest = line.split(" ", 1)
        assert len(time) == len("12:00:01.234")
        assert rest == (
            "WARN  shop.total orders/3 #18231 100 records failed, attempt 1: ValueError: no"
        )

    def test_a_line_of_the_worker_fits_the_terminal(self, capsys):
        for columns in (40, 80, 200):
            worker_output = WorkerOutput(TextLines(columns=columns))
            worker_output.on_event({"event": "worker_draining", "message": "näin 漢字 " * 100})
            worker_output.close()
            [line] = capsys.readouterr().err.splitlines()
            assert cell_len(line) <= columns
            assert cell_len(line) >= columns - 1
            assert line.endswith("…")

    def test_an_error_its_hint_and_what_a_function_prints_are_whole(self, capsys):
        long = "long " * 100 + "end"
        for event in (
            DEAD | {"error_message": long},
            {"event": "output", "logger": "stdout", "runner": 0, "message": long},
        ):
            worker_output = WorkerOutput(TextLines(columns=80))
            worker_output.on_event(event)
            worker_output.close()
            [line] = capsys.readouterr().err.splitlines()
            assert "…" not in line
            assert line.endswith(("end", " partition_key=a"))

    def test_an_event_of_a_whole_stream_has_no_shard(self, lines):
        [line] = lines("text", {"event": "waiting_for_stream", "stream": "orders"})

        assert line.endswith("INFO  waiting for stream `orders`")

    def test_a_failure_has_its_traceback(self, lines):
        assert lines("text", FAILED)[1:] == FAILED["traceback"].splitlines()

    def test_what_the_words_leave_out_follows(self, lines):
        [line] = lines("text", DEAD)

        assert line.endswith(
            "ERROR shop.total orders/0 #7 dead-lettered after 4 attempts: ValueError: no"
            " partition_key=a"
        )

    def test_an_event_without_words_of_its_own_is_told_as_it_is(self, lines):
        [line] = lines("text", {"event": "something_new", "count": 3})

        assert line.endswith("INFO  something new count=3")

    def test_a_change_of_windows_is_on_or_off(self, lines):
        changed = {"event": "windows_changed", "windows": True}

        on, off = lines("text", changed, changed | {"windows": False})
        assert "tumbling windows are now on in this shard" in on
        assert "tumbling windows are now off in this shard" in off

    def test_quiet_leaves_errors_and_verbose_adds_detail(self, lines):
        events = [{"event": "runner_started"}, {"event": "worker_started"}, FAILED, DEAD]

        assert len(lines("text", *events, quiet=True)) == 1
        assert len(lines("text", *events)) == 3 + len(FAILED["traceback"].splitlines())
        assert len(lines("text", *events, verbose=1)) == len(lines("text", *events)) + 1

    def test_a_colour_is_for_terminals(self, lines, monkeypatch):
        assert "\x1b" not in lines("text", DEAD)[0]
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert "\x1b[31mERROR\x1b[0m" in lines("text", DEAD)[0]
        assert "\x1b" not in lines("text", DEAD, no_color=True)[0]


def test_the_end_tells_the_figures_of_each_function(monkeypatch, capsys):
    monkeypatch.setattr(output, "quiet", False)
    monkeypatch.setattr(log_settings, "form", "text")
    worker_output = observer()
    figures = SimpleNamespace(
        name="shop.total",
        calls=543,
        failures=35,
        behind=0,
        records=6_064,
        retries=35,
        bisects=330,
        dead_lettered=35,
        lost=2,
        matched=6_064,
        filtered=10,
        not_json=3,
        throttled=0,
        is_by_request=False,
    )

    worker_output.on_progress([figures])
    worker_output.close()

    assert (
        capsys.readouterr()
        .err.rstrip()
        .endswith(
            "shop.total 6,064 records in 543 calls, 35 retried, 330 bisected, 35 dead-lettered, "
            "2 lost, 6,064 matched, 10 filtered out, 3 not JSON"
        )
    )


def test_the_totals_of_a_function_by_request_have_no_records(capsys, monkeypatch):
    monkeypatch.setattr(log_settings, "form", "text")
    worker_output = observer()
    figures = dict.fromkeys(MappingProgress.__dataclass_fields__, 0) | {"name": "shop.price"}
    figures |= {"is_by_request": True, "calls": 12, "failures": 2, "throttled": 3, "behind": 1}

    worker_output.on_progress([MappingProgress(**figures)])
    worker_output.close()

    line = capsys.readouterr().err.rstrip()
    assert line.endswith("shop.price 12 calls, 2 failed, 3 throttled, 1 waiting")


def test_totals_come_once_a_minute_where_something_has_changed(capsys, monkeypatch):
    monkeypatch.setattr(log_settings, "form", "json")
    now = [1000.0]
    monkeypatch.setattr(
        "streamfn.cli.worker_output.time", SimpleNamespace(monotonic=lambda: now[0])
    )
    worker_output = observer()
    figures = dict.fromkeys(MappingProgress.__dataclass_fields__, 0) | {"name": "shop.total"}

    def at(seconds, **changed):
        now[0] = 1000.0 + seconds
        worker_output.on_progress([MappingProgress(**figures | changed)])
        worker_output._writer.flush()
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    assert at(1, records=10, calls=1) == []
    [line] = at(60, records=20, calls=2, behind=7)
    assert (line["records"], line["calls"], line["behind"]) == (20, 2, 7)
    assert at(119, records=30, calls=3) == []
    assert len(at(120, records=30, calls=3)) == 1
    assert at(180, records=30, calls=3) == []
    worker_output.close()
