"""Payloads of calls by request as values of the type that a function's first parameter names.

Converted are dataclasses, msgspec structs, typed dicts, named tuples, pydantic models, and what
msgspec builds of them and of Python's own types, such as `list[Order]` or `Order | None`. Any other
annotation gets the JSON value as it is: AWS handlers name `dict`, or classes of libraries that wrap
the event themselves.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from .function import Handler, positional_parameters

Decode = Callable[[bytes], Any]
"""Makes a function's first argument from a payload."""

_PLAIN: Final = (Any, object, dict, list, Mapping, MutableMapping, inspect.Parameter.empty)
"""Annotations that say no more than JSON does."""


def decoder_of(handler: Handler) -> Decode:
    """Return what decodes payloads for a handler.

    The decoder raises `orjson.JSONDecodeError` for a payload that is no JSON, and the
    `ValidationError` of msgspec or pydantic for one that does not fit the type.
    """
    kind = annotation_of(handler)
    if _is_plain(kind):
        return _json_loads()
    if hasattr(kind, "model_validate_json"):
        validate: Decode = kind.model_validate_json
        return validate
    return _msgspec_decoder(kind)


def _json_loads() -> Decode:
    # WHY here: a program that registers functions need not load what decodes their payloads.
    from orjson import loads  # noqa: PLC0415

    return loads


def annotation_of(handler: Handler) -> Any:  # noqa: ANN401 -- an annotation may be any object
    """Return the annotation of the first parameter; `Any` if it cannot be resolved."""
    try:
        parameters = positional_parameters(handler)
    except ValueError:  # a builtin without a signature
        return Any
    if not parameters or isinstance(handler, type):
        return Any
    function = handler if inspect.isroutine(handler) else type(handler).__call__
    try:
        hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception:  # noqa: BLE001 -- names that only the type checker knows
        return Any
    return hints.get(parameters[0].name, Any)


def _is_plain(kind: Any) -> bool:  # noqa: ANN401 -- as above
    """Whether an annotation says no more than JSON does, as `dict[str, Any]`."""
    origin = typing.get_origin(kind)
    if origin is None:
        return any(kind is each for each in _PLAIN)
    return origin in _PLAIN and all(each in (str, Any, object) for each in typing.get_args(kind))


def _msgspec_decoder(kind: Any) -> Decode:  # noqa: ANN401 -- as above
    # WHY here: as above, and most functions take what JSON gives.
    import msgspec  # noqa: PLC0415

    try:
        parts = list(_parts(msgspec.inspect.type_info(kind)))
        decode: Decode = msgspec.json.Decoder(kind, dec_hook=_from_model).decode
    except Exception:  # noqa: BLE001 -- nothing that msgspec knows; annotations run users' code
        return _json_loads()
    models = (part.cls for part in parts if isinstance(part, msgspec.inspect.CustomType))
    return decode if all(hasattr(each, "model_validate") for each in models) else _json_loads()


def _parts(info: Any) -> typing.Iterator[Any]:  # noqa: ANN401 -- one of many classes of msgspec
    """Yield the description of a type and, recursively, of its parts."""
    seen, ahead = set[int](), [info]
    while ahead:
        each = ahead.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        for name in getattr(each, "__struct_fields__", ()):
            value = getattr(each, name)
            parts = value if isinstance(value, tuple) else (value,)
            ahead.extend(part for part in parts if hasattr(part, "__struct_fields__"))


def _from_model(kind: type, value: object) -> object:
    """Make a pydantic model inside another type."""
    return kind.model_validate(value)  # type: ignore[attr-defined]  # checked in `_msgspec_decoder`
