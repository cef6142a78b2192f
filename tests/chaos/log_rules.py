"""Rules about what is in the log."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from evidence import Evidence
from history import Place, Put
from violation import Violation, at

NANOSECONDS = 10**9


def acknowledged_is_there(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged is in the log, unless it is declared to be trimmed."""
    for put in evidence.history.puts:
        if put.place is None or put.place.number in evidence.shard(put.place).read:
            continue
        if not evidence.is_trimmed(put.place):
            yield Violation("lost", at(*put.place), f"acknowledged to {put.producer}")


def nothing_is_changed(evidence: Evidence) -> Iterator[Violation]:
    """Everybody who saw a place saw the same record there, and somebody put it."""
    acknowledged = defaultdict(set)
    for put in evidence.history.puts:
        if put.place:
            acknowledged[put.place].add(put.digest)
    for who, place, digest in evidence.observations():
        first = evidence.seen[place]
        if digest == first:
            continue
        name = "number issued twice" if {digest, first} <= acknowledged[place] else "changed"
        yield Violation(name, at(*place), f"{who} has {digest}, another {first}")
    for place, digest in evidence.seen.items():
        if digest not in evidence.attempts:
            yield Violation("nobody put it", at(*place), digest)


def nothing_is_there_twice(evidence: Evidence) -> Iterator[Violation]:
    """A record is there once for each call that put it, and once only if that was acknowledged."""
    places = defaultdict(list)
    for place, digest in evidence.seen.items():
        places[digest].append(place)
    for digest, found in places.items():
        puts = evidence.attempts.get(digest, [])
        if puts and len(found) > len(puts):
            where = ", ".join(at(*place) for place in found)
            yield Violation("there twice", where, f"put {len(puts)} times by {puts[0].producer}")


def both_readers_agree(evidence: Evidence) -> Iterator[Violation]:
    """The engine's reader and the decoder find the same records."""
    for (stream, shard_id), shard in evidence.contents.shards.items():
        for number in sorted(shard.read.keys() | shard.decoded.keys()):
            one, other = shard.read.get(number), shard.decoded.get(number)
            if one != other:
                detail = f"the reader finds {one}, the decoder {other}"
                yield Violation("readers differ", at(stream, shard_id, number), detail)


def numbers_have_no_gaps(evidence: Evidence) -> Iterator[Violation]:
    """Numbers follow each other, or the batch after the jump declares it; a CLOSE is the end."""
    for (stream, shard_id), shard in evidence.contents.shards.items():
        for one, after in pairwise(shard.spans):
            expected, where = one.first + one.count, at(stream, shard_id, after.first)
            if after.first < expected:
                yield Violation("number issued twice", where, f"expected {expected}")
            if after.first > expected and after.control != "EPOCH":
                yield Violation("undeclared jump", where, f"expected {expected}")
            if one.control == "CLOSE":
                yield Violation("written after close", where, f"closed at {one.first}")


def keys_are_in_their_shards(evidence: Evidence) -> Iterator[Violation]:
    """A record with a key is in the shard that owns the key."""
    for place, key in evidence.keys.items():
        if key is None:
            continue
        low, high = evidence.shard(place).hash_keys
        if not low <= int.from_bytes(hashlib.md5(key.encode()).digest()) <= high:
            yield Violation("wrong shard", at(*place), f"the key is {key}")


def producers_keep_their_order(evidence: Evidence) -> Iterator[Violation]:
    """In each shard, what one producer put comes in the order of its calls.

    Within a call only the order of a key counts: where shards were split or merged meanwhile, a
    part of the call went another way.
    """
    last: dict[tuple[str, str, str], Put] = {}
    for place in sorted(evidence.put_of):
        put = evidence.put_of[place]
        lane = (put.producer, place.stream, place.shard_id)
        if lane in last and put.call < last[lane].call:
            detail = f"{put.producer} made call {put.call} before {last[lane].call}"
            yield Violation("order of a producer", at(*place), detail)
        last[lane] = put


def keys_keep_their_order(evidence: Evidence) -> Iterator[Violation]:
    """Nothing stands behind what was put after it had been acknowledged: across shards, producers.

    One call of a producer is one moment; within it, its own order counts.
    """
    for (_, key), places in evidence.order.items():
        latest: Put | None = None
        for place in places:
            put = evidence.put_of.get(place)
            if put is None:
                continue
            if latest and _is_before(put, latest):
                detail = f"key {key}: acknowledged before {at(*_place(latest, evidence))} was put"
                yield Violation("order of a key", at(*place), detail)
            if latest is None or put.called >= latest.called:
                latest = put


def _is_before(put: Put, other: Put) -> bool:
    if (put.producer, put.call) == (other.producer, other.call):
        return put.index < other.index
    return put.acked is not None and put.acked < other.called


def _place(put: Put, evidence: Evidence) -> Place:
    return next(place for place, each in evidence.put_of.items() if each is put)


def nothing_is_trimmed_too_early(evidence: Evidence) -> Iterator[Violation]:
    """Without retention nothing goes, with an age nothing that is younger."""
    contents = evidence.contents
    for place, put in evidence.put_of.items():
        if not evidence.is_trimmed(place):
            continue
        limits = contents.retention[place.stream]
        if not limits:
            yield Violation("trimmed too early", at(*place), "the stream keeps everything")
        age = limits.get("seconds")
        if age and put.called > contents.looked - age * NANOSECONDS:
            yield Violation("trimmed too early", at(*place), f"it is younger than {age} s")


def nobody_meets_errors(evidence: Evidence) -> Iterator[Violation]:
    """That others are killed and stopped is no reason for an error."""
    for error in evidence.history.errors:
        yield Violation("error", error.partition(":")[0], error.partition(": ")[2])


RULES = (
    acknowledged_is_there,
    nothing_is_changed,
    nothing_is_there_twice,
    both_readers_agree,
    numbers_have_no_gaps,
    keys_are_in_their_shards,
    producers_keep_their_order,
    keys_keep_their_order,
    nothing_is_trimmed_too_early,
    nobody_meets_errors,
)
