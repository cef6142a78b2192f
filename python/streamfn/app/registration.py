"""Registers an app's functions.

from streamfn import App, Batch

app = App("shop")

@app.stream("orders", batch_size=500)
def total(batch: Batch) -> None:
    ...

@app.function(timeout="5s")
def price(order: dict) -> dict:
    ...
"""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload

from streamfn.errors import ConfigError
from streamfn.model.declaration import StreamDeclaration, declared_stream
from streamfn.model.function import Handler, code_version, is_async
from streamfn.model.function_config import FunctionConfig
from streamfn.model.function_options import FunctionOptions, check_names, function_fields
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.options import StreamOptions, checked_name, mapping_fields, resolved
from streamfn.model.retention import Retention
from streamfn.model.stream import Compression, Durability

from .signature import check_function, check_stream_function, check_window, function_name

if TYPE_CHECKING:
    from streamfn.invocation.invoke import Where
    from streamfn.invocation.logs import LogPlace

_Handler = TypeVar("_Handler", bound=Handler)

_LONGEST_FILE_NAME: Final = 255
"""Internal streams are folders named after the mapping, so Linux's limit for names applies."""


class App:
    """A named set of functions, and of the streams that some of them read."""

    def __init__(self, name: str) -> None:
        self.name = checked_name("App", name)
        self._mappings: dict[str, EventSourceMapping] = {}
        self._functions: dict[str, FunctionConfig] = {}
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
            function = function_name(name, handler)
            mapping = EventSourceMapping(
                name=f"{self.name}.{function}",
                app=self.name,
                function=function,
                stream=stream,
                version=code_version(handler),
                **fields,
            )
            check_window(mapping)
            check_stream_function(handler, mapping)
            self._add_mapping(mapping, handler)
            return handler

        return register

    @overload
    def function(self, handler: _Handler, /) -> _Handler: ...

    @overload
    def function(self, **options: Unpack[FunctionOptions]) -> Callable[[_Handler], _Handler]: ...

    def function(  # type: ignore[misc]  # mypy compares `Unpack` with `Any` by its names only
        self,
        handler: object = None,
        /,
        **options: Any,
    ) -> object:
        """Register a function that is called by request: its caller waits for the answer.

        This is a decorator, with arguments or without parentheses. It returns the function
        unchanged. A call receives the payload: a JSON value, or if the parameter is annotated with
        a dataclass, a msgspec struct, a pydantic model or a type made of these, an object of that
        type. If the function has a second positional parameter, it receives the `FunctionContext`.
        What the function returns is its answer, as JSON.

        Args:
            handler: The function, if the decorator is written without parentheses.
            **options: See `FunctionOptions`.

        Raises:
            ConfigError: An argument is invalid, or another function of the app has the same name.
        """
        if handler is not None and not callable(handler):
            reason = f"arguments have names: write `@app.function(name={handler!r})`"
            raise ConfigError("function", reason)
        check_names(options)

        def register(handler: _Handler) -> _Handler:
            function = function_name(options.get("name"), handler)
            check_function(handler, function)
            waits = is_async(handler) or is_async(type(handler).__call__)
            config = FunctionConfig(
                name=f"{self.name}.{function}",
                app=self.name,
                function=function,
                version=code_version(handler),
                **function_fields(options, is_async=waits),
            )
            self._add(config.name, function, handler)
            self._functions[config.name] = config
            return handler

        return register if handler is None else register(handler)

    def invoke(
        self,
        function: str,
        payload: Any = ...,  # noqa: ANN401 -- any JSON value
        *,
        where: Where = "auto",
        log: LogPlace = None,
        client_context: Any = None,  # noqa: ANN401 -- any JSON value
        tail: bool = False,
    ) -> Any:  # noqa: ANN401 -- any JSON value
        """Call a function by request, wait for its answer, and return it.

        The call is never repeated. Threads may call at the same time; `streamfn.aio.invoke` is the
        same for asyncio. docs/by-request.md has examples, and what each error means.

        Args:
            function: Its name.
            payload: A JSON value, or an object that converts to JSON. Left out: `{}`.
            where: `"worker"`: in a process of a worker of the log; the function need not be
                registered in this process. `"local"`: in this process; a timeout cannot kill it.
                `"auto"`: through a worker if one has announced the function, else in this process.
            log: An open log or a path. None: `$STREAMFN_LOG_DIR`, else `.streamfn`.
            client_context: A JSON value that the function finds in `context.client_context`.
            tail: Write the last 4 KiB that the call printed to stderr.

        Raises:
            FunctionError: The function raised, timed out or ended its process.
            FunctionNotFound: There is no such function.
            Throttled: It is at its `concurrency`, or no process was free within its timeout.
            WorkerUnavailable: No worker answers.
            InvalidRequest: The payload is not JSON value, or is larger than 6 MiB.
            ConfigError: `where` is unknown, or the directory is no log.
        """
        # WHY here: programs that register functions need not load what calls them.
        from streamfn.invocation.invoke import CallOptions  # noqa: PLC0415

        from .calling import call  # noqa: PLC0415

        return call(self, function, payload, CallOptions(where, log, client_context, tail))

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
        """The mappings of all functions on streams, in order of registration."""
        return tuple(self._mappings.values())

    @property
    def functions(self) -> tuple[FunctionConfig, ...]:
        """All functions that are called by request, in order of registration."""
        return tuple(self._functions.values())

    def handler(self, name: str) -> Handler:
        """Return the function registered under `<app>.<function>`, of either kind.

        Raises:
            KeyError: There is no such function.
        """
        return self._handlers[name]

    def _add_mapping(self, mapping: EventSourceMapping, handler: Handler) -> None:
        self._refuse_known(mapping.name, mapping.function)
        longest = max(mapping.dlq_stream, mapping.redrive_stream, key=len)
        if len(longest) > _LONGEST_FILE_NAME:
            most = _LONGEST_FILE_NAME - len(longest) + len(mapping.name)
            reason = f"app and function are too long together, at most {most} with the dot"
            raise ConfigError("name", reason)
        self._add(mapping.name, mapping.function, handler)
        self._mappings[mapping.name] = mapping

    def _add(self, name: str, function: str, handler: Handler) -> None:
        self._refuse_known(name, function)
        self._handlers[name] = handler

    def _refuse_known(self, name: str, function: str) -> None:
        if name in self._handlers:
            reason = f"`{function}` is registered already, give this one `name=`"
            raise ConfigError("name", reason)


def _stream_name(source: str) -> str:
    if callable(source):
        raise ConfigError("source", '`@app.stream` needs a stream: write `@app.stream("orders")`')
    scheme, is_address, _ = str(source).partition("://")
    if is_address:
        reason = f"the connector for `{scheme}://` comes in a later release, name a stream"
        raise ConfigError("source", reason)
    return checked_name("source", source)
