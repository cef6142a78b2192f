"""The Rust core: durable storage, lanes, and the records a function receives.

A thin door to the crate `streamfn-core`; the friendly faces are `streamfn.log`, `streamfn.app` and
`streamfn.model`. Calls that wait or touch the disk release the GIL and look at signals at least
every 100 ms. Sizes are bytes; times are seconds as float unless a name ends in `_us` (microseconds
UTC). Errors are the classes of `streamfn.errors`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Mapping as Dict
from datetime import datetime
from typing import Any, Literal, Self, TypeAlias, final, overload

from streamfn.errors import Corruption

__all__ = [
    "BATCH_SIZE_MAX",
    "DEAD_LETTER_BYTES_EXTRA",
    "FACTOR_MAX",
    "NAME_BYTES_MAX",
    "PARTITION_KEY_CHARS_MAX",
    "RECORD_BYTES_MAX",
    "REPLAY_MARK",
    "SLOT_ENTRIES_MAX",
    "STATE_BYTES_MAX",
    "ArrowBatch",
    "Board",
    "Entry",
    "Filter",
    "Finding",
    "FsckReport",
    "InFlight",
    "LaneJudge",
    "LaneSet",
    "LaneStatus",
    "Log",
    "Mapping",
    "Membership",
    "PutResults",
    "Record",
    "Records",
    "ShardInfo",
    "ShardReader",
    "Stream",
    "Work",
    "WorkWindow",
    "__version__",
    "exit_when_closed",
    "fsck",
    "raise_file_limit",
    "slot_of",
]

__version__: str

RECORD_BYTES_MAX: int
"""Largest record: data, key and encoded headers together."""
PARTITION_KEY_CHARS_MAX: int
NAME_BYTES_MAX: int
BATCH_SIZE_MAX: int
"""Most records in one call of a function."""
FACTOR_MAX: int
"""Most lanes of one shard."""
STATE_BYTES_MAX: int
"""Most bytes of the state of a window."""
REPLAY_MARK: str
"""Between the name of a mapping and the number of a replay of it."""
SLOT_ENTRIES_MAX: int
"""Entries an in-flight slot holds."""
DEAD_LETTER_BYTES_EXTRA: int
"""What a record of an internal stream may have above the limits of others."""

_Start: TypeAlias = str | int | datetime
"""`"trim_horizon"`, `"latest"`, a sequence number, or an aware time."""

# ---------------------------------------------------------------- records

@final
class Record:
    """One record; a reference into the record batch it came in. Equal by value.

    Made by hand for tests and other sources; the log makes its own.

    Args:
        sequence_number: None: 0, and in `Records` the number after that of the record before it.

    Raises:
        RecordTooLarge: Nearly 2 GiB.
    """

    def __new__(
        cls,
        data: bytes,
        partition_key: str | None = None,
        *,
        sequence_number: int | None = None,
        shard_id: str = "shardId-000000000000",
        stream: str = "",
        timestamp_us: int = 0,
        headers: Dict[str, bytes] | None = None,
    ) -> Self: ...
    @property
    def data(self) -> bytes: ...
    @property
    def partition_key(self) -> str | None: ...
    @property
    def sequence_number(self) -> int: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def timestamp(self) -> datetime:
        """Append time, UTC."""
    @property
    def timestamp_us(self) -> int: ...
    @property
    def headers(self) -> Dict[str, bytes]: ...
    def json(self) -> Any:
        """Decode the data with orjson; `orjson.JSONDecodeError` (a `ValueError`) if it is not JSON."""
    def text(self) -> str:
        """Decode the data as UTF-8; `UnicodeDecodeError` if it is not."""
    def as_type(self, kind: Any) -> Any:
        """Decode the JSON data into a msgspec struct, dataclass, typed dict or pydantic model."""
    def __hash__(self) -> int: ...

@final
class Records(Sequence[Record]):
    """Consecutive records of one lane, in order; slicing costs one reference. May be empty."""

    def __new__(cls, records: Sequence[Record]) -> Self:
        """Put records together; those that were made without a number are numbered.

        Raises:
            ConfigError: Their sequence numbers do not rise.
        """
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> Record: ...
    @overload
    def __getitem__(self, index: slice, /) -> Records: ...
    def __iter__(self) -> Iterator[Record]: ...
    def running(self, board: Board, cell: int) -> Iterator[Record]:
        """Iterate, and say on the board which record is running (8 bytes, no system call)."""
    def values(self) -> list[bytes]: ...
    def json(self) -> list[Any]: ...
    def to_arrow(self) -> ArrowBatch:
        """Return a copy in Arrow's columns.

        Raises:
            OverflowError: More than 2 GiB.
        """
    def kinesis_records(self, shared: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records in the shape of AWS Lambda's Kinesis events.

        Args:
            shared: The entries that all records have in common; `eventID` and `kinesis` are added
                to a copy for each.

        Source: the AWS Lambda developer guide, "Process Amazon Kinesis Data Streams records".
        """
    def partition_keys(self) -> list[str | None]: ...
    def sequence_numbers(self) -> list[int]: ...
    def index(self, sequence_number: int) -> int:  # type: ignore[override]  # by number, not by value
        """Return the place of a sequence number; `ValueError` if it is not among them."""
    def between(self, first: int, last: int) -> Records:
        """Return those with `first <= sequence_number <= last`."""
    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        """Return the records of all parts; `ConfigError` if their sequence numbers do not rise."""
    @property
    def first(self) -> int:
        """Sequence number of the first record; `IndexError` without records, as the next four."""
    @property
    def last(self) -> int: ...
    @property
    def last_timestamp_us(self) -> int: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def nbytes(self) -> int:
        """Bytes of data, keys and headers."""

