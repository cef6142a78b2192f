"""Tests for `Catalog`, on a real log."""

from streamfn import App
from streamfn.worker.catalog import Catalog


class TestRegister:
    """Tests for `Catalog.register`."""

    def test_streams_that_functions_append_to_are_there_before_the_first_record(self, log):
        """Somebody may wait for them: another function, `tail`, whoever looks at what failed."""
        app = App("shop")
        options = {"to": "lines", "on_success": "audit", "on_failure": "broken"}
        app.stream("orders", name="split", **options)(lambda batch: None)
        app.stream("orders", name="own")(lambda batch: None)

        Catalog(log.core, lambda event, **fields: None).register(app.mappings, (), set())

        assert sorted(log.streams()) == ["audit", "broken", "lines"]
