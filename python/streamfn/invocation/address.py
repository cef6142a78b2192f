"""Where the front of a worker listens, and connecting to it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Container
from pathlib import Path
from typing import Final

PATH_BYTES_MAX: Final = 107
"""Longest path of a Unix socket on Linux, without its NUL byte."""


BACKLOG: Final = 1024
"""Callers that may wait for a front that starts again; the kernel allows 4,096 by default."""


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


def listen(log_dir: str | os.PathLike[str], worker: str) -> socket.socket:
    """Return the listening socket of a worker; only its own user can connect.

    Args:
        log_dir: The log directory; its path may be of any length.
        worker: UUID of the worker, whose membership has begun.

    Raises:
        OSError: The file system has no sockets, or is full.
    """
    folder = os.open(log_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path = f"/proc/self/fd/{folder}/{socket_name(worker)}"
        listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101 -- nobody can connect before `listen`
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def remove_socket(log_dir: str | os.PathLike[str], worker: str) -> None:
    """Remove the socket of a worker that has ended, if there is one."""
    with contextlib.suppress(OSError):
        (Path(log_dir) / socket_name(worker)).unlink()


def remove_stale_sockets(log_dir: str | os.PathLike[str], living: Container[str]) -> None:
    """Remove the sockets of workers that do not live.

    Args:
        log_dir: The log directory; a copy of one has the sockets of the original's workers.
        living: UUIDs of the living workers.
    """
    for path in Path(log_dir).glob(socket_name("*")):
        if path.stem not in living:
            with contextlib.suppress(OSError):
                path.unlink()


def _connected(path: str, timeout: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection
