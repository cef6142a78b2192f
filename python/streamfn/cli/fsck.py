"""`streamfn fsck`: checks a log for damage, and repairs what can be derived."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from streamfn import _core
from streamfn.units import format_count, format_size

from .console import output, progress_bar, write_json, write_line
from .exits import Exit
from .params import json_option, log_dir_option, output_options

FIELDS = (
    "code", "severity", "stream", "shard_id", "path", "position", "first", "last", "what",
    "meaning", "action", "repaired",
)  # fmt: skip
"""Fields of a finding, in the order of `--json`."""


@click.command("fsck")
@click.argument("folder", metavar="[DIR]", required=False)
@click.option("--deep", is_flag=True, help="Read, decompress and decode every record batch.")
@click.option(
    "--repair",
    is_flag=True,
    help="Repair what can be derived from other data. No other process may have the log open."
    " Replaced or cut bytes are kept in quarantine/.",
)
@json_option
@log_dir_option
@output_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    folder: str | None,
    log_dir: str,
    deep: bool,
    repair: bool,
    as_json: bool,
) -> int:
    """Check the log directory DIR for damage.

    Without DIR, it checks the directory of --log-dir. The exit code is 0 if there is no damage, and
    5 if something is damaged or, with --repair, was lost.

    Without --repair nothing is changed, and the log may be in use; data that other processes are
    writing at that moment is not checked.
    """
    if folder is not None:
        if ctx.get_parameter_source("log_dir") is ParameterSource.COMMANDLINE:
            raise click.UsageError("give DIR or --log-dir, not both", ctx)
        log_dir = folder
    with progress_bar("repairing" if repair else "examining", total=1) as show:
        report = _core.fsck(
            log_dir,
            deep=deep,
            repair=repair,
            progress=lambda done, total: show(done / total if total else 1),
        )
    if as_json:
        write_json([{field: getattr(each, field) for field in FIELDS} for each in report.findings])
    else:
        for finding in report.findings:
            _write(finding, Path(log_dir).absolute())
    output.note(_summary(report))
    return Exit.CORRUPT if report.is_damaged else Exit.OK


def _write(finding: _core.Finding, root: Path) -> None:
    """Write a finding as text: what and where, then what it means and what to do."""
    lines = [f"{finding.severity}: {finding.code}: {_location(finding, root)}", f"  {finding.what}"]
    lines.append(f"  {finding.meaning}")
    if finding.repaired is not None:
        lines.append(f"  repaired: {finding.repaired}")
    elif finding.action:
        lines.append(f"  to do: {finding.action}")
    for line in lines:
        write_line(line.encode(errors="replace"))


def _location(finding: _core.Finding, root: Path) -> str:
    path = Path(finding.path)
    location = str(path.relative_to(root) if path.is_relative_to(root) else path)
    if finding.position is not None:
        location += f", byte {finding.position}"
    if finding.first is not None:
        location += f", sequence numbers {finding.first} to {finding.last}"
    return location


def _summary(report: _core.FsckReport) -> str:
    counts: dict[str, int] = {"damage": 0, "note": 0}
    for finding in report.findings:
        counts[finding.severity] += 1
    batches = f"{report.batches:,} record batch" + ("" if report.batches == 1 else "es")
    examined = ", ".join((
        format_count(report.streams, "stream"), format_count(report.shards, "shard"),
        format_count(report.segments, "segment"), batches,
        format_size(report.bytes), format_count(report.mappings, "mapping"),
    ))  # fmt: skip
    found = f"{counts['damage']:,} damaged, {format_count(counts['note'], 'note')}"
    return f"examined {examined}: {found if any(counts.values()) else 'no damage found'}"
