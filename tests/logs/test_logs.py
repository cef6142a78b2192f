"""The campaign of this folder, at a size that fits the test suite."""

import importlib.util
from pathlib import Path

CALLS = 3_000


def test_each_distinct_failure_has_one_line_a_minute_and_a_count(tmp_path):
    path = Path(__file__).with_name("__main__.py")
    spec = importlib.util.spec_from_file_location("logs_campaign", path)
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    lines, _ = campaign.run(CALLS, tmp_path)
    assert campaign.check(lines, CALLS) == CALLS
