"""A function for each state of health; what it is in is in its name."""

import os
import time
from pathlib import Path

from streamfn import App

app = App("states")
HOLD = Path(os.environ.get("HOLD", "hold"))


@app.stream("orders")
def running(batch):
    while HOLD.exists():
        time.sleep(0.02)


@app.stream("orders")
def idle(batch):
    pass


@app.stream("orders", max_retries=-1)
def failing(batch):
    if HOLD.exists():
        raise ConnectionError("refused")


@app.stream("later")
def waiting(batch):
    pass


@app.stream("orders")
def paused(batch):
    pass


@app.stream("torn")
def blocked(batch):
    pass
