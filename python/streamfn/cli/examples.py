"""The examples at the end of each command's `--help`."""

from __future__ import annotations

from typing import Final

import click

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "worker": ("worker shop.py", "worker shop:app --processes 4 --log-dir /var/lib/shop"),
    "put": (
        "put orders orders.ndjson --key user.id",
        "put orders events.csv.gz --format csv --skip-bad",
        "put orders orders.ndjson --from-line 12346",
    ),
    "tail": ("tail orders -n 10", "tail orders --json -o @-5m"),
    "replay": ("replay orders --fn total --from @-1d --dry-run",),
    "invoke": (
        """invoke shop.py price --payload '{"items": [3, 4]}'""",
        "invoke shop.py price --payload @order.json --tail",
        "invoke shop:app price --payload - --where worker",
    ),
    "dlq ls": ("dlq ls", "dlq ls total"),
    "dlq show": ("dlq show total",),
    "dlq redrive": ("dlq redrive total",),
    "dlq drop": ("dlq drop total --yes",),
    "stream ls": ("stream ls --internal",),
    "stream add": (
        "stream add orders --shards 4 --retention 7d",
        "stream add orders --shards 4 --exist-ok",
    ),
    "stream info": ("stream info orders",),
    "stream set": (
        "stream set orders --retention 7d --retention 10GiB",
        "stream set orders --retention everything",
        "stream set orders --compression none --dry-run",
    ),
    "stream split": ("stream split orders shardId-000000000000",),
    "stream merge": ("stream merge orders shardId-000000000001 shardId-000000000002",),
    "stream trim": (
        "stream trim orders --before @-30d --dry-run",
        "stream trim orders --before 120000 --shard shardId-000000000001",
    ),
    "stream rm": ("stream rm orders",),
    "fn ls": ("fn ls --json",),
    "fn info": ("fn info total",),
    "fn pause": ("fn pause total --timeout 5m",),
    "fn resume": ("fn resume total",),
    "fn seek": ("fn seek total @-1h", "fn seek total 100 --shard shardId-000000000001"),
    "fn rm": ("fn rm total",),
    "fn rename": ("fn rename shop.total sum", "fn rename total sum --replace"),
    "fn history": ("fn history total --last 24h --every 1h",),
    "workers": ("workers --json",),
    "status": ("status --max-lag 1m --max-dead-letters 0",),
    "metrics": ("metrics --log-dir /var/lib/shop",),
}
"""By command, the arguments of `streamfn`."""


def with_examples(command: click.Command, path: str) -> click.Command:
    """Return the command with its examples at the end of its help.

    Args:
        command: The command.
        path: Its name and those of its groups, as in `stream add`.
    """
    if command.epilog is None and path in EXAMPLES:
        # WHY `\b`: click keeps the lines of the paragraph that it begins.
        lines = "\n".join(f"  streamfn {each}" for each in EXAMPLES[path])
        command.epilog = f"\b\nExamples:\n{lines}"
    return command
