"""Tests for `streamfn put`."""

import bz2
import gzip
import lzma
from functools import partial

import pytest
import zstandard

from streamfn import Log
from streamfn.errors import StreamNotFound

BOM = b"\xef\xbb\xbf"
zipped = partial(gzip.compress, mtime=0)  # the same bytes, and names of tests, each time


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

    @pytest.mark.parametrize(
        "text",
        [
            BOM + b'{"n":1}\n{"n":2}\n',
            BOM + b'\n{"n":1}\n{"n":2}',
            b'{"n":1}\n' + BOM + b'{"n":2}\n',
            BOM + b' {"n":1}\r\n' + BOM + b'{"n":2}\r\n' + BOM,
        ],
    )
    def test_a_byte_order_mark_before_json_is_no_part_of_it(self, text, run, contents):
        """Editors put one at the beginning of a file; files that were joined have several."""
        assert run("put", "clicks", input=text).code == 0
        assert [data for _, data in contents("clicks")] == [b'{"n":1}', b'{"n":2}']

    @pytest.mark.parametrize("name", ["events.ndjson.gz", "events"])
    def test_a_gzip_file_is_read(self, name, run, contents, tmp_path):
        """It may have several members, as `cat a.gz b.gz` and log rotation make them."""
        members = zipped(b'{"n":1}\n{"n"') + zipped(b":2}\n")
        (tmp_path / name).write_bytes(members)

        assert run("put", "clicks", tmp_path / name).code == 0
        assert run("put", "clicks", input=members).code == 0
        assert [data for _, data in contents("clicks")] == [b'{"n":1}', b'{"n":2}'] * 2

    def test_what_tail_compressed_is_read(self, run, contents, tmp_path):
        run("put", "clicks", input=b"1\n2\n")

        assert run("tail", "clicks", "-e", "--output", tmp_path / "out.gz").code == 0
        assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == b"1\n2\n"
        assert run("put", "copy", tmp_path / "out.gz").code == 0
        assert contents("copy") == contents("clicks")

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

    @pytest.mark.parametrize("text", [b"", b"\n\n", BOM])
    def test_a_stream_for_nothing_is_created_as_asked(self, text, run, contents):
        """An empty file is a valid one: who reads the stream next finds it."""
        ended = run("put", "clicks", "--shards", "2", input=text)

        said = "created stream `clicks` with 2 shards, durability group\n"
        assert (ended.code, ended.stderr) == (0, f"{said}put 0 records into `clicks`\n")
        assert contents("clicks") == []


