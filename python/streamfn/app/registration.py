"""Registers an app's functions; nothing is called here.

from streamfn import App, Batch

app = App("shop")

@app.stream("orders", batch_size=500)
def total(batch: Batch) -> None:
    ...
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import EllipsisType
from typing import TypeVar, Unpack

from streamfn.errors import ConfigError
from streamfn.model.declaration import StreamDeclaration, declared_stream
from streamfn.model.function import (
    Handler,
    code_version,
    is_generator,
    positional_parameters,
)
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.options import StreamOptions, checked_name, mapping_fields, resolved
from streamfn.model.retention import Retention
from streamfn.model.stream import Compression, Durability

_Handler = TypeVar("_Handler", bound=Handler)

_WAYS_OUT = {"on_failure": ", or leave it out to use the function's own dead-letter stream"}
_LONGEST_FILE_NAME = 255
"""Internal streams are folders named after the mapping, so Linux's limit for names applies."""


class App:
    """A named set of functions and the streams that they read."""

    def __init__(self, name: str) -> None:
        self.name = checked_name("App", name)
        self._mappings: dict[str, EventSourceMapping] = {}
        self._handlers: dict[str, Handler] = {}
        self._declared: dict[str, StreamDeclaration] = {}

    def __repr__(self) -> str:
        return f"<App {self.name}: {', '.join(self._handlers) or 'no functions'}>"

    def stream(
        self, source: str, **options: Unpack[StreamOptions]
    ) -> Callable[[_Handler], _Handler]:
        """Register a function that workers call with the records of a stream.

        This is a decorator. It returns the function unchanged, so tests can call the function
        directly. A call receives a `Batch`, or with `input="record"` one `Record`. If the function
        has a second positional parameter, it receives the `Context`.

        Args:
            source: Name of the stream.
            **options: See `StreamOptions`. docs/functions.md lists all options with their defaults,
                bounds and AWS's names.

        Raises:
            ConfigError: An argument is invalid, or another function of the app has the same name.
        """
        values, bounds = resolved(options)
        name = values.pop("name", None)
        stream = _stream_name(source)
        fields = mapping_fields(values, bounds)

        def register(handler: _Handler) -> _Handler:
            function = _function_name(name, handler)
            mapping = EventSourceMapping(
                name=f"{self.name}.{function}",
                app=self.name,
                function=function,
                stream=stream,
                version=code_version(handler),
                **fields,
            )
            _check_window(mapping)
            _check_signature(handler, mapping)
            self._add(mapping, handler)
            return handler

        return register

    def declare(
        self,
        name: str,
        *,
        shards: int | None = None,
        durability: Durability | None = None,
        retention: Retention | tuple[Retention, ...] | EllipsisType | None = ...,
        compression: Compression | None = None,
    ) -> None:
        """Declare a stream: a worker creates it when it starts, if it does not exist.

        A stream that exists is never changed. If it differs from its declaration, the worker logs
        each difference as a warning, with the command that removes it. Settings that are not given
        are not compared; a new stream gets the defaults of `Log.create_stream`.

        Args:
            name: 1 to 128 letters, digits, `_` or `-`.
            shards: Number of open shards.
            durability: `"group"` or `"process"`.
            retention: `"7d"`, `"10GiB"`, `"consumed"`, or a tuple of these. None: keep all records.
            compression: `"zstd"` or `"none"`.

        Raises:
            ConfigError: An argument is invalid, or the stream is declared already.
        """
        declared = declared_stream(
            name,
            shards=shards,
            durability=durability,
            retention=retention,
            compression=compression,
        )
        if declared.name in self._declared:
            raise ConfigError("name", f"`{name}` is declared already, declare a stream once")
        self._declared[declared.name] = declared

    @property
    def declared_streams(self) -> tuple[StreamDeclaration, ...]:
        """The streams that were declared, in order of declaration."""
        return tuple(self._declared.values())

    @property
    def mappings(self) -> tuple[EventSourceMapping, ...]:
        """The mappings of all registered functions, in order of registration."""
        return tuple(self._mappings.values())

    def handler(self, mapping_name: str) -> Handler:
        """Return the function registered under `<app>.<function>`.

        Raises:
            KeyError: There is no such function.
        """
        return self._handlers[mapping_name]

    def _add(self, mapping: EventSourceMapping, handler: Handler) -> None:
        if mapping.name in self._mappings:
            reason = f"`{mapping.function}` is registered already, give this one `name=`"
            raise ConfigError("name", reason)
        longest = max(mapping.dlq_stream, mapping.redrive_stream, key=len)
        if len(longest) > _LONGEST_FILE_NAME:
            most = _LONGEST_FILE_NAME - len(longest) + len(mapping.name)
            reason = f"app and function are too long together, at most {most} with the dot"
            raise ConfigError("name", reason)
        self._mappings[mapping.name] = mapping
        self._handlers[mapping.name] = handler


