"""Refuses functions whose signature does not fit how they are called."""

from __future__ import annotations

import inspect
import typing
from typing import Final

from streamfn._core import ArrowBatch, Record
from streamfn.errors import ConfigError
from streamfn.model.batch import Batch
from streamfn.model.function import Handler, is_generator, positional_parameters
from streamfn.model.inputs import INPUTS
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.options import checked_name
from streamfn.model.typed import annotation_of

_RECORDS: Final = (Batch, Record, ArrowBatch)
"""What only functions on streams get."""
_WAYS_OUT: Final = {"on_failure": ", or leave it out to use the function's own dead-letter stream"}


def function_name(name: str | None, handler: Handler) -> str:
    """Return the name of a function: that of the argument, or its own.

    Raises:
        ConfigError: It cannot be a name, or the handler cannot be called.
    """
    if not callable(handler):
        raise ConfigError("function", f"`{handler!r}` cannot be called")
    if name is not None:
        return checked_name("name", name)
    own = getattr(handler, "__name__", type(handler).__name__)
    if own == "<lambda>":
        raise ConfigError("name", "a lambda has no name of its own, give it one with `name=`")
    return checked_name("name", own)


def check_window(mapping: EventSourceMapping) -> None:
    """Refuse tumbling windows for an input that cannot show their state.

    Raises:
        ConfigError: The input cannot.
    """
    if mapping.tumbling is not None and not INPUTS[mapping.input].has_state:
        able = " or ".join(f'`input="{each.name}"`' for each in INPUTS.values() if each.has_state)
        reason = f'`input="{mapping.input}"` does not show the state of a window, use {able}'
        raise ConfigError("tumbling_window", reason)


def check_stream_function(handler: Handler, mapping: EventSourceMapping) -> None:
    """Refuse a function whose signature does not fit its mapping.

    Raises:
        ConfigError: It does not.
    """
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
    first = _first_parameter(handler, mapping.function, mapping.input, "the records")
    if first is not None:
        _check_annotation(_annotated_class(handler, first), mapping)


def check_function(handler: Handler, name: str) -> None:
    """Refuse a function that cannot be called by request.

    Raises:
        ConfigError: It takes no payload, requires more than payload and context, is a generator, or
            takes records.
    """
    if is_generator(handler):
        reason = f"`{name}` is a generator, and a call has one answer: return a list, or write it"
        raise ConfigError("function", f"{reason} without `yield`")
    if isinstance(handler, type):
        raise ConfigError("function", f"`{name}` is a class, register a function")
    _first_parameter(handler, name, "payload", "the payload")
    wanted = annotation_of(handler)
    if any(wanted is each for each in _RECORDS):
        reason = f"`{name}` takes a `{wanted.__name__}`: register it with `@app.stream`"
        raise ConfigError("function", f"{reason}, or name the type of its payload")


def _first_parameter(
    handler: Handler, name: str, passed: str, what: str
) -> inspect.Parameter | None:
    """Return the first positional parameter; None if that is not known.

    Args:
        handler: The function.
        name: Its name.
        passed: What a call passes first, in one word.
        what: The same with its article.

    Raises:
        ConfigError: There is none, or a call would lack an argument.
    """
    try:
        every = inspect.signature(handler).parameters.values()
    except ValueError:  # a builtin without a signature: the first call shows whether it fits
        return None
    parameters = positional_parameters(handler)
    if not parameters and not any(each.kind is each.VAR_POSITIONAL for each in every):
        reason = f"`{name}` takes no positional parameter, add one for {what}"
        raise ConfigError("function", reason)
    keywords = [each for each in every if each.kind is each.KEYWORD_ONLY]
    required = [each for each in parameters[2:] + keywords if each.default is each.empty]
    if required:
        reason = (
            f"`{name}` requires `{required[0].name}`, but a call passes only {passed} and context"
        )
        raise ConfigError("function", reason)
    return parameters[0] if parameters else None


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