class TestRefusals:
    """A line that cannot be put ends the command; the lines before it were put."""

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
            (["--format", "csv"], b"a,b\n1,2\n3,4\n5\n", "line 4 of standard input has 1 field,"),
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
        assert "the lines before it were put" in last
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

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ([], b"no json\n"),
            ([], b"\n\nno json\n1\n"),
            (["--key", "k"], b'{"j":1}\n'),
            (["--key", "k"], b'{"k":"%s"}\n' % (b"x" * 257)),
            ([], b'"' + b"x" * (10 * 2**20) + b'"\n'),
            (["--format", "lines"], b"x" * (10 * 2**20 + 1)),
            (["--format", "csv"], b"a,b\n1\n"),
            (["--format", "csv"], b"a,a\n1,2\n"),
            ([], zipped(b"1\n")[:9]),
            ([], bz2.compress(b"1\n")),
        ],
    )
    def test_a_first_line_that_cannot_be_put_leaves_nothing_behind(
        self, options, text, run, log_dir
    ):
        """Neither a stream nor, where there was none, a log."""
        ended = run("put", "clicks", *options, input=text)

        assert ended.code == 1
        assert ended.stderr.count("\n") == 1
        assert not log_dir.exists()

        run("put", "other", input=b"1\n")
        assert run("put", "clicks", *options, input=text).code == 1
        with Log.open(log_dir) as log, pytest.raises(StreamNotFound):
            log.stream("clicks")

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            (b"a,b,a", "two columns named `a`"),
            (b"a,,", "two columns named ``"),
            (b"x,x,y,y", "two columns named `x`"),
        ],
    )
    def test_a_csv_file_with_two_columns_of_one_name(self, header, said, run):
        ended = run("put", "rows", "--format", "csv", input=header + b"\n1,2,3\n")

        assert ended.code == 1
        assert f"line 1 of standard input has {said}" in ended.stderr
        assert "give each column a unique name" in ended.stderr

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("e.gz", zipped(b'{"n":1}\n' * 9)[:-4], "is not a valid gzip file (it ends too"),
            ("e.gz", zipped(b"1\n") + zipped(b"2\n")[:9], "it ends too early"),
            ("e.gz", b"1\n2\n", "e.gz` is not a valid gzip file ("),
            ("e", bytes([*zipped(b"1\n")[:-8], *range(8)]), "is not a valid gzip file ("),
            ("e.bz2", bz2.compress(b"1\n"), "is a bzip2 file"),
            ("e", bz2.compress(b"1\n"), "(hint: `bzcat "),
            ("e.xz", lzma.compress(b"1\n"), "(hint: `xzcat "),
            ("e.zip", b"PK\x03\x04" + bytes(26), "(hint: `unzip -p "),
            ("e", "1\n2\n".encode("utf-16"), "line 1 of `"),
            ("e", "1\n2\n".encode("utf-16"), "is not JSON (it is UTF-16) (hint: convert it"),
            ("e", b'{"a":"\xe9"}\n', "line 1 of `"),
            ("e", b'{"a":"\xe9"}\n', "is not JSON (it is not UTF-8)"),
        ],
    )
    def test_a_file_of_another_kind_is_told_with_what_helps(
        self, name, content, said, run, tmp_path
    ):
        (tmp_path / name).write_bytes(content)

        ended = run("put", "clicks", tmp_path / name)
        assert ended.code == 1
        assert said in ended.stderr.splitlines()[-1]

    def test_plain_lines_that_begin_like_a_compressed_file_are_lines(self, run, contents):
        run("put", "logs", "--format", "lines", input=b"BZhello\nPK\n")

        assert [data for _, data in contents("logs")] == [b"BZhello", b"PK"]

    def test_a_stream_that_is_there_keeps_its_properties(self, run):
        run("put", "clicks", "--shards", "2", input=b"1\n")

        assert run("put", "clicks", "--shards", "2", input=b"1\n").code == 0
        ended = run("put", "clicks", "--shards", "3", input=b"1\n")
        assert ended.code == 78
        assert "exists already, with --shards 2 and not 3 (hint: omit --shards)" in (ended.stderr)

    def test_plain_lines_have_no_keys(self, run):
        assert run("put", "clicks", "--format", "lines", "--key", "user").code == 2

    def test_a_file_that_is_not_there(self, run, tmp_path):
        ended = run("put", "clicks", tmp_path / "none.ndjson")

        assert ended.code == 1
        assert "none.ndjson: No such file or directory" in ended.stderr


