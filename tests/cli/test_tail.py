"""Tests for `streamfn tail`."""

from datetime import UTC, datetime

import pytest
import zstandard

from streamfn import Log


@pytest.fixture
def numbers(log_dir):
    """A stream of 3 shards with the payloads 0 to 29, ten to a key."""
    with Log.open(log_dir) as log:
        stream = log.create_stream("numbers", shards=3)
        for n in range(30):
            stream.put(b"%d" % n, f"key-{n % 3}", {"n": b"%d" % n})


def values(ended):
    """The numbers on stdout."""
    return [int(line) for line in ended.stdout.splitlines()]


@pytest.mark.usefixtures("numbers")
class TestTail:
    """Tests for what is printed."""

    def test_records_of_several_shards_come_in_order_of_time(self, run):
        assert values(run("tail", "numbers", "-e")) == list(range(30))

    def test_the_last_records(self, run):
        assert values(run("tail", "numbers", "-e", "-o", "-4")) == [26, 27, 28, 29]
        assert values(run("tail", "numbers", "-e", "-o", "-400")) == list(range(30))

    def test_so_many_records_and_no_waiting(self, run):
        assert values(run("tail", "numbers", "-n", "3")) == [0, 1, 2]

    def test_from_the_end_there_is_nothing(self, run):
        assert values(run("tail", "numbers", "-e", "-o", "end")) == []

    def test_from_a_time(self, run, log_dir):
        with Log.open(log_dir) as log:
            [record] = [r for b in log.stream("numbers").read() for r in b if r.data == b"20"]

        exact = record.timestamp.isoformat()
        assert min(values(run("tail", "numbers", "-e", "-o", f"@{exact}"))) in {19, 20}
        seconds = datetime.now(UTC).timestamp() + 60
        assert values(run("tail", "numbers", "-e", "-o", f"@{seconds}")) == []
        assert values(run("tail", "numbers", "-e", "-o", "@-1h")) == list(range(30))

    def test_one_shard_from_a_sequence_number(self, run):
        shard = ["--shard", "shardId-000000000000"]
        whole = values(run("tail", "numbers", "-e", *shard))

        assert values(run("tail", "numbers", "-e", "-o", "2", *shard)) == whole[2:]

    def test_a_format_has_the_letters_of_kcat(self, run, log_dir):
        ended = run("tail", "numbers", "-n", "1", "-f", r"%k|%s|%p|%o|%h|%%\t%T\n")

        head, time = ended.stdout.decode().rstrip("\n").split("\t")
        assert head.startswith("key-0|0|shardId-00000000000")
        assert head.endswith("|0|n=0|%")
        assert abs(int(time) / 1000 - datetime.now(UTC).timestamp()) < 60

    def test_json_has_the_shape_of_a_record(self, run):
        [first, *_] = run("tail", "numbers", "-e", "--json").objects

        assert list(first) == [
            "stream",
            "shard_id",
            "sequence_number",
            "partition_key",
            "timestamp",
            "headers",
            "json",
        ]
        assert first["stream"] == "numbers"
        assert first["partition_key"] == "key-0"
        assert first["headers"] == {"n": "0"}
        assert first["json"] == 0
        assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None

    @pytest.mark.parametrize("name", ["out.txt", "out.txt.zst"])
    def test_output_goes_to_a_file_and_zst_is_compressed(self, name, run, tmp_path):
        ended = run("tail", "numbers", "-e", "--output", tmp_path / name)

        written = (tmp_path / name).read_bytes()
        if name.endswith(".zst"):
            written = zstandard.ZstdDecompressor().stream_reader(written).read()
        assert ended.stdout == b""
        assert [int(line) for line in written.splitlines()] == list(range(30))

    def test_what_tail_writes_put_reads(self, run, tmp_path):
        run("tail", "numbers", "-e", "--output", tmp_path / "out.zst")
        run("put", "copy", tmp_path / "out.zst")

        assert values(run("tail", "copy", "-e")) == list(range(30))

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["-o", "7"], "belongs to one shard, and `numbers` has 3: add --shard or use @TIME"),
            (["-o", "middle"], "`middle` is not beginning, end, -N, @TIME or a sequence number"),
            (["-o", "@noon"], "is not a time"),
            (
                ["--shard", "shardId-7"],
                "`numbers` has no shard `shardId-7`, use one of shardId-000000000000",
            ),
            (["-f", "%x"], "`%x` is unknown in a format"),
            (["-f", "%"], "`%` is unknown in a format"),
            (["-n", "0"], "--count"),
            (["--output", "out.bz2"], "`out.bz2` cannot be compressed that way"),
            (["--json", "-f", "%s"], "use --json or --format, not both"),
        ],
    )
    def test_a_wrong_option_is_usage_and_says_what_is_right(self, options, said, run):
        ended = run("tail", "numbers", "-e", *options)

        assert ended.code == 2
        assert said in ended.stderr


def test_a_file_is_not_touched_when_there_is_nothing_to_read(run, log, tmp_path):
    log.create_stream("empty")
    (tmp_path / "out").write_text("precious")

    assert run("tail", "none", "-e", "--output", tmp_path / "out").code == 1
    assert run("tail", "empty", "-e", "-o", "middle", "--output", tmp_path / "out").code == 2
    assert (tmp_path / "out").read_text() == "precious"


def test_a_stream_without_records_ends_at_once(run, log):
    log.create_stream("empty", shards=2)

    assert run("tail", "empty", "-e").stdout == b""
    assert run("tail", "empty", "-e", "-o", "-3").stdout == b""


def test_a_gap_in_the_numbers_does_not_shorten_the_last_records(run, log_dir):
    """Each opening of a log reserves numbers that a closed one may leave unused."""
    for n in range(12):
        with Log.open(log_dir) as log:
            log.create_stream("gaps", exist_ok=True).put(b"%d" % n)

    assert values(run("tail", "gaps", "-e", "-o", "-10")) == list(range(2, 12))
