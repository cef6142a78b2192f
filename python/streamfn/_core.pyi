"""The Rust core: durable storage, lanes, and the records a function receives.

Everything here is a thin door to `streamfn-core`; the friendly API is `streamfn.log`, `streamfn.app` and
`streamfn.model`. Calls that wait or touch the disk release the GIL and return within 100 ms of a signal.
Sizes are bytes, times are seconds as float unless a name ends in `_us` (microseconds UTC).
Errors are the classes of `streamfn.errors`.
"""
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, final, overload

__version__: str
RECORD_BYTES_MAX: int
PARTITION_KEY_CHARS_MAX: int
HEADERS_BYTES_MAX: int
NAME_BYTES_MAX: int
BATCH_SIZE_MAX: int
FACTOR_MAX: int
SHARDS_MAX: int
SLOT_ENTRIES_MAX: int           # 20: entries an in-flight slot holds
DEAD_LETTER_BYTES_EXTRA: int

# ---------------------------------------------------------------- records
@final
class Record:
    data: bytes; partition_key: str | None; sequence_number: int; shard_id: str; stream: str
    timestamp: datetime; timestamp_us: int; headers: Mapping[str, bytes]
    def json(self) -> Any: ...            # orjson.loads; invalid JSON raises orjson.JSONDecodeError (a ValueError)
    def text(self) -> str: ...
    def as_type(self, type: type) -> Any: ...   # msgspec / dataclass / pydantic (duck-typed)
    def __init__(self, data: bytes, partition_key: str | None = None, *, sequence_number: int = 0,
                 shard_id: str = "shardId-000000000000", stream: str = "", timestamp_us: int = 0,
                 headers: Mapping[str, bytes] | None = None) -> None: ...   # for tests and other sources

@final
class Records(Sequence[Record]):
    """Consecutive records of one lane (one shard, one slot), in order; cheap to slice. May be empty."""
    def __init__(self, records: Sequence[Record]) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...     # step 1 only
    def __iter__(self) -> Iterator[Record]: ...
    def running(self, board: Board, cell: int) -> Iterator[Record]:
        """Like iter(), and stores each record's sequence number as the cell's running one (8 bytes, no system call)."""
    def values(self) -> list[bytes]: ...
    def json(self) -> list[Any]: ...
    def partition_keys(self) -> list[str | None]: ...
    def sequence_numbers(self) -> list[int]: ...
    def index(self, sequence_number: int) -> int: ...       # ValueError if not among them  (bisect search)
    def between(self, first: int, last: int) -> Records: ...  # those with first <= sequence_number <= last
    @staticmethod
    def concat(parts: Sequence[Records]) -> Records: ...
    first: int; last: int                                    # sequence numbers; IndexError when empty
    last_timestamp_us: int
    shard_id: str; stream: str
    nbytes: int                                             # payload bytes, keys and headers included

# ---------------------------------------------------------------- the log
@final
class Log:
    @staticmethod
    def open(path: str, *, durability: str = "group", create: bool = True) -> Log:
        """create=False: a missing directory or one without FORMAT is ConfigError(field="log_dir")."""
    path: str
    uuid: str
    durability: str
    def create_stream(self, name: str, *, shards: int = 1, durability: str | None = None,
                      retention_seconds: float | None = None, retention_bytes: int | None = None,
                      retention_consumed: bool = False, compression: str = "zstd",
                      exist_ok: bool = False, internal: bool = False) -> Stream: ...
        # internal names (dots) only with internal=True; internal streams are always "group"
    def stream(self, name: str) -> Stream: ...              # StreamNotFound
    def streams(self, *, internal: bool = False) -> list[str]: ...   # internal=True: those with a dot as well
    def wake(self) -> int: ...                               # current value of the log-wide wake word
    def wait(self, seen: int, timeout: float) -> int: ...    # until it differs from `seen`; returns the value
    def sync(self) -> None: ...                              # everything committed and all checkpoints
    def close(self) -> None: ...

@final
class ShardInfo:
    shard_id: str; hash_key_first: int; hash_key_last: int; parents: list[str]; is_open: bool
    trim_horizon: int            # lowest sequence number kept
    end: int                     # the next sequence number that will become visible: visible records are < end
    bytes: int; segments: int; last_timestamp_us: int

@final
class PutResults(Sequence[tuple[str, int]]):
    """(shard_id, sequence_number) for each record, in the order given, made lazily."""

