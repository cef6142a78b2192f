"""Two functions on one damaged stream: one stops at the damage, the other passes it."""

import os
from pathlib import Path

from streamfn import App, Batch

app = App("damaged")


def note(function, batch):
    with (Path(os.environ["SEEN"]) / function).open("a") as file:
        file.writelines(f"{record.sequence_number}\n" for record in batch)


@app.stream("orders", parallelization_factor=2)
def careful(batch: Batch) -> None:
    note("careful", batch)


@app.stream("orders", parallelization_factor=2, on_corruption="skip")
def bold(batch: Batch) -> None:
    note("bold", batch)
