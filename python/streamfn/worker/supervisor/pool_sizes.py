"""How many runners each group of runners should have."""

from __future__ import annotations

import os

from streamfn.model.worker import WorkerConfig

from .lane_scheduler import LaneScheduler
from .mapping_registry import MappingRegistry
from .runner_group import APP_GROUP
from .runner_pool import PoolSize


class PoolSizes:
    """The number of shared runners of each group; `auto` grows with the lanes with work."""

    def __init__(
        self, config: WorkerConfig, registry: MappingRegistry, scheduler: LaneScheduler
    ) -> None:
        """Start with the one runner that tells the mappings."""
        self._config, self._registry, self._scheduler = config, registry, scheduler
        self.shared = {APP_GROUP: 1}

    def set(self) -> None:
        """Set the numbers by the last scan."""
        if not self._registry:
            self.shared = {APP_GROUP: 0}
            return
        cores = len(os.sched_getaffinity(0))
        sizes = {}
        for group in self._registry.groups:
            wanted = self._config.processes
            if wanted is None:
                has_work = sum(
                    found.status.in_flight is not None or found.status.checkpoint < found.status.end
                    for found in self._scheduler.found
                    if self._registry[found.key.mapping].group == group
                )
                wanted = max(self.shared.get(group, 1), min(cores, has_work))
            sizes[group] = wanted
        self.shared = sizes

    @property
    def now(self) -> dict[str, PoolSize]:
        """The shared runners, and the solo runners of the last plan."""
        solos = self._scheduler.solos
        return {
            group: PoolSize(shared, solos.get(group, 0)) for group, shared in self.shared.items()
        }
