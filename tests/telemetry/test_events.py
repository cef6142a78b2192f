"""Tests for `telemetry.events`, and the page that lists them."""

import re
from pathlib import Path

import pytest

from streamfn.telemetry.events import EVENTS, LEVELS, level_of

ROOT = Path(__file__).parents[2]


def test_the_manual_lists_every_event_with_its_level():
    page = (ROOT / "docs" / "logs.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert listed == {name: LEVELS[level] for name, (level, _) in EVENTS.items()}


def test_every_event_that_the_code_reports_is_listed():
    reported = set()
    for path in (ROOT / "python" / "streamfn" / "worker").rglob("*.py"):
        reported |= set(re.findall(r"report\w*\(\s*\"(\w+)\"", path.read_text()))
    assert reported - set(EVENTS) <= {"output", "block"}


NAMES = [("debug", 0), ("Info", 1), ("WARNING", 2), ("warn", 2), ("error", 3), ("CRITICAL", 3)]


@pytest.mark.parametrize(("name", "level"), NAMES)
def test_levels_have_the_names_that_people_use(name, level):
    assert level_of(name) == level
