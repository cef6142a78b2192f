"""Calls an app's functions by request; `App.invoke` and its twins import this when they need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from streamfn.errors import ConfigError
from streamfn.invocation.invoke import CallOptions, Local, invoke
from streamfn.invocation.local import invoke_here
from streamfn.invocation.logs import opened_log
from streamfn.invocation.reply import Reply
from streamfn.model.function import Handler
from streamfn.model.function_config import FunctionConfig
from streamfn.model.mapping import EventSourceMapping


class App(Protocol):
    """What is needed of a `streamfn.App`, which imports this module."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def functions(self) -> Sequence[FunctionConfig]:
        """The functions that are called by request."""

    @property
    def mappings(self) -> Sequence[EventSourceMapping]:
        """The functions that are called with records."""

    def handler(self, name: str) -> Handler:
        """Return the function registered under `<app>.<function>`."""


def call(app: App, function: str, payload: object, options: CallOptions) -> Any:  # noqa: ANN401
    """Call a function and return what it returned; see `App.invoke`."""
    name = full_name(app, function)
    return invoke(name, payload, options, local_call(app, name, options))


def full_name(app: App, function: object) -> str:
    """Return `<app>.<function>` for the name of a function.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(function, str):
        reason = f"`{function!r}` is no name, pass the name of the function as text"
        raise ConfigError("function", reason)
    return function if "." in function else f"{app.name}.{function}"


def local_call(app: App, name: str, options: CallOptions) -> Local:
    """Return how a function is called in this process.

    Args:
        app: The app.
        name: `<app>.<function>`; it need not exist.
        options: How it is called.
    """
    functions = {config.name: config for config in app.functions}

    def run(payload: bytes) -> Reply:
        return invoke_here(
            functions[name],
            app.handler(name),
            payload,
            client_context=options.client_context,
            open_log=lambda: opened_log(options.log),
        )

    return Local(functions, run, {each.name for each in app.mappings})
