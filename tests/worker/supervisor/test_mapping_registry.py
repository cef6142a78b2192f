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
