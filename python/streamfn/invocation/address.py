"""Where the front of a worker listens, and connecting to it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

PATH_BYTES_MAX: Final = 107
"""Longest path of a Unix socket on Linux, without its NUL byte."""


def socket_name(worker: str) -> str:
    """Return the path of a worker's socket, relative to the log directory.

    Args:
        worker: UUID of the worker.
    """
    return f"workers/{worker}.sock"


def connect(
    log_dir: str | os.PathLike[str], worker: str, timeout: float | None = None
) -> socket.socket:
    """Return a connection to the front of a worker.

    Nothing is sent or received, so it is not known yet whether somebody answers.

    Args:
        log_dir: The log directory; its path may be of any length.
        worker: UUID of the worker.
        timeout: Seconds that connecting may take, and then each call of the socket. None: no limit.

    Raises:
        OSError: The worker has no socket, or nobody listens on it.
    """
    path = Path(log_dir) / socket_name(worker)
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        return _connected(str(path), timeout)
    folder = os.open(log_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _connected(f"/proc/self/fd/{folder}/{socket_name(worker)}", timeout)
    finally:
        os.close(folder)


def _connected(path: str, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
