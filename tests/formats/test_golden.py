"""Logs written by released versions of the format are read, and go on, for ever."""

import json
import shutil
from pathlib import Path

import pytest
from make_golden import described

from streamfn import _core

VERSIONS = sorted(path.name for path in Path(__file__).parent.glob("v[0-9]*"))


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of a golden log, and what is in it."""
    folder = Path(__file__).parent / request.param
    shutil.copytree(folder / "log", tmp_path / "log")
    return tmp_path / "log", json.loads((folder / "expected.json").read_text())


def test_there_is_a_golden_log_of_this_version():
    assert "v1" in VERSIONS


def test_everything_in_it_is_read(golden):
    folder, expected = golden

    assert expected == described(_core.Log.open(str(folder)))


def test_it_goes_on(golden):
    """Records are appended behind the old ones, and both are read."""
    folder, expected = golden
    stream = _core.Log.open(str(folder)).stream("plain")

    _, number = stream.put(b"new", "key")

    old = expected["streams"]["plain"]["shardId-000000000000"]
    assert number == old[-1]["sequence_number"] + 1
    records = stream.reader("shardId-000000000000").poll(1_000_000)
    assert len(old) + 1 == len(records)
    assert b"new" == records[-1].data
