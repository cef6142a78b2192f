"""Tests for the data and the functions of the demo, without a worker."""

import csv
import json
import lzma
from collections import Counter
from types import SimpleNamespace

import pytest

from streamfn import Batch, Record
from streamfn.app import load_app
from streamfn.demo import first_try, fixed
from streamfn.demo.flights import DATA, flights, key
from streamfn.demo.pictures import failing_line, hours_line
from streamfn.demo.screen import the_fix
from streamfn.demo.story import BUGGY, FIRST_TRY, FIXED, OTHER


class Output:
    """A log that keeps what is put."""

    def __init__(self):
        self.counts = {}

    def stream(self, name):
        def put(data):
            self.counts.setdefault(name, Counter()).update(json.loads(data))

        return SimpleNamespace(put=put)


@pytest.fixture
def output():
    return Output()


def batch_of(rows):
    """A batch with these flights."""
    numbered = enumerate(rows)
    return Batch.of([Record(json.dumps(row).encode(), sequence_number=n) for n, row in numbered])


def test_the_data_is_the_whole_week():
    with lzma.open(DATA, "rt") as file:
        rows = list(csv.DictReader(file))

    assert list(flights()) == rows
    assert len(rows) == 6_099
    assert Counter(row["dep_time"] == "NA" for row in rows)[True] == 35
    assert Counter(key(row) is None for row in rows)[True] == 8


def test_the_first_try_fails_on_a_cancelled_flight_and_puts_nothing(output):
    with pytest.raises(ValueError, match="'NA'"):
        first_try.departures(batch_of(flights()), SimpleNamespace(log=output))
    assert output.counts == {}


def test_the_fixed_one_counts_them_all(output):
    fixed.departures(batch_of(flights()), SimpleNamespace(log=output))

    counts = output.counts["departures_by_hour"]
    assert counts["cancelled"] == 35
    assert counts.total() == 6_099
    assert counts["6h"] == sum(
        row["dep_time"] != "NA" and int(row["dep_time"]) // 100 == 6 for row in flights()
    )


def test_both_apps_have_the_same_functions_and_only_one_differs():
    before, after = ({m.name: m for m in load_app(app).mappings} for app in (FIRST_TRY, FIXED))

    assert set(before) == set(after) == {BUGGY, OTHER}
    assert before[BUGGY].version != after[BUGGY].version
    assert before[OTHER].version == after[OTHER].version


def test_the_fix_is_shown_as_the_lines_that_differ():
    shown = the_fix().plain.splitlines()

    assert [line[0] for line in shown] == [" ", "+", "+", "+", " "]


def test_the_line_that_failed_is_found_in_a_traceback():
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "/x/runner.py", line 7, in call\n'
        "    function(batch)\n"
        '  File "/x/first_try.py", line 19, in departures\n'
        '    hour = int(flight["dep_time"]) // 100\n'
        "           ^^^^^^^^^^^^^^^^^^^^^^^\n"
        "ValueError: no\n"
    )

    assert failing_line(traceback) == (
        'first_try.py, line 19: hour = int(flight["dep_time"]) // 100'
    )
    assert failing_line("") == "no Python line is known"


def test_the_hours_are_one_block_each():
    line = hours_line(Counter({"0h": 1, "12h": 8, "23h": 4, "cancelled": 2})).plain

    assert line == f"by the hour  0h ▁{' ' * 11}█{' ' * 10}▄ 24h  13 departed, 2 cancelled"