class TestDirtyFiles:
    """Tests for `--skip-bad`, `--from-line` and keys inside objects."""

    BAD = b'1\nbad\n"' + b"x" * (10 * 2**20) + b'"\n' + b"y" * (12 * 2**20) + b"\n2\n\xff\n3"

    def test_bad_lines_are_skipped_told_and_counted(self, run, contents):
        """Also a record over the limit, and a line that no record could hold."""
        ended = run("put", "clicks", "--skip-bad", input=self.BAD)

        assert ended.code == 0
        assert [data for _, data in contents("clicks")] == [b"1", b"2", b"3"]
        skipped = [line for line in ended.stderr.splitlines() if line.startswith("skipped: ")]
        assert [line.split(" of ")[0] for line in skipped] == [
            f"skipped: line {number}" for number in (2, 3, 4, 6)
        ]
        assert "put 3 records into `clicks`\nskipped 4 bad lines of standard input\n" in (
            ended.stderr
        )

    def test_only_the_first_ones_are_told_one_by_one(self, run):
        ended = run("put", "clicks", "--skip-bad", input=b"bad\n" * 21 + b"1\n")

        assert ended.stderr.count("skipped: ") == 20
        assert "skipped 21 bad lines of standard input" in ended.stderr
        assert run("put", "clicks", "--skip-bad", "-v", input=b"bad\n" * 21).stderr.count(
            "skipped: "
        ) == 21  # fmt: skip

    def test_bad_rows_of_csv_are_skipped(self, run, contents):
        rows = b'a,b\n1,2\n3\n\xff,4\n"x" y,5\n"two\nlines",6\n'

        ended = run("put", "rows", "--format", "csv", "--skip-bad", input=rows)

        assert ended.code == 0
        assert [data for _, data in contents("rows")] == [
            b'{"a":"1","b":"2"}', b'{"a":"two\\nlines","b":"6"}'
        ]  # fmt: skip
        assert "skipped 3 bad lines" in ended.stderr

    def test_a_stopped_put_names_the_line_to_go_on_from_and_nothing_comes_twice(
        self, run, contents
    ):
        ended = run("put", "clicks", input=b"1\n2\nbad\n4\n")
        assert "go on there with --from-line 3" in ended.stderr

        assert run("put", "clicks", "--from-line", 3, input=b"1\n2\n3\n4\n").code == 0
        assert [data for _, data in contents("clicks")] == [b"1", b"2", b"3", b"4"]

    def test_a_csv_file_keeps_its_header(self, run, contents):
        rows = b'a\n"x\ny"\n1,2\n3\n'
        ended = run("put", "rows", "--format", "csv", input=rows)
        assert "go on there with --from-line 4" in ended.stderr

        run("put", "rows", "--format", "csv", "--from-line", 5, input=rows)
        assert [data for _, data in contents("rows")] == [b'{"a":"x\\ny"}', b'{"a":"3"}']

    def test_a_line_behind_the_end_is_an_error_and_the_end_is_not(self, run):
        assert run("put", "clicks", "--from-line", 3, input=b"1\n2\n").code == 0
        ended = run("put", "clicks", "--from-line", 4, input=b"1\n2\n")
        assert (ended.code, "has 2 lines, there is no line 4" in ended.stderr) == (1, True)

    def test_a_call_that_fails_says_which_lines_are_in_doubt(self, run, contents, monkeypatch):
        from streamfn import LogFull, Stream

        run("put", "clicks", input=b"1\n")
        put_many, calls = Stream.put_many, []

        def full_at_the_second_call(stream, data, keys):
            calls.append(len(data))
            if len(calls) == 2:
                raise LogFull("a")
            return put_many(stream, data, keys)

        monkeypatch.setattr(Stream, "put_many", full_at_the_second_call)
        ended = run("put", "clicks", input=b"7\n" * 15_000)

        assert ended.code == 75
        assert f"the lines before {calls[0] + 1} were put, some of the lines" in ended.stderr
        assert f"--from-line {calls[0] + 1} goes on there" in ended.stderr
        assert len(contents("clicks")) == 1 + calls[0]

    def test_a_key_may_be_inside_an_object(self, run, contents):
        run("put", "clicks", "--key", "user.id", input=b'{"user":{"id":7}}\n{"user.id":"x"}\n')

        assert [key for key, _ in contents("clicks")] == ["7", "x"]

    def test_a_field_whose_name_has_a_dot_comes_first(self, run, contents):
        run("put", "clicks", "--key", "a.b", input=b'{"a":{"b":1},"a.b":"exact"}\n')

        assert [key for key, _ in contents("clicks")] == ["exact"]

    @pytest.mark.parametrize("line", [b'{"user":3}', b'{"user":{}}', b'{"user":[{"id":1}]}'])
    def test_an_object_without_it(self, line, run):
        ended = run("put", "clicks", "--key", "user.id", input=line)

        assert (ended.code, "has no field `user.id`" in ended.stderr) == (1, True)
