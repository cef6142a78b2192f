"""What one call receives: the kinds of `input=`.

A kind is a value: how a batch becomes the function's first argument, and the context its second.
More of them can be registered; the engine knows none by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from streamfn.errors import ConfigError

from .batch import Batch
from .context import Context
from .lambda_input import LambdaContext, check_json, kinesis_event, take_state


def _state_as_assigned(batch: Batch, returned: object) -> bool:  # noqa: ARG001 -- one of a kind
    """Leave `batch.state` as the function left it."""
    return False


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 -- whatever it is
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class InputKind:
    """One value of `input=`."""

    name: str
    """What `input=` says."""
    event: Callable[[Batch], object] = _as_it_is
    """Makes the first argument of a call from its records."""
    context: Callable[[Context], object] = _as_it_is
    """Makes the second, for a function that takes one."""
    returned: Callable[[object], object] = _as_it_is
    """Looks at what the function returned; an error that it raises is the call's."""
    keep_state: Callable[[Batch, object], bool] = _state_as_assigned
    """With `tumbling_window`: may put what came back into `batch.state`, and returns whether it
    did; its errors are the call's."""
    takes: str = ""
    """Name of the class that the first parameter may be annotated with; "" is any."""
    has_state: bool = True
    """Whether the first argument lets a function see its window and its state."""
    is_per_record: bool = False
    """Whether a call gets one record, as it is, instead of `event(batch)`."""
    is_exclusive: bool = False
    """Whether a process makes one call at a time of all functions with such an input, unless they
    say `concurrent=True`."""


INPUTS: Final[dict[str, InputKind]] = {
    "batch": InputKind(name="batch", takes="Batch"),
    "record": InputKind(name="record", takes="Record", is_per_record=True, has_state=False),
    "lambda": InputKind(
        name="lambda",
        event=kinesis_event,
        context=LambdaContext,
        returned=check_json,
        keep_state=take_state,
        # SOURCE: an execution environment of AWS processes one event at a time, and handlers keep
        # what they are working on in their module (Powertools' batch processors do).
        is_exclusive=True,
    ),
    "arrow": InputKind(name="arrow", event=Batch.to_arrow, takes="ArrowBatch", has_state=False),
}
"""All kinds, by name."""


def register_input(kind: InputKind) -> None:
    """Add a kind, so that `@app.stream(..., input=kind.name)` knows it.

    Call it where the app is defined: each runner imports the app, and so registers it too.

    Raises:
        ConfigError: The name is taken, by another kind.
    """
    if INPUTS.setdefault(kind.name, kind) != kind:
        raise ConfigError("input", f"there is an input `{kind.name}` already, take another name")
