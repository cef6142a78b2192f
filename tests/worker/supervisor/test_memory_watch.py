"""Tests for `supervisor.memory_watch`: what counts as memory of a process, and who is killed."""

import subprocess
import sys

import pytest

from streamfn.worker.supervisor.memory_watch import (
    LOOK_EVERY,
    PAGE,
    MemoryReader,
    MemoryWatch,
    private_bytes,
    reader_of,
)

MIB = 2**20
EVERY = LOOK_EVERY.total_seconds()


class TestPrivateBytes:
    """Tests for `private_bytes`."""

    @pytest.mark.parametrize(
        ("statm", "pages"),
        [
            (b"3000 1200 200 700 0 900 0\n", 1000),
            (b"3000 200 200 700 0 900 0\n", 0),
            (b"99999999999 88888888888 1 0 0 0 0\n", 88888888887),
            (b"0 0 0 0 0 0 0\n", 0),
            (b"9 3 5 0 0 0 0\n", 0),  # the kernel does not read its counters at one moment
            (b"", 0),
        ],
    )
    def test_it_is_what_is_resident_and_not_shared(self, statm, pages):
        assert private_bytes(statm) == pages * PAGE


class TestMemoryReader:
    """Tests for `MemoryReader`."""

    def test_one_descriptor_shows_what_the_file_says_now(self, tmp_path):
        file = tmp_path / "7" / "statm"
        file.parent.mkdir()
        file.write_text("9 5 1 0 0 0 0\n")
        reader = MemoryReader(7, str(tmp_path))
        assert reader.read() == 4 * PAGE

        file.write_text("9 8 1 0 0 0 0\n")
        assert reader.read() == 7 * PAGE
        reader.close()

    def test_a_process_that_allocates_is_seen_to(self):
        """And what it maps of a file, or shares, is not counted."""
        code = (
            "import mmap, sys\n"
            f"steps = [lambda: bytearray({64 * MIB}), lambda: mmap.mmap(-1, {64 * MIB})]\n"
            "held = []\n"
            "for step in steps:\n"
            "    print(flush=True); sys.stdin.readline()\n"
            "    held.append(step())\n"
            f"    held[-1][:] = bytes({64 * MIB})\n"
            "print(flush=True); sys.stdin.readline()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            reader = MemoryReader(process.pid)
            found = []
            for _ in range(3):
                process.stdout.readline()
                found.append(reader.read())
                process.stdin.write(b"\n")
                process.stdin.flush()

            bare, own, shared = found
            assert 60 * MIB < own - bare < 70 * MIB
            assert abs(shared - own) < 8 * MIB
            process.wait()
            assert reader.read() == 0
            reader.close()

    def test_there_is_none_of_a_process_that_is_gone(self):
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()

        assert reader_of(process.pid) is None


class Child:
    """A child process that uses as much as it is told."""

    def __init__(self, number=0, limit=None, group="shop.total"):
        self.number, self.memory_limit, self.group = number, limit, group
        self.memory_found, self.is_killed, self.used, self.looks = None, False, 0, 0

    def memory(self):
        self.looks += 1
        return self.used

    def kill(self):
        self.is_killed = True


@pytest.fixture
def events():
    return []


@pytest.fixture
def watch(events):
    return MemoryWatch(lambda event, **fields: events.append((event, fields)))


class TestMemoryWatch:
    """Tests for `MemoryWatch`."""

    def test_at_the_limit_a_child_lives_and_a_byte_above_it_is_killed(self, watch, events):
        child = Child(3, limit=128 * MIB)
        watch.watch([child])
        child.used = 128 * MIB
        watch.look(1.0)
        assert (child.is_killed, child.memory_found, events) == (False, None, [])

        child.used += 1
        watch.look(2.0)
        assert child.is_killed
        assert child.memory_found == 128 * MIB + 1
        assert events == [
            (
                "memory_exceeded",
                {
                    "mapping": "shop.total",
                    "runner": 3,
                    "memory_limit": 128 * MIB,
                    "memory_found": 128 * MIB + 1,
                },
            )
        ]

    def test_one_without_a_limit_is_not_looked_at(self, watch):
        child = Child()
        watch.watch([child])
        child.used = 2**60
        watch.look(1.0)

        assert (child.looks, child.is_killed) == (0, False)

    def test_one_that_was_killed_is_not_reported_again(self, watch, events):
        child = Child(limit=1)
        watch.watch([child])
        child.used = 2
        for now in range(5):
            watch.look(float(now))

        assert len(events) == 1

    def test_one_that_was_killed_for_another_reason_is_left_to_that(self, watch, events):
        child = Child(limit=1)
        watch.watch([child])
        child.used = 2
        child.kill()
        watch.look(1.0)

        assert (child.memory_found, events) == (None, [])

    @pytest.mark.parametrize("tick", [0.001, 0.05, 0.06])
    def test_it_looks_ten_times_a_second_however_often_the_loop_turns(self, watch, tick):
        child = Child(limit=1)
        watch.watch([child])
        for turn in range(int(10 / tick)):
            watch.look(5.0 + turn * tick)

        assert 98 <= child.looks <= 101

    def test_after_a_pause_it_does_not_make_up_for_the_looks_that_were_missed(self, watch):
        child = Child(limit=1)
        watch.watch([child])
        watch.look(1.0)
        for turn in range(11):
            watch.look(100.0 + turn * EVERY / 10)

        assert child.looks <= 4

    def test_one_that_is_ready_can_be_looked_at_before_the_next_look(self, watch):
        child = Child(limit=1)
        watch.watch([child])
        watch.look(1.0)
        child.used = 2
        watch.look_at(child)

        assert (child.is_killed, child.memory_found) == (True, 2)

    def test_children_of_all_pools_are_looked_at_also_those_that_come_later(self, watch):
        runners, others = [Child(limit=1)], []
        watch.watch(runners)
        watch.watch(others)
        others.append(Child(limit=1))
        watch.look(1.0)

        assert [child.looks for child in (*runners, *others)] == [1, 1]

    def test_it_remembers_the_highest_of_each_group(self, watch):
        one, other, heavy = (Child(limit=100), Child(limit=100), Child(limit=100, group="shop.h"))
        watch.watch([one, other, heavy])
        for now, used in enumerate([(5, 7, 1), (9, 2, 3), (1, 1, 2)]):
            one.used, other.used, heavy.used = used
            watch.look(float(now))

        assert watch.highest == {"shop.total": 9, "shop.h": 3}
