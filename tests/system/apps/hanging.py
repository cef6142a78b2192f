"""A function that hangs at one record, and writes down its calls."""

import os
import time
from pathlib import Path

from streamfn import App, Batch, Context

app = App("hanging")
NOTES = Path(os.environ["NOTES"])


@app.stream("orders", batch_size=8, timeout=1, max_retries=0)
def work(batch: Batch, context: Context) -> None:
    hangs = b"hang" in batch.values()
    with NOTES.open("a") as notes:
        notes.write(f"{context.shard_id} {'hangs' if hangs else 'ends'}\n")
    time.sleep(3600 if hangs else 0.3)