@final
class ArrowBatch:
    """Records as an Arrow record batch; any library that knows the PyCapsule interface takes it.

    Shapes: columns `data` (binary), `partition_key` (utf8, null without one), `sequence_number`
    (uint64), `timestamp` (timestamp[us, UTC]), `headers` (map of utf8 to binary); a row a record.

    Source: the Arrow PyCapsule interface of the Apache Arrow project.
    """

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(
        self, requested_schema: object | None = None
    ) -> tuple[object, object]: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

# ---------------------------------------------------------------- the log

@final
class Log:
    """An open log directory; one for each directory and process, however often it is opened."""

    @staticmethod
    def open(path: str, *, durability: str = "group", create: bool = True) -> Log:
        """Open a log directory beside other processes, recovering it first if nobody has it open.

        Raises:
            ConfigError: `log_dir` is not a log directory, is missing with `create=False`, or lies
                on a network file system.
            LockTimeout: Another process recovers the log for more than 30 s.
        """
    @staticmethod
    def in_memory(now_us: int) -> Log:
        """Make an empty log without a disk, of this process alone, for tests of functions.

        Its time stands still until `set_time`; retention does not run by itself.
        """
    def set_time(self, now_us: int) -> None:
        """Set the clock of a log in memory; `RuntimeError` for any other."""
    @property
    def path(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def durability(self) -> str: ...
    def create_stream(
        self,
        name: str,
        *,
        shards: int = 1,
        durability: str | None = None,
        retention_seconds: float | None = None,
        retention_bytes: int | None = None,
        retention_consumed: bool = False,
        compression: str = "zstd",
        segment_bytes: int | None = None,
        exist_ok: bool = False,
        internal: bool = False,
    ) -> Stream:
        """Make a stream; durable when it returns. Names with dots, and `group`, go with `internal`.

        `segment_bytes` is the size at which a new segment begins, the unit of retention: 1 MiB to
        2 GiB, 256 MiB by default.
        """
    def stream(self, name: str) -> Stream:
        """Open a stream; `StreamNotFound` if there is none of that name."""
    def remove_stream(
        self, name: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Remove a stream with all its records.

        Raises:
            StreamNotFound: There is none of that name.
            ConfigError: A mapping has read it, or owns it, and not `force`; or a worker reads it.
        """
    def streams(self, *, internal: bool = False) -> list[str]: ...
    def wake(self) -> int:
        """Return the wake word: it changes when something becomes visible or is handed over."""
    def wait(self, seen: int, timeout: float) -> int:
        """Sleep until the wake word is not `seen`, and return it."""
    def sync(self) -> None: ...
    def close(self) -> None: ...

@final
class ShardInfo:
    """What a shard is now."""

    @property
    def shard_id(self) -> str: ...
    @property
    def hash_key_first(self) -> int: ...
    @property
    def hash_key_last(self) -> int: ...
    @property
    def parents(self) -> list[str]: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def trim_horizon(self) -> int:
        """Lowest sequence number kept."""
    @property
    def end(self) -> int:
        """Visible records have sequence numbers below this."""
    @property
    def bytes(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def last_timestamp_us(self) -> int: ...

@final
class PutResults(Sequence[tuple[str, int]]):
    """Shard id and sequence number of each record of a call, in its order, worked out lazily."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[str, int]:  # type: ignore[override]  # no slices
        """Return one; there are no slices, which `streamfn.PutResults` has."""

@final
class Stream:
    """A stream of an open log."""

    @property
    def name(self) -> str: ...
    @property
    def durability(self) -> str: ...
    @property
    def compression(self) -> str: ...
    @property
    def created_us(self) -> int: ...
    @property
    def retention(self) -> dict[str, Any]: ...
    def put(
        self,
        data: bytes,
        partition_key: str | None = None,
        headers: Dict[str, bytes] | None = None,
        timeout: float | None = None,
    ) -> tuple[str, int]: ...
    def put_many(
        self,
        data: Sequence[bytes],
        partition_keys: Sequence[str | None] | None = None,
        headers: Sequence[Dict[str, bytes] | None] | None = None,
        timeout: float | None = None,
    ) -> PutResults: ...
    def shards(self) -> list[ShardInfo]:
        """Return all shards, closed ones too; parents come before their children."""
    def split(
        self, shard_id: str, hash_key: int | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        """Close a shard, and let two go on: below `hash_key`, and from it on. Return their ids.

        Args:
            shard_id: An open shard.
            hash_key: First one of the second; default: the middle.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Raises:
            ConfigError: There is no such shard, the hash key is not inside it, or the log has
                too many shards.
            StreamClosed: It was split or merged before.
        """
    def merge(self, shard_id: str, other: str, timeout: float | None = None) -> str:
        """Close two shards whose hash keys lie side by side, and let one go on. Return its id.

        Raises:
            ConfigError: There is no such shard, or they do not lie side by side.
            StreamClosed: One of them was split or merged before.
        """
    def trim(self, shard_id: str, before: int | datetime, timeout: float | None = None) -> int:
        """Let go of a shard's records before a sequence number or a time; bytes freed."""
    def reader(
        self, shard_id: str, start: _Start | None = None, *, skip_corruption: bool = False
    ) -> ShardReader: ...

@final
class ShardReader:
    """Reads one shard in order; holds no lease and moves no checkpoint."""

    @property
    def position(self) -> int:
        """The next sequence number to read."""
    @property
    def is_finished(self) -> bool:
        """Whether the shard was split or merged, and all it ever had is read."""
    def poll(self, limit: int, max_bytes: int = ..., wait: float = 0.0) -> Records:
        """Return at most `limit` records, waiting at most `wait` for the first; empty: none yet.

        Raises:
            SequenceTrimmed: Retention was faster; open a new reader.
            Corruption: The next record batch is damaged, and the reader does not skip it.
        """
    def take_skipped(self) -> list[Corruption]:
        """Return the damage that was passed over since this was called last."""
    def close(self) -> None: ...

# ---------------------------------------------------------------- examining a log directory

@final
class Finding:
    """One thing that an examination found."""

    @property
    def code(self) -> str:
        """Name of its kind, such as `batch-damaged`; it does not change."""
    @property
    def severity(self) -> str:
        """`damage`, or `note`: nothing is broken, or the next opening puts it right by itself."""
    @property
    def path(self) -> str: ...
    @property
    def position(self) -> int | None:
        """The byte in the file, where there is one."""
    @property
    def first(self) -> int | None:
        """First sequence number concerned."""
    @property
    def last(self) -> int | None: ...
    @property
    def stream(self) -> str | None: ...
    @property
    def shard_id(self) -> str | None: ...
    @property
    def what(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def action(self) -> str:
        """What to do about it; empty: nothing."""
    @property
    def repaired(self) -> str | None:
        """What a repair did about it."""

@final
class FsckReport:
    """What an examination, or a repair, found."""

    @property
    def findings(self) -> list[Finding]: ...
    @property
    def is_damaged(self) -> bool:
        """Whether anything is broken; after a repair: still broken, or lost by it."""
    @property
    def is_exclusive(self) -> bool:
        """Whether nobody else had the log open."""
    @property
    def streams(self) -> int: ...
    @property
    def shards(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def mappings(self) -> int: ...

def fsck(
    path: str,
    *,
    deep: bool = False,
    repair: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> FsckReport:
    """Examine a log directory; with `repair`, put right what can be derived.

    Args:
        path: The log directory.
        deep: Read, decompress and decode every body too.
        repair: Change the log. Nobody else may have it open.
        progress: Told, about ten times a second, how many bytes of how many were looked at.

    Raises:
        ConfigError: It is not a log directory.
        LockTimeout: `repair`, and somebody has the log open.
        UnsupportedFormat: It was written by another version.
    """

# ---------------------------------------------------------------- shared with the supervisor

@final
class Board:
    """A memfd: what each thread of a runner is doing, and what it counted. Outlives the runner."""

    CELLS: int
    """Threads of one runner."""
    MAPPINGS: int
    COUNTERS: int
    """Counters of one mapping."""
    MATCHED: int
    """Counter of records that a lane's filter took; the lanes write it, and the two below."""
    FILTERED: int
    """Counter of records that it did not take."""
    NOT_JSON: int
    """Counter of records that it did not take, and whose data is not JSON."""

    @staticmethod
    def create() -> Board: ...
    @staticmethod
    def attach(fd: int) -> Board: ...
    @property
    def fd(self) -> int: ...
    def begin(self, cell: int, lane: int, deadline: float | None) -> None:
        """Say that a call of `lane` begins; `deadline` is a value of `time.monotonic()`."""
    def end(self, cell: int) -> None: ...
    def cells(self) -> list[tuple[int, int, float | None, int | None]]:
        """Return (cell, lane, deadline, running sequence number) of the calls in progress."""
    def add(self, mapping: int, counter: int, amount: int) -> None: ...
    def counters(self, mapping: int) -> list[int]: ...

# ---------------------------------------------------------------- event patterns

@final
class Filter:
    """Event patterns, any of which may match, compiled once; docs/filters.md has the language."""

    def __new__(cls, patterns: Sequence[str], *, for_records: bool = False) -> Self:
        """Compile patterns, each a JSON text.

        Args:
            patterns: The patterns.
            for_records: Refuse patterns that name a field no record has.

        Raises:
            ConfigError: A pattern cannot be used; its field is `filter[<pattern>]` and the place
                in the pattern.
        """
    def matches(self, events: Iterable[bytes]) -> list[bool | None]:
        """Return for each event whether a pattern matches; None: it is not a JSON object."""
    def matches_records(self, records: Records) -> list[bool | None]:
        """Return for each record whether a pattern matches.

        None: no pattern does, and its data is not JSON although a pattern names it.
        """
    def explain(self, event: bytes) -> list[list[tuple[str, str, str]] | None] | None:
        """Return for each pattern the fields that failed; None for one that matches.

        Each is (field, what the pattern wants, what the event has), of the `$or` branches those
        that came closest. None alone: the event is not a JSON object.
        """

# ---------------------------------------------------------------- mappings and lanes

@final
class Entry:
    """A range of a lane's records that is still open, as the in-flight slot holds it."""

    def __new__(
        cls,
        first: int,
        last: int,
        attempts: int = 0,
        joined: bool = False,
        cause: int = 0,
        detail: int = 0,
        first_failed_us: int = 0,
    ) -> Self: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def attempts(self) -> int:
        """Calls of exactly these records that failed."""
    @property
    def joined(self) -> bool:
        """Whether it is handed over in the same call as the entry before it."""
    @property
    def cause(self) -> int:
        """Of a failure that no runner could tell: 0 none, 1 crashed, 2 timed out."""
    @property
    def detail(self) -> int:
        """For cause 1 the signal's number, or the exit code as a negative number."""
    @property
    def first_failed_us(self) -> int:
        """0: has not failed."""

@final
class InFlight:
    """What an in-flight slot says."""

    @property
    def worker(self) -> str:
        """Uuid of the worker whose runner wrote it."""
    @property
    def runner(self) -> int: ...
    @property
    def is_calling(self) -> bool:
        """Whether a call was in progress or about to start; False while waiting."""
    @property
    def worker_deaths(self) -> int:
        """Deaths of a worker in a row with this batch in flight."""
    @property
    def is_alone(self) -> bool:
        """Whether it must run alone in its runner until it is settled."""
    @property
    def is_exclusive(self) -> bool:
        """Whether it ran with nothing else in its worker."""
    @property
    def is_final(self) -> bool:
        """Whether it is the final call of a window: its entry stands for the call."""
    @property
    def formed_at(self) -> int:
        """The checkpoint when the batch was formed."""
    @property
    def end(self) -> int:
        """The checkpoint once the list is empty."""
    @property
    def exponent(self) -> int:
        """The lane's back-off exponent."""
    @property
    def not_before(self) -> float:
        """While it waits before a retry: no call before this, on the monotonic clock; 0: at once."""
    @property
    def entries(self) -> list[Entry]: ...

@final
class LaneStatus:
    """Where a lane is, as anybody can see it."""

    @property
    def stream(self) -> str: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def factor(self) -> int: ...
    @property
    def checkpoint(self) -> int: ...
    @property
    def end(self) -> int:
        """The shard's visible end."""
    @property
    def behind(self) -> int:
        """Sequence numbers from the checkpoint to the shard's last record, of all its lanes.

        `end - checkpoint`, but for the mark that ends a closed shard.
        """
    @property
    def in_flight(self) -> InFlight | None: ...
    @property
    def is_leased(self) -> bool: ...
    @property
    def is_finished(self) -> bool:
        """Whether it is done for good: all is settled, and nothing will follow.

        So it is at the end of a shard that was split or merged, and at the end of a replay.
        """
    @property
    def checkpoint_us(self) -> int: ...
    @property
    def is_windowed(self) -> bool:
        """Whether the lane has tumbling windows."""
    @property
    def window_us(self) -> tuple[int, int] | None:
        """Start and end of the window that is open, µs."""

@final
class Mapping:
    """The durable record of a mapping and its lanes files, `mappings/<name>/`."""

    @staticmethod
    def register(
        log: Log, name: str, *, factor: int, start: _Start | None = None, windowed: bool = False
    ) -> Mapping:
        """Create or open it and set the wanted factor; synced. `start` counts only when it is new.

        `windowed`: its lanes are to have tumbling windows, which needs a factor of 1.
        """
    @staticmethod
    def open(log: Log, name: str) -> Mapping | None: ...
    @staticmethod
    def names(log: Log) -> list[str]: ...
    @staticmethod
    def remove(log: Log, name: str, *, timeout: float | None = None) -> bool:
        """Forget it for good, wholly or not at all; False: there is none.

        Its dead letters stay, and copies that wait to be redriven. A handle that is open refuses
        everything from then on, also when there is a new mapping of that name.

        Raises:
            LockTimeout: A lane of it is leased, nothing has changed; or its lock was not free
                within so many seconds (30).
        """
    @property
    def name(self) -> str: ...
    @property
    def wanted_factor(self) -> int: ...
    @property
    def wants_windows(self) -> bool: ...
    @property
    def is_paused(self) -> bool: ...
    def prepare(self, stream: str) -> list[str]:
        """Make sure that each shard of the stream has a lanes file, and return the shard ids.

        With a new mapping the shards there are get their checkpoint from `start`, synced; a shard
        that appears later starts at its first record.
        """
    def factor(self, stream: str, shard_id: str) -> int:
        """Return the factor in force."""
    def change_factor(self, stream: str, shard_id: str) -> bool:
        """Apply the wanted factor if all leases are free and all lists empty; True: it is in force."""
    def set_paused(self, is_paused: bool) -> None:
        """Have it rest or go on; durable. Workers end the calls that run and give the lanes back."""
    def wait_drained(self, timeout: float | None = None) -> None:
        """Wait until no lane is leased; `LockTimeout` after so many seconds (30)."""
    def seek(self, stream: str, start: _Start, *, timeout: float | None = None) -> dict[str, int]:
        """Have all lanes begin at `start`, at most the visible end; batches in flight are forgotten.

        Returns where each shard begins now. Durable; a crash in the middle leaves the mapping paused.

        Raises:
            LockTimeout: A worker did not give its lanes back in time; nothing has changed.
            SequenceTrimmed: That number is no longer kept.
        """
    def plan_replay(
        self, stream: str, start: _Start, end: _Start, *, shard_id: str | None = None
    ) -> dict[str, tuple[int, int]]:
        """Return what a replay would read of each shard: the first number, and the one behind the last.

        `end` is not in it. A time is that of the first record put then or later.

        Raises:
            ConfigError: The mapping does not read the stream, or there is no such shard.
            SequenceTrimmed: `start` is a number that is no longer kept.
        """
    def replay(
        self, stream: str, stretches: Dict[str, tuple[int, int]], *, timeout: float | None = None
    ) -> Mapping:
        """Make a replay, `<name>@replay-N`; workers that run the function find, run and remove it.

        Durable; a crash leaves the whole replay or none. This mapping's own lanes are not touched.

        Raises:
            ConfigError: No stretch has a record.
            SequenceTrimmed: Some records are no longer kept; there is no replay then.
        """
    def finish_replay(self) -> bool:
        """Remove a replay if all of it is done and no lane is leased; True: it is removed now."""
    @property
    def on_failure(self) -> str | None:
        """Where failures go, as was noted last: `"dlq"` (or nobody noted it), a stream, or None."""
    def note_on_failure(self, on_failure: str | None) -> None:
        """Note it for those who look, durably; nothing here goes by it."""
    def set_wanted(self, *, factor: int, windowed: bool = False) -> None:
        """Have the lanes of a replay be as those of its function now; `change_factor` does it.

        Raises:
            ConfigError: There cannot be so many lanes, or not with windows.
        """
    def lanes(self, stream: str | None = None) -> list[LaneStatus]: ...
    def judge(
        self, stream: str, shard_id: str, slot: int, filter: Filter | None = None
    ) -> LaneJudge | None:
        """Take a lane's lease to look at its in-flight slot and rewrite it; None: it is held.

        `filter` is the mapping's: `LaneJudge.records` names what it takes.
        """

@final
class LaneJudge:
    """A lane's lease in the hands of a supervisor, while it settles who is blamed for a death."""

    def in_flight(self) -> InFlight | None: ...
    def write(
        self,
        entries: Sequence[Entry],
        *,
        worker: str,
        is_calling: bool,
        worker_deaths: int,
        is_alone: bool,
        is_exclusive: bool,
    ) -> None:
        """Rewrite the slot; where the batch begins and ends, runner and exponent stay.

        Without an entry the batch is done, and the checkpoint goes to its end.
        """
    def records(self, first: int, last: int) -> list[int]:
        """Return the lane's sequence numbers in the range."""
    def release(self) -> None: ...

@final
class Work:
    """A batch of a lane to be called, or the open rest of one."""

    @property
    def lane(self) -> int: ...
    @property
    def records(self) -> Records:
        """All records that the entries cover."""
    @property
    def entries(self) -> list[Entry]:
        """The work list, first call first; of a fresh batch one entry without attempts."""
    @property
    def exponent(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def is_resumed(self) -> bool:
        """Whether it was in flight before: taken over from a dead runner, or back from a wait."""
    @property
    def is_alone(self) -> bool: ...
    @property
    def stream(self) -> str: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def window(self) -> WorkWindow | None:
        """The window that the calls are made in; None of a lane without windows."""

@final
class WorkWindow:
    """The tumbling window that work is handed out in."""

    @property
    def start_us(self) -> int: ...
    @property
    def end_us(self) -> int: ...
    @property
    def state_kind(self) -> int:
        """What the state is: 0 none, 1 JSON, 2 bytes."""
    @property
    def state(self) -> bytes:
        """As the last call that succeeded left it."""
    @property
    def is_final(self) -> bool:
        """Whether this is the final call; then there are no records, and one entry stands for it."""
    @property
    def is_ended_early(self) -> bool: ...

@final
class LaneSet:
    """The lanes of one runner, shared by its threads.

    A lane is in the hands of one thread from `next` until `settle`, `wait` or `yield_`. The methods
    that write raise `LeaseLost` if another runner has the lane; it is gone from the set then.
    """

    def __new__(cls, log: Log, *, worker: str, runner: int, budget_bytes: int = ...) -> Self: ...
    def add(
        self,
        lane: int,
        mapping: Mapping,
        stream: str,
        shard_id: str,
        slot: int,
        *,
        batch_size: int,
        batch_window: float,
        batch_bytes: int,
        filter: Filter | None = None,
        board: Board | None = None,
        index: int = 0,
        tumbling_window: float | None = None,
        alone: bool = False,
        exclusive: bool = False,
        skip_corruption: bool = False,
    ) -> Literal["ok", "held", "judge", "stale", "parents", "exclusive"]:
        """Take the lease and open the lane under the caller's number `lane`.

        With a `filter` its batches hold matching records only, and its position passes the others
        without a call; what became of each record is counted on the `board`, for the mapping
        at `index` there, in `Board.MATCHED`, `Board.FILTERED` and `Board.NOT_JSON`.

        A batch that a dead worker was calling is taken over with one worker death more, and
        without an attempt; but if it ran with nothing else in that worker, each entry of its first
        call has cause 1, and whoever runs the batch counts the attempt.

        Returns:
            `ok`; `held`: somebody else has the lease; `judge`: another living worker was calling
            its batch, or another runner of this one, whose supervisor has to look at it first;
            `stale`: the factor in force has no such lane, or one with windows or without, other than
            `tumbling_window` says; `parents`: a parent shard is not
            finished; `exclusive`: its batch was in flight at two deaths of a worker, ask again
            with the worker for itself. Only with `ok` is the lease kept.
        """
    def remove(self, lane: int) -> None:
        """Sync its checkpoint and give the lease back; waits while a thread has the lane."""
    def next(self, timeout: float) -> Work | None:
        """Wait for the next batch of any lane that is free; its slot says that it is being called.

        None: there was none in time, the set was stopped, or a lane met damage, which
        `take_damage` returns. What else a lane meets is raised here, and the others go on:
        `LeaseLost` (it is gone from the set), `SequenceTrimmed` (once; it goes on with what is
        kept), and errors of files such as `StorageIO` (it is tried again after a second).
        """
    def next_of(self, lane: int) -> Work | None:
        """Return the next batch of one lane, if it is free and has one now; raises as `next`.

        For a thread that let go of the lane: it need not wake another one for more of the same.
        """
    def take_damage(self) -> list[tuple[int, int, Corruption, bool]]:
        """Return the damage that lanes met since this was called last, and wake `next` no more.

        Lane, its slot, the error, and whether the lane passed it: otherwise it stopped there, and
        looks again after ten seconds.
        """
    def hold(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """Rewrite the in-flight slot: the open rest of the batch, first call first.

        The checkpoint goes up to the lowest open record. An empty list is refused: `settle`.
        With more than `SLOT_ENTRIES_MAX` entries the slot holds one range, from the lowest open
        record to the end of the batch.
        """
    def set_calling(self, lane: int, *, is_calling: bool) -> None:
        """Rewrite whether the function is being called; `next` has written that it is."""
    def wait(self, lane: int, entries: Sequence[Entry], exponent: int, seconds: float) -> None:
        """`hold`, and let go of the lane; `next` hands the batch out again after `seconds`."""
    def keep_state(self, lane: int, kind: int, data: bytes, *, ended_early: bool) -> None:
        """Take the state that a successful call left.

        It is written with the position, as soon as that moves: by `hold`, `wait`, `yield_` or
        `settle`. `next` forgets one that was not. `ended_early`: the window is closed once the
        batch is settled.
        """
    def settle(self, lane: int, exponent: int = 0) -> None:
        """Note that the batch is done: checkpoint at its end, lane free."""
    def yield_(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """`wait` for no time; for a runner that stops. Not an attempt."""
    def pass_on(self) -> None:
        """Wake a thread that sleeps in `next` if there is more to do.

        For a thread that let go of a lane and does not go on with `next` itself.
        """
    def set_burst(self, on: bool) -> None:
        """Close batch windows at once, and write idle positions at once."""
    def stop(self) -> None:
        """Make `next` return None from now on."""
    def lanes(self) -> list[int]: ...
    def close(self) -> None:
        """Stop, and give all lanes back."""

@final
class Membership:
    """`workers/<uuid>.lock`, held while this worker lives."""

    @staticmethod
    def join(log: Log, body: bytes) -> Membership: ...
    @property
    def uuid(self) -> str: ...
    @staticmethod
    def living(log: Log) -> dict[str, bytes]:
        """Return the bodies of all living workers by their uuids."""
    def update(self, body: bytes) -> None: ...
    def leave(self) -> None: ...

def exit_when_closed(fd: int, code: int) -> None:
    """Start a native thread that calls `_exit(code)` when `fd` reaches its end."""

def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one."""

def slot_of(partition_key: str | None, sequence_number: int, factor: int) -> int:
    """Return the lane of a shard that a record goes to."""
