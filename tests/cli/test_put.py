"""Tests for `streamfn put`."""

import pytest
import zstandard

from streamfn import Log


@pytest.fixture
def contents(log_dir):
    """The records of a stream as (key, payload), shard after shard."""

    def contents(stream):
        with Log.open(log_dir, create=False) as log:
            batches = log.stream(stream).read()
            return [(record.partition_key, record.data) for batch in batches for record in batch]

    return contents


class TestPut:
    """Tests for what goes in."""

    def test_lines_of_json_become_records_with_their_keys(self, run, contents):
        ended = run("put", "clicks", "--key", "user", input=b'{"user":"a","n":1}\n{"user":"b"}\n')

        assert ended.code == 0
        assert contents("clicks") == [("a", b'{"user":"a","n":1}'), ("b", b'{"user":"b"}')]

    def test_a_new_stream_is_announced_and_nothing_goes_to_stdout(self, run):
        ended = run("put", "clicks", "--shards", "4", input=b"1\n2\n")

        said = "created stream `clicks` with 4 shards, durability group\n"
        assert ended.stderr == f"{said}put 2 records into `clicks`\n"
        assert ended.stdout == b""
        assert run("put", "clicks", input=b"3\n").stderr == "put 1 record into `clicks`\n"

    def test_quiet_says_nothing(self, run):
        assert run("put", "clicks", "-q", input=b"1\n").stderr == ""

    def test_blank_lines_and_line_ends_of_windows_are_no_matter(self, run, contents):
        run("put", "clicks", input=b'\n{"a":1}\r\n\n  \n[2]\n"last"')

        assert contents("clicks") == [(None, b'{"a":1}'), (None, b"[2]"), (None, b'"last"')]

    def test_a_number_may_be_a_key(self, run, contents):
        run("put", "clicks", "--key", "id", input=b'{"id":7}\n{"id":1.5}\n{"id":true}\n')

        assert [key for key, _ in contents("clicks")] == ["7", "1.5", "true"]

    def test_plain_lines_go_in_as_they_are(self, run, contents):
        run("put", "logs", "--format", "lines", input=b"one\n\n two \r\n\xff\n")

        assert [data for _, data in contents("logs")] == [b"one", b"", b" two ", b"\xff"]

    def test_a_row_of_csv_becomes_an_object(self, run, contents):
        rows = 'user,text\na,"two\nlines, ""quoted"""\n\nb,é\n'.encode("utf-8-sig")

        ended = run("put", "rows", "--format", "csv", "--key", "user", input=rows)

        assert ended.code == 0
        assert contents("rows") == [
            ("a", b'{"user":"a","text":"two\\nlines, \\"quoted\\""}'),
            ("b", '{"user":"b","text":"é"}'.encode()),
        ]

    def test_a_compressed_file_is_read(self, run, contents, tmp_path):
        (tmp_path / "events.ndjson.zst").write_bytes(zstandard.compress(b'{"n":1}\n' * 3))

        assert run("put", "clicks", tmp_path / "events.ndjson.zst").code == 0
        assert len(contents("clicks")) == 3

    def test_many_records_keep_their_order_per_key(self, run, contents):
        lines = b"".join(b'{"k":"%d","n":%d}\n' % (n % 7, n) for n in range(50_000))

        run("put", "clicks", "--key", "k", "--shards", "3", input=lines)

        found = contents("clicks")
        assert len(found) == 50_000
        for key in "0123456":
            mine = [data for k, data in found if k == key]
            assert mine == [b'{"k":"%s","n":%d}' % (key.encode(), n) for n in
                            range(int(key), 50_000, 7)]  # fmt: skip

    def test_durability_is_that_of_a_new_stream(self, run, log_dir):
        run("put", "quick", "--durability", "process", input=b"1\n")

        with Log.open(log_dir) as log:
            assert log.stream("quick").info().durability == "process"

    def test_nothing_to_put_is_fine(self, run):
        assert run("put", "clicks", input=b"").code == 0


class TestRefusals:
    """A line that cannot be put ends the command; the lines before it are in."""

    @pytest.mark.parametrize(
        ("options", "text", "said"),
        [
            ([], b"1\n2\nnot json\n4\n", "line 3 of standard input is not JSON"),
            ([], b"1\n2\n\xff\n4\n", "line 3 of standard input is not JSON"),
            (["--key", "k"], b'{"k":"1"}\n{"k":"2"}\n{"j":1}\n', "line 3 of standard input has no"),
            (["--key", "k"], b'{"k":"1"}\n{"k":"2"}\n[1]\n', "has no field `k`"),
            (["--key", "k"], b'{"k":"1"}\n{"k":"2"}\n{"k":null}\n', "is null, which cannot be"),
            (["--key", "k"], b'{"k":"1"}\n{"k":"2"}\n{"k":""}\n', "is an empty string, which"),
            (["--key", "k"], b'{"k":"1"}\n{"k":"2"}\n{"k":[]}\n', "is list, which cannot be"),
            (["--format", "csv"], b"a,b\n1,2\n3,4\n5\n", "line 4 of standard input has 1 fields"),
            (["--format", "csv"], b'a\n1\n2\n"x" y\n', "line 4 of standard input is not CSV"),
            (["--format", "csv"], b"a\n1\n2\n\xff\n", "line 4 of standard input is not UTF-8"),
        ],
    )
    def test_a_bad_line_is_named_and_the_lines_before_it_are_in(
        self, options, text, said, run, contents
    ):
        ended = run("put", "clicks", *options, input=text)

        assert ended.code == 1
        [*_, last] = ended.stderr.splitlines()
        assert said in last
        assert "the lines before it are in" in last
        assert len(contents("clicks")) == 2

    def test_so_is_a_record_over_the_limit(self, run, contents):
        big = b'"' + b"x" * (10 * 2**20) + b'"\n'

        ended = run("put", "clicks", input=b"1\n2\n" + big + b"4\n")

        assert ended.code == 1
        assert "line 3 of standard input is too large" in ended.stderr
        assert "the limit is 10,485,760" in ended.stderr
        assert [data for _, data in contents("clicks")] == [b"1", b"2"]

    def test_so_is_a_key_over_the_limit(self, run, contents):
        line = b'{"k":"%s"}\n'

        ended = run("put", "clicks", "--key", "k", input=line % b"a" + line % (b"x" * 257))

        assert ended.code == 1
        assert "line 2 of standard input is too large: 257" in ended.stderr
        assert len(contents("clicks")) == 1

    def test_a_stream_that_is_there_keeps_its_properties(self, run):
        run("put", "clicks", "--shards", "2", input=b"1\n")

        assert run("put", "clicks", "--shards", "2", input=b"1\n").code == 0
        ended = run("put", "clicks", "--shards", "3", input=b"1\n")
        assert ended.code == 78
        assert "is there already, with --shards 2 and not 3 (hint: leave --shards out)" in (
            ended.stderr
        )

    def test_plain_lines_have_no_keys(self, run):
        assert run("put", "clicks", "--format", "lines", "--key", "user").code == 2

    def test_a_file_that_is_not_there(self, run, tmp_path):
        ended = run("put", "clicks", tmp_path / "none.ndjson")

        assert ended.code == 1
        assert "none.ndjson: No such file or directory" in ended.stderr
