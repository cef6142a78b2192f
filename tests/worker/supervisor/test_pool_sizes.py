"""Tests for `supervisor.pool_sizes`: how many runners each group gets."""

import os
from types import SimpleNamespace

import pytest

from streamfn.model.worker import WorkerConfig
from streamfn.worker.supervisor.pool_sizes import PoolSizes
from streamfn.worker.supervisor.runner_pool import PoolSize

LIGHT, HEAVY = "shop.light", "shop.heavy"


class Registry(dict):
    """A function in the group of the app, and one in its own."""

    def __init__(self):
        groups = {LIGHT: "app", HEAVY: HEAVY}
        super().__init__({name: SimpleNamespace(group=each) for name, each in groups.items()})
        self.groups = set(groups.values())


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A worker on four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    registry, scheduler = Registry(), SimpleNamespace(found=[], solos={})

    def sizes(processes=None):
        config = WorkerConfig(app="shop.py", log_dir=str(tmp_path), processes=processes)
        return PoolSizes(config, registry, scheduler)

    return SimpleNamespace(sizes=sizes, registry=registry, scheduler=scheduler)


def with_work(mapping):
    status = SimpleNamespace(in_flight=None, checkpoint=0, end=1)
    return SimpleNamespace(key=SimpleNamespace(mapping=mapping), status=status)


def test_before_the_functions_are_known_one_runner_tells_them(stage):
    assert stage.sizes(processes=3).now == {"app": PoolSize(1)}


def test_each_group_gets_as_many_as_processes_says(stage):
    sizes = stage.sizes(processes=3)
    sizes.set()

    assert sizes.now == {"app": PoolSize(3), HEAVY: PoolSize(3)}


def test_by_themselves_groups_grow_with_their_own_work_up_to_the_cores(stage):
    sizes = stage.sizes()
    stage.scheduler.found = [with_work(HEAVY)] * 9 + [with_work(LIGHT)] * 2
    sizes.set()
    assert sizes.now == {"app": PoolSize(2), HEAVY: PoolSize(4)}

    stage.scheduler.found = []
    sizes.set()
    assert sizes.now == {"app": PoolSize(2), HEAVY: PoolSize(4)}, "they do not shrink"


def test_a_group_without_functions_needs_no_runner(stage):
    """Where each function has a limit, the runner that told the functions is not needed."""
    sizes = stage.sizes(processes=2)
    stage.registry.groups = {HEAVY}
    sizes.set()

    assert sizes.now == {HEAVY: PoolSize(2)}


def test_solo_runners_are_those_of_the_last_plan(stage):
    sizes = stage.sizes(processes=2)
    stage.scheduler.solos = {HEAVY: 1}
    sizes.set()

    assert sizes.now == {"app": PoolSize(2), HEAVY: PoolSize(2, solos=1)}
