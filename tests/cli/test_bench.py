"""`streamfn bench`: what it prints, and that it leaves nothing."""

import json

import pytest

from streamfn.bench.measures import BATCH_BYTES, Found, Rate, Setting, Times, events
from streamfn.cli import bench
from streamfn.cli.main import run

QUICK = ("--each", "10ms")


def found(flush=2e-4, append=1e6, call=2e6):
    times = Times(flush, flush, 100)
    return Found(times, 1e9, times, Rate(append, 0), Rate(call, 0), Rate(call, 0), times)


@pytest.mark.parametrize("durability", ["group", "process"])
@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_it_tells_seven_figures_and_a_verdict(durability, compression, tmp_path, capsys):
    options = ["--durability", durability, "--compression", compression, *QUICK]
    assert run(["bench", str(tmp_path), *options]) == 0

    table, verdict = capsys.readouterr().out.split("\n\n")
    assert [line.split("  ")[0] for line in table.splitlines()] == [
        "JOB",
        "the disk flushes 4 KiB",
        "1 MiB to the disk, flushed" if durability == "group" else "1 MiB to the disk",
        "put, one by one",
        "put_many of 1,000",
        "call a record",
        "call a batch of 1,000",
        "put to call, 1,000 a second",
    ]
    assert len(verdict.splitlines()) == 3
    assert list(tmp_path.iterdir()) == []


def test_json_has_every_figure_in_seconds_and_records(tmp_path, capsys):
    assert run(["bench", str(tmp_path), "--record", "64KiB", "--json", *QUICK]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["record_bytes"], told["durability"], told["seconds"]) == (65_536, "group", 0.01)
    for name in ("flush", "put", "latency"):
        assert 0 < told[name]["median"] <= told[name]["p99"]
        assert told[name]["count"] > 1
    for name in ("append", "call_a_record", "call_a_batch"):
        assert told[name]["bytes"] == pytest.approx(told[name]["records"] * 65_536)
    assert told["disk_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--record", "31B"], "31 is not between 32 and 1048576 bytes"),
        (["--record", "1048577"], "1048577 is not between 32 and 1048576 bytes"),
        (["--record", "big"], "`big` is not a size"),
        (["--each", "9ms"], "10ms or more"),
        (["--durability", "none"], "`none` is not one of `group`, `process`"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message, tmp_path, capsys):
    assert run(["bench", str(tmp_path), *options]) == 2

    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert run(["bench", str(tmp_path / "none")]) == 1

    assert f"{tmp_path / 'none'} is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("record_bytes", [32, 100, 1024, 2**20])
def test_records_have_their_length_and_differ(record_bytes):
    records = events(record_bytes, 50)

    assert {len(record) for record in records} == {record_bytes}
    assert len(set(records)) == 50


def test_batches_of_large_records_are_smaller():
    setting = Setting(2**20, "group", "none", 1.0)

    assert setting.batch_records == BATCH_BYTES // 2**20


@pytest.mark.parametrize(
    ("flush", "words"),
    [
        (1e-6, "it is memory, or it does not flush"),
        (2e-4, "200 µs, as a good SSD does."),
        (2e-3, "flushes in 2 ms."),
        (1e-2, "slow to flush (10 ms)"),
    ],
)
def test_the_verdict_on_the_disk(flush, words):
    assert words in bench._verdict(found(flush=flush))[0]


@pytest.mark.parametrize(
    ("call", "words"), [(2e6, "it keeps up"), (1e6 - 1, "use more shards or a larger parallel")]
)
def test_the_verdict_on_the_pace(call, words):
    assert words in bench._verdict(found(call=call))[1]


def test_what_is_left_for_the_function_is_without_the_call_itself():
    """1 µs a record is appended; of that the call takes half."""
    assert "takes no more than 0.5 µs per record" in bench._verdict(found(call=2e6))[1]