@final
class Stream:
    name: str; durability: str; compression: str; created_us: int; retention: dict[str, Any]
    def put(self, data: bytes, partition_key: str | None = None, headers: Mapping[str, bytes] | None = None,
            timeout: float | None = None) -> tuple[str, int]: ...
    def put_many(self, data: Sequence[bytes], partition_keys: Sequence[str | None] | None = None,
                 headers: Sequence[Mapping[str, bytes] | None] | None = None,
                 timeout: float | None = None) -> PutResults: ...
    def shards(self) -> list[ShardInfo]: ...
    def shard_of(self, partition_key: str) -> str: ...
    def reader(self, shard_id: str, start: str | int | datetime = "trim_horizon") -> ShardReader: ...
        # "trim_horizon" | "latest" | sequence number | aware datetime

@final
class ShardReader:
    position: int                # next sequence number to read
    def poll(self, limit: int, max_bytes: int = ..., wait: float = 0.0) -> Records: ...
        # empty: none yet (waited at most `wait`). SequenceTrimmed, Corruption.
    at_end: bool                 # at the visible end now
    def close(self) -> None: ...

# ---------------------------------------------------------------- board: memory a runner shares with its supervisor
@final
class Board:
    """A memfd. Cells: one for each thread of the runner. Counters: COUNTERS for each mapping."""
    CELLS: int                   # 256
    MAPPINGS: int                # 256
    COUNTERS: int                # 16 a mapping
    @staticmethod
    def create() -> Board: ...
    @staticmethod
    def attach(fd: int) -> Board: ...
    fd: int                      # inheritable only when passed on (pass_fds)
    def begin(self, cell: int, lane: int, deadline: float | None) -> None: ...   # deadline: time.monotonic() value
    def end(self, cell: int) -> None: ...
    def cells(self) -> list[tuple[int, int, float | None, int | None]]: ...
        # of calls in progress: (cell, lane, deadline, running sequence number or None)
    def add(self, mapping: int, counter: int, amount: int) -> None: ...          # relaxed atomic
    def counters(self, mapping: int) -> list[int]: ...

# ---------------------------------------------------------------- mappings, lanes
@final
class Entry:
    """A range of the lane's records that is still open, as the in-flight slot holds it (immutable)."""
    def __init__(self, first: int, last: int, attempts: int = 0, joined: bool = False, cause: int = 0,
                 detail: int = 0, first_failed_us: int = 0) -> None: ...
    first: int; last: int
    attempts: int                # calls of exactly these records that failed so far
    joined: bool                 # handed over in the same call as the entry before it
    cause: int                   # of the last failure, when no runner could tell: 0 none, 1 crashed, 2 timed out
    detail: int                  # for cause 1: signal number, or -exit code
    first_failed_us: int         # 0: has not failed

@final
class InFlight:
    """What an in-flight slot says (immutable)."""
    worker: str                  # uuid hex of the worker whose runner wrote it
    runner: int
    is_calling: bool             # a call was in progress or about to start; False while waiting in back-off
    worker_deaths: int           # worker deaths in a row with this batch in flight
    is_alone: bool               # must run alone in its runner until settled
    is_exclusive: bool           # it ran with nothing else in its worker
    formed_at: int               # checkpoint when the batch was formed
    end: int                     # the checkpoint once the list is empty
    exponent: int                # the lane's back-off exponent
    entries: list[Entry]

@final
class LaneStatus:
    stream: str; shard_id: str; slot: int; factor: int
    checkpoint: int; end: int    # end: the shard's visible end; lag in records at most end - checkpoint
    in_flight: InFlight | None   # None: empty or void
    is_leased: bool              # some living process holds the lease
    checkpoint_us: int           # wall time of the checkpoint

@final
class Mapping:
    """The durable record of a mapping and its lanes files, `mappings/<name>/`."""
    @staticmethod
    def register(log: Log, name: str, *, factor: int, start: str | int | datetime = "trim_horizon") -> Mapping:
        """Create it or open it, and set the wanted factor. `start` counts only when it is new. Synced when it returns."""
    @staticmethod
    def open(log: Log, name: str) -> Mapping | None: ...
    @staticmethod
    def names(log: Log) -> list[str]: ...
    name: str; wanted_factor: int; is_paused: bool
    def prepare(self, stream: str) -> list[str]:
        """Make sure that each shard of the stream has a lanes file; returns the shard ids.

        Called with a new mapping: the shards there are get their checkpoint from `start`, synced. A shard that
        appears later starts at its first record. Cheap when there is nothing to do. StreamNotFound.
        """
    def factor(self, stream: str, shard_id: str) -> int: ...              # in force
    def change_factor(self, stream: str, shard_id: str) -> bool:
        """Apply the wanted factor if all leases are free and all work lists are empty; True if it is in force now."""
    def lanes(self, stream: str | None = None) -> list[LaneStatus]: ...
    def judge(self, stream: str, shard_id: str, slot: int) -> LaneJudge | None:
        """Take a lane's lease to look at and rewrite its in-flight slot; None if somebody holds it."""

