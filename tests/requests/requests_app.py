"""The functions that the campaign calls: the payload says what a call does."""

import os
import signal
import time

from streamfn import App

app = App("campaign")
JOURNAL = os.environ.get("CAMPAIGN_JOURNAL")
"""A file to which each call appends its name, so that a call that ran twice is seen."""


@app.function(timeout="1s")
def work(event):
    """Answer, or end the process in one of the ways a function can."""
    return answer(event)


@app.function(timeout="30s", memory="160MiB")
def leaky(event):
    """As `work`, with a limit of its memory, and time enough to reach it on any machine."""
    return answer(event)


def answer(event):
    if JOURNAL:
        journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND)
        os.write(journal, f"{event['name']}\n".encode())
        os.close(journal)
    DOES[event["does"]](event)
    return {"name": event["name"], "text": event["text"]}


def leak(_event):
    kept = []
    for _ in range(20):  # four times the limit
        kept.append(bytearray(b"x") * 32 * 2**20)
        time.sleep(0.05)
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
