"""How a runner speaks to its supervisor."""

from __future__ import annotations

import os
import socket
import threading

from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.texts import cut
from streamfn.worker.exit_codes import EXIT_ORPHANED
from streamfn.worker.messages import Event, Message, encode


class SupervisorLink:
    """Sends messages, from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message; when nobody listens any more, this process has no reason to live."""
        line = encode(message)
        with self._lock:
            try:
                self._connection.sendall(line)
            except OSError:
                self.hang_up()

    def report(self, event: str, /, **fields: object) -> None:
        """Send an event to be logged; a text in it may be anything, and of any length."""
        texts = {
            name: cut(value, TRACEBACK_BYTES_MAX)
            for name, value in fields.items()
            if isinstance(value, str)
        }
        self.send(Event({"event": event, **fields, **texts}))

    def hang_up(self) -> None:
        """End the process at once: the supervisor is gone, others may have its lanes already."""
        os._exit(EXIT_ORPHANED)
