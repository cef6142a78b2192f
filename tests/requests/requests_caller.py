"""A process that calls without end and writes down what it gets: `LOG_DIR JOURNAL`.

It may be killed at any moment. On SIGTERM its threads finish their calls.
"""

import os
import random
import signal
import sys
import threading
import time

from streamfn import App
from streamfn.errors import FunctionError, InvocationRefused

THREADS = 4


def main():
    log_dir, path = sys.argv[1:]
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [
        threading.Thread(target=call, args=(log_dir, journal, stop, number))
        for number in range(THREADS)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    write(journal, "stopped")


def call(log_dir, journal, stop, thread):
    app, chance, number = App("campaign"), random.Random(thread), 0
    while not stop.is_set():
        number += 1
        name = f"{os.getpid()}-{thread}-{number}"
        seconds = chance.choice([0, 0, 0.05, 0.3])
        event = {"name": name, "does": "sleep", "seconds": seconds, "text": name}
        write(journal, f"begin {name} {time.monotonic():.6f} {seconds}")
        try:
            answer = app.invoke("work", event, where="worker", log=log_dir)
            how = "ok" if answer == {"name": name, "text": name} else f"wrong {answer!r}"
        except FunctionError as error:
            how = f"{error.error_type} {error.error_message}"
        except InvocationRefused as error:
            how = f"{type(error).__name__} {error}"
            time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 -- the judge names it
            how = f"{type(error).__name__} {error}"
        write(journal, f"end {name} {time.monotonic():.6f} {' '.join(how.split())}")


def write(journal, line):
    os.write(journal, f"{line}\n".encode())


if __name__ == "__main__":
    main()
