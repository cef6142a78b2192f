"""Tests for `telemetry.metrics`: the table and the page."""

import re
from pathlib import Path

import pytest

from streamfn.telemetry.histogram import Histogram
from streamfn.telemetry.metrics import METRICS, Sample, page

LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? ([-+0-9.einfEINF]+)')


def parse(text):
    """Read a page as strictly as the format asks; returns {(name, labels): value}."""
    found, name, kind = {}, None, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == name
            kind = line.split()[3]
        else:
            match = LINE.fullmatch(line)
            assert match, line
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1] in [name + suffix for suffix in suffixes]
            assert (match[1], match[2]) not in found
            found[match[1], match[2]] = float(match[3])
    assert text.endswith("\n")
    return found


def test_every_metric_is_named_as_prometheus_asks():
    for metric in METRICS:
        assert metric.name.startswith("streamfn_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_odd_label_values_are_escaped():
    labels = {"function": 'a"b\\c\nd'}
    text = page([Sample("streamfn_retries_total", labels, 3)])
    assert parse(text) == {("streamfn_retries_total", r'function="a\"b\\c\nd"'): 3}


def test_a_histogram_adds_its_buckets_up():
    value = Histogram((0.5, 1.0), (2, 3, 1), 4.25)
    text = page([Sample("streamfn_invocation_duration_seconds", {"function": "f"}, value)])
    name = "streamfn_invocation_duration_seconds"
    assert parse(text) == {
        (f"{name}_bucket", 'function="f",le="0.5"'): 2,
        (f"{name}_bucket", 'function="f",le="1"'): 5,
        (f"{name}_bucket", 'function="f",le="+Inf"'): 6,
        (f"{name}_sum", 'function="f"'): 4.25,
        (f"{name}_count", 'function="f"'): 6,
    }


def test_a_sample_that_is_not_in_the_table_is_refused():
    with pytest.raises(KeyError):
        page([Sample("streamfn_unknown", {}, 1)])
    with pytest.raises(ValueError, match="labels"):
        page([Sample("streamfn_retries_total", {"stream": "s"}, 1)])


def test_the_manual_lists_every_metric():
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    manual = " ".join(text.split())
    for metric in METRICS:
        labels = f"; {', '.join(metric.labels)}" if metric.labels else ""
        assert f"`{metric.name}` ({metric.kind}{labels}): {metric.help}" in manual
