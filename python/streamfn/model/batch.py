"""The records of one call."""

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
    """Consecutive records of one lane, in order; values are decoded only when asked for.

    A function that can carry on past a bad record calls `fail` for it and returns: that record,
    and later records of its key in this batch, are tried again, the others are done.
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
        """Makes it when it is looked at."""
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

        Records that were made without a sequence number get one: 0, 1, 2, …

        Args:
            records: Its records; none of a final call.
            context: Of the call.
            call: The window that it is made in, for a function with `tumbling_window`.

        Raises:
            ConfigError: The sequence numbers given do not rise.
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
        """What is known about this call.

        Raises:
            RuntimeError: The batch was not made for a call (it comes from `Stream.read`).
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

        Shapes: as `ArrowBatch` says, a row a record.

        Raises:
            OverflowError: More than 2 GiB.
        """
        return self._records.to_arrow()

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        """Hand the records to an Arrow library (the Arrow PyCapsule interface)."""
        return self.to_arrow().__arrow_c_array__(requested_schema)

    @property
    def window(self) -> Window | None:
        """The tumbling window that this call is made in; None without `tumbling_window`."""
        return None if self._call is None else self._call.window

    @property
    def state(self) -> Any:  # noqa: ANN401 -- whatever the function left
        """What the function carries from call to call of a window: a JSON value or bytes.

        None in the first call. What stands here when a call has succeeded, assigned or changed in
        place, is what the next one gets.

        Raises:
            RuntimeError: On assignment, without `tumbling_window`.
        """
        return None if self._call is None else self._call.state

    @state.setter
    def state(self, value: Any) -> None:  # noqa: ANN401 -- as above
        if self._call is None:
            message = "nothing keeps this state: the function has no `tumbling_window`"
            raise RuntimeError(message)
        self._call.state = value

    @property
    def is_final(self) -> bool:
        """Whether the window is over: there are no records, only the state."""
        return self._call is not None and self._call.is_final

    @property
    def is_terminated_early(self) -> bool:
        """Whether the final call comes before the window's end: the state grew too large."""
        return self._call is not None and self._call.is_terminated_early

    @property
    def iterator_age(self) -> timedelta:
        """Now minus the arrival of the last record: how far behind this call is."""
        if not self._records:
            return timedelta(0)
        arrival = self._records[-1].timestamp
        return max(self._clock.now() - arrival, timedelta(0))

    def fail(self, record: Record, error: BaseException | str | None = None) -> None:
        """Have this record tried again; the rest of the batch is done when the function returns.

        Args:
            record: A record of this batch.
            error: Why. Without it, inside an `except` block, the exception being handled is taken,
                so that the dead letter has its traceback.

        Raises:
            ValueError: The record is not of this batch.
        """
        place = self._records.index(record.sequence_number)
        if self._records[place] != record:
            message = f"#{record.sequence_number} of this batch is another record: take it from it"
            raise ValueError(message)
        cause = error if error is not None else sys.exc_info()[1]
        if not isinstance(cause, BaseException):
            cause = FunctionFailed(cause or "the function marked this record as failed")
        self._failures[record.sequence_number] = cause

    @property
    def failures(self) -> list[tuple[int, BaseException]]:
        """Sequence number and cause of each record given to `fail`, in order of the records."""
        return sorted(self._failures.items(), key=lambda failure: failure[0])
