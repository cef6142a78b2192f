"""Rules about what functions were called with."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from evidence import Evidence
from history import Call, Look, Place
from violation import Violation, at

from streamfn import _core

STEADY = {"steady_batches": 50, "steady_records": 20}
"""Functions that never fail and whose factor never changes, with their batch sizes."""
FUNCTIONS = {
    "kept": ("steady_batches", "changing_kept"),
    "consumed": ("steady_records", "changing_consumed"),
    "capped": ("changing_capped",),
    "aged": ("changing_aged",),
}
"""Functions by the stream they read."""
ORPHAN_NANOSECONDS = 5 * 10**9
"""How long a runner may outlive its supervisor, on a machine that is busy."""


def everything_is_delivered(evidence: Evidence) -> Iterator[Violation]:
    """Every record was in a call of each function that returned, or is a dead letter.

    Where age or size decide, a record may go first.
    """
    delivered = set(evidence.contents.dead)
    for call in evidence.history.calls:
        if call.returned is not None:
            delivered |= {(call.function, place) for place in call.places()}
    for place in evidence.seen:
        if evidence.contents.is_lossy(place.stream) and evidence.is_trimmed(place):
            continue
        for function in FUNCTIONS[place.stream]:
            if (function, place) not in delivered:
                yield Violation("not delivered", at(*place), function)


def keys_are_delivered_in_order(evidence: Evidence) -> Iterator[Violation]:
    """A function sees no record before the ones of its key that the log has before it.

    It may go back to what it has seen; then it sees all from there on again.
    """
    rank = {place: n for places in evidence.order.values() for n, place in enumerate(places)}
    following: dict[tuple[str, str], int] = defaultdict(int)
    for call in evidence.history.calls:
        for place in call.places():
            key = evidence.keys.get(place)
            if key is None:
                continue
            lane, mine = (call.function, key), rank[place]
            skipped = evidence.order[place.stream, key][following[lane] : mine]
            if missed := [each for each in skipped if not _may_be_skipped(each, evidence)]:
                detail = f"{call.function} had not seen {at(*missed[0])} of key {key}"
                yield Violation("delivered out of order", at(*place), detail)
            following[lane] = mine + 1


def _may_be_skipped(place: Place, evidence: Evidence) -> bool:
    return evidence.contents.is_lossy(place.stream) and evidence.is_trimmed(place)


def only_what_was_in_flight_comes_again(evidence: Evidence) -> Iterator[Violation]:
    """What a steady function sees again was in the last batch of a process that was killed."""
    last: dict[tuple[str, Place], int] = {}
    own: dict[tuple[str, str, str, int], list[int]] = defaultdict(list)
    calls = evidence.history.calls
    for n, call in enumerate(calls):
        if call.function in STEADY:
            own[call.function, call.stream, call.shard_id, call.process].append(n)
            last |= {(call.function, place): n for place in call.places()}
    for (function, *_), numbers in own.items():
        for at_, n in enumerate(numbers):
            repeated = [p for p in calls[n].places() if last[function, p] > n]
            if not repeated:
                continue
            since = sum(len(calls[each].numbers) for each in numbers[at_:])
            if not _was_killed(calls[n], evidence):
                detail = f"{function} in process {calls[n].process}, which nobody killed"
                yield Violation("delivered again", at(*repeated[0]), detail)
            elif since > STEADY[function]:
                detail = f"{function} had {since} records since, a batch has {STEADY[function]}"
                yield Violation("delivered again", at(*repeated[0]), detail)


def _was_killed(call: Call, evidence: Evidence) -> bool:
    """Whether its process was killed after it, or the supervisor without which that soon ends."""
    killed = evidence.history.killed
    return any(time > call.time for time in killed.get(call.process, ())) or any(
        time > call.time - ORPHAN_NANOSECONDS for time in killed.get(call.parent, ())
    )


def checkpoints_are_behind(evidence: Evidence) -> Iterator[Violation]:
    """A checkpoint on disk passes a record only when a call with it has returned, or it is dead."""
    done: dict[tuple[str, Place], int] = {}
    for call in evidence.history.calls:
        if call.returned is not None:
            for place in call.places():
                known = done.get((call.function, place), call.returned)
                done[call.function, place] = min(known, call.returned)
    for look in evidence.history.looks:
        for number in _passed(look, evidence):
            place = Place(look.stream, look.shard_id, number)
            if (look.function, place) in evidence.contents.dead or _may_be_skipped(place, evidence):
                continue
            if done.get((look.function, place), look.time) >= look.time:
                yield Violation("checkpoint ahead", at(*place), look.function)


def _passed(look: Look, evidence: Evidence) -> Iterator[int]:
    """The numbers that the lanes' checkpoints say are done."""
    numbers = evidence.numbers[look.stream, look.shard_id]
    factor = len(look.checkpoints)
    for number in numbers[: bisect_left(numbers, max(look.checkpoints))]:
        key = evidence.keys.get(Place(look.stream, look.shard_id, number))
        # WHY: the hash of the lanes is XXH3, which plain Python does not have.
        slot = _core.slot_of(key, number, factor) if factor > 1 else 0
        if number < look.checkpoints[slot]:
            yield number


RULES = (
    everything_is_delivered,
    keys_are_delivered_in_order,
    only_what_was_in_flight_comes_again,
    checkpoints_are_behind,
)
