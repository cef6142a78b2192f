"""Files that change, told once they have stopped changing."""

import pytest

from streamfn.app.fingerprint import digest_of
from streamfn.worker.supervisor.file_watch import LOOK_EVERY, FileWatch


class Watched:
    def __init__(self, folder):
        self.path, self.now, self.changes = folder / "app.py", 0.0, 0
        self.path.write_text("1")
        self.imported = digest_of(str(self.path))
        self.watch = FileWatch(lambda: {str(self.path): self.imported}, self.changed)

    def changed(self):
        self.changes += 1

    def look(self):
        self.now += LOOK_EVERY.total_seconds()
        self.watch.look(self.now)
        return self.changes


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


class TestFileWatch:
    """Tests for `FileWatch`."""

    def test_the_first_look_is_no_change(self, watched):
        assert [watched.look() for _ in range(3)] == [0, 0, 0]

    def test_a_change_between_the_import_and_the_first_look_is_told(self, watched):
        watched.path.write_text("2")
        assert [watched.look() for _ in range(3)] == [0, 1, 1]

    def test_of_a_file_that_was_not_imported_only_later_changes_count(self, watched):
        watched.imported = ""
        watched.path.write_text("2")
        assert [watched.look() for _ in range(3)] == [0, 0, 0]

    def test_a_change_is_told_once_when_the_file_is_at_rest(self, watched):
        watched.look()
        watched.path.write_text("22")
        assert watched.look() == 0
        watched.path.write_text("333")
        assert watched.look() == 0
        assert [watched.look() for _ in range(3)] == [1, 1, 1]

    def test_a_file_that_goes_and_comes_back_has_changed_once(self, watched):
        watched.look()
        watched.path.unlink()
        watched.look()
        watched.path.write_text("22")
        watched.look()
        assert [watched.look() for _ in range(2)] == [1, 1]

    def test_between_looks_nothing_is_read(self, watched):
        watched.look()
        watched.path.write_text("22")
        watched.watch.look(watched.now + LOOK_EVERY.total_seconds() / 2)
        watched.watch.look(watched.now + LOOK_EVERY.total_seconds() / 2)
        assert watched.changes == 0
