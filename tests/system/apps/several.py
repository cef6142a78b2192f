"""Four functions of one stream, which write down who called them."""

import os
import time
from pathlib import Path

from streamfn import App, Batch

app = App("several")
NOTES = Path(os.environ["NOTES"])


def register(name):
    def work(batch: Batch) -> None:
        line = f"{time.monotonic()} {name} {os.getppid()} {batch[0].sequence_number}\n"
        with NOTES.open("a") as notes:
            notes.write(line)
        time.sleep(0.01)

    app.stream("orders", name=name, batch_size=1)(work)


for each in ("first", "second", "third", "fourth"):
    register(each)
