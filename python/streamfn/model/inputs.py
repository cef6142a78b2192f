"""The values of `input=`: what a call receives.

An `InputKind` converts the batch into the function's first argument, and the context into the
second. `register_input` adds more kinds; the engine does not depend on their names.
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
    """Keep the `batch.state` that the function assigned."""
    return False


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 -- whatever it is
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class InputKind:
    """One value of `input=`."""

    name: str
    """The value of `input=`."""
    event: Callable[[Batch], object] = _as_it_is
    """Makes the first argument of a call from its records."""
    context: Callable[[Context], object] = _as_it_is
    """Makes the second argument, for a function that takes one."""
    returned: Callable[[object], object] = _as_it_is
    """Checks or converts the returned value; if it raises, the call fails with that error."""
    keep_state: Callable[[Batch, object], bool] = _state_as_assigned
    """With `tumbling_window`: may assign the returned value to `batch.state`, and returns whether
    it did; if it raises, the call fails with that error."""
    takes: str = ""
    """Name of the class that the first parameter may be annotated with; "" allows any."""
    has_state: bool = True
    """Whether the first argument shows the function its window and state."""
    is_per_record: bool = False
    """Whether a call gets one `Record` instead of `event(batch)`."""
    is_exclusive: bool = False
    """Whether a process makes one call at a time, over all functions with an exclusive input;
    functions with `concurrent=True` are exempt."""


INPUTS: Final[dict[str, InputKind]] = {
    "batch": InputKind(name="batch", takes="Batch"),
    "record": InputKind(name="record", takes="Record", is_per_record=True, has_state=False),
    "lambda": InputKind(
        name="lambda",
        event=kinesis_event,
        context=LambdaContext,
        returned=check_json,
        keep_state=take_state,
        # SOURCE: an AWS execution environment processes one event at a time, so handlers keep
        # the state of a call in module variables (Powertools' batch processors do).
        is_exclusive=True,
    ),
    "arrow": InputKind(name="arrow", event=Batch.to_arrow, takes="ArrowBatch", has_state=False),
}
"""All kinds, by name."""


def register_input(kind: InputKind) -> None:
    """Add a kind for `@app.stream(..., input=kind.name)`.

    Call this in the module of the app: each runner process imports that module and so registers the
    kind as well.

    Raises:
        ConfigError: Another kind has the name.
    """
    if INPUTS.setdefault(kind.name, kind) != kind:
        raise ConfigError("input", f"there is an input `{kind.name}` already, take another name")
