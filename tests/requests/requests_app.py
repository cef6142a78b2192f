"""The function that the campaign calls: the payload says what a call does."""

import os
import signal
import time
from pathlib import Path

from streamfn import App

app = App("campaign")
JOURNAL = os.environ.get("CAMPAIGN_JOURNAL")
"""A file to which each call appends its name, so that a call that ran twice is seen."""


@app.function(timeout="1s", memory="160MiB")
def work(event):
    """Answer, or end the process in one of the ways a function can."""
    if JOURNAL:
        journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND)
        os.write(journal, f"{event['name']}\n".encode())
        os.close(journal)
    DOES[event["does"]](event)
    return {"name": event["name"], "text": event["text"]}


def leak(_event):
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1)) * 32 * 2**20)
        time.sleep(0.01)
        if len(kept) == 20:
            Path("/proc/self/comm").write_text("leaked")  # it was not stopped: keep what there is
            time.sleep(60)


DOES = {
    "good": lambda _event: None,
    "sleep": lambda event: time.sleep(event["seconds"]),
    "raise": lambda event: int(event["name"]),
    "segfault": lambda _event: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda _event: os._exit(3),
    "hang": lambda _event: time.sleep(60),
    "leak": leak,
}
