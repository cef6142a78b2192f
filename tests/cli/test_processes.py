"""The command line as real processes: pipes, signals, files."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

STREAMFN = [sys.executable, "-m", "streamfn"]


@pytest.fixture
def start(tmp_path):
    """Starts a command in `tmp_path`, with pipes; it is ended with the test."""
    started = []

    def start(*args, **kwargs):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*STREAMFN, *args], cwd=tmp_path, **{**pipes, **kwargs})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_what_put_acknowledged_tail_prints(run_streamfn):
    """The first thing anyone tries."""
    events = '{"user":"a","n":1}\n{"user":"b","n":2}\n'

    put = run_streamfn("put", "clicks", "--key", "user", "--log-dir", "D", input=events)
    tail = run_streamfn("tail", "clicks", "-e", "--json", "--log-dir", "D")

    assert (put.returncode, put.stdout) == (0, "")
    assert "created stream `clicks`" in put.stderr
    assert (tail.returncode, tail.stderr) == (0, "")
    first, second = map(json.loads, tail.stdout.splitlines())
    timestamp = first.pop("timestamp")
    assert timestamp.endswith("Z")
    assert first == {
        "stream": "clicks",
        "shard_id": "shardId-000000000000",
        "sequence_number": 0,
        "partition_key": "a",
        "headers": {},
        "json": {"user": "a", "n": 1},
    }
    assert (second["partition_key"], second["json"]) == ("b", {"user": "b", "n": 2})


def test_the_log_directory_comes_from_the_environment_or_is_here(run_streamfn, tmp_path):
    run_streamfn("put", "s", input="1\n", env={"STREAMFN_LOG_DIR": "there"})
    run_streamfn("put", "s", input="1\n")

    assert (tmp_path / "there" / "FORMAT").exists()
    assert (tmp_path / ".streamfn" / "FORMAT").exists()


def test_the_flag_wins_over_the_environment(run_streamfn, tmp_path):
    run_streamfn("put", "s", "--log-dir", "flag", input="1\n", env={"STREAMFN_LOG_DIR": "there"})

    assert (tmp_path / "flag" / "FORMAT").exists()
    assert not (tmp_path / "there").exists()


def test_what_comes_slowly_is_put_at_once(start):
    """`tail -f … | streamfn put` must not keep the last line back."""
    put = start("put", "s")
    for n in range(3):
        put.stdin.write(b"%d\n" % n)
        put.stdin.flush()
        end = time.monotonic() + 240
        while time.monotonic() < end:
            tail = start("tail", "s", "-e")
            out, _ = tail.communicate(timeout=240)
            if len(out.split()) == n + 1:
                break
        assert out.split() == [b"%d" % each for each in range(n + 1)]


def test_tail_follows_and_control_c_ends_it_cleanly(start, run_streamfn):
    run_streamfn("put", "s", input="1\n")
    tail = start("tail", "s")
    assert tail.stdout.readline() == b"1\n"
    run_streamfn("put", "s", input="2\n")
    assert tail.stdout.readline() == b"2\n"

    tail.send_signal(signal.SIGINT)
    out, err = tail.communicate(timeout=240)
    assert (tail.returncode, out) == (130, b"")
    assert b"Traceback" not in err


def test_tail_waits_for_as_many_records_as_were_asked_for(start, run_streamfn):
    run_streamfn("put", "s", input="1\n2\n")
    tail = start("tail", "s", "-n", "4")
    assert [tail.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
    time.sleep(0.3)
    assert tail.poll() is None

    run_streamfn("put", "s", input="3\n4\n5\n")
    assert tail.wait(timeout=240) == 0
    assert tail.stdout.read() == b"3\n4\n"


def test_tail_can_begin_after_the_end(start, run_streamfn):
    run_streamfn("put", "s", input="0\n1\n")
    tail = start("tail", "s", "-o", "4", "-n", "2")
    time.sleep(0.3)

    run_streamfn("put", "s", input="2\n3\n4\n5\n")
    assert tail.wait(timeout=240) == 0
    assert tail.stdout.read() == b"4\n5\n"


def test_control_c_in_put_keeps_what_is_in(start, run_streamfn):
    put = start("put", "s")
    put.stdin.write(b"1\n2\n")
    put.stdin.flush()
    tail = start("tail", "s", "-n", "2") if _appears(run_streamfn, "s", 2) else None
    assert tail is not None

    put.send_signal(signal.SIGINT)
    put.wait(timeout=240)
    assert put.returncode == 130
    assert put.stderr.read().decode().splitlines()[1] == "put 2 records into `s`"


def test_a_compressed_output_is_whole_after_control_c(start, run_streamfn, tmp_path):
    run_streamfn("put", "s", input="1\n2\n")
    tail = start("tail", "s", "--output", "out.zst")
    end = time.monotonic() + 240
    while not (tmp_path / "out.zst").exists() or not (tmp_path / "out.zst").stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.02)

    tail.send_signal(signal.SIGINT)
    assert tail.wait(timeout=240) == 130
    run_streamfn("put", "copy", "out.zst")
    assert run_streamfn("tail", "copy", "-e").stdout == "1\n2\n"


@pytest.mark.parametrize("options", [[], ["-e"], ["--json"]])
def test_a_reader_that_has_seen_enough_is_no_error(options, run_streamfn, start):
    run_streamfn("put", "s", input="\n".join(map(str, range(50_000))))
    tail = start("tail", "s", *options)

    tail.stdout.readline()
    tail.stdout.close()
    assert tail.wait(timeout=240) == 0
    assert tail.stderr.read() == b""


def test_colours_are_for_terminals_and_for_those_who_force_them(run_streamfn):
    run_streamfn("put", "s", input="1\n")

    assert "\x1b[" not in run_streamfn("stream", "ls").stdout
    forced = {"FORCE_COLOR": "1", "NO_COLOR": "", "TERM": "xterm"}
    assert "\x1b[" in run_streamfn("stream", "ls", env=forced).stdout
    assert "\x1b[3" not in run_streamfn("stream", "ls", "--no-color", env=forced).stdout


def _appears(run_streamfn, stream, count):
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if len(run_streamfn("tail", stream, "-e").stdout.split()) == count:
            return True
    return False


DEAD_LETTERS_ON_A_FULL_DISK = """
import contextlib, os, time
import streamfn
log = streamfn.Log.open("mnt/log")
plain = log.create_stream("plain", compression="none")
letters = log.core.create_stream("app.fn.dlq", internal=True)
letters.put(b"first", None, {})
time.sleep(0.5)  # the housekeeper comes by ten times a second
with contextlib.suppress(OSError), open("mnt/filler", "wb", buffering=0) as filler:
    while True:
        filler.write(bytes(4096))
