"""Tests for `streamfn replay`, and for what other commands show of one."""

import time

import pytest

from streamfn import Log, _core

SHARD = "shardId-000000000000"
REPLAY = "shop.total@replay-1"


@pytest.fixture
def function(log_dir):
    """Ten records of `orders`, and `shop.total`, a mapping that is done with them."""
    with Log.open(log_dir) as log:
        log.create_stream("orders").put_many([b"x"] * 10)
        mapping = _core.Mapping.register(log.core, "shop.total", factor=2)
        mapping.prepare("orders")
        mapping.seek("orders", "latest")
        yield mapping


def checkpoints(mapping):
    return [lane.checkpoint for lane in mapping.lanes()]


class TestReplay:
    """Tests for `replay`."""

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], (0, 10)),
            (["--from", "3"], (3, 10)),
            (["--to", "7"], (0, 7)),
            (["--from", "3", "--to", "7", "--shard", SHARD], (3, 7)),
            (["--from", "@-1h"], (0, 10)),
            (["--from", "beginning", "--to", "end"], (0, 10)),
            (["--from", "trim_horizon", "--to", "latest"], (0, 10)),
            (["--to", "99"], (0, 10)),
        ],
    )
    def test_its_stretch_is_resolved_when_it_is_asked_for(self, run, function, options, expected):
        ended = run("replay", "orders", "--fn", "total", *options, "--json")

        first, until = expected
        assert ended.code == 0
        assert ended.json == {
            "replay": REPLAY,
            "function": "shop.total",
            "stream": "orders",
            "records": until - first,
            "shards": [{"shard_id": SHARD, "from": first, "to": until, "records": until - first}],
        }
        assert f"`{REPLAY}`: {until - first} records" in ended.stderr
        assert checkpoints(function) == [10, 10], "the function is where it was"

    def test_a_dry_run_makes_none(self, run, function):
        ended = run("replay", "orders", "--fn", "total", "--from", "3", "--dry-run", "--json")

        assert (ended.json["replay"], ended.json["records"]) == (None, 7)
        assert "would replay 7 records to `shop.total`" in ended.stderr
        assert [row["name"] for row in run("fn", "ls", "--json").json] == ["shop.total"]

    def test_of_nothing_there_is_none(self, run, function):
        ended = run("replay", "orders", "--fn", "total", "--from", "@2100-01-01", "--json")

        assert (ended.code, ended.json["replay"]) == (0, None)
        assert ended.stderr == "no records in this range, nothing to replay\n"

    def test_an_empty_stretch_is_nothing_to_replay(self, run, function):
        ended = run("replay", "orders", "--fn", "total", "--from", "4", "--to", "4")

        assert (ended.code, ended.stderr.splitlines()) == (
            0,
            ["no records in this range, nothing to replay"],
        )

    def test_a_dry_run_says_how_it_understood_times(self, run, function, monkeypatch):
        """Without a zone they are local, and all that is printed is UTC."""
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        try:
            ended = run(
                "replay", "orders", "--fn", "total", "--dry-run",
                "--from", "@2026-01-31T12:00", "--to", "@2026-01-31T18:00+01:00",
            )  # fmt: skip
        finally:
            monkeypatch.undo()
            time.tzset()

        assert ended.stderr.splitlines()[-1] == (
            "from @2026-01-31T12:00 (2026-01-31 17:00:00Z) "
            "to @2026-01-31T18:00+01:00 (2026-01-31 17:00:00Z)"
        )

    def test_for_people_there_is_a_line_a_shard(self, run, function):
        ended = run("replay", "orders", "--fn", "total", "--to", "4")

        head, row = ended.stdout.decode().splitlines()
        assert head.split() == ["SHARD", "FROM", "TO", "RECORDS"]
        assert row.split() == [SHARD, "0", "4", "4"]

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (["orders", "--fn", "totl"], 1, "did you mean `total`?"),
            (["orders", "--fn", "nosuch"], 1, "(hint: use one of `shop.total`)"),
            (["clicks", "--fn", "total"], 78, "`shop.total` does not read `clicks`"),
            (["orders", "--fn", "total", "--shard", "7"], 78, "no shard shardId-000000000007"),
            (
                ["orders", "--fn", "total", "--from", "end"],
                2,
                "`end` is not beginning, @TIME or a sequence number",
            ),
            (
                ["orders", "--fn", "total", "--to", "-3"],
                2,
                "`-3` is not end, @TIME or a sequence number",
            ),
            (["orders", "--fn", "total", "--from", "@soon"], 2, "is not a time"),
            (
                ["orders", "--fn", "total", "--from", "8", "--to", "4"],
                2,
                "--from 8 is after --to 4: --from must be the earlier position",
            ),
            (
                ["orders", "--fn", "total", "--from", "@-1h", "--to", "@-2h"],
                2,
                "is after --to @-2h (",
            ),
            (
                ["orders", "--fn", "total", "--from", "@2026-02-01", "--to", "@1700000000"],
                2,
                "is after --to @1700000000 (2023-11-14 22:13:20Z)",
            ),
            (["orders"], 2, "--fn"),
        ],
    )
    def test_what_cannot_be_is_told_in_one_line(self, run, function, arguments, code, told):
        ended = run("replay", *arguments)

        assert ended.code == code
        assert told in ended.stderr
        assert ended.stderr.count("\n") == 1

    def test_a_number_means_nothing_in_several_shards(self, run, function):
        assert run("stream", "split", "orders", SHARD).code == 0

        ended = run("replay", "orders", "--fn", "total", "--from", "5")

        assert ended.code == 2
        assert "belongs to one shard, and `orders` has 3: add --shard or use @TIME" in ended.stderr

    def test_records_that_are_no_longer_kept_are_named(self, run, function):
        assert run("stream", "trim", "orders", "--before", "6", "--yes").code == 0

        ended = run("replay", "orders", "--fn", "total", "--from", "2")

        assert ended.code == 1
        assert "2 to 5" in ended.stderr
        assert run("replay", "orders", "--fn", "total", "--json").json["records"] == 4


class TestWhileItRuns:
    """Tests for other commands."""

    def test_it_is_shown(self, run, function):
        run("replay", "orders", "--fn", "total", "--from", "4")

        assert run("fn", "info", "total", "--json").json["replays"] == [REPLAY]
        assert f"unfinished replay: {REPLAY}" in run("fn", "info", "total").stderr
        assert run("stream", "info", "orders", "--json").json["replays"] == [REPLAY]
        assert f"unfinished replays: {REPLAY}" in run("stream", "info", "orders").stderr
        shown = run("fn", "info", REPLAY, "--json").json
        assert (shown["records_behind"], shown["replays"]) == (6, [])
        assert [row["name"] for row in run("fn", "ls", "--json").json] == ["shop.total", REPLAY]

    def test_it_can_be_paused_moved_and_cancelled(self, run, function):
        run("replay", "orders", "--fn", "total", "--from", "4", "--to", "8")
        replay = "total@replay-1"

        assert run("fn", "pause", replay).code == 0
        assert run("fn", "ls", "--json").json[1]["state"] == "paused"
        assert run("fn", "seek", replay, "6").code == 0
        assert run("fn", "info", replay, "--json").json["records_behind"] == 2
        assert run("fn", "rm", replay, "--yes").code == 0

        assert run("fn", "info", "total", "--json").json["replays"] == []

    def test_it_goes_with_its_function(self, run, function):
        run("replay", "orders", "--fn", "total")
        assert run("fn", "rm", "total", "--yes").code == 0
        assert run("fn", "ls", "--json").json == []
