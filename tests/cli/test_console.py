"""Tests for `streamfn.cli.console`: tables that fit the terminal."""

import re

import pytest

from streamfn.cli.console import write_listing

LETTER = {
    "id": "shardId-000000000001:2",
    "key": "user-7@example.org",
    "error": "ValueError: the quantity of this movement is below zero, which cannot be",
    "attempts": 12,
    "failed": "2026-11-23T22:08:39.768423Z",
}
COLUMNS = {"id": "ID", "key": "KEY~", "error": "ERROR~", "attempts": "ATTEMPTS>",
           "failed": "LAST FAILED@"}  # fmt: skip


@pytest.fixture
def table(monkeypatch, capfdbinary):
    """Lines of a table on a terminal that is so wide."""

    def table(width, columns=COLUMNS, row=LETTER):
        for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(width)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_COLOR", raising=False)
        write_listing([row], columns, as_json=False, none="")
        printed = re.sub(r"\x1b\[[0-9;]*m", "", capfdbinary.readouterr().out.decode())
        return [line.rstrip() for line in printed.splitlines()]

    return table


class TestTables:
    """Tests for `write_listing` at a terminal."""

    def test_where_there_is_room_a_row_is_a_line_and_a_time_goes_to_the_second(self, table):
        head, row = table(160)

        assert re.split("  +", head) == ["ID", "KEY", "ERROR", "ATTEMPTS", "LAST FAILED"]
        assert row.endswith("12  2026-11-23 22:08:39Z")
        assert LETTER["error"] in row

    def test_at_80_columns_it_fits_and_what_is_copied_stays_whole(self, table):
        lines = table(80)

        assert max(map(len, lines)) <= 80
        assert lines[0].split() == ["LAST"]
        assert lines[1].split() == ["ID", "KEY", "ERROR", "ATTEMPTS", "FAILED"]
        assert lines[2].startswith("shardId-000000000001:2  ")
        assert (lines[2][-10:], lines[3][-9:]) == ("2026-11-23", "22:08:39Z")

    def test_titles_are_broken_before_times_and_times_before_the_rest(self, table):
        row = {"name": "n" * 30, "time": LETTER["failed"], "count": 1}
        columns = {"name": "NAME~", "time": "TIME@", "count": "DEAD LETTERS>"}

        assert len(table(66, columns, row)) == 2
        assert table(65, columns, row)[2].split() == ["n" * 30, "2026-11-23", "22:08:39Z", "1"]
        assert table(60, columns, row)[2].split() == ["n" * 30, "2026-11-23", "1"]
        assert table(45, columns, row)[2].split() == ["n" * 24, "2026-11-23", "1"]

    def test_on_a_terminal_that_is_too_narrow_for_it_nothing_is_lost(self, table):
        lines = table(40)

        assert max(map(len, lines)) <= 40
        letters = sorted("".join(lines).replace(" ", ""))
        shown = "ID KEY ERROR ATTEMPTS LAST FAILED 12 2026-11-23 22:08:39Z"
        wanted = "".join([LETTER["id"], LETTER["key"], LETTER["error"], shown]).replace(" ", "")
        assert letters == sorted(wanted)
