"""Tests for `streamfn stream`."""

from streamfn import Log, _core


class TestLs:
    """Tests for `stream ls`."""

    def test_it_lists_streams_and_what_they_hold(self, run):
        run("put", "b", input=b"1\n2\n")
        run("stream", "add", "a", "--shards", "3")

        ended = run("stream", "ls")

        head, first, second = ended.stdout.decode().splitlines()
        assert head.split() == [
            "STREAM", "SHARDS", "RECORDS", "SIZE", "DURABILITY", "LAST", "RECORD"
        ]  # fmt: skip
        assert first.split()[:3] == ["a", "3", "0"]
        assert second.split()[:3] == ["b", "1", "2"]

    def test_json_is_one_array_of_objects(self, run):
        run("put", "b", input=b"1\n2\n")

        [stream] = run("stream", "ls", "--json").json
        assert (stream["name"], stream["shards"], stream["records"]) == ("b", 1, 2)
        assert isinstance(stream["bytes"], int)

    def test_internal_streams_are_shown_on_request(self, run, log_dir):
        with Log.open(log_dir) as log:
            log.core.create_stream("app.f.dlq", internal=True)

        assert run("stream", "ls", "--json").json == []
        assert [row["name"] for row in run("stream", "ls", "--internal", "--json").json] == [
            "app.f.dlq"
        ]

    def test_an_empty_log_says_how_to_begin(self, run, log):
        ended = run("stream", "ls")

        assert (ended.code, ended.stdout) == (0, b"")
        assert "no streams yet (hint:" in ended.stderr


class TestAdd:
    """Tests for `stream add`."""

    def test_a_stream_has_the_properties_asked_for(self, run, log_dir):
        options = ["--shards", "2", "--durability", "process", "--compression", "none"]
        ended = run("stream", "add", "s", *options, "--retention", "7d", "--retention", "1GiB")

        assert ended.code == 0
        assert ended.stderr == "stream `s`: 2 shards, durability process\n"
        with Log.open(log_dir) as log:
            info = log.stream("s").info()
        assert (info.durability, info.compression, len(info.shards)) == ("process", "none", 2)
        assert info.retention["seconds"] == 604_800
        assert info.retention["bytes"] == 2**30

    def test_a_second_time_is_refused_unless_that_is_fine(self, run):
        run("stream", "add", "s")

        ended = run("stream", "add", "s")
        assert ended.code == 1
        assert "stream `s` exists already (hint:" in ended.stderr
        assert run("stream", "add", "s", "--exist-ok").code == 0

    def test_a_retention_that_makes_no_sense(self, run):
        ended = run("stream", "add", "s", "--retention", "always")

        assert ended.code == 78
        assert "`retention`: `always` is not an age (7d), a size (10GiB) or `consumed`" in (
            ended.stderr
        )


class TestInfo:
    """Tests for `stream info`."""

    def test_it_shows_the_shards(self, run):
        run("put", "s", "--shards", "2", input=b"1\n2\n3\n")

        ended = run("stream", "info", "s")
        assert len(ended.stdout.splitlines()) == 3
        assert "s: 3 records in" in ended.stderr

        info = run("stream", "info", "s", "--json").json
        assert [shard["shard_id"] for shard in info["shards"]] == [
            "shardId-000000000000",
            "shardId-000000000001",
        ]
        assert sum(shard["end"] for shard in info["shards"]) == 3
        assert info["shards"][0]["hash_key_range"][0] == "0"

    def test_a_stream_that_is_not_there(self, run, log):
        assert run("stream", "info", "none").code == 1


