"""`streamfn put`: puts the lines of a file into a stream, as records."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from streamfn.errors import StreamNotFound
from streamfn.log import Log, Stream
from streamfn.model.stream import Durability
from streamfn.units import format_count

from .buffered_put import BufferedPut
from .console import output, progress_bar
from .exits import CommandError, Exit
from .input_formats import FORMATS, BadLine
from .lines import STDIN, open_lines
from .params import StreamName, file_size, log_dir_option, output_options


@click.command("put")
@click.argument("stream", type=StreamName())
@click.argument("file", default=STDIN, metavar="[FILE|-]")
@click.option(
    "--key",
    metavar="FIELD",
    help="Field of each record that becomes its partition key; `a.b` is field `b` of object `a`.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "lines", "csv"]),
    default="ndjson",
    show_default=True,
    help="Format of the input; a CSV row becomes a JSON object.",
)
@click.option(
    "--skip-bad",
    is_flag=True,
    help="Skip lines that cannot be put: the first 20 are told, all are counted.",
)
@click.option(
    "--from-line",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Go on at line N of the input, after a put that stopped there.",
)
@click.option(
    "--shards",
    type=click.IntRange(1),
    metavar="N",
    help="Number of shards of a new STREAM [default: 1].",
)
@click.option(
    "--durability",
    type=click.Choice(["group", "process"]),
    help="Of a new STREAM: records survive power loss (group), or kills of processes (process)"
    " [default: group].",
)
@log_dir_option
@output_options
def command(
    *,
    stream: str,
    file: str,
    key: str | None,
    kind: str,
    skip_bad: bool,
    from_line: int,
    log_dir: str,
    **new: Any,  # noqa: ANN401 -- shards and durability of a new stream
) -> None:
    """Put the lines of FILE or of standard input into STREAM.

    STREAM is created if it does not exist. FILE may be compressed (.gz, .zst). The command stops at
    the first line that cannot be put; the lines before it were put, and the message names the line
    for --from-line. With --skip-bad it goes on without such lines, and exits with 0.
    """
    if key is not None and kind == "lines":
        raise click.UsageError("--key needs --format ndjson or csv: plain lines have no fields")
    if file == STDIN and sys.stdin.isatty():
        output.note("reading records from the terminal, one per line; Ctrl-D ends the input")
    with ExitStack() as stack:
        # WHY first: an error of the log is reported before the command waits for input.
        target = TargetStream(stack, log_dir, stream, **new)
        lines, raw = stack.enter_context(open_lines(file))
        bar = progress_bar(f"put {stream}", file_size(file))
        with bar as show:
            progress = (lambda: None) if file == STDIN else lambda: show(raw.tell())
            put = BufferedPut(target, lines, progress, skip_bad)
            if skip_bad:
                lines.on_too_long = lambda line, message: put.skip(BadLine(line, message))
            put.put_all(FORMATS[kind](lines, key, from_line))


class TargetStream:
    """The stream that records are put into; `stream` creates a missing one, with its log.

    WHY not at once: if the first line cannot be put, no new stream or log must remain.
    """

    def __init__(
        self,
        stack: ExitStack,
        log_dir: str,
        name: str,
        *,
        shards: int | None,
        durability: Durability | None,
    ) -> None:
        """Look for the stream and check the options against it; `stack` closes the log."""
        self.name = name
        self._stack, self._log_dir = stack, log_dir
        self._shards, self._durability = shards, durability
        self._stream: Stream | None = None
        self._log: Log | None = None
        place = Path(log_dir)
        if place.exists() and not (place.is_dir() and not any(place.iterdir())):
            self._log = stack.enter_context(Log.open(log_dir))
            self._stream = self._found(self._log)

    @property
    def exists(self) -> bool:
        """Whether the stream exists."""
        return self._stream is not None

    def stream(self) -> Stream:
        """Return the stream; create it, with a message, if it does not exist."""
        if self._stream is None:
            if self._log is None:
                self._log = self._stack.enter_context(Log.open(self._log_dir))
            # WHY `exist_ok`: another process may create it at this moment.
            made = self._log.create_stream(
                self.name, shards=self._shards or 1, durability=self._durability, exist_ok=True
            )
            count = format_count(len(made.core.shards()), "shard")
            level = made.core.durability
            output.note(f"created stream `{self.name}` with {count}, durability {level}")
            self._check(made)
            self._stream = made
        return self._stream

    def _found(self, log: Log) -> Stream | None:
        try:
            found = log.stream(self.name)
        except StreamNotFound:
            return None
        self._check(found)
        return found

    def _check(self, stream: Stream) -> None:
        there = len([shard for shard in stream.core.shards() if shard.is_open])
        for option, wanted, found in (
            ("--shards", self._shards, there),
            ("--durability", self._durability, stream.core.durability),
        ):
            if wanted is not None and wanted != found:
                message = f"`{self.name}` exists already, with {option} {found} and not {wanted}"
                raise CommandError(message, f"omit {option}", Exit.CONFIG)
