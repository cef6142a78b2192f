"""Tests for `streamfn.invocation.address`."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from streamfn.invocation.address import PATH_BYTES_MAX, connect, socket_name

WORKER = "ab" * 16


def listening(folder):
    """Listen where a front of that log directory would."""
    (folder / "workers").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(folder, os.O_PATH)
    listener.bind(f"/proc/self/fd/{here}/{socket_name(WORKER)}")
    os.close(here)
    listener.listen()
    return listener


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def folder_of(tmp_path, length):
    """A folder in which the path of the socket has this length."""
    rest = length - len(str(tmp_path / socket_name(WORKER)))
    folder = tmp_path
    while rest > 0:
        name = "d" * (rest - 1 if rest <= 201 else 199)
        folder, rest = folder / name, rest - len(name) - 1
    assert len(str(folder / socket_name(WORKER))) == length
    return folder


@pytest.fixture
def short_path():
    """A folder whose path is shorter than those of `tmp_path`."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.mark.parametrize("length", [PATH_BYTES_MAX, PATH_BYTES_MAX + 1, 400])
def test_a_path_of_any_length_is_reached(short_path, length):
    folder = folder_of(short_path, length)
    descriptors = open_descriptors()

    with listening(folder) as listener, connect(folder, WORKER) as connection:
        connection.sendall(b"x")
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
        assert connection.gettimeout() is None
    assert open_descriptors() == descriptors


@pytest.mark.parametrize("name", ["log", "d" * 200])
def test_nobody_there_is_an_error(tmp_path, name):
    folder = tmp_path / name
    with pytest.raises(FileNotFoundError):
        connect(folder, WORKER)
    listening(folder).close()

    with pytest.raises(ConnectionRefusedError):
        connect(folder, WORKER)


def test_a_timeout_is_that_of_the_connection(tmp_path):
    with listening(tmp_path / "log"), connect(tmp_path / "log", WORKER, 0.5) as connection:
        assert connection.gettimeout() == 0.5
