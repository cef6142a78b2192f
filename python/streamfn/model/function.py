"""Inspects a user's function without calling it."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any

Handler = Callable[..., Any]
"""A user's function; takes the records of a call and, optionally, the context."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def positional_parameters(handler: Handler) -> list[inspect.Parameter]:
    """Return the parameters that can be passed by position, without `*args`."""
    parameters = inspect.signature(handler).parameters.values()
    return [parameter for parameter in parameters if parameter.kind in _POSITIONAL]


def takes_context(handler: Handler) -> bool:
    """Whether the function has a second positional parameter, which receives the context."""
    return len(positional_parameters(handler)) > 1


def is_async(handler: Handler) -> bool:
    """Whether calling the function returns an awaitable or an asynchronous iterator."""
    function = inspect.unwrap(handler)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_generator(handler: Handler) -> bool:
    """Whether calling the function returns a generator, asynchronous or not."""
    return any(
        inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        for function in (inspect.unwrap(handler), type(handler).__call__)
    )


def code_version(handler: Handler) -> str:
    """Return 12 hex digits that change when the function's code changes.

    Comments, formatting, line numbers and the functions that it calls do not count. For a callable
    without Python code, such as a builtin, the digits depend on the name of its type.
    """
    digest = hashlib.sha256()
    function = inspect.unwrap(handler)
    if not hasattr(function, "__code__"):  # an object with `__call__`
        function = vars(type(function)).get("__call__", function)
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        _feed(digest.update, code)
    else:
        digest.update(type(handler).__qualname__.encode())
    return digest.hexdigest()[:12]


def _feed(update: Callable[[bytes], None], code: CodeType) -> None:
    update(code.co_code)
    update("\0".join(code.co_names).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _feed(update, constant)
        elif isinstance(constant, frozenset):
            # WHY sorted: the order of a set of strings differs between processes.
            update(repr(sorted(map(repr, constant))).encode())
        else:
            update(repr(constant).encode())
