"""`streamfn invoke`: calls a function by request."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .console import is_terminal, output, write_line
from .exits import CommandError, Exit
from .params import log_dir_option, output_options

if TYPE_CHECKING:
    from streamfn.errors import FunctionError
    from streamfn.invocation.invoke import CallOptions
    from streamfn.invocation.reply import Reply

QUOTE_CHARS_MAX = 40
"""Longest argument that an error repeats."""


@click.command("invoke")
@click.argument("app", envvar="STREAMFN_APP")
@click.argument("function", metavar="FN")
@click.option(
    "--payload",
    metavar="JSON|@FILE|-",
    help="The argument of the call: JSON, the name of a file with JSON after an @, or - for "
    "standard input. Without it the function gets {}.",
)
@click.option(
    "--where",
    type=click.Choice(["auto", "local", "worker"]),
    default="auto",
    show_default=True,
    help="worker: in a process of a running worker. local: in this process; a timeout cannot end "
    "the call. auto: through a worker if one runs the function, else local.",
)
@click.option("--tail", is_flag=True, help="Write the last 4 KiB that the call printed to stderr.")
@click.option(
    "--client-context",
    metavar="JSON",
    help="A JSON value that the function finds in context.client_context.",
)
@click.option("--factory", is_flag=True, help="APP names a callable that returns the app.")
@log_dir_option
@output_options
def command(
    *,
    app: str,
    function: str,
    payload: str | None,
    where: str,
    tail: bool,
    client_context: str | None,
    factory: bool,
    log_dir: str,
) -> int:
    """Call FN, a function by request of APP, and print its answer as JSON.

    APP is `module:attr`, `file.py` or `file.py:attr`. If a worker runs FN, the worker's code
    answers, and APP is not imported. FN is the name of the function, or `app.function`.

    The exit code is 0 if the function returned, 1 if it failed (its error is the answer), 2 if
    there is no such function or the payload is not JSON, 75 if it was throttled or no worker
    answers; then the same command can succeed later.
    """
    from streamfn import errors
    from streamfn.invocation.invoke import NO_PAYLOAD, CallOptions, shown

    body = NO_PAYLOAD if payload is None else _payload(payload)
    context = None if client_context is None else _json(client_context, "--client-context")
    options = CallOptions(where, log_dir, context, tail)  # type: ignore[arg-type]  # a Choice
    try:
        reply = shown(_reply(app, function, body, options, factory=factory))
    except errors.FunctionError as error:
        _write(_error_object(error))
        return Exit.FAILED
    _write(reply.payload)
    return Exit.FAILED if reply.is_failed else Exit.OK


def _reply(
    app: str, function: str, payload: bytes, options: CallOptions, *, factory: bool
) -> Reply:
    """Call the function; APP is imported only if the call is made in this process."""
    from streamfn.errors import FunctionNotFound, WorkerUnavailable
    from streamfn.invocation.invoke import check, check_here, here

    check(payload, options)
    refused: FunctionNotFound | WorkerUnavailable | None = None
    if options.where != "local":
        try:
            return _from_worker(function, payload, options)
        except (FunctionNotFound, WorkerUnavailable) as error:
            if options.where == "worker" or _is_announced(options, error.name):
                raise
            refused = error
    from streamfn.app import load_app
    from streamfn.app.calling import LocalCall, full_name

    # WHY: standard output has the answer and nothing else, so that another program can read it.
    with redirect_stdout(sys.stderr):
        loaded = load_app(app, factory=factory)
        name = full_name(loaded, function)
        local = LocalCall(loaded, name, options)
        if refused is not None:
            check_here(name, refused, local)
            output.detail(f"`{name}` runs in this process, because no worker runs it")
        return here(name, payload, options._replace(where="local"), local)


def _from_worker(function: str, payload: bytes, options: CallOptions) -> Reply:
    from streamfn.errors import WorkerUnavailable
    from streamfn.invocation.client import invoke_through_worker
    from streamfn.invocation.logs import existing_log

    log = existing_log(options.log)
    if log is None:
        raise WorkerUnavailable(function, f"there is no log directory `{options.log}`")
    context, tail = options.client_context, options.tail
    return invoke_through_worker(log, function, payload, client_context=context, tail=tail)


def _is_announced(options: CallOptions, name: str) -> bool:
    from streamfn.invocation.logs import existing_log
    from streamfn.invocation.workers import is_announced

    log = existing_log(options.log)
    return log is not None and is_announced(log.core, name)


def _payload(argument: str) -> bytes:
    """Return the JSON text that `--payload` means.

    Raises:
        CommandError: It is not JSON, or the file cannot be read.
    """
    if argument == "-":
        data, what = sys.stdin.buffer.read(), "standard input"
    elif argument.startswith("@"):
        data, what = _file(argument[1:]), f"`{argument[1:]}`"
    else:
        _json(argument, "--payload")
        return argument.encode()
    _check_json(data, what, hint=None)
    return data


def _file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        message = f"the payload cannot be read from `{name}`: {error.strerror}"
        raise CommandError(message, _file_hint(name), Exit.USAGE) from None


def _file_hint(name: str) -> str:
    from streamfn.model.options import closest

    folder = Path(name).parent
    names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    close = closest(Path(name).name, names)
    if close is not None:
        return f"did you mean `@{folder / close}`?"
    return "the name of the file stands after the @"


def _json(argument: str, option: str) -> Any:  # noqa: ANN401 -- any JSON value
    """Return the value of an argument that is JSON."""
    hint = f"in most shells, JSON stands in single quotes: {option} '{{\"key\": 1}}'"
    with suppress(OSError, ValueError):  # it is too long for a name, or has a NUL
        if Path(argument).is_file():
            hint = f"to send the file, write {option} @{argument}"
    return _check_json(argument.encode("utf-8", "surrogateescape"), f"{option} {argument}", hint)


def _check_json(data: bytes, what: str, hint: str | None) -> Any:  # noqa: ANN401 -- as above
    """Return the value of a JSON text; the error names the place where it is none."""
    import orjson

    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if len(what) > QUOTE_CHARS_MAX:
            what = f"{what[:QUOTE_CHARS_MAX]}…"
        place = f"line {error.lineno}, column {error.colno}"
        _refuse(f"{what} is not JSON: {error.msg} at {place}", hint)


def _refuse(message: str, hint: str | None) -> NoReturn:
    raise CommandError(message, hint, Exit.USAGE)


def _error_object(error: FunctionError) -> bytes:
    import orjson

    return orjson.dumps({
        "errorMessage": error.error_message,
        "errorType": error.error_type,
        "requestId": error.request_id,
        "stackTrace": list(error.stack_trace),
    })  # fmt: skip


def _write(body: bytes) -> None:
    """Write an answer; for a person, on several lines."""
    import orjson

    if is_terminal(sys.stdout):
        body = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2)
    write_line(body)
