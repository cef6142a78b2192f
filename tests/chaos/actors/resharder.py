"""A resharder: splits or merges shards of a stream once, and may be killed in the middle of it.

Its journal:

    split  stream, shard
    merge  stream, shard, shard
    done   shards that are open afterwards
    late   message: a change that had been left half-done was finished first, and closed the shard
    error  class, message
"""

import sys
from pathlib import Path

from journal import Journal

from streamfn import Log
from streamfn.errors import StreamClosed, StreamfnError
from streamfn.log import Stream

SHARDS_MIN, SHARDS_MAX = 2, 4
"""Fewer open shards are split, more are merged; in between the pick decides."""


def change(journal: Journal, stream: Stream, pick: float) -> None:
    """Split the shard, or merge the neighbours, that `pick` (0 to 1) points at."""
    shards = [shard for shard in stream.info().shards if shard.is_open]
    shards.sort(key=lambda shard: shard.hash_keys)
    splits = len(shards) < SHARDS_MIN or (len(shards) < SHARDS_MAX and pick < 0.5)
    if splits:
        chosen = shards[int(pick * 1000) % len(shards)]
        journal.note("split", stream.name, chosen.shard_id)
        stream.split(chosen.shard_id)
    else:
        at = int(pick * 1000) % (len(shards) - 1)
        left, right = shards[at].shard_id, shards[at + 1].shard_id
        journal.note("merge", stream.name, left, right)
        stream.merge(left, right)
    journal.note("done", [s.shard_id for s in stream.info().shards if s.is_open])


def main(folder: Path, log_dir: str, name: str, stream: str, pick: str) -> None:
    """Make the change."""
    journal = Journal(folder / f"resharder-{name}")
    with Log.open(log_dir, create=False) as log:
        try:
            change(journal, log.stream(stream), float(pick))
        except StreamClosed as error:
            journal.note("late", str(error))
        except StreamfnError as error:
            journal.note("error", type(error).__name__, str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
