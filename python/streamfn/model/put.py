"""Results of `put` and `put_many`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload


class PutResult(NamedTuple):
    """The shard and sequence number of a record that was put."""

    shard_id: str
    sequence_number: int


class PutResults(Sequence[PutResult]):
    """One `PutResult` for each record, in the order given, made on access."""

    __slots__ = ("_results",)

    def __init__(self, results: Sequence[tuple[str, int]]) -> None:
        self._results = results

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> PutResult: ...
    @overload
    def __getitem__(self, index: slice) -> PutResults: ...
    def __getitem__(self, index: int | slice) -> PutResult | PutResults:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            return PutResults([self._results[each] for each in chosen])
        return PutResult(*self._results[index])

    def __repr__(self) -> str:
        return f"<PutResults of {len(self)} records>"
