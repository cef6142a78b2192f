"""`streamfn bench`: measures a disk, and streamfn on it, with records of a given size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Literal

import click

from streamfn.units import format_duration, format_size, parse_size

from .console import progress_bar, write_json, write_line, write_listing
from .exits import CommandError
from .params import Duration, json_option, output_options

if TYPE_CHECKING:
    from streamfn.bench.measures import Found, Rate, Setting, Times

SIZE_MIN: Final = 32
"""Shorter records have no room for the time when they were put."""
SIZE_MAX: Final = 2**20
FLUSH_NONE: Final = 20e-6
"""A disk that reports a flush in less time did not flush."""
FLUSH_GOOD: Final = 1e-3
"""A good SSD needs less than this."""
FLUSH_SLOW: Final = 5e-3
"""Hard disks and network disks need longer than this."""


class Size(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """The size of a record in bytes."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the bytes; anything else is a usage error."""
        try:
            size = parse_size(value)  # type: ignore[arg-type]  # it checks any object
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not SIZE_MIN <= size <= SIZE_MAX:
            self.fail(f"{size} is not between {SIZE_MIN} and {SIZE_MAX} bytes", param, ctx)
        return size


@click.command("bench")
@click.argument("folder", metavar="[DIR]", default=".")
@click.option("--record", "record_bytes", type=Size(), default="1KiB", show_default=True,
              metavar="SIZE", help="Size of a record.")  # fmt: skip
@click.option("--durability", type=click.Choice(["group", "process"]), default="group",
              show_default=True,
              help="Records survive power loss (group) or kills (process).")  # fmt: skip
@click.option("--compression", type=click.Choice(["zstd", "none"]), default="zstd",
              show_default=True, help="Compression of the stream.")  # fmt: skip
@click.option("--each", type=Duration(), default="2s", show_default=True, metavar="DURATION",
              help="Duration of each of the seven measurements.")  # fmt: skip
@json_option
@output_options
def command(
    *,
    folder: str,
    record_bytes: int,
    durability: Literal["group", "process"],
    compression: Literal["zstd", "none"],
    each: timedelta,
    as_json: bool,
) -> None:
    """Measure the disk of DIR, and streamfn on it.

    DIR is the current folder by default. The command works in a temporary folder in DIR, uses at
    most half of the free space, and removes the folder at the end. Bytes per second are those of
    the records, before compression.
    """
    from streamfn.bench.measures import Setting

    if each < timedelta(milliseconds=10):
        raise click.BadParameter("give each measurement 10ms or more", param_hint="--each")
    setting = Setting(record_bytes, durability, compression, each.total_seconds())
    with _temporary(folder) as place:
        found = _measure(place, setting)
    verdict = _verdict(found)
    if as_json:
        write_json({**asdict(setting), **asdict(found), "verdict": verdict})
        return
    columns = {"job": "JOB~", "measured": "MEASURED>", "beside": "COMPARISON~"}
    write_listing(_rows(setting, found), columns, as_json=False, none="")
    write_line(b"")
    for line in verdict:
        write_line(line.encode())


@contextmanager
def _temporary(folder: str) -> Iterator[Path]:
    if not Path(folder).is_dir():
        raise CommandError(
            f"{folder} is not a folder", "choose a folder on the disk to be measured"
        )
    with TemporaryDirectory(prefix=".streamfn-bench-", dir=folder) as place:
        yield Path(place)


def _measure(place: Path, setting: Setting) -> Found:
    from streamfn.bench.measures import Disk, Found, Trial

    disk = Disk(place, setting.seconds)
    is_flushed = setting.durability == "group"
    with (
        progress_bar("measuring", len(Found.__dataclass_fields__)) as show,
        Trial(place, setting) as trial,
    ):
        flush = disk.flush()
        show(1)
        disk_bytes = disk.write(is_flushed=is_flushed)
        show(2)
        put = trial.put()
        show(3)
        append = trial.append()
        show(4)
        call_a_record = trial.consume(per_record=True)
        show(5)
        call_a_batch = trial.consume(per_record=False)
        show(6)
        return Found(flush, disk_bytes, put, append, call_a_record, call_a_batch, trial.latency())


def _rows(setting: Setting, found: Found) -> list[dict[str, str]]:
    flushed = ", flushed" if setting.durability == "group" else ""
    of_disk = f"{found.append.bytes / found.disk_bytes:.0%} of the disk"
    of_flush = f"{found.put.median / found.flush.median:.2g}× a flush" if flushed else "no flush"
    of_append = f"{found.call_a_record.records / found.append.records:.2g}× put_many"
    rows = [
        ("the disk flushes 4 KiB", _times(found.flush), ""),
        (f"1 MiB to the disk{flushed}", f"{format_size(round(found.disk_bytes))}/s", ""),
        ("put, one by one", _times(found.put), of_flush),
        (f"put_many of {setting.batch_records:,}", _rate(found.append), of_disk),
        ("call a record", _rate(found.call_a_record), of_append),
        (f"call a batch of {setting.batch_records:,}", _rate(found.call_a_batch), ""),
        ("put to call, 1,000 a second", _times(found.latency), "two processes"),
    ]  # fmt: skip
    return [{"job": job, "measured": measured, "beside": beside} for job, measured, beside in rows]


def _times(times: Times) -> str:
    median, p99 = (format_duration(timedelta(seconds=value)) for value in (times.median, times.p99))
    return f"{median}, p99 {p99}"


def _rate(rate: Rate) -> str:
    return f"{rate.records:,.0f} records/s, {format_size(round(rate.bytes))}/s"


def _verdict(found: Found) -> list[str]:
    append, call = found.append.records, found.call_a_record.records
    if call > append:
        spare = 1 / append - 1 / call
        pace = (
            f"One producer appends {append:,.0f} records per second, and one runner calls an empty "
            f"function with {call:,.0f} per second: it keeps up as long as the function takes no "
            f"more than {spare * 1e6:,.1f} µs per record."
        )
    else:
        pace = (
            f"One runner calls an empty function with {call:,.0f} records per second, and one "
            f"producer appends {append:,.0f}: to keep up, use more shards or a larger "
            "parallelization_factor, and more runners."
        )
    latency = format_duration(timedelta(seconds=found.latency.median))
    alone = f"A single record reaches a waiting function after {latency}."
    return [_verdict_on_disk(found.flush.median), pace, alone]


def _verdict_on_disk(seconds: float) -> str:
    flush = format_duration(timedelta(seconds=seconds))
    if seconds < FLUSH_NONE:
        return (
            f"This disk reports a flush after {flush}: it is memory, or it does not flush. "
            "Its data does not survive a power cut, whatever the durability."
        )
    if seconds > FLUSH_SLOW:
        return (
            f"This disk is slow to flush ({flush}). In a `group` stream put many records at once, "
            "or from many threads, which then share a flush."
        )
    return f"This disk flushes in {flush}{', as a good SSD does' if seconds < FLUSH_GOOD else ''}."
