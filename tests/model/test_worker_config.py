"""Tests for `model.worker.WorkerConfig`."""

import os
from datetime import timedelta

import pytest

from streamfn.errors import ConfigError
from streamfn.model.worker import RUNNERS_A_CORE, RUNNERS_MAX, WorkerConfig


def config(**fields):
    return WorkerConfig(app="shop.py", log_dir="log", **fields)


@pytest.mark.parametrize("count", [1, RUNNERS_MAX])
def test_as_many_processes_for_calls_as_are_asked_for(count):
    assert config(max_runners=count).runners_max == count


def test_four_processes_a_core_unless_another_number_is_asked_for():
    assert config().runners_max == RUNNERS_A_CORE * len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_runners", 0),
        ("max_runners", RUNNERS_MAX + 1),
        ("idle", timedelta(seconds=-1)),
        ("processes", 0),
        ("threads", 0),
    ],
)
def test_what_cannot_be_is_refused(field, value):
    with pytest.raises(ConfigError) as refused:
        config(**{field: value})

    assert refused.value.field == field
