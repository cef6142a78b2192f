"""How many events a second a filter judges, and what more patterns cost."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from report import FilterRates
from scenario import SEED, Size

from streamfn import Log
from streamfn._core import Filter, Records

PATTERNS: Final = [1, 10, 100]
KINDS: Final = ["exact", "prefix", "two fields", "anything-but"]
STREETS: Final = 5_000


def event(source: random.Random, number: int) -> bytes:
    """A feature of a city map, about 900 bytes: most of it is of no interest to any pattern."""
    place = [[source.uniform(-123, -122), source.uniform(37, 38), 0.0] for _ in range(8)]
    return json.dumps(
        {
            "type": "Feature",
            "properties": {
                "mapblklot": f"{source.randrange(10**7):07}",
                "number": number,
                "street": f"street-{source.randrange(STREETS)}",
                "odd_even": source.choice("EO"),
                "block": source.randrange(10_000),
                "lot": {"number": source.randrange(100), "letter": source.choice("ABC")},
                "note": f"{source.getrandbits(800):0200x}",
            },
            "geometry": {"type": "Polygon", "coordinates": [place]},
        }
    ).encode()


def pattern(kind: str, number: int) -> str:
    """The `number`-th pattern of a kind; each matches about one event in `STREETS` or none."""
    kinds: dict[str, dict[str, list[Any]]] = {
        "exact": {"street": [f"street-{number}"]},
        "prefix": {"street": [{"prefix": f"street-{number}x"}]},
        "two fields": {"street": [f"street-{number}"], "block": [{"numeric": ["<", 5_000]}]},
        "anything-but": {"type": [{"anything-but": {"prefix": "F"}}], "street": [f"s-{number}"]},
    }
    return json.dumps({"data": {"properties": kinds[kind]}})


@pytest.fixture(scope="module")
def records(size: Size, tmp_path_factory: pytest.TempPathFactory) -> list[Records]:
    """Events as a lane has them before its filter: in batches, decompressed."""
    source = random.Random(SEED)
    folder: Path = tmp_path_factory.mktemp("filters")
    with Log.open(folder, durability="process") as log:
        stream = log.create_stream("features")
        count = size.records[1024] // 4
        for start in range(0, count, 1_000):
            events = [event(source, number) for number in range(start, min(start + 1_000, count))]
            stream.put_many(events)
        return [batch.records for batch in stream.read()]


@pytest.mark.parametrize("kind", KINDS)
def test_filter(
    kind: str,
    size: Size,
    records: list[Records],
    filter_rates: FilterRates,
    timed: Callable[[Callable[[], None]], float],
) -> None:
    """Filters of 1, 10 and 100 patterns take turns."""
    filters = {
        count: Filter([pattern(kind, number) for number in range(count)], for_records=True)
        for count in PATTERNS
    }
    total = sum(map(len, records))
    for _ in range(size.rounds):
        for count, each in filters.items():
            verdicts: list[bool | None] = []

            def run(each: Filter = each, verdicts: list[bool | None] = verdicts) -> None:
                for some in records:
                    verdicts += each.matches_records(some)

            filter_rates[kind][count].append(total / timed(run))
            assert len(verdicts) == total
            assert None not in verdicts
