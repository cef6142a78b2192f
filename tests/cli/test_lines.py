"""Tests for `streamfn.cli.lines`."""

import gzip
import io
from types import SimpleNamespace

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfn.cli.exits import CommandError
from streamfn.cli.lines import GZIP, Decompressed, Lines, open_lines


class Chunked:
    """Bytes that come in the chunks given."""

    def __init__(self, chunks):
        self.chunks = list(chunks)

    def read1(self, size):
        return self.chunks.pop(0) if self.chunks else b""


class TestLines:
    """Tests for `Lines`."""

    @given(st.lists(st.binary(min_size=1, max_size=8).map(lambda b: b.replace(b"b", b"\n"))))
    def test_lines_are_the_same_however_the_bytes_come(self, chunks):
        whole = b"".join(chunks)
        expected = whole.split(b"\n")
        expected = expected[:-1] if expected[-1] == b"" else expected

        lines = Lines(Chunked(chunks), "x")
        assert expected == list(lines)
        assert lines.number == len(expected)

    def test_it_says_when_the_next_line_may_have_to_be_waited_for(self):
        lines = Lines(Chunked([b"1\n2\n3", b"3\n"]), "x")

        assert [(b"1", False), (b"2", True), (b"33", True)] == [
            (x, lines.next_may_block) for x in lines
        ]

    def test_a_line_that_never_ends_does_not_fill_the_memory(self):
        lines = Lines(Chunked(b"x" * 2**20 for _ in range(100)), "`big`")

        with pytest.raises(CommandError, match="line 1 of `big` is longer than a record may be"):
            list(lines)


class TestOpened:
    """Tests for `open_lines`."""

    @pytest.mark.parametrize("compress", [zstandard.compress, gzip.compress])
    def test_it_is_known_by_its_first_bytes_however_they_come(self, compress, monkeypatch):
        chunks = [bytes([byte]) for byte in compress(b"1\n2\n")]
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Chunked(chunks)))

        with open_lines("-") as (lines, _):
            assert list(lines) == [b"1", b"2"]

    def test_what_is_at_hand_is_not_kept_back_to_find_out_more(self, monkeypatch):
        chunked = Chunked([b"1\n", b"2\n"])
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=chunked))

        with open_lines("-") as (lines, _):
            assert next(iter(lines)) == b"1"
            assert chunked.chunks == [b"2\n"]

    @pytest.mark.parametrize("name", ["events.zst", "events"])
    def test_a_zst_is_known_by_its_name_or_its_first_bytes(self, name, tmp_path):
        (tmp_path / name).write_bytes(zstandard.compress(b"1\n2\n"))

        with open_lines(str(tmp_path / name)) as (lines, _):
            assert list(lines) == [b"1", b"2"]

    def test_a_zst_of_several_frames_is_read_to_its_end(self, tmp_path):
        """Files that were joined with `cat`."""
        frames = zstandard.compress(b"1\n2") + zstandard.compress(b"2\n3\n")
        (tmp_path / "events.zst").write_bytes(frames)

        with open_lines(str(tmp_path / "events.zst")) as (lines, _):
            assert list(lines) == [b"1", b"22", b"3"]

    def test_a_zst_from_standard_input_is_known_too(self, monkeypatch):
        compressed = io.BufferedReader(io.BytesIO(zstandard.compress(b"1\n")))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(compressed))

        with open_lines("-") as (lines, _):
            assert list(lines) == [b"1"]

    @given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 9))
    def test_frames_of_any_size_come_out_whole(self, sizes, step):
        text = b"".join(b"%d\n" % n * 10**n for n in sizes)
        frames = b"".join(zstandard.compress(b"%d\n" % n * 10**n) for n in sizes)
        chunks = [frames[at : at + step * 7] for at in range(0, len(frames), step * 7)]

        source = Decompressed(Chunked(chunks), "x")
        assert b"".join(iter(lambda: source.read1(1000), b"")) == text

    @settings(deadline=None)  # 10**5 lines
    @given(st.lists(st.integers(0, 4), max_size=6), st.integers(1, 9), st.integers(0, 40))
    def test_members_of_gzip_of_any_size_come_out_whole(self, sizes, step, padding):
        text = b"".join(b"%d\n" % n * 10**n for n in sizes)
        members = b"".join(gzip.compress(b"%d\n" % n * 10**n, mtime=0) for n in sizes)
        members += bytes(padding if sizes else 0)
        chunks = [members[at : at + step * 7] for at in range(0, len(members), step * 7)]

        source = Decompressed(Chunked(chunks), "x", GZIP)
        assert b"".join(iter(lambda: source.read1(1000), b"")) == text

    def test_a_zst_that_is_damaged_is_an_error_with_its_name(self, tmp_path):
        (tmp_path / "events.zst").write_bytes(b"not zstd at all")

        with (
            pytest.raises(CommandError, match=r"events\.zst` is not a valid zstd file"),
            open_lines(str(tmp_path / "events.zst")) as (lines, _),
        ):
            list(lines)

    def test_a_zst_that_was_cut_off_is_an_error_too(self, tmp_path):
        whole = zstandard.compress(bytes(range(256)) * 4096)
        (tmp_path / "events.zst").write_bytes(whole[: len(whole) // 2])

        with (
            pytest.raises(CommandError, match="is not a valid zstd file"),
            open_lines(str(tmp_path / "events.zst")) as (lines, _),
        ):
            list(lines)
