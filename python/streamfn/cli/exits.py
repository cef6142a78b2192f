"""How a command ends: the exit codes, which error has which, and an error as one line."""

from __future__ import annotations

import errno
from enum import IntEnum

import click

from streamfn.errors import (
    ConfigError,
    Corruption,
    FunctionNotFound,
    InvalidRequest,
    LockTimeout,
    LogFull,
    StreamfnError,
    Throttled,
    UnsupportedFormat,
    WorkerUnavailable,
)


class Exit(IntEnum):
    """Exit codes; 64 and above are those of sysexits.h and of the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_STARTED = 3
    CORRUPT = 5
    TRY_AGAIN = 75
    CONFIG = 78
    INTERRUPTED = 130


class CommandError(Exception):
    """A command failed for a reason that only the command line knows."""

    def __init__(self, message: str, hint: str | None = None, code: Exit = Exit.FAILED) -> None:
        super().__init__(message, hint, code)
        self.message, self.hint, self.code = message, hint, code


APP_FIELD = "APP"
"""`ConfigError.field` of a wrong APP argument, which is an error of usage."""

CONFIG_HINTS = {
    "log_dir": "choose another with --log-dir or STREAMFN_LOG_DIR",
}
"""Hints for `ConfigError` on the command line, by its field."""

WORKER_HINT = "start one with `streamfn worker APP`, or call with --where local"
"""The hint of `WorkerUnavailable` on the command line."""

_BY_ERROR: tuple[tuple[type[BaseException], Exit], ...] = (
    (click.UsageError, Exit.USAGE),
    (click.Abort, Exit.INTERRUPTED),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (ConfigError, Exit.CONFIG),
    (UnsupportedFormat, Exit.CONFIG),
    (Corruption, Exit.CORRUPT),
    (LogFull, Exit.TRY_AGAIN),
    (LockTimeout, Exit.TRY_AGAIN),
    (FunctionNotFound, Exit.USAGE),
    (InvalidRequest, Exit.USAGE),
    (Throttled, Exit.TRY_AGAIN),
    (WorkerUnavailable, Exit.TRY_AGAIN),
)


def exit_code(error: BaseException) -> Exit:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, ConfigError) and error.field == APP_FIELD:
        return Exit.USAGE
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Exit.TRY_AGAIN
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)


def one_line(error: BaseException) -> str:
    """Return the cause and, if it is known, the fix: `error: … (hint: …)`."""
    message, hint = _parts(error)
    line = " ".join(message.split())
    return f"error: {line} (hint: {hint})" if hint else f"error: {line}"


def _parts(error: BaseException) -> tuple[str, str | None]:
    if isinstance(error, CommandError):
        return error.message, error.hint
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, WorkerUnavailable):
        return str(error), WORKER_HINT
    if isinstance(error, StreamfnError):
        hint = CONFIG_HINTS.get(error.field) if isinstance(error, ConfigError) else error.hint
        return str(error), hint
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", None
    return f"{type(error).__name__}: {error}", None


def _usage(error: click.ClickException) -> tuple[str, str | None]:
    """Return click's message in our style: no capital, no full stop, literals in backticks."""
    message = _no_such(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    message = message.rstrip(".").replace("'", "`")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "streamfn"
    return message[:1].lower() + message[1:], f"`{path} --help` shows the usage"


def _no_such(error: click.NoSuchOption) -> str:
    """Return the message for an unknown option; it suggests an option only if one is similar.

    WHY: click compares the dashes too, so it finds every short option similar to every other.
    """
    from streamfn.model.options import closest

    options = error.ctx.command.get_params(error.ctx) if error.ctx else []
    close = closest(error.option_name, [name for each in options for name in each.opts])
    meant = "" if close is None else f", did you mean `{close}`?"
    return f"no such option `{error.option_name}`{meant}"
