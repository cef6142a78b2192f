"""Tables and charts of the demo."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamfn.engine.deadletter import DeadLetter
from streamfn.units import format_count
from streamfn.worker.supervisor.progress import MappingProgress

from .story import BUGGY, CANCELLED, OTHER, Totals

BLOCKS = " ▁▂▃▄▅▆▇█"
SHOWN = ("carrier", "flight", "origin", "dest", "sched_dep_time", "dep_time")
"""Fields of a flight that a dead letter is shown with."""


def progress_table(progress: dict[str, MappingProgress]) -> Table:
    """Return what each function did in one run."""
    table = _table("function", "calls", "failed", "bisected", "retried", "dead", "processed")
    for name in (BUGGY, OTHER):
        each = progress[name]
        figures = (
            each.calls, each.failures, each.bisects, each.retries, each.dead_lettered, each.records
        )  # fmt: skip
        table.add_row(short(name), *map(format_count, figures))
    return table


def totals_table(totals: Totals) -> Table:
    """Return the totals of both runs."""
    table = _table("", "processed", "retried", "bisected", "dead-lettered")
    runs = {
        "carriers": totals.first[OTHER],
        "departures, with the bug": totals.first[BUGGY],
        "departures, redriven": totals.second[BUGGY],
    }
    for name, run in runs.items():
        figures = (run.records, run.retries, run.bisects, run.dead_lettered)
        table.add_row(name, *map(format_count, figures))
    both = totals.first[BUGGY], totals.second[BUGGY]
    sums = (sum(run.records for run in both), sum(run.retries for run in both),
            sum(run.bisects for run in both))  # fmt: skip
    left = Text(f"{totals.left} left", style="bold green" if totals.left == 0 else "bold red")
    table.add_row("departures, in the end", *map(format_count, sums), left, style="bold")
    return table


def dead_letter_panel(letter: DeadLetter, count: int) -> Panel:
    """Return one dead letter: its record, and the line of the function that failed."""
    flight = json.loads(letter.data)
    payload = ", ".join(f'"{name}": "{flight[name]}"' for name in SHOWN)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("record", f"{letter.id}, key {letter.partition_key}")
    table.add_row("payload", Text(f"{{{payload}, …}}"))
    table.add_row("error", Text(f"{letter.error_type}: {letter.error_message}", style="red"))
    table.add_row("where", Text(failing_line(letter.traceback)))
    table.add_row("attempts", f"{letter.attempts} alone")
    title = f"dead letter 1 of {format_count(count)}"
    return Panel(table, title=title, title_align="left", border_style="red", expand=False)


def failing_line(traceback: str) -> str:
    """Return the last line of code of a traceback, with its file and number."""
    lines = traceback.splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    if not places:
        return "no Python line is known"
    file, number, *_ = lines[places[-1]].strip().split(", ")
    name = Path(file.removeprefix('File "').rstrip('"')).name
    code = "".join(lines[places[-1] + 1 : places[-1] + 2]).strip()
    return f"{name}, {number}: {code}"


def hours_line(by_hour: Counter[str]) -> Text:
    """Return a bar chart of the departures of each hour, and their sums."""
    counts = [by_hour[f"{hour}h"] for hour in range(24)]
    highest = max(*counts, 1)
    blocks = "".join(BLOCKS[-(-count * (len(BLOCKS) - 1) // highest)] for count in counts)
    cancelled = by_hour[CANCELLED]
    return Text.assemble(
        ("by the hour  0h ", "dim"),
        (blocks, "cyan"),
        (" 24h  ", "dim"),
        f"{format_count(by_hour.total() - cancelled)} departed, {cancelled} cancelled",
    )


def short(mapping: str) -> str:
    """Return the function's name without its app."""
    return mapping.partition(".")[2]


def _table(first: str, *titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(first)
    for title in titles:
        table.add_column(title, justify="right")
    return table
