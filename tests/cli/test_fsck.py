"""`streamfn fsck`: what a person and a program read of it, and how it ends."""

import json
import shutil
from pathlib import Path

import pytest

from streamfn import Log
from streamfn.cli.exits import Exit
from streamfn.cli.main import run

SHARD = "streams/orders/shardId-000000000000"
HEADER = 4096


@pytest.fixture
def folder(tmp_path):
    """A log that was closed, with ten batches of one record."""
    path = tmp_path / "log"
    with Log.open(path) as log:
        stream = log.create_stream("orders", compression="none")
        for number in range(10):
            stream.put(b"x" * 104, f"key-{number}")
    return path


def segment_of(folder):
    [path] = (folder / SHARD).glob("*.seg")
    return path


def spoil(path, position):
    """Change one byte."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))


def batch_size(folder):
    return (segment_of(folder).stat().st_size - HEADER) // 10


def test_a_sound_log_ends_with_0_and_says_so(folder, capsys):
    assert run(["fsck", str(folder)]) == 0

    out, err = capsys.readouterr()
    assert out == ""
    assert "10 record batches" in err
    assert "no damage found" in err


def test_one_batch_is_one(log_dir, capsys):
    with Log.open(log_dir) as log:
        log.create_stream("orders").put(b"x")

    assert run(["fsck", str(log_dir)]) == 0
    assert ", 1 segment, 1 record batch, " in capsys.readouterr().err


def test_damage_ends_with_5_and_is_told_with_file_byte_and_numbers(folder, capsys):
    size = batch_size(folder)
    spoil(segment_of(folder), HEADER + 3 * size + 20)

    assert run(["fsck", str(folder)]) == 5

    out, err = capsys.readouterr()
    place = f"{SHARD}/{segment_of(folder).name}, byte {HEADER + 3 * size}, sequence numbers 3 to 3"
    assert f"damage: batch-damaged: {place}" in out
    assert "1 damaged" in err


def test_a_flipped_body_is_found_by_a_deep_look_only(folder):
    spoil(segment_of(folder), HEADER + 3 * batch_size(folder) + 200)

    assert run(["fsck", str(folder)]) == 0
    assert run(["fsck", "--deep", str(folder)]) == 5


def test_json_is_one_array_of_objects(folder, capsysbinary):
    size = batch_size(folder)
    spoil(segment_of(folder), HEADER + 3 * size + 20)
    (folder / "notes.txt").write_text("mine")

    assert run(["fsck", "--json", str(folder)]) == 5

    note, damage = json.loads(capsysbinary.readouterr().out)
    assert note["code"] == "foreign-file"
    assert note["path"] == str(folder / "notes.txt")
    assert damage | {"what": "", "meaning": "", "action": ""} == {
        "code": "batch-damaged",
        "severity": "damage",
        "stream": "orders",
        "shard_id": "shardId-000000000000",
        "path": str(segment_of(folder)),
        "position": HEADER + 3 * size,
        "first": 3,
        "last": 3,
        "what": "",
        "meaning": "",
        "action": "",
        "repaired": None,
    }


def test_a_log_in_use_is_examined_up_to_what_readers_see(folder, capsys):
    with Log.open(folder) as log:
        log.stream("orders").put(b"one more", "key")

        assert run(["fsck", str(folder)]) == 0

        assert "in-use" in capsys.readouterr().out
        spoil(segment_of(folder), HEADER + 3 * batch_size(folder) + 20)
        assert run(["fsck", str(folder)]) == 5


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_that_is_no_log_is_refused(name, tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    assert run(["fsck", str(tmp_path / name)]) == 78

    assert "error: " in capsys.readouterr().err


class TestRepair:
    """Tests for `--repair`."""

    def test_what_can_be_derived_is_put_right_and_ends_with_0(self, folder, capsys):
        spoil(folder / "streams/orders/manifest.json", 30)

        assert run(["fsck", "--repair", str(folder)]) == 0

        assert "repaired: written anew from the segment headers" in capsys.readouterr().out
        assert run(["fsck", str(folder)]) == 0
        with Log.open(folder) as log:
            assert sum(len(batch) for batch in log.stream("orders").read()) == 10

    def test_a_loss_ends_with_5_once_and_is_known_from_then_on(self, folder, capsysbinary):
        spoil(segment_of(folder), HEADER + 3 * batch_size(folder) + 20)

        assert run(["fsck", "--repair", "--json", str(folder)]) == 5

        [damage] = json.loads(capsysbinary.readouterr().out)
        assert (damage["first"], damage["last"]) == (3, 3)
        assert "holes" in damage["repaired"]
        assert run(["fsck", "--json", str(folder)]) == 0
        [note] = json.loads(capsysbinary.readouterr().out)
        assert (note["code"], note["first"], note["last"]) == ("hole-accepted", 3, 3)

    def test_the_original_is_kept(self, folder):
        manifest = folder / "streams/orders/manifest.json"
        spoil(manifest, 30)
        damaged = manifest.read_bytes()

        run(["fsck", "--repair", str(folder)])

        kept = [path.read_bytes() for path in (folder / "quarantine").iterdir()]
        assert kept == [damaged]

    def test_a_log_in_use_is_not_repaired(self, folder, capsys):
        spoil(segment_of(folder), HEADER + 3 * batch_size(folder) + 20)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        with Log.open(folder):
            assert run(["fsck", "--repair", str(folder)]) == 75

            assert "held by" in capsys.readouterr().err
        assert {path for path in folder.rglob("*") if path.is_file()} == set(before)

    def test_a_second_repair_changes_nothing(self, folder):
        spoil(folder / "FORMAT", 20)
        assert run(["fsck", "--repair", str(folder)]) == 0

        def files():
            found = [path for path in folder.rglob("*") if path.is_file()]
            return {path: path.read_bytes() for path in found if path.name != "control"}

        before = files()

        assert run(["fsck", "--repair", str(folder)]) == 0

        assert before == files()


WINDOWED = Path(__file__).parents[1] / "formats" / "v1-windowed" / "log"
WINDOW = "mappings/golden.windowed/counted/shardId-000000000000.window"


@pytest.fixture
def windowed(tmp_path):
    """A log with a function that has tumbling windows; one is open."""
    return shutil.copytree(WINDOWED, tmp_path / "windowed")


def test_a_function_with_windows_is_sound(windowed, capsys):
    assert run(["fsck", str(windowed), "--json"]) == 0

    assert not [line for line in capsys.readouterr().out.splitlines() if "window" in line]


def test_one_damaged_window_file_is_a_note(windowed, capsys):
    spoil(windowed / f"{WINDOW}.b", 40)

    assert run(["fsck", str(windowed)]) == 0

    assert "note: window-file-damaged: " in capsys.readouterr().out


def test_two_damaged_window_files_are_damage(windowed, capsys):
    for file in ("a", "b"):
        spoil(windowed / f"{WINDOW}.{file}", 40)

    assert run(["fsck", str(windowed)]) == 5

    assert "damage: windows-damaged: " in capsys.readouterr().out


def test_without_a_folder_it_takes_the_log_that_every_command_takes(folder, capsys, monkeypatch):
    assert run(["fsck", "--log-dir", str(folder)]) == 0
    monkeypatch.setenv("STREAMFN_LOG_DIR", str(folder))
    assert run(["fsck"]) == 0
    monkeypatch.delenv("STREAMFN_LOG_DIR")
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / ".streamfn")
    assert run(["fsck"]) == 0

    assert capsys.readouterr().err.count("10 record batches") == 3


def test_a_folder_that_is_given_counts_before_the_environment(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMFN_LOG_DIR", str(tmp_path / "none"))

    assert run(["fsck", str(folder)]) == 0


def test_a_folder_and_a_log_dir_are_one_too_many(folder, capsys):
    assert run(["fsck", str(folder), "--log-dir", str(folder)]) == Exit.USAGE

    assert "give DIR or --log-dir, not both" in capsys.readouterr().err
