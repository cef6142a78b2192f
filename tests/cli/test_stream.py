"""Tests for `streamfn stream`."""

from streamfn import Log


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
