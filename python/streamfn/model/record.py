"""`Record`, and the origin of a redriven one.

The class is defined in the core, which decodes fields on access.
"""

from __future__ import annotations

import json
from typing import Final

from streamfn._core import Record

__all__ = ["DEAD_LETTER_HEADER", "Record", "origin"]

DEAD_LETTER_HEADER: Final = "streamfn-dead-letter"
"""Header of dead letters and redriven records, as JSON: docs/delivery-specification.md, 11."""
REDRIVE_SUFFIX: Final = ".redrive"
"""Suffix of the names of redrive streams; names of users' streams have no dots."""


def origin(record: Record) -> tuple[str, str, int]:
    """Return the stream, shard id and sequence number at which the record was first put.

    A redriven record has them in its dead-letter header (`origin`).
    """
    header = record.headers.get(DEAD_LETTER_HEADER)
    if header is not None and record.stream.endswith(REDRIVE_SUFFIX):
        place = json.loads(header)["origin"]
        return place["stream"], place["shard_id"], place["sequence_number"]
    return record.stream, record.shard_id, record.sequence_number
