"""Tests for `App.declare`."""

import pytest

from streamfn import App, ConfigError
from streamfn.log.declared import ensure_declared
from streamfn.model.declaration import StreamDeclaration
from streamfn.model.retention import RetentionLimits
from streamfn.testing import MemoryLog, run_once


def declared(**settings):
    app = App("shop")
    app.declare("orders", **settings)
    return app.declared_streams[0]


def retention_of(stream):
    return str(RetentionLimits(**stream.info().retention))


class TestDeclare:
    """Tests for what is declared."""

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"shards": 0}, "shards"),
            ({"shards": 4_097}, "shards"),
            ({"shards": True}, "shards"),
            ({"retention": "always"}, "retention"),
            ({"retention": ("7d", "8d")}, "retention"),
            ({"compression": "gzip"}, "compression"),
            ({"durability": "none"}, "durability"),
        ],
    )
    def test_a_wrong_value_is_refused_where_it_is_written(self, settings, field):
        with pytest.raises(ConfigError) as refused:
            declared(**settings)

        assert refused.value.field == field

    def test_a_stream_is_declared_once(self):
        app = App("shop")
        app.declare("orders")

        with pytest.raises(ConfigError, match="declared already"):
            app.declare("orders", shards=2)
        with pytest.raises(ConfigError, match="cannot be a name"):
            app.declare("a.b")

    @pytest.mark.parametrize(
        "settings",
        [{}, {"shards": 4_096, "retention": ("7d", "1GiB", "consumed")}, {"retention": None}],
    )
    def test_it_survives_the_way_to_the_supervisor(self, settings):
        wanted = declared(**settings)

        assert StreamDeclaration.from_dict(wanted.to_dict()) == wanted


class TestEnsureDeclared:
    """Tests for `log.declared`."""

    def test_a_missing_stream_is_created_as_declared(self):
        log = MemoryLog()

        found = ensure_declared(log, declared(shards=3, retention=("7d", "consumed")))
        assert (found.is_new, found.differences) == (True, [])
        assert (len(found.stream.info().shards), retention_of(found.stream)) == (3, "7d, consumed")

    def test_an_existing_stream_is_compared_and_never_changed(self):
        log = MemoryLog()
        log.create_stream("orders", shards=2, retention="7d")

        found = ensure_declared(log, declared(shards=4, retention=None, compression="zstd"))
        assert [each[:3] for each in found.differences] == [
            ("shards", "4", "2"),
            ("retention", "everything", "7d"),
        ]
        assert found.differences[1].hint == "`streamfn stream set orders --retention everything`"
        assert retention_of(log.stream("orders")) == "7d"

    def test_tests_of_users_get_the_streams_too(self):
        app = App("shop")
        app.declare("orders", shards=3)

        @app.stream("orders")
        def total(batch):
            """Take all records."""

        driver = run_once(app, {"orders": [1, 2, 3]})
        assert len(driver.log.stream("orders").info().shards) == 3
        assert ("stream_created", {"stream": "orders"}) in driver.events
