"""A record as a function receives it, and where it came from.

The class itself lives in the core: its fields are decoded only when asked for.
"""

from __future__ import annotations

import json
from typing import Final

from streamfn._core import Record

__all__ = ["DEAD_LETTER_HEADER", "Record", "origin"]

DEAD_LETTER_HEADER: Final = "streamfn-dead-letter"
"""Header of dead letters and redriven records; JSON, docs/delivery-specification.md, section 11."""
REDRIVE_SUFFIX: Final = ".redrive"
"""End of the names of redrive streams; no stream of an application has a dot in its name."""


def origin(record: Record) -> tuple[str, str, int]:
    """Return the stream, shard id and sequence number the record was first put at.

    For a redriven record these are in its dead-letter header (`origin`), not its own place.
    """
    header = record.headers.get(DEAD_LETTER_HEADER)
    if header is not None and record.stream.endswith(REDRIVE_SUFFIX):
        place = json.loads(header)["origin"]
        return place["stream"], place["shard_id"], place["sequence_number"]
    return record.stream, record.shard_id, record.sequence_number
