"""Logs written by released versions of the format are read, and go on, for ever."""

import json
import shutil
from pathlib import Path

import pytest
from decoder import read_manifest, read_shard
from decoder_lanes import read_lanes, read_mapping
from make_golden import described, windows_of

from streamfn import _core

VERSIONS = sorted(path.name for path in Path(__file__).parent.glob("v[0-9]*"))


@pytest.fixture(params=VERSIONS)
def golden(request, tmp_path):
    """A copy of a golden log, and what is in it."""
    folder = Path(__file__).parent / request.param
    shutil.copytree(folder / "log", tmp_path / "log")
    return tmp_path / "log", json.loads((folder / "expected.json").read_text())


def test_there_are_golden_logs_of_this_version():
    assert {"v1", "v1-marked", "v1-windowed", "v1-packed", "v1-noted"} <= set(VERSIONS)


def test_everything_in_it_is_read(golden):
    folder, expected = golden

    log = _core.Log.open(str(folder))
    found = described(log)
    if "windows" in expected:
        found["windows"] = windows_of(log)

    assert expected == {what: found[what] for what in expected}


def test_it_goes_on(golden):
    """Records are appended behind the old ones of every stream, and all are read."""
    folder, expected = golden
    log = _core.Log.open(str(folder))
    for name, shards in expected["streams"].items():
        stream = log.stream(name)

        shard_id, number = stream.put(b"new", "key")

        old = shards[shard_id]
        assert number > max((record["sequence_number"] for record in old), default=-1)
        records = stream.reader(shard_id).poll(1_000_000)
        assert len(old) + 1 == len(records)
        assert records[-1].data == b"new"


def test_together_they_have_everything_the_format_has():
    """What no golden log has could be changed without a test that notices."""
    folders = [Path(__file__).parent / version / "log" for version in VERSIONS]
    shards = [shard for folder in folders for shard in folder.glob("streams/*/shardId-*")]
    batches = [batch for shard in shards for batch in read_shard(shard)]
    manifests = [
        read_manifest(path.read_bytes()) for f in folders for path in f.glob("streams/*/*.json")
    ]
    lanes = [read_lanes(path.read_bytes()) for f in folders for path in f.rglob("*.lanes")]
    mappings = [read_mapping(path.read_bytes()) for f in folders for path in f.rglob("mapping")]
    records = [record for batch in batches for record in batch.records]

    assert {batch.flags & 15 for batch in batches} == {0, 1, 2}
    assert {batch.control.kind for batch in batches if batch.control} >= {"CLOSE", "EPOCH"}
    assert {record.key is None for record in records} == {True, False}
    assert {bool(record.headers) for record in records} == {True, False}
    assert {m["durability"] for m in manifests} == {"process", "group"}
    assert {m["is_internal"] for m in manifests} == {True, False}
    assert any(m["retention"]["consumed"] for m in manifests)
    assert {len(shard["parents"]) for m in manifests for shard in m["shards"]} == {0, 1, 2}
    assert max(len(list(shard.glob("*.seg"))) for shard in shards) > 1
    assert {head.generation for head, _ in lanes} >= {1, 2}
    assert any(lane.in_flight for _, file in lanes for lane in file)
    assert {head.flags for head, _ in lanes} == {0, 1}
    assert {each.on_failure for each in mappings} == {(0, ""), (1, ""), (2, "badones")}
