"""The guard of `make instructions` notices what it is there for."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def instructions():
    spec = importlib.util.spec_from_file_location("instructions", ROOT / "benches/instructions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("now", "code"), [(95.0, 0), (104.9, 0), (105.1, 1), (200.0, 1)])
def test_more_than_five_percent_fail(instructions, capsys, now, code):
    assert instructions.judged({"append": now}, {"append": 100.0}, "baseline") == code

    assert ("More than 5% above the baseline: append." in capsys.readouterr().out) == bool(code)


def test_the_baseline_has_every_case(instructions):
    known = json.loads(instructions.BASELINE.read_text("utf-8"))

    assert known["instructions a record"].keys() == instructions.CASES.keys()
    assert known["compiler"].startswith("rustc ")