def _stream_name(source: str) -> str:
    if callable(source):
        raise ConfigError("source", '`@app.stream` needs a stream: write `@app.stream("orders")`')
    scheme, is_address, _ = str(source).partition("://")
    if is_address:
        reason = f"the connector for `{scheme}://` comes in a later release, name a stream"
        raise ConfigError("source", reason)
    return checked_name("source", source)


def _function_name(name: str | None, handler: Handler) -> str:
    if not callable(handler):
        raise ConfigError("function", f"`{handler!r}` cannot be called")
    if name is not None:
        return checked_name("name", name)
    own = getattr(handler, "__name__", type(handler).__name__)
    if own == "<lambda>":
        raise ConfigError("name", "a lambda has no name of its own, give it one with `name=`")
    return checked_name("name", own)


def _check_window(mapping: EventSourceMapping) -> None:
    """Refuse tumbling windows for an input that cannot show their state."""
    if mapping.tumbling is not None and not INPUTS[mapping.input].has_state:
        able = " or ".join(f'`input="{each.name}"`' for each in INPUTS.values() if each.has_state)
        reason = f'`input="{mapping.input}"` does not show the state of a window, use {able}'
        raise ConfigError("tumbling_window", reason)


def _check_signature(handler: Handler, mapping: EventSourceMapping) -> None:
    """Refuse a function whose signature does not fit its mapping."""
    if is_generator(handler) and mapping.to is None:
        # WHY here: a call would only make the generator and run none of its body.
        reason = (
            f"`{mapping.function}` is a generator but has no `to=` stream: "
            "add `to=`, or write it without `yield`"
        )
        raise ConfigError("function", reason)
    for field, stream in mapping.targets.items():
        if stream == mapping.stream:
            reason = f"`{mapping.function}` reads `{stream}` and would read its own output forever"
            raise ConfigError(field, f"{reason}: name another stream{_WAYS_OUT.get(field, '')}")
    try:
        parameters = positional_parameters(handler)
        variadic = any(
            parameter.kind is parameter.VAR_POSITIONAL
            for parameter in inspect.signature(handler).parameters.values()
        )
    except ValueError:  # a builtin without a signature: the first call shows whether it fits
        return
    if not parameters and not variadic:
        reason = f"`{mapping.function}` takes no positional parameter, add one for the records"
        raise ConfigError("function", reason)
    keywords = [
        each
        for each in inspect.signature(handler).parameters.values()
        if each.kind is each.KEYWORD_ONLY
    ]
    required = [each for each in parameters[2:] + keywords if each.default is each.empty]
    if required:
        reason = (
            f"`{mapping.function}` requires `{required[0].name}`, "
            f"but a call passes only {mapping.input} and context"
        )
        raise ConfigError("function", reason)
    if not parameters:
        return
    _check_annotation(_annotated_class(handler, parameters[0]), mapping)


def _check_annotation(wanted: str, mapping: EventSourceMapping) -> None:
    """Refuse a parameter annotated with the class of another input."""
    kind = INPUTS[mapping.input]
    others = [each.name for each in INPUTS.values() if each.takes == wanted]
    if wanted and wanted != kind.takes and others:
        takes = f", or take a `{kind.takes}`" if kind.takes else ""
        reason = f'`{mapping.function}` takes a `{wanted}`: say `input="{others[0]}"`{takes}'
        raise ConfigError("input", reason)


def _annotated_class(handler: Handler, parameter: inspect.Parameter) -> str:
    """Return the last part of the parameter's annotation; empty without one."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    if isinstance(annotation, str):
        try:
            annotation = typing.get_type_hints(handler).get(parameter.name, annotation)
        except Exception:  # noqa: BLE001 -- names that only the type checker knows: use the text
            return str(annotation).rpartition(".")[2].strip("'\" ")
    return getattr(annotation, "__name__", "")
