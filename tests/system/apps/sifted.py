"""A function that sees what `FILTER` says, notes it in `NOTES`, and takes `SLOW` seconds."""

import os
import time
from pathlib import Path

from streamfn import App, Batch, Context

app = App("sifted")


@app.stream(
    "orders",
    filter=os.environ["FILTER"],
    batch_size=int(os.environ.get("SIZE", "10")),
    parallelization_factor=int(os.environ.get("FACTOR", "1")),
    max_retries=0,
)
def work(batch: Batch, context: Context) -> None:
    notes = Path(os.environ["NOTES"]) / str(os.getpid())
    with notes.open("a") as file:
        for record in batch:
            file.write(f"{len(batch)} {record.sequence_number} {record.text()}\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    if any(b"poison" in value for value in batch.values()):
        raise ValueError("poison")
