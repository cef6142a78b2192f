"""Functions in the log that are not in the code."""

import pytest

from streamfn import _core
from streamfn.health.orphans import new_name_of, orphans


@pytest.fixture
def mappings(log):
    """`shop.old` and `shop.kept` on a stream that keeps what is not consumed; another app's."""
    log.core.create_stream("orders", retention_consumed=True)
    log.stream("orders").put_many([b"x"] * 10)
    made = {}
    for name in ("shop.old", "shop.kept", "other.old"):
        made[name] = _core.Mapping.register(log.core, name, factor=1)
        made[name].prepare("orders")
    made["shop.old"].seek("orders", 4)
    return made


class TestOrphans:
    """Tests for `orphans`."""

    def test_it_says_what_is_behind_and_held_back(self, log, mappings):
        [found] = orphans(log.core, "shop", {"shop.kept"})
        assert (found.name, found.records_behind, found.holds_back) == ("shop.old", 6, ("orders",))
        assert orphans(log.core, "shop", {"shop.kept", "shop.old"}) == []

    def test_a_replay_is_none(self, log, mappings):
        mappings["shop.kept"].replay("orders", {"shardId-000000000000": (0, 3)})
        assert [each.name for each in orphans(log.core, "shop", {"shop.kept"})] == ["shop.old"]

    def test_the_new_name_is_the_only_new_one_or_the_nearest(self, log, mappings):
        [found] = orphans(log.core, "shop", {"shop.kept"})
        assert new_name_of(found, []) is None
        assert new_name_of(found, ["shop.anything"]) == "shop.anything"
        assert new_name_of(found, ["shop.anything", "shop.olds"]) == "shop.olds"
        assert new_name_of(found, ["shop.anything", "shop.something"]) is None
