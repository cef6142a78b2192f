"""Lanes side by side, and streams that share workers: printed, without a verdict.

Without `--full` each runs once and small: then it is one of the project's tests.
"""

import shutil
import statistics
from pathlib import Path

import pytest
from lanes import FACTORS, FULL, KINDS, SMALL, STREAMS, LaneSize, parts, shared, sleepers_rate
from storage import Figure


@pytest.fixture
def size(pytestconfig: pytest.Config) -> LaneSize:
    """How much is measured."""
    return FULL if pytestconfig.getoption("--full", default=False) else SMALL


@pytest.mark.parametrize("kind", KINDS)
def test_side_by_side(
    kind: str, tmp_path: Path, size: LaneSize, lane_figures: list[Figure]
) -> None:
    """Factors 1 and 8 take turns."""
    rates: dict[int, list[float]] = {factor: [] for factor in FACTORS}
    for turn in range(size.rounds):
        for factor in FACTORS:
            folder = tmp_path / f"{turn}-{factor}"
            folder.mkdir()
            rates[factor].append(sleepers_rate(folder, size.keys, kind, factor))
            shutil.rmtree(folder)

    few, many = (rates[factor] for factor in FACTORS)
    ratio = statistics.median(b / a for a, b in zip(few, many, strict=True))
    lane_figures.append(
        Figure(
            f"records a second with {FACTORS[1]} lanes beside {FACTORS[0]}, calls of 10 ms, {kind}",
            f"{ratio:.2f}×: {statistics.median(many):,.0f} beside {statistics.median(few):,.0f}",
            "≥ 7×",
        )
    )


@pytest.mark.parametrize(("workers", "runners"), [(1, 1), (2, 2)])
def test_fair_shares(
    workers: int, runners: int, tmp_path: Path, size: LaneSize, lane_figures: list[Figure]
) -> None:
    """Two streams take turns in every thread, so a slow moment is slow for both."""
    begins = shared(tmp_path, size.shared_seconds, workers, runners)
    found = parts(begins, size.window)

    assert {begin.stream for begin in begins} == set(STREAMS)
    assert len({begin.worker for begin in begins}) == workers
    what = f"calls of one of two equal streams, {workers} × {runners} runners"
    windows = f"of {len(found)} windows of {size.window:g} s, {len(begins):,} calls"
    result = f"{min(found):.1%} to {max(found):.1%} {windows}"
    lane_figures.append(Figure(what, result, "40 to 60%"))