class TestSplitAndMerge:
    """Tests for `stream split` and `stream merge`."""

    def test_the_new_shards_are_named(self, run):
        run("put", "s", input=b"1\n2\n")

        ended = run("stream", "split", "s", "shardId-000000000000", "--json")
        assert ended.json == {"children": ["shardId-000000000001", "shardId-000000000002"]}
        ended = run("stream", "merge", "s", "1", "2", "--json")
        assert ended.json == {"children": ["shardId-000000000003"]}
        assert ended.stderr == "merged `1` and `2` of `s` into shardId-000000000003\n"
        shards = run("stream", "info", "s", "--json").json["shards"]
        assert [shard["is_open"] for shard in shards] == [False, False, False, True]
        assert shards[3]["parents"] == ["shardId-000000000001", "shardId-000000000002"]

    def test_what_ends_a_shard_counts_as_no_record(self, run):
        run("put", "s", input=b"1\n2\n")
        run("stream", "split", "s", "0")
        run("stream", "merge", "s", "1", "2")

        assert run("stream", "info", "s", "--json").json["records"] == 2
        assert run("stream", "ls", "--json").json[0]["records"] == 2

    def test_a_hash_key_is_where_the_second_begins(self, run):
        run("stream", "add", "s")
        run("stream", "split", "s", "0", "--at", 2**100)

        shards = run("stream", "info", "s", "--json").json["shards"]
        assert shards[2]["hash_key_range"] == [str(2**100), str(2**128 - 1)]

    def test_what_cannot_be_is_one_line_and_a_code(self, run):
        assert run("stream", "split", "s", "0").code == 78  # no log
        run("stream", "add", "s", "--shards", "3")

        assert run("stream", "split", "t", "0").code == 1
        for arguments in (["split", "s", "9"], ["merge", "s", "0", "2"], ["split", "s", "x"]):
            ended = run("stream", *arguments)
            assert (ended.code, ended.stderr.count("\n")) == (78, 1), ended.stderr
        run("stream", "split", "s", "0")
        ended = run("stream", "split", "s", "0")
        assert ended.code == 1
        assert ended.stderr.startswith("error: `s/shardId-000000000000` was closed")


class TestTrim:
    """Tests for `stream trim`."""

    def test_records_before_a_number_are_gone(self, run):
        run("put", "s", input=b"1\n2\n3\n")

        ended = run("stream", "trim", "s", "--before", "2", "--yes", "--json")

        assert ended.json["trim_horizons"] == {"shardId-000000000000": 2}
        assert run("tail", "s", "-e").stdout == b"3\n"

    def test_records_before_a_time_are_gone(self, run):
        run("put", "s", input=b"1\n")

        assert run("stream", "trim", "s", "--before", "@-1h", "--yes").code == 0
        assert run("tail", "s", "-e").stdout == b"1\n"
        assert run("stream", "trim", "s", "--before", "@4102444800", "--yes").code == 0
        assert run("tail", "s", "-e").stdout == b""

    def test_a_number_means_nothing_in_several_shards(self, run):
        run("put", "s", "--shards", "2", input=b"1\n")

        ended = run("stream", "trim", "s", "--before", "1", "--yes")
        assert ended.code == 2
        assert "belongs to one shard, and `s` has 2: add --shard or use @TIME" in ended.stderr
        assert run("stream", "trim", "s", "--before", "1", "--shard", "0", "--yes").code == 78
        shard = "shardId-000000000000"
        assert run("stream", "trim", "s", "--before", "0", "--shard", shard, "--yes").code == 0

    def test_it_asks_first(self, run):
        run("put", "s", input=b"1\n")

        assert run("stream", "trim", "s", "--before", "1").code == 2
        assert run("stream", "trim", "s", "--before", "soon", "--yes").code == 2
        assert run("stream", "trim", "s", "--before", "beginning", "--yes").code == 2
        assert run("stream", "trim", "s").code == 2
        assert run("tail", "s", "-e").stdout == b"1\n"


class TestRm:
    """Tests for `stream rm`."""

    def test_the_stream_is_gone(self, run):
        run("put", "s", input=b"1\n")
        assert run("stream", "rm", "s").code == 2

        ended = run("stream", "rm", "s", "--yes", "--json")

        assert (ended.code, ended.json["removed"]) == (0, "s")
        assert run("stream", "ls", "--json").json == []
        assert run("stream", "rm", "s", "--yes").code == 1

    def test_a_stream_that_functions_have_read_is_kept_unless_forced(self, run, log_dir):
        run("put", "s", input=b"1\n")
        with Log.open(log_dir) as log:
            _core.Mapping.register(log.core, "a.f", factor=1, start="trim_horizon").prepare("s")

        ended = run("stream", "rm", "s", "--yes")
        assert ended.code == 78
        assert "`s` belongs to functions: `a.f`" in ended.stderr
        assert run("stream", "rm", "s", "--yes", "--force").code == 0
