"""Functions that are called by request, and end in every way."""

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

from streamfn import App

app = App("shop")

if (broken := Path(os.environ.get("BROKEN", "/nowhere"))).exists():
    exec(broken.read_text())


@app.function(timeout=timedelta(seconds=float(os.environ.get("TIMEOUT", "30"))))
def price(event, context):
    """Do what the event says; return the process id."""
    what, _, detail = str(event).partition(" ")
    match what:
        case "raise":
            raise ValueError(detail)
        case "exit":
            os._exit(int(detail))
        case "kill":
            os.kill(os.getpid(), int(detail))
        case "hold":
            held, release = Path(detail), Path(f"{detail}.release")
            held.touch()
            while not release.exists():
                time.sleep(0.01)
        case "sleep":
            time.sleep(float(detail))
    return os.getpid()


@app.function(concurrency=1)
async def single(event, context):
    await asyncio.sleep(event)
    return os.getpid()


@app.function(memory="128MiB")
def heavy(event, context):
    """Use so many bytes for a while."""
    used = b"x" * event
    time.sleep(0.5)
    return len(used)
