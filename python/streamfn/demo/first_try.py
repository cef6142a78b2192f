"""The demo's functions, with a bug: they do not expect cancelled flights."""

import json
from collections import Counter

from streamfn import App, Backoff, Batch, Context

app = App("flights")
BACKOFF = Backoff(base="100ms")


@app.stream("flights", max_retries=1, backoff=BACKOFF)
def departures(batch: Batch, context: Context) -> None:
    """Count departures by the hour."""
    hours = Counter[str]()
    for flight in batch.json():
        hour = int(flight["dep_time"]) // 100
        hours[f"{hour}h"] += 1
    output = context.log.stream("departures_by_hour")
    output.put(json.dumps(hours).encode())


@app.stream("flights", max_retries=1, backoff=BACKOFF)
def carriers(batch: Batch, context: Context) -> None:
    """Count flights by carrier."""
    counts = Counter(flight["carrier"] for flight in batch.json())
    output = context.log.stream("flights_by_carrier")
    output.put(json.dumps(counts).encode())
