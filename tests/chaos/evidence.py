"""What follows from a history and the log together; every rule of the checker starts from here."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from contents import Contents, Shard
from history import History, Place, Put


@dataclass(frozen=True)
class Evidence:
    """A history, the log after it, and what can be derived from both."""

    history: History
    contents: Contents

    def shard(self, place: Place) -> Shard:
        """The shard of a place."""
        return self.contents.shards[place.stream, place.shard_id]

    def is_trimmed(self, place: Place) -> bool:
        """Whether the trim horizon says that it is gone."""
        return place.number < self.shard(place).horizon

    def observations(self) -> Iterator[tuple[str, Place, str]]:
        """Everything that anybody saw: who, where, the digest of what."""
        history = self.history
        for put in history.puts:
            if put.place:
                yield f"the acknowledgement of {put.producer}", put.place, put.digest
        for reading in history.readings:
            for step in reading.steps:
                if step[0] == "record":
                    place = Place(reading.stream, reading.shard_id, step[1])
                    yield f"reader {reading.reader}", place, step[2]
        for call in history.calls:
            for place, digest in zip(call.places(), call.digests, strict=True):
                yield f"function {call.function}", place, digest
        for (stream, shard_id), shard in self.contents.shards.items():
            for number, digest in shard.read.items():
                yield "the log", Place(stream, shard_id, number), digest

    @cached_property
    def seen(self) -> dict[Place, str]:
        """The digest of what is at each place, as the first who saw it says."""
        seen: dict[Place, str] = {}
        for _, place, digest in self.observations():
            seen.setdefault(place, digest)
        return seen

    @cached_property
    def numbers(self) -> dict[tuple[str, str], list[int]]:
        """The numbers of all records known, rising, by stream and shard."""
        numbers = defaultdict(list)
        for place in sorted(self.seen):
            numbers[place.stream, place.shard_id].append(place.number)
        return numbers

    @cached_property
    def attempts(self) -> dict[str, list[Put]]:
        """Who put a record, by its digest: more than one where a producer did not know."""
        attempts = defaultdict(list)
        for put in self.history.puts:
            attempts[put.digest].append(put)
        return attempts

    @cached_property
    def put_of(self) -> dict[Place, Put]:
        """Which put made the record at a place, where that can be told."""
        found = {put.place: put for put in self.history.puts if put.place}
        for place, digest in self.seen.items():
            unknown = [put for put in self.attempts.get(digest, ()) if put.place is None]
            if place not in found and len(unknown) == 1:
                found[place] = unknown[0]
        return found

    @cached_property
    def keys(self) -> dict[Place, str | None]:
        """The partition key of each record that somebody put."""
        attempts = self.attempts
        return {
            place: attempts[digest][0].key
            for place, digest in self.seen.items()
            if digest in attempts
        }

    @cached_property
    def order(self) -> dict[tuple[str, str], list[Place]]:
        """The places of each key of a stream, in the order of the log.

        A key lives in one shard at a time, and a child has a higher number than its parents.
        """
        order = defaultdict(list)
        for place in sorted(self.keys):
            key = self.keys[place]
            if key is not None:
                order[place.stream, key].append(place)
        return order
