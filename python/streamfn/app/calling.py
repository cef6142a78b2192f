"""Calls an app's functions by request; `App.invoke` and its twins import this when they need it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from streamfn.errors import ConfigError
from streamfn.invocation.invoke import CallOptions, invoke
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


class LocalCall:
    """A call of an app's function in this process, if it comes to that."""

    def __init__(self, app: App, name: str, options: CallOptions) -> None:
        """Note what is called.

        Args:
            app: The app.
            name: `<app>.<function>`; it need not exist.
            options: How it is called.
        """
        self._app, self._name, self._options = app, name, options

    @property
    def names(self) -> Collection[str]:
        """All functions of the app that are called by request, as `<app>.<function>`."""
        return self._configs

    @property
    def on_streams(self) -> Collection[str]:
        """Functions of the app that are called with records only."""
        return {each.name for each in self._app.mappings}

    def run(self, payload: bytes) -> Reply:
        """Make the call."""
        return invoke_here(
            self._configs[self._name],
            self._app.handler(self._name),
            payload,
            client_context=self._options.client_context,
            open_log=lambda: opened_log(self._options.log),
        )

    @property
    def _configs(self) -> dict[str, FunctionConfig]:
        return {config.name: config for config in self._app.functions}


def call(app: App, function: str, payload: object, options: CallOptions) -> Any:  # noqa: ANN401
    """Call a function and return what it returned; see `App.invoke`."""
    name = full_name(app, function)
    return invoke(name, payload, options, LocalCall(app, name, options))


def full_name(app: App, function: object) -> str:
    """Return `<app>.<function>` for the name of a function.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(function, str):
        reason = f"`{function!r}` is no name, pass the name of the function as text"
        raise ConfigError("function", reason)
    return function if "." in function else f"{app.name}.{function}"
