"""Tests for `stream add --exist-ok`, `stream set` and `stream trim`."""

import pytest

from streamfn import Log, _core
from streamfn.model.retention import RetentionLimits

SHARD = "shardId-000000000000"


def settings_of(log_dir, name):
    with Log.open(log_dir) as log:
        info = log.stream(name).info()
        return str(RetentionLimits(**info.retention)), info.compression, len(info.shards)


@pytest.fixture
def read_in_part(log_dir):
    """Six records of 600 kB in files of 1 MiB; `shop.total` has processed two of them."""
    with Log.open(log_dir) as log:
        log.core.create_stream("orders", segment_bytes=2**20, compression="none")
        for number in range(6):
            log.stream("orders").put(bytes([number]) * 600_000)
        mapping = _core.Mapping.register(log.core, "shop.total", factor=1)
        mapping.prepare("orders")
        mapping.seek("orders", 2)


class TestAddTwice:
    """Tests for `stream add --exist-ok`."""

    def test_each_difference_is_told_and_nothing_changes(self, run, log_dir):
        run("stream", "add", "ev")

        wanted = ["--shards", 4, "--retention", "7d", "--compression", "none", "--exist-ok"]
        ended = run("stream", "add", "ev", *wanted)

        assert ended.code == 1
        assert ended.stderr.splitlines() == [
            "`ev` has shards 1, not 4: `streamfn stream split`, or declare 1",
            "`ev` has retention everything, not 7d: `streamfn stream set ev --retention 7d`",
            "`ev` has compression zstd, not none: `streamfn stream set ev --compression none`",
            "error: stream `ev` exists already and differs in 3 settings",
        ]
        assert settings_of(log_dir, "ev") == ("everything", "zstd", 1)

    def test_settings_that_are_not_given_are_not_compared(self, run):
        run("stream", "add", "ev", "--shards", 2, "--retention", "90m", "--retention", "5MiB")

        assert run("stream", "add", "ev", "--exist-ok").code == 0
        again = run("stream", "add", "ev", "--shards", 2, "--exist-ok", "--json")
        assert again.json == {"name": "ev", "created": False, "differences": []}
        assert "exists already, 2 shards" in again.stderr

    def test_json_has_the_differences(self, run):
        assert run("stream", "add", "ev", "--exist-ok", "--json").json["created"] is True

        ended = run("stream", "add", "ev", "--durability", "process", "--exist-ok", "--json")
        [difference] = ended.json["differences"]
        assert (difference["field"], difference["existing"]) == ("durability", "group")
        assert ended.code == 1


class TestSet:
    """Tests for `stream set`."""

    def test_it_prints_the_old_and_the_new_value(self, run, log_dir):
        run("stream", "add", "ev")

        ended = run("stream", "set", "ev", "--retention", "7d", "--compression", "none", "--json")

        assert ended.stderr.splitlines() == [
            "retention of `ev`: everything → 7d",
            "compression of `ev`: zstd → none",
        ]
        assert ended.json["changes"]["retention"] == {"old": "everything", "new": "7d"}
        assert settings_of(log_dir, "ev") == ("7d", "none", 1)
        assert "retention 7d" in run("stream", "info", "ev").stderr

        run("stream", "set", "ev", "--retention", "10GiB", "--retention", "consumed")
        assert settings_of(log_dir, "ev")[0] == "10GiB, consumed"
        run("stream", "set", "ev", "--retention", "everything")
        assert settings_of(log_dir, "ev")[0] == "everything"

    def test_a_dry_run_changes_nothing(self, run, log_dir):
        run("stream", "add", "ev")

        ended = run("stream", "set", "ev", "--retention", "7d", "--dry-run")
        assert "everything → 7d" in ended.stderr
        assert settings_of(log_dir, "ev")[0] == "everything"

    def test_what_is_set_already_is_told(self, run):
        run("stream", "add", "ev", "--retention", "7d")

        ended = run("stream", "set", "ev", "--retention", "168h")
        assert ended.stderr == "`ev` has these settings already, nothing changed\n"

    def test_a_retention_that_deletes_at_once_asks_and_says_who_has_not_read(
        self, run, read_in_part, log_dir
    ):
        shorter = ["stream", "set", "orders", "--retention", "1MiB"]

        refused = run(*shorter)
        assert refused.code == 2
        assert "this deletes 5 records of `orders`, put until " in refused.stderr
        assert "`shop.total` has not processed 3 of them" in refused.stderr
        assert "add --yes to confirm" in refused.stderr
        assert settings_of(log_dir, "orders")[0] == "everything"

        assert run(*shorter, "--yes", "--json").json["deletes"]["unread"] == {"shop.total": 3}
        assert settings_of(log_dir, "orders")[0] == "1MiB"

    @pytest.mark.parametrize(
        ("options", "code", "said"),
        [
            ([], 2, "nothing to change: give --retention or --compression"),
            (["--retention", "always"], 78, "`always` is not an age (7d)"),
            (["--retention", "7d", "--retention", "8d"], 78, "`8d` is a second limit"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, options, code, said, run):
        run("stream", "add", "ev")

        ended = run("stream", "set", "ev", *options)
        assert ended.code == code
        assert said in ended.stderr

    def test_a_stream_that_is_not_there(self, run, log):
        assert "did you mean" not in run("stream", "set", "ev", "--retention", "7d").stderr
        assert run("stream", "set", "ev", "--retention", "7d").code == 1


class TestTrimPlan:
    """Tests for what `stream trim` says."""

    def test_a_dry_run_says_what_would_go_and_who_has_not_read_it(self, run, read_in_part):
        ended = run("stream", "trim", "orders", "--before", 5, "--dry-run", "--json")

        first, second = ended.stderr.splitlines()
        assert first.startswith("would delete 5 records of `orders`, put until 20")
        assert first.endswith("; frees 2.88 MiB on disk")
        assert second == "`shop.total` has not processed 3 of them"
        assert (ended.json["records"], ended.json["dry_run"], ended.json["freed"]) == (5, True, 0)
        assert run("stream", "info", "orders", "--json").json["records"] == 6

    def test_what_was_freed_is_told(self, run, read_in_part):
        ended = run("stream", "trim", "orders", "--before", 4, "--yes", "--json")

        assert ended.stderr.splitlines()[-1].startswith("trimmed `orders`: 4 records deleted, ")
        assert ended.json["bytes"] == ended.json["freed"] > 10**6
        assert ended.json["trim_horizons"] == {SHARD: 4}

    def test_why_nothing_was_freed_is_told(self, run, log_dir):
        run("put", "small", input=b"1\n2\n3\n")

        [*_, last] = run("stream", "trim", "small", "--before", 2, "--yes").stderr.splitlines()
        assert last == (
            "nothing was freed: files are deleted whole, and "
            f"the oldest file of {SHARD} is also the one for new records"
        )

    def test_nothing_before_the_position(self, run):
        run("put", "small", input=b"1\n")

        ended = run("stream", "trim", "small", "--before", 0, "--yes")
        assert ended.stderr == (
            "nothing to delete in `small`: there is no record before 0 (the oldest kept is 0)\n"
        )

    def test_an_unknown_shard(self, run):
        run("put", "small", input=b"1\n")

        ended = run("stream", "trim", "small", "--before", 1, "--shard", "shardId-9", "--yes")
        assert ended.code == 78
        assert f"use one of {SHARD}" in ended.stderr
