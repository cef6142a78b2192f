"""The second half of the reader: mappings and lanes files, from docs/format.md alone."""

import struct
from dataclasses import dataclass

from decoder import check_crc, position


@dataclass(frozen=True)
class Head:
    counter: int
    generation: int
    factor: int
    flags: int


@dataclass(frozen=True)
class Checkpoint:
    counter: int
    generation: int
    lease_epoch: int
    next: int
    hint: tuple[int, int]
    written: int
    shard_epoch: int


@dataclass(frozen=True)
class Entry:
    first: int
    last: int
    first_failed: int
    attempts: int
    detail: int
    cause: int
    flags: int
    not_before: int


@dataclass(frozen=True)
class InFlight:
    boot_id: bytes
    worker: bytes
    generation: int
    formed_at: int
    end: int
    runner: int
    worker_deaths: int
    exponent: int
    flags: int
    entries: list[Entry]


@dataclass(frozen=True)
class Lane:
    checkpoint: Checkpoint
    in_flight: InFlight | None


def _valid(slots: list[bytes], layout: str, magic: bytes) -> list[tuple]:
    """Fields of those slots that are whole."""
    found = []
    for slot in slots:
        try:
            check_crc(slot, magic.decode("latin-1"))
        except ValueError:
            continue
        if slot[:8] == magic:
            found.append(struct.unpack_from(layout, slot, 8))
    return found


def read_lanes(data: bytes) -> tuple[Head, list[Lane]]:
    """A lanes file: its head, and the lanes of the factor in force."""
    slots = [data[at : at + 32] for at in (0, 4096)]
    head = max((Head(*f) for f in _valid(slots, "<QQHH", b"SFLANES\x01")), key=lambda h: h.counter)
    return head, [read_lane(data, 8192 + 12288 * i, head) for i in range(head.factor)]


def read_lane(data: bytes, at: int, head: Head) -> Lane:
    """One lane."""
    slots = [data[at + place : at + place + 64] for place in (0, 4096)]
    found = [
        Checkpoint(counter, generation, lease_epoch, after, position(hint), written, shard_epoch)
        for counter, generation, lease_epoch, after, hint, written, shard_epoch in _valid(
            slots, "<QQQQQQI", b"SFCHKPT\x01"
        )
    ]
    checkpoint = max((c for c in found if c.generation == head.generation), key=lambda c: c.counter)
    return Lane(checkpoint, read_in_flight(data[at + 8192 : at + 12288], head, checkpoint))


def read_in_flight(page: bytes, head: Head, checkpoint: Checkpoint) -> InFlight | None:
    """What of the slot counts; None if it is empty or void. The boot is not looked at."""
    count = page[77]
    fields = _valid([page[: 84 + 40 * count]], "<16s16sQQQIIIB", b"SFFLGHT\x01")
    if not fields:
        return None
    entries = [
        Entry(
            *struct.unpack_from("<QQQIiBB", page, 80 + 40 * index),
            int.from_bytes(page[114 + 40 * index : 120 + 40 * index], "little"),
        )
        for index in range(count)
    ]
    slot = InFlight(*fields[0], [e for e in entries if e.last >= checkpoint.next])
    is_void = slot.generation != head.generation or slot.formed_at > checkpoint.next
    return None if is_void else slot


@dataclass(frozen=True)
class Mapping:
    counter: int
    wanted_factor: int
    is_paused: bool
    start: tuple[int, int]
    streams: list[str]
    replays: int
    on_failure: tuple[int, str]


def read_mapping(data: bytes) -> Mapping:
    """A mapping's record: the slot that counts."""
    slots = [data[at : at + 4096] for at in (0, 4096)]
    records = []
    for slot in slots:
        for counter, factor, flags, count, kind, value in _valid([slot], "<QIHHIQ", b"SFMAPNG\x01"):
            at, names = 36, []
            for _ in range(count):
                (length,) = struct.unpack_from("<H", slot, at)
                names.append(slot[at + 2 : at + 2 + length].decode())
                at += 2 + length
            replays, goes, length = struct.unpack_from("<QIH", slot, at)
            on_failure = (goes, slot[at + 14 : at + 14 + length].decode())
            start, is_paused = (kind, value), bool(flags & 1)
            records.append(Mapping(counter, factor, is_paused, start, names, replays, on_failure))
    return max(records, key=lambda record: record.counter)


def read_ranges(data: bytes) -> dict[int, tuple[int, int]]:
    """What a replay reads, from behind the two slots of its mapping's record, by shard."""
    magic, count = struct.unpack_from("<8sI", data, 8192)
    assert magic == b"SFREPLY\x01"
    end = 16 + 24 * count
    assert len(data) == 8192 + end + 4
    check_crc(data[8192:], "ranges")
    found = [struct.unpack_from("<IIQQ", data, 8192 + 16 + 24 * n) for n in range(count)]
    assert found == sorted(found)
    return {shard: (first, until) for shard, zero, first, until in found if zero == 0}


@dataclass(frozen=True)
class Pair:
    counter: int
    generation: int
    lease_epoch: int
    next: int
    hint: tuple[int, int]
    written: int
    closed_to: int
    window: tuple[int, int] | None
    shard_epoch: int
    is_ended_early: bool
    kind: int
    state: bytes


def read_windows(files: list[bytes], head: Head) -> Pair:
    """The two window files of a shard: the pair that counts."""
    layout, pairs = "<QQQQQQQQQIBBHI", []
    for data in files:
        (length,) = struct.unpack_from("<I", data, 88) if len(data) >= 96 else (0,)
        for fields in _valid([data[: 96 + length]], layout, b"SFWINDW\x01"):
            *numbers, hint, written, closed_to, start, end, epoch, flags, kind, _, _ = fields
            window = (start, end) if flags & 1 else None
            ends = bool(flags & 2), kind, data[92 : 92 + length]
            place = position(hint), written, closed_to, window, epoch
            pairs.append(Pair(*numbers, *place, *ends))
    valid = [pair for pair in pairs if pair.generation == head.generation]
    return max(valid, key=lambda pair: pair.counter)
