"""An app whose import ends the process, and one record that takes the whole worker along."""

import os
import signal
from datetime import timedelta

from streamfn import App, Backoff, Batch

if os.environ.get("AT_IMPORT"):
    os._exit(9)

app = App("fatal")


@app.stream("orders", batch_size=8, backoff=Backoff(base=timedelta(milliseconds=10)))
def all_of_it(batch: Batch) -> None:
    if any(record.data == b"poison" for record in batch):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
