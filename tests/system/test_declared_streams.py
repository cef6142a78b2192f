"""Streams that an app declares, and settings that change while processes have the stream open."""

import json
import time

import pytest

from streamfn import Log

APP = """
from streamfn import App, Batch

app = App("shop")
app.declare("orders", shards=3, retention="7d")
app.declare("clicks", shards=2, retention="3d")

@app.stream("orders")
def total(batch: Batch) -> None:
    pass

@app.stream("clicks")
def count(batch: Batch) -> None:
    pass
"""


@pytest.fixture
def cli(run_streamfn, tmp_path):
    (tmp_path / "app.py").write_text(APP)
    return run_streamfn


def test_a_worker_creates_declared_streams_and_tells_how_others_differ(cli):
    assert cli("stream", "add", "clicks", "--retention", "7d").returncode == 0

    for is_first in (True, False):
        ended = cli("worker", "app.py", "--burst", "--processes", "1")
        assert ended.returncode == 0, ended.stderr
        events = [json.loads(line) for line in ended.stderr.splitlines()]
        created = [event["stream"] for event in events if event["event"] == "stream_created"]
        differs = [event for event in events if event["event"] == "stream_differs"]
        assert created == (["orders"] if is_first else [])
        assert [(event["level"], event["stream"], event["field"]) for event in differs] == [
            ("WARN", "clicks", "shards"),
            ("WARN", "clicks", "retention"),
        ]
        assert (differs[1]["declared"], differs[1]["existing"]) == ("3d", "7d")
        assert differs[1]["hint"] == "`streamfn stream set clicks --retention 3d`"

    shown = json.loads(cli("stream", "info", "orders", "--json").stdout)
    assert (len(shown["shards"]), shown["retention"]["seconds"]) == (3, 604_800)


def test_a_process_that_has_the_stream_open_takes_the_new_settings(cli, tmp_path):
    """The producer's batches become compressed, and its own retention deletes old files."""
    with Log.open(tmp_path / ".streamfn") as log:
        log.core.create_stream("ev", segment_bytes=2**20, compression="none")
        stream = log.stream("ev")
        for _ in range(5):
            stream.put(b"x" * 600_000)
        assert stream.info().bytes > 2 * 2**20

        options = ["--retention", "1MiB", "--compression", "zstd", "--yes"]
        ended = cli("stream", "set", "ev", *options)
        assert ended.returncode == 0, ended.stderr

        limit = time.monotonic() + 30
        # WHY not `info`: it reads the settings itself; this waits for the housekeeper to do so.
        while stream.core.compression != "zstd":
            assert time.monotonic() < limit
            time.sleep(0.05)
        while stream.info().bytes > 2 * 2**20:
            assert time.monotonic() < limit
            time.sleep(0.05)

        kept = stream.info().bytes
        stream.put(b"x" * 600_000)
        assert stream.info().bytes - kept < 100_000, "it is compressed"
        assert stream.info().retention["bytes"] == 2**20
