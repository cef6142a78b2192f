"""Sends messages from a child process to its supervisor."""

from __future__ import annotations

import os
import socket
import threading

from streamfn.error_text import TRACEBACK_BYTES_MAX
from streamfn.texts import cut
from streamfn.worker.exit_codes import EXIT_ORPHANED
from streamfn.worker.messages import Event, Message, encode


class SupervisorLink:
    """Sends messages; any thread may use it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message; if the supervisor has closed the connection, exit."""
        line = encode(message)
        with self._lock:
            try:
                self._connection.sendall(line)
            except OSError:
                self.hang_up()

    def report(self, event: str, /, **fields: object) -> None:
        """Send an event for the log output; its texts may be of any length and are cut."""
        texts = {
            name: cut(value, TRACEBACK_BYTES_MAX)
            for name, value in fields.items()
            if isinstance(value, str)
        }
        self.send(Event({"event": event, **fields, **texts}))

    def hang_up(self) -> None:
        """Exit at once: the supervisor is gone, and other workers may have its lanes already."""
        os._exit(EXIT_ORPHANED)
