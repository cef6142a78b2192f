"""Tests for `telemetry.histogram`."""

import pytest

from streamfn.telemetry.histogram import Histogram

BOUNDS = (1.0, 2.0, 4.0)


def histogram(*buckets, total=0.0):
    return Histogram(BOUNDS, buckets, total)


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ((10, 0, 0, 0), 0.5, 0.5),
        ((10, 10, 0, 0), 0.5, 1.0),
        ((0, 0, 4, 0), 0.25, 2.5),
        ((0, 0, 0, 3), 0.5, 4.0),
        ((99, 0, 0, 1), 0.99, 1.0),
        ((99, 0, 0, 1), 1.0, 4.0),
        ((0, 5, 0, 5), 0.0, 1.0),
    ],
)
def test_a_quantile_lies_where_prometheus_would_put_it(buckets, share, value):
    assert histogram(*buckets).quantile(share) == pytest.approx(value)


def test_without_values_there_is_no_quantile():
    assert histogram(0, 0, 0, 0).quantile(0.5) is None


def test_a_difference_has_what_came_in_between_and_nothing_below_zero():
    now, before = histogram(5, 3, 1, 0, total=9.5), histogram(2, 4, 1, 0, total=4.0)
    assert now - before == histogram(3, 0, 0, 0, total=5.5)
    assert (now - before).count == 3