@final
class LaneJudge:
    """A lane's lease in the hands of a supervisor, for the moment it takes to settle who is blamed."""
    def in_flight(self) -> InFlight | None: ...
    def write(self, entries: Sequence[Entry], *, worker: str, is_calling: bool, worker_deaths: int,
              is_alone: bool, is_exclusive: bool) -> None: ...    # keeps formed_at, end, exponent
    def records(self, first: int, last: int) -> list[int]: ...     # the lane's sequence numbers in the range (for splits)
    def release(self) -> None: ...

@final
class Work:
    """A batch of a lane to be called, or the open rest of one that a dead runner left."""
    lane: int
    records: Records             # all records the entries cover (of a fresh batch: the batch)
    entries: list[Entry]         # of a fresh batch: one entry with attempts=0 covering it
    exponent: int
    end: int
    is_resumed: bool             # came out of an in-flight slot or out of `wait`
    is_alone: bool

@final
class LaneSet:
    """The lanes one runner holds. Thread-safe; a lane is in the hands of one thread from `next` until `settle` or `wait`."""
    def __init__(self, log: Log, *, worker: str, runner: int, budget_bytes: int = ...) -> None: ...
    def add(self, lane: int, mapping: Mapping, stream: str, shard_id: str, slot: int, *, batch_size: int,
            batch_window: float, batch_bytes: int, alone: bool = False, exclusive: bool = False) -> str:
        """Take the lease and open the lane under the caller's number `lane`.

        Returns "ok"; "held" (somebody else has the lease); "judge" (the in-flight slot names another living
        worker, whose supervisor has to look at it first; the lease was given back); "stale" (slot >= the factor in force);
        "parents" (a parent shard is not finished yet).
        """
    def remove(self, lane: int) -> None:
        """Sync its checkpoint and give the lease back. Waits while the lane is in the hands of a thread."""
    def next(self, timeout: float) -> Work | None:
        """Wait for the next batch of any lane that is free. Writes the in-flight slot (is_calling) before it returns a fresh batch."""
    def hold(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """Rewrite the in-flight slot: the open rest of the batch, first call first. More than SLOT_ENTRIES_MAX
        entries: the slot holds one range from the lowest open record to the end of the batch."""
    def wait(self, lane: int, entries: Sequence[Entry], exponent: int, seconds: float) -> None:
        """`hold` with is_calling=False, and let go of the lane; `next` hands it out again after `seconds`, is_resumed."""
    def settle(self, lane: int, exponent: int = 0) -> None:
        """The batch is done: checkpoint at its end, slot empty, lane free for its next batch."""
    def yield_(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """Let go of the lane without waiting (not an attempt); used at shutdown. The slot keeps the entries, is_calling=False."""
    def set_burst(self, on: bool) -> None: ...    # close batch windows at once and persist idle positions at once
    def stop(self) -> None: ...                   # `next` returns None at once from now on
    def lanes(self) -> list[int]: ...
    def idle(self) -> bool: ...                   # no lane is in anyone's hands or waiting
    def close(self) -> None: ...                  # remove all

@final
class Membership:
    """`workers/<uuid>.lock`, held while this worker lives."""
    @staticmethod
    def join(log: Log, body: bytes) -> Membership: ...
    uuid: str
    @staticmethod
    def living(log: Log) -> dict[str, bytes]: ...   # uuid -> body, of all living workers (dead files are removed)
    def update(self, body: bytes) -> None: ...
    def leave(self) -> None: ...

def exit_when_closed(fd: int, code: int) -> None:
    """Start a native thread that reads from `fd` and calls `_exit(code)` when it reaches its end."""
def raise_file_limit() -> None: ...
def slot_of(partition_key: str | None, sequence_number: int, factor: int) -> int: ...
def encode_segment_example() -> bytes: ...      # used by the test of docs/format.md
