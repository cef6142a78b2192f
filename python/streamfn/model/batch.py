"""`Batch`: the records of one call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, overload

from streamfn._core import ArrowBatch, Record, Records
from streamfn.clock import Clock, SystemClock
from streamfn.errors import FunctionFailed
from streamfn.model.window import Window, WindowCall

if TYPE_CHECKING:
    from streamfn.model.context import Context


class Batch(Sequence[Record]):
    """Consecutive records of one lane, in order; values are decoded when they are accessed.

    If a function can continue after a bad record, it calls `fail` for the record and returns. Then
    that record and later records of its key in this batch are retried; the others are done.
    """

    __slots__ = ("_call", "_clock", "_context", "_failures", "_make_context", "_records")

    def __init__(
        self,
        records: Records,
        context: Context | None = None,
        *,
        make_context: Callable[[], Context] | None = None,
        clock: Clock | None = None,
        call: WindowCall | None = None,
    ) -> None:
        self._records = records
        self._context = context
        self._make_context = make_context
        """Makes the context on first access."""
        self._call = call
        self._clock = clock or SystemClock()
        self._failures: dict[int, BaseException] = {}

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        context: Context | None = None,
        *,
        call: WindowCall | None = None,
    ) -> Batch:
        """Make a batch from records built by hand, to call a function in a test.

        Records without a sequence number are numbered 0, 1, 2, …

        Args:
            records: The records; empty for the final call of a window.
            context: The context of the call.
            call: The window of the call, for a function with `tumbling_window`.

        Raises:
            ConfigError: The sequence numbers do not increase.
        """
        return cls(Records(records), context, call=call)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __repr__(self) -> str:
        if not self._records:
            return "<Batch of 0 records>"
        place = f"{self._records.stream}/{self._records.shard_id}"
        numbers = f"{self._records.first}..{self._records.last}"
        return f"<Batch of {len(self)} records, {place} {numbers}>"

    @property
    def records(self) -> Records:
        """The records as the core holds them."""
        return self._records

    @property
    def context(self) -> Context:
        """The context of this call.

        Raises:
            RuntimeError: The batch was not made for a call: it comes from `Stream.read`.
        """
        context = self._context
        if context is None and self._make_context is not None:
            context = self._context = self._make_context()
        if context is None:
            message = "this batch was not made for a call of a function, so it has no context"
            raise RuntimeError(message)
        return context

    def values(self) -> list[bytes]:
        """Return the payloads.  Shapes: len(result) == len(batch)."""
        return self._records.values()

    def json(self) -> list[Any]:
        """Return the payloads decoded as JSON.

        Raises:
            ValueError: A payload is not JSON.
        """
        return self._records.json()

    def to_arrow(self) -> ArrowBatch:
        """Return the records as an Arrow record batch, for `pyarrow.record_batch` and the like.

        Shapes: one row per record; `ArrowBatch` lists the columns.

        Raises:
            OverflowError: The batch is larger than 2 GiB.
        """
        return self._records.to_arrow()

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Export the records to an Arrow library (the Arrow PyCapsule interface)."""
        return self.to_arrow().__arrow_c_array__(requested_schema)

    @property
    def window(self) -> Window | None:
        """The tumbling window of this call; None without `tumbling_window`."""
        return None if self._call is None else self._call.window

    @property
    def state(self) -> Any:  # noqa: ANN401 -- whatever the function left
        """The state that is carried from call to call of a window: a JSON value or bytes.

        It is None in the first call of a window. A function assigns it or changes it in place; when
        the call succeeds, the next call gets the new state.

        Raises:
            RuntimeError: It is assigned without `tumbling_window`.
        """
        return None if self._call is None else self._call.state

    @state.setter
    def state(self, value: Any) -> None:  # noqa: ANN401 -- as above
        if self._call is None:
            message = "the state cannot be kept: the function has no `tumbling_window`"
            raise RuntimeError(message)
        self._call.state = value

    @property
    def is_final(self) -> bool:
        """Whether this is the last call of a window: it has no records, only the state."""
        return self._call is not None and self._call.is_final

    @property
    def is_terminated_early(self) -> bool:
        """Whether the window was closed before its end because the state grew too large."""
        return self._call is not None and self._call.is_terminated_early

    @property
    def iterator_age(self) -> timedelta:
        """The age of the last record, now minus its arrival: how far behind this call is."""
        if not self._records:
            return timedelta(0)
        arrival = self._records[-1].timestamp
        return max(self._clock.now() - arrival, timedelta(0))

    def fail(self, record: Record, error: BaseException | str | None = None) -> None:
        """Mark a record as failed, to be retried. Unmarked records are done when the call returns.

        Later records of the same key in this batch are retried with it.

        Args:
            record: A record of this batch.
            error: The reason. By default, inside an `except` block, the exception being handled, so
                that the dead letter has its traceback.

        Raises:
            ValueError: The record is not of this batch.
        """
        place = self._records.index(record.sequence_number)
        if self._records[place] != record:
            message = f"this is not record #{record.sequence_number} of this batch, pass that one"
            raise ValueError(message)
        cause = error if error is not None else sys.exc_info()[1]
        if not isinstance(cause, BaseException):
            cause = FunctionFailed(cause or "the function marked this record as failed")
        self._failures[record.sequence_number] = cause

    @property
    def failures(self) -> list[tuple[int, BaseException]]:
        """Sequence number and cause of each record passed to `fail`, in order of the records."""
        return sorted(self._failures.items(), key=lambda failure: failure[0])
