"""Imports the app in a child process, or tells the supervisor why that is not possible."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Final

from streamfn.app import App, load_app
from streamfn.app.bytecode import remove_doubtful_bytecode
from streamfn.app.fingerprint import AppCode, app_code, app_files
from streamfn.engine.forked import end_if_forked
from streamfn.error_text import MESSAGE_BYTES_MAX, message_of, traceback_of, type_of
from streamfn.errors import ConfigError
from streamfn.texts import cut
from streamfn.worker.exit_codes import EXIT_NOT_READY
from streamfn.worker.messages import NotReady

from .process import SupervisedProcess

OWN_FRAMES: Final = (f"{Path(__file__).parents[2]}/", importlib.__file__, "<frozen importlib")
"""Paths whose frames are removed from tracebacks of the app's import."""


def import_app(place: str, process: SupervisedProcess, *, factory: bool) -> App:
    """Return the app; if it cannot be imported, report that and exit.

    Args:
        place: The APP argument.
        process: This process.
        factory: Whether APP names a callable that returns the app.
    """
    pid = os.getpid()
    try:
        app = load_app(place, factory=factory)
    except BaseException as error:  # noqa: BLE001 -- whatever an import may raise
        end_if_forked(pid, error)
        field, reason = "", f"{type_of(error)}: {message_of(error)}"
        if isinstance(error, ConfigError):
            field, reason = str(error.field), cut(str(error.reason), MESSAGE_BYTES_MAX)
        files = _files_at_fault(place.partition(":")[0], error)
        process.link.send(NotReady(field, reason, _traceback(error), files))
        process.leave(EXIT_NOT_READY)
    end_if_forked(pid)
    return app


def code_of(place: str, app: App) -> AppCode:
    """Return the code of the app as this process imported it.

    Args:
        place: The APP argument.
        app: The app.
    """
    code = app_code(place.partition(":")[0], app.mappings, app.functions)
    remove_doubtful_bytecode(code.files)
    return code


def _files_at_fault(place: str, error: BaseException) -> list[str]:
    """Return the app's files that are loaded, and the file with the syntax error if it is one."""
    files = set(app_files(place))
    if Path(place).is_file():
        files.add(str(Path(place).resolve()))
    cause = error.__cause__ or error
    if isinstance(cause, SyntaxError) and isinstance(cause.filename, str):
        files.add(cause.filename)
    return sorted(files)


def _traceback(error: BaseException) -> str:
    """Return the traceback of the user's error, without our frames."""
    cause: BaseException | None = error
    if isinstance(error, ConfigError) and error.field == "APP":
        cause = error.__cause__
    return "" if cause is None else traceback_of(cause, OWN_FRAMES)