try:
    plain.put(bytes(9000))
except streamfn.errors.LogFull:
    print("plain: full")
taken = 0
for _ in range(5):
    letters.put(os.urandom(150_000), None, {})
    taken += 1
print("dead letters:", taken)
"""


class TestFullDisk:
    """A disk that is full is a reason to try again later, and loses nothing acknowledged."""

    @pytest.fixture
    def in_tiny_disk(self, tmp_path):
        """Runs shell text with a tmpfs of 4 MiB at `mnt`, in a namespace of its own."""
        (tmp_path / "mnt").mkdir()

        def run(script):
            text = f"mount -t tmpfs -o size=4m none mnt && {script}"
            command = ["unshare", "-Urm", "sh", "-c", text]
            environment = {**os.environ, "STREAMFN": " ".join(STREAMFN)}
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip

        try:
            allowed = run("true")
        except FileNotFoundError:
            pytest.skip("`unshare` is not installed")
        if allowed.returncode:
            pytest.skip(f"no user and mount namespaces here: {allowed.stderr.strip()}")
        return run

    def test_put_says_so_and_what_was_put_is_there(self, in_tiny_disk, tmp_path):
        lines = [os.urandom(500).hex() for _ in range(20_000)]
        (tmp_path / "lines.txt").write_text("\n".join(lines))

        ended = in_tiny_disk(
            "$STREAMFN put s lines.txt --format lines --log-dir mnt/log; echo code $?;"
            "$STREAMFN tail s -e --log-dir mnt/log"
        )

        code, *kept = ended.stdout.splitlines()
        assert code == "code 75"
        assert "error: no space left on the disk for" in ended.stderr
        assert len([line for line in ended.stderr.splitlines() if "error:" in line]) == 1
        assert f"put {len(kept):,} records into `s`" in ended.stderr
        assert 1_000 < len(kept) < 20_000
        assert kept == lines[: len(kept)]

    def test_dead_letters_find_room_on_it(self, in_tiny_disk, tmp_path):
        (tmp_path / "story.py").write_text(DEAD_LETTERS_ON_A_FULL_DISK)

        ended = in_tiny_disk(f"{sys.executable} story.py")

        assert ended.stdout.splitlines() == ["plain: full", "dead letters: 5"], ended.stderr

    def test_an_output_file_that_fills_the_disk_is_the_same(self, in_tiny_disk):
        ended = in_tiny_disk(
            "head -c 9000000 /dev/urandom | base64 -w 1000 |"
            " $STREAMFN put s --format lines --log-dir log;"
            "$STREAMFN tail s -e --log-dir log --output mnt/out; echo code $?"
        )

        assert ended.stdout == "code 75\n"
        assert "error:" in ended.stderr.splitlines()[-1]
