"""The demo's functions, with the fix for cancelled flights."""

import json
from collections import Counter

from streamfn import App, Batch, Context
from streamfn.demo.first_try import BACKOFF, carriers

app = App("flights")


@app.stream("flights", max_retries=1, backoff=BACKOFF)
def departures(batch: Batch, context: Context) -> None:
    """Count departures by the hour."""
    hours = Counter[str]()
    for flight in batch.json():
        if flight["dep_time"] == "NA":
            hours["cancelled"] += 1
            continue
        hour = int(flight["dep_time"]) // 100
        hours[f"{hour}h"] += 1
    output = context.log.stream("departures_by_hour")
    output.put(json.dumps(hours).encode())


app.stream("flights", max_retries=1, backoff=BACKOFF)(carriers)
