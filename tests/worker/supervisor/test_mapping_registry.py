"""Tests for `MappingRegistry`, on a real log."""

from datetime import UTC, datetime, timedelta

import pytest

from streamfn import App, ConfigError
from streamfn.worker.supervisor.mapping_registry import MappingRegistry


class TestRegister:
    """Tests for `MappingRegistry.register`."""

    def test_streams_that_functions_append_to_are_there_before_the_first_record(self, log):
        """Somebody may wait for them: another function, `tail`, whoever looks at what failed."""
        app = App("shop")
        options = {"to": "lines", "on_success": "audit", "on_failure": "broken"}
        app.stream("orders", name="split", **options)(lambda batch: None)
        app.stream("orders", name="own")(lambda batch: None)

        MappingRegistry(log.core, lambda event, **fields: None).register(app.mappings, (), set())

        assert sorted(log.streams()) == ["audit", "broken", "lines"]

    def test_functions_with_a_memory_limit_have_groups_of_their_own(self, log):
        app = App("shop")
        for name, memory in [("a", None), ("b", "64MiB"), ("c", None), ("d", 2**26)]:
            app.stream("orders", name=name, memory=memory)(lambda batch: None)
        registry = MappingRegistry(log.core, lambda event, **fields: None)
        assert registry.groups == {"app"}
        registry.register(app.mappings, (), set())

        assert [each.group for each in registry] == ["app", "shop.b", "app", "shop.d"]
        assert registry.groups == {"app", "shop.b", "shop.d"}
        limits = {group: registry.memory_limit_of(group) for group in registry.groups}
        assert limits == {"app": None, "shop.b": 2**26, "shop.d": 2**26}

    def test_a_function_that_is_new_does_not_begin_in_the_future(self, log):
        log.create_stream("orders")

        def registered(start):
            app = App("shop")
            app.stream("orders", name="f", start=start)(lambda batch: None)
            MappingRegistry(log.core, lambda event, **fields: None).register(
                app.mappings, (), set()
            )

        ahead = datetime.now(UTC) + timedelta(hours=1)
        with pytest.raises(ConfigError, match=r"`shop\.f` is to begin at a time") as caught:
            registered(ahead)
        assert caught.value.field == "start"

        registered(datetime.now(UTC))
        registered(ahead)  # it has begun: `start` does not count any more
