"""A reader of streamfn's files in plain Python, written from docs/format.md and from nothing else.

It shares no code with the engine, so the two agree only where the page says what the bytes are. It
reads closed or idle logs; it takes no locks and knows no recovery: damage is a `ValueError` that
names its place.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import zstandard

SEGMENT_HEADER_BYTES = 4096
BATCH_HEADER = struct.Struct("<4sBBHIIQIIQQQIIIIQIQI")
"""Magic, version, length/8, flags, body and raw length, base, count, body CRC, base and last time,
producer (3), shard epoch, dictionary, durable end, previous CRC, place, header CRC."""
assert BATCH_HEADER.size == 96

FLAG_CONTROL, FLAG_ENCRYPTED, FLAG_KEYS = 1 << 4, 1 << 6, 1 << 9
KIND_SEAL = 3


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the usual form
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def check_crc(data: bytes, what: str) -> None:
    """The last four bytes are the checksum of all before."""
    if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError(f"{what}: the checksum does not match")


@dataclass(frozen=True)
class SegmentHeader:
    log_uuid: bytes
    shard: int
    epoch: int
    base: int
    created: int
    previous_crc: int
    hash_range: tuple[int, int]
    parents: list[int]
    writer: str


@dataclass(frozen=True)
class Record:
    sequence_number: int
    timestamp: int
    data: bytes
    key: str | None
    headers: dict[str, bytes]


@dataclass(frozen=True)
class Control:
    kind: str
    numbers: list[int]


@dataclass(frozen=True)
class Batch:
    at: int
    flags: int
    base: int
    count: int
    base_time: int
    last_time: int
    shard_epoch: int
    durable_end: int
    previous_crc: int
    place: int
    crc: int
    records: list[Record] = field(default_factory=list)
    control: Control | None = None


def read_segment_header(data: bytes) -> SegmentHeader:
    """The first 4096 bytes of a segment."""
    head = data[:SEGMENT_HEADER_BYTES]
    check_crc(head, "segment header")
    magic, major, _minor, incompatible = struct.unpack_from("<8sHHI", head, 0)
    if magic != b"STRMSEG\x01" or major != 1 or incompatible != 0:
        raise ValueError("a segment of another format")
    uuid, shard, epoch, base, created, previous = struct.unpack_from("<16sIIQQI", head, 24)
    checksum, encryption, _zero, _dictionary, parents = struct.unpack_from("<BBHII", head, 68)
    if checksum != 1 or encryption != 0:
        raise ValueError("a segment with a checksum or an encryption of another kind")
    low, high = (int.from_bytes(head[at : at + 16], "little") for at in (80, 96))
    return SegmentHeader(
        uuid,
        shard,
        epoch,
        base,
        created,
        previous,
        (low, high),
        list(struct.unpack_from("<II", head, 112)[:parents]),
        head[120:152].rstrip(b"\0").decode(),
    )


def read_batches(data: bytes, previous_crc: int) -> Iterator[Batch]:
    """The batches of a segment file, each checked against itself and the one before."""
    at = SEGMENT_HEADER_BYTES
    while data[at : at + 4] not in (b"", b"\0\0\0\0"):
        batch, length = read_batch(data, at)
        if batch.previous_crc != previous_crc:
            raise ValueError(f"byte {at}: the batch does not follow the one before it")
        yield batch
        if batch.count:  # SEAL takes no number and stands beside the chain
            previous_crc = batch.crc
        at += length


def read_batch(data: bytes, at: int) -> tuple[Batch, int]:
    """The batch at byte `at`, and how many bytes it takes with its padding."""
    head = data[at : at + 96]
    if len(head) < 96:
        raise ValueError(f"byte {at}: the header is cut off")
    check_crc(head, f"byte {at}: header")
    (
        magic, version, header_length, flags, body_length, raw_length, base, count, body_crc,
        base_time, last_time, _producer, _producer_epoch, _producer_sequence, shard_epoch,
        dictionary, durable_end, previous, place, crc,
    ) = BATCH_HEADER.unpack(head)  # fmt: skip
    codec = flags & 0xF
    if magic != b"SFB1" or version != 1 or header_length != 12:
        raise ValueError(f"byte {at}: a batch of another version")
    if codec > 2 or flags & (FLAG_ENCRYPTED | 1 << 7) or dictionary:
        raise ValueError(f"byte {at}: a feature that is not known")
    stored = data[at + 96 : at + 96 + body_length]
    if crc32c(stored) != body_crc:
        raise ValueError(f"byte {at}: the body's checksum does not match")
    body = b"".join(read_frames(stored)) if codec else stored
    if len(body) != raw_length:
        raise ValueError(f"byte {at}: the body has another length after decompression")
    if codec == 2:
        body = with_offsets(body)
    batch = Batch(
        at, flags, base, count, base_time, last_time, shard_epoch, durable_end,
        previous, place, crc,
        [] if flags & FLAG_CONTROL else read_records(body, base, count, base_time),
        read_control(body) if flags & FLAG_CONTROL else None,
    )  # fmt: skip
    return batch, 96 + -(-body_length // 8) * 8


def read_frames(stored: bytes) -> Iterator[bytes]:
    """What is in the zstd frames that lie behind one another."""
    while stored:
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(stored)
        stored = frame.unused_data


def with_offsets(body: bytes) -> bytes:
    """The body of codec 2 with offsets where it has packed lengths."""
    unpacked = bytearray(body)
    (entries,) = struct.unpack_from("<H", body)
    for entry in range(entries):
        kind, _flags, offset, length = struct.unpack_from("<HHII", body, 8 + 12 * entry)
        if kind in {1, 3, 5}:
            packed, count = body[offset : offset + length], length // 4
            lengths = zip(*(packed[at * count :][:count] for at in range(4)), strict=True)
            ends = accumulate(int.from_bytes(four, "little") for four in lengths)
            struct.pack_into(f"<{count}I", unpacked, offset, *ends)
    return bytes(unpacked)


def read_control(body: bytes) -> Control:
    """The body of a control batch."""
    kind, _zero, count = struct.unpack_from("<HHI", body)
    if kind == KIND_SEAL:
        entries = struct.unpack_from(f"<{3 * count}Q", body, 8)
        if body[-4:] != b"SEAL" or len(body) != 16 + 24 * count:
            raise ValueError("an index of another shape")
        return Control("SEAL", list(entries))
    names = {1: "CLOSE", 2: "EPOCH"}
    return Control(
        names.get(kind, f"unknown {kind}"), list(struct.unpack_from(f"<{count}I", body, 8))
    )


def read_records(body: bytes, base: int, count: int, base_time: int) -> list[Record]:
    """The body of a batch of records."""
    (entries,) = struct.unpack_from("<H", body)
    sections: dict[int, bytes] = {}
    for entry in range(entries):
        kind, flags, offset, length = struct.unpack_from("<HHII", body, 8 + 12 * entry)
        if kind not in {1, 2, 3, 4, 5, 6, 7, 9} and flags & 1:
            raise ValueError(f"section {kind} must be understood and is not known")
        sections[kind] = body[offset : offset + length]
        assert offset % 8 == 0

    def column(offsets_kind: int, values_kind: int) -> list[bytes] | None:
        if offsets_kind not in sections:
            return None
        ends = struct.unpack(f"<{count + 1}i", sections[offsets_kind])
        return [sections[values_kind][a:b] for a, b in pairwise(ends)]

    values = column(1, 2)
    assert values is not None
    keys = column(3, 4) or [b""] * count
    validity = sections.get(9, (b"\xff" if 3 in sections else b"\0") * -(-count // 8))
    headers = column(5, 6) or [b""] * count
    deltas = struct.unpack(f"<{count}I", sections.get(7, bytes(4 * count)))
    return [
        Record(
            base + i,
            base_time + deltas[i],
            values[i],
            keys[i].decode() if validity[i // 8] >> i % 8 & 1 else None,
            read_headers(headers[i]),
        )
        for i in range(count)
    ]


def read_headers(data: bytes) -> dict[str, bytes]:
    """The headers of one record."""
    if not data:
        return {}
    (count,) = struct.unpack_from("<H", data)
    at, headers = 2, {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        (length,) = struct.unpack_from("<I", data, at)
        headers[name] = data[at + 4 : at + 4 + length]
        at += 4 + length
    return headers


def read_shard(folder: Path) -> list[Batch]:
    """All batches of a shard, the chain followed from file to file."""
    batches: list[Batch] = []
    previous_crc = None
    for path in sorted(folder.glob("*.seg")):
        data = path.read_bytes()
        header = read_segment_header(data)
        ordinal, base = path.stem.split("-")
        if previous_crc is None:  # retention may have taken the files before this one
            previous_crc = header.previous_crc if int(ordinal, 16) else 0
        assert header.base == int(base)
        assert header.previous_crc == previous_crc
        for batch in read_batches(data, previous_crc):
            if batches and batch.base < batches[-1].base + batches[-1].count:
                raise ValueError(f"{path.name}, byte {batch.at}: the numbers go back")
            batches.append(batch)
            if batch.count:
                previous_crc = batch.crc
    return batches


@dataclass(frozen=True)
class State:
    counter: int
    epoch: int
    recovery_crc: int
    reserved: int
    trim_horizon: int
    recovery_point: tuple[int, int]
    recovery_sequence: int
    recovery_time: int


def read_state(data: bytes) -> State:
    """The slot of a `state` file that counts."""
    slots = []
    for at in (0, 4096):
        slot = data[at : at + 512]
        try:
            check_crc(slot, "state slot")
        except ValueError:
            continue
        magic, *fields = struct.unpack_from("<8sQIIQQQQQ", slot)
        assert magic == b"SFSTATE\x01"
        fields[5] = position(fields[5])
        slots.append(State(*fields))
    return max(slots, key=lambda state: state.counter)


def position(word: int) -> tuple[int, int]:
    """Segment ordinal and byte."""
    return word >> 32, (word & 0xFFFFFFFF) * 8


def read_manifest(data: bytes) -> dict:
    """`manifest.json`."""
    text, line = data[:-16], data[-16:]
    if line != b"crc32c:%08x\n" % crc32c(text):
        raise ValueError("manifest: the checksum does not match")
    return json.loads(text)


def read_format(data: bytes) -> bytes:
    """`FORMAT`: the uuid of the log."""
    check_crc(data, "FORMAT")
    magic, major, _minor, uuid = struct.unpack_from("<8sHH4x16s", data)
    if len(data) != 64 or magic != b"STREAMFN" or major != 1:
        raise ValueError("a log of another format")
    return uuid
