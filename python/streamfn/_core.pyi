"""The Rust core: durable storage, lanes, and the records a function receives.

Thin bindings of the crate `streamfn-core`. Applications use `streamfn.log`, `streamfn.app` and
`streamfn.model` instead. Calls that block or use the disk release the GIL and check for signals at
least every 100 ms. Sizes are in bytes. Times are seconds as float; names that end in `_us` are
microseconds, UTC. Errors are the classes of `streamfn.errors`.
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
    "WORKER_DEATHS_MAX",
    "ArrowBatch",
    "Board",
    "Counts",
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
    "run_front",
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
"""Separates the name of a mapping and the number of its replay."""
SLOT_ENTRIES_MAX: int
"""Most entries in an in-flight slot."""
WORKER_DEATHS_MAX: int
"""Deaths of workers in a row with a batch in flight after which it needs a worker to itself."""
DEAD_LETTER_BYTES_EXTRA: int
"""Bytes that a record of an internal stream may have above the limit of other records."""

_Start: TypeAlias = str | int | datetime
"""`"trim_horizon"`, `"latest"`, a sequence number, or an aware datetime."""

# ---------------------------------------------------------------- records

@final
class Record:
    """One record of a stream. Records are equal if their values are equal.

    The log makes records; make one by hand for tests. A record of the log is a reference into its
    record batch; fields are decoded on access.

    Args:
        sequence_number: None: 0, and in `Records` or `Batch.of` one more than the record before.

    Raises:
        RecordTooLarge: The record is nearly 2 GiB.
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
        """When the record was appended; aware, UTC."""
    @property
    def timestamp_us(self) -> int: ...
    @property
    def headers(self) -> Dict[str, bytes]: ...
    def json(self) -> Any:
        """Decode the data as JSON, with orjson.

        Raises:
            orjson.JSONDecodeError: The data is not JSON; it is a `ValueError`.
        """
    def text(self) -> str:
        """Decode the data as UTF-8.

        Raises:
            UnicodeDecodeError: The data is not UTF-8.
        """
    def as_type(self, kind: Any) -> Any:
        """Decode the JSON data into a msgspec struct, dataclass, typed dict or pydantic model."""
    def __hash__(self) -> int: ...

@final
class Records(Sequence[Record]):
    """Consecutive records of one lane, in order; may be empty. Slicing copies no data."""

    def __new__(cls, records: Sequence[Record]) -> Self:
        """Make a sequence of records; number those that were made without a sequence number.

        Raises:
            ConfigError: The sequence numbers do not increase.
        """
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> Record: ...
    @overload
    def __getitem__(self, index: slice, /) -> Records: ...
    def __iter__(self) -> Iterator[Record]: ...
    def running(self, board: Board, cell: int) -> Iterator[Record]:
        """Iterate, and write the running record to the board (8 bytes, no system call)."""
    def values(self) -> list[bytes]: ...
    def json(self) -> list[Any]: ...
    def to_arrow(self) -> ArrowBatch:
        """Return a copy of the records as Arrow columns.

        Raises:
            OverflowError: The records are larger than 2 GiB.
        """
    def kinesis_records(self, shared: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the records in the form of AWS Lambda's Kinesis events.

        Args:
            shared: The entries that all records have in common. Each record gets a copy with its
                own `eventID` and `kinesis`.

        Source: the AWS Lambda developer guide, "Process Amazon Kinesis Data Streams records".
        """
    def partition_keys(self) -> list[str | None]: ...
    def sequence_numbers(self) -> list[int]: ...
    def index(self, sequence_number: int) -> int:  # type: ignore[override]  # by number, not by value
        """Return the index of the record with a sequence number; `ValueError` if there is none."""
    def between(self, first: int, last: int) -> Records:
        """Return the records with `first <= sequence_number <= last`."""
    @staticmethod
    def concat(parts: Sequence[Records]) -> Records:
        """Return the records of all parts.

        Raises:
            ConfigError: The sequence numbers do not increase.
        """
    @property
    def first(self) -> int:
        """First sequence number. This and the next four raise `IndexError` without records."""
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
        """Size of data, keys and headers."""

@final
class ArrowBatch:
    """Records as an Arrow record batch, for any library with the Arrow PyCapsule interface.

    Shapes: one row per record; columns `data` (binary), `partition_key` (utf8, null without a
    key), `sequence_number` (uint64), `timestamp` (timestamp[us, UTC]), `headers` (map of utf8 to
    binary).

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
    """An open log directory. A process opens each directory once; all its handles share that."""

    @staticmethod
    def open(path: str, *, durability: str = "group", create: bool = True) -> Log:
        """Open a log directory. If no other process has it open, recover it first.

        Raises:
            ConfigError: `path` is not a log directory, is missing with `create=False`, or is on a
                network file system. The error's field is `log_dir`.
            LockTimeout: Another process has been recovering the log for more than 30 s.
        """
    @staticmethod
    def in_memory(now_us: int) -> Log:
        """Make an empty log in the memory of this process, for tests of functions.

        Its clock moves only with `set_time`. Retention does not run automatically.
        """
    def set_time(self, now_us: int) -> None:
        """Set the clock of a log in memory; `RuntimeError` for other logs."""
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
        """Create a stream; it is durable when this returns.

        Only internal streams have names with dots; their durability is always `group`. At
        `segment_bytes` a new segment begins, and retention removes whole segments: 1 MiB to 2 GiB,
        256 MiB by default.
        """
    def stream(self, name: str) -> Stream:
        """Open a stream.

        Raises:
            StreamNotFound: There is no stream of that name.
        """
    def remove_stream(
        self, name: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """Remove a stream with all its records.

        Raises:
            StreamNotFound: There is no stream of that name.
            ConfigError: Without `force`, a mapping has read the stream or owns it; or a worker is
                reading it.
        """
    def streams(self, *, internal: bool = False) -> list[str]: ...
    def wake(self) -> int:
        """Return the wake word; it changes when records become visible or a lane is handed over."""
    def wait(self, seen: int, timeout: float) -> int:
        """Sleep until the wake word is not `seen`, or for `timeout` seconds; return the word."""
    def sync(self) -> None: ...
    def close(self) -> None: ...

@final
class ShardInfo:
    """The current state of a shard."""

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
        """The next sequence number; visible records have lower ones."""
    @property
    def bytes(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def last_timestamp_us(self) -> int: ...

@final
class PutResults(Sequence[tuple[str, int]]):
    """Shard id and sequence number of each record of a `put_many`, in order, computed on access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[str, int]:  # type: ignore[override]  # no slices
        """Return one result; only `streamfn.PutResults` supports slices."""

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
        """Return all shards, including closed ones; parents come before their children."""
    def split(
        self, shard_id: str, hash_key: int | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        """Close a shard and open two child shards; return their ids.

        Args:
            shard_id: An open shard.
            hash_key: First hash key of the second child; default: the middle of the range.
            timeout: Longest wait for each lock, in seconds. None: 30.

        Raises:
            ConfigError: There is no such shard, the hash key is outside its range, or the log has
                too many shards.
            StreamClosed: The shard is closed: it was split or merged before.
        """
    def merge(self, shard_id: str, other: str, timeout: float | None = None) -> str:
        """Close two shards with adjacent hash-key ranges and open one child; return its id.

        Raises:
            ConfigError: There is no such shard, or the ranges are not adjacent.
            StreamClosed: A shard is closed: it was split or merged before.
        """
    def trim(self, shard_id: str, before: int | datetime, timeout: float | None = None) -> int:
        """Delete a shard's records before a sequence number or time; return the bytes freed."""
    def trimmable(
        self, shard_id: str, before: int | datetime, timeout: float | None = None
    ) -> tuple[int, int, int]:
        """Return what `trim` would do now: the new trim horizon, segments and bytes removed."""
    def removable(
        self,
        shard_id: str,
        *,
        retention_seconds: float | None = None,
        retention_bytes: int | None = None,
        retention_consumed: bool = False,
        timeout: float | None = None,
    ) -> tuple[int, int, int]:
        """Return what a pass with this retention would do now, in the form of `trimmable`."""
    def set(
        self,
        *,
        compression: str | None = None,
        sets_retention: bool = False,
        retention_seconds: float | None = None,
        retention_bytes: int | None = None,
        retention_consumed: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Change settings; the change is durable.

        This process uses the new settings at once, other processes within two seconds.

        Args:
            compression: `zstd` or `none`, for new records. None: unchanged.
            sets_retention: Whether the retention changes, to what the next three say.
            retention_seconds: Oldest age kept. None: no such limit.
            retention_bytes: Most bytes kept by a shard. None: no such limit.
            retention_consumed: Whether consumed records may be removed.
            timeout: Longest wait for the lock, in seconds. None: 30.

        Raises:
            ConfigError: `compression` is neither.
            StreamNotFound: The stream was removed.
            LockTimeout: Another process is changing streams; nothing has changed.
            LogFull: No room for the manifest; nothing has changed.
        """
    def reader(
        self, shard_id: str, start: _Start | None = None, *, skip_corruption: bool = False
    ) -> ShardReader: ...

@final
class ShardReader:
    """Reads one shard in order; it holds no lease and moves no checkpoint."""

    @property
    def position(self) -> int:
        """The next sequence number to read."""
    @property
    def is_finished(self) -> bool:
        """Whether the shard is closed (split or merged) and the reader has read all of it."""
    def poll(self, limit: int, max_bytes: int = ..., wait: float = 0.0) -> Records:
        """Return at most `limit` records; wait at most `wait` seconds for the first.

        The result is empty if there are no new records yet.

        Raises:
            SequenceTrimmed: Retention has deleted the next records; open a new reader.
            Corruption: The next record batch is damaged, and the reader does not skip damage.
        """
    def take_skipped(self) -> list[Corruption]:
        """Return the damage that was skipped since the last call of this method."""
    def close(self) -> None: ...

# ---------------------------------------------------------------- examining a log directory

@final
class Finding:
    """One finding of `fsck`."""

    @property
    def code(self) -> str:
        """Stable name of the kind of finding, such as `batch-damaged`."""
    @property
    def severity(self) -> str:
        """`damage`, or `note`: nothing is damaged, or the next opening repairs it."""
    @property
    def path(self) -> str: ...
    @property
    def position(self) -> int | None:
        """The byte position in the file, if there is one."""
    @property
    def first(self) -> int | None:
        """First sequence number affected."""
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
        """What the user should do; empty: nothing."""
    @property
    def repaired(self) -> str | None:
        """What the repair did; None: nothing."""

@final
class FsckReport:
    """The result of `fsck`."""

    @property
    def findings(self) -> list[Finding]: ...
    @property
    def is_damaged(self) -> bool:
        """Whether there is damage; after a repair: damage that is left, or records lost by it."""
    @property
    def is_exclusive(self) -> bool:
        """Whether no other process had the log open."""
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
    """Check a log directory; with `repair`, also repair what can be derived from other data.

    Args:
        path: The log directory.
        deep: Also read, decompress and decode every body.
        repair: Change the log. No other process may have it open.
        progress: Called about ten times a second with the bytes checked and the bytes in total.

    Raises:
        ConfigError: `path` is not a log directory.
        LockTimeout: With `repair`, another process has the log open.
        UnsupportedFormat: A version of streamfn with another format wrote the log.
    """

# ---------------------------------------------------------------- shared with the supervisor

@final
class Board:
    """Shared memory (a memfd) with the calls in progress and the counters of a runner.

    Its supervisor can read it after the runner has exited.
    """

    CELLS: int
    """Most threads of one runner; each has a cell."""
    MAPPINGS: int
    """Most mappings with counters."""
    COUNTERS: int
    """Counters of one mapping."""
    SUCCEEDED: int
    """Counter of calls that succeeded."""
    RECORDS_DONE: int
    """Counter of records that calls processed."""
    MATCHED: int
    """Counter of records that match the filter. The lanes count it and the next two."""
    FILTERED: int
    """Counter of records that do not match the filter."""
    NOT_JSON: int
    """Counter of records that do not match the filter and whose data is not JSON."""

    @staticmethod
    def create() -> Board: ...
    @staticmethod
    def attach(fd: int) -> Board: ...
    @property
    def fd(self) -> int: ...
    def begin(self, cell: int, lane: int, deadline: float | None) -> None:
        """Note that a call of `lane` begins; `deadline` is a value of `time.monotonic()`."""
    def end(self, cell: int) -> None: ...
    def cells(self) -> list[tuple[int, int, float | None, int | None]]:
        """Return (cell, lane, deadline, running sequence number) of the calls in progress."""
    def add(self, mapping: int, counter: int, amount: int) -> None: ...
    def count_in(self, mapping: int, counts: Counts) -> None:
        """Count what is added for a mapping in its shared counts, too. The first ones given stay."""
    def time_calls(self, cell: int, mapping: int, calls: int, records: int) -> None:
        """Note in the shared counts how long the cell's last calls took, together.

        Args:
            cell: The cell, after `end`.
            mapping: The mapping with the counts.
            calls: Number of calls, one after the other; each counts with the mean.
            records: Records that they got together.
        """
    def succeeded(self, cell: int, mapping: int, calls: int, records: int) -> None:
        """Count calls that succeeded and their records; otherwise as `time_calls`."""
    def counters(self, mapping: int) -> list[int]: ...

@final
class Counts:
    """What all processes have counted for a mapping: `metrics/<mapping>.counts`, mapped memory.

    No death of a process takes a count back. After a power cut they may be lower, or begin again.
    """

    DURATION_BOUNDS_NS: list[int]
    """Upper bounds of the buckets for durations of calls, in nanoseconds."""
    SIZE_BOUNDS: list[int]
    """Upper bounds of the buckets for the records of calls."""

    @staticmethod
    def open(log: Log, mapping: str) -> Counts:
        """Open the counts of a mapping; a file that is missing or damaged is made anew.

        Raises:
            LogFull: The disk is full.
            StorageIO: The file cannot be made.
        """
    @staticmethod
    def read(
        log: Log, mapping: str
    ) -> tuple[list[int], tuple[int, list[int]], tuple[int, list[int]]] | None:
        """Return the counts as `values` does; None if nothing was counted yet."""
    def add(self, counter: int, amount: int) -> None: ...
    def values(self) -> tuple[list[int], tuple[int, list[int]], tuple[int, list[int]]]:
        """Return (counters, durations, sizes); histograms are (sum, number in each bucket)."""

# ---------------------------------------------------------------- event patterns

@final
class Filter:
    """Compiled event patterns, one of which must match; docs/filters.md describes the language."""

    def __new__(cls, patterns: Sequence[str], *, for_records: bool = False) -> Self:
        """Compile patterns, each a JSON text.

        Args:
            patterns: The patterns.
            for_records: Refuse patterns with fields that records do not have.

        Raises:
            ConfigError: A pattern is invalid; `field` is `filter[<index>]` and the path in the
                pattern.
        """
    def matches(self, events: Iterable[bytes]) -> list[bool | None]:
        """Return for each event whether a pattern matches; None: it is not a JSON object."""
    def matches_records(self, records: Records) -> list[bool | None]:
        """Return for each record whether a pattern matches.

        None: no pattern matches, a pattern names a field of `data`, and the data is not JSON.
        """
    def explain(self, event: bytes) -> list[list[tuple[str, str, str]] | None] | None:
        """Return for each pattern the fields that do not match; None for a pattern that matches.

        Each item is (field, what the pattern wants, what the event has). Of `$or`, the branch with
        the fewest mismatches is shown. The result is None if the event is not a JSON object.
        """

# ---------------------------------------------------------------- mappings and lanes

@final
class Entry:
    """A range of a lane's records that are not settled, as the in-flight slot holds it."""

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
        """Number of failed calls of exactly these records."""
    @property
    def joined(self) -> bool:
        """Whether it belongs to the same call as the entry before it."""
    @property
    def cause(self) -> int:
        """Failure that the supervisor found after the runner exited.

        0 none, 1 crash, 2 timeout, 3 memory limit exceeded.
        """
    @property
    def detail(self) -> int:
        """Of the cause.

        For cause 1 the signal's number, or the exit code as a negative number; for cause 3 the
        limit in KiB.
        """
    @property
    def first_failed_us(self) -> int:
        """When the first call failed; 0: none has failed."""

@final
class InFlight:
    """The content of a lane's in-flight slot."""

    @property
    def worker(self) -> str:
        """UUID of the worker whose runner wrote it."""
    @property
    def runner(self) -> int: ...
    @property
    def is_calling(self) -> bool:
        """Whether a call was running or about to start; False while waiting."""
    @property
    def worker_deaths(self) -> int:
        """Consecutive deaths of a worker with this batch in flight."""
    def after_worker_death(self, now_us: int) -> InFlight:
        """Return what the slot has to say after the worker died during the call.

        No attempt counts, because anything may have killed the worker. The exception is a batch
        that ran with nothing else in its worker, after earlier deaths.
        """
    @property
    def is_alone(self) -> bool:
        """Whether the batch must run alone in its runner until it is settled."""
    @property
    def is_exclusive(self) -> bool:
        """Whether the batch ran while nothing else ran in its worker."""
    @property
    def is_final(self) -> bool:
        """Whether this is the final call of a window; then its only entry stands for the call."""
    @property
    def formed_at(self) -> int:
        """The checkpoint when the batch was formed."""
    @property
    def end(self) -> int:
        """The checkpoint once all entries are settled."""
    @property
    def exponent(self) -> int:
        """The lane's back-off exponent."""
    @property
    def not_before(self) -> float:
        """Earliest time of the next call, on the monotonic clock; 0: no wait."""
    @property
    def entries(self) -> list[Entry]: ...

@final
class LaneStatus:
    """The state of a lane; reading it needs no lease."""

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
        """Sequence numbers from the checkpoint to the shard's last record.

        This is `end - checkpoint` without the mark that ends a closed shard. It includes records of
        the shard's other lanes.
        """
    @property
    def in_flight(self) -> InFlight | None: ...
    @property
    def is_leased(self) -> bool: ...
    @property
    def is_finished(self) -> bool:
        """Whether all records are settled and no more can come.

        That is the case at the end of a closed shard (split or merged), or of a replay.
        """
    @property
    def checkpoint_us(self) -> int: ...
    @property
    def is_windowed(self) -> bool:
        """Whether the lane has tumbling windows."""
    @property
    def window_us(self) -> tuple[int, int] | None:
        """Start and end of the open window, in µs."""

@final
class Mapping:
    """The record of a mapping on disk and its lanes files, in `mappings/<name>/`."""

    @staticmethod
    def register(
        log: Log, name: str, *, factor: int, start: _Start | None = None, windowed: bool = False
    ) -> Mapping:
        """Create or open a mapping and set its wanted factor; synced to disk.

        `start` is used only when the mapping is new. With `windowed` its lanes have tumbling
        windows, which needs a factor of 1.
        """
    @staticmethod
    def open(log: Log, name: str) -> Mapping | None: ...
    @staticmethod
    def names(log: Log) -> list[str]: ...
    @staticmethod
    def remove(log: Log, name: str, *, timeout: float | None = None) -> bool:
        """Remove a mapping with its checkpoints, all or nothing; False if there is none.

        Its dead letters and redriven records that are still queued stay. Open handles refuse every
        call from then on, even if a new mapping has the same name.

        Raises:
            LockTimeout: A lane is leased, and nothing has changed; or a lock was not free within
                `timeout` seconds (30).
        """
    @staticmethod
    def rename(log: Log, old: str, new: str, *, timeout: float | None = None) -> None:
        """Give a mapping another name, all or nothing.

        It keeps its positions, batches in flight, windows, settings, replays, dead letters and
        queued redrives. Open handles refuse every call from then on. If the process dies in the
        middle, the next change of any mapping finishes the renaming.

        Raises:
            ConfigError: Field `name`: a name is not `<app>.<function>`; `mapping`: there is none of
                the old name, or one of the new name; `stream`: there are dead letters or redrives
                of the new name.
            LockTimeout: A lane is leased, and nothing has changed; or a lock was not free within
                `timeout` seconds (30).
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
        """Create a lanes file for each shard of the stream that has none; return the shard ids.

        For a new mapping, the existing shards get their checkpoint from `start`, synced to disk. A
        shard that appears later starts at its first record.
        """
    def factor(self, stream: str, shard_id: str) -> int:
        """Return the factor in force."""
    def change_factor(self, stream: str, shard_id: str) -> bool:
        """Apply the wanted factor if no lane is leased or has a batch in flight.

        Returns:
            Whether the wanted factor is in force.
        """
    def set_paused(self, is_paused: bool) -> None:
        """Pause or resume the mapping; durable.

        When it is paused, running calls finish, no new ones start, and workers release the lanes.
        """
    def wait_drained(self, timeout: float | None = None) -> None:
        """Wait until no lane is leased; `LockTimeout` after `timeout` seconds (30)."""
    def seek(
        self,
        stream: str,
        start: _Start,
        *,
        shard_id: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, int]:
        """Move all lanes, or those of one shard, to `start`, at most to the visible end.

        Batches in flight are discarded.

        The change is durable. A crash during the call leaves the mapping paused.

        Returns:
            The new starting position of each shard.

        Raises:
            ConfigError: The mapping has no lanes in the shard.
            LockTimeout: A worker did not release its lanes in time; nothing has changed.
            SequenceTrimmed: The sequence number is no longer kept.
        """
    def plan_replay(
        self, stream: str, start: _Start, end: _Start, *, shard_id: str | None = None
    ) -> dict[str, tuple[int, int]]:
        """Return the range of each shard that a replay would read: first, and last plus one.

        `end` is exclusive. A datetime means the first record put at that time or later.

        Raises:
            ConfigError: The mapping does not read the stream, or there is no such shard.
            SequenceTrimmed: `start` is a sequence number that is no longer kept.
        """
    def replay(
        self, stream: str, stretches: Dict[str, tuple[int, int]], *, timeout: float | None = None
    ) -> Mapping:
        """Create a replay, `<name>@replay-N`. Workers of the function find, run and remove it.

        The replay is durable, and a crash leaves all of it or nothing. The mapping's own lanes do
        not change.

        Raises:
            ConfigError: No range has a record.
            SequenceTrimmed: Some records are no longer kept; no replay was created.
        """
    def finish_replay(self) -> bool:
        """Remove a replay if all its records are done and no lane is leased.

        Returns:
            Whether it was removed.
        """
    @property
    def on_failure(self) -> str | None:
        """The last value of `note_on_failure`: `"dlq"` (also if never noted), a stream, or None."""
    def note_on_failure(self, on_failure: str | None) -> None:
        """Store `on_failure` durably, for display only."""
    def set_wanted(self, *, factor: int, windowed: bool = False) -> None:
        """Set the wanted factor and windows of a replay; `change_factor` applies them.

        Raises:
            ConfigError: The factor is out of range, or is not 1 with windows.
        """
    def lanes(self, stream: str | None = None) -> list[LaneStatus]: ...
    def judge(
        self, stream: str, shard_id: str, slot: int, filter: Filter | None = None
    ) -> LaneJudge | None:
        """Take a lane's lease to read and rewrite its in-flight slot; None: the lease is held.

        `filter` is that of the mapping; `LaneJudge.records` returns only records that match it.
        """

@final
class LaneJudge:
    """A lane's lease, held by a supervisor while it decides which records killed a runner."""

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
        """Rewrite the slot, except the bounds of the batch, the runner and the exponent.

        Without entries the batch is done, and the checkpoint moves to its end.
        """
    def records(self, first: int, last: int) -> list[int]:
        """Return the lane's sequence numbers in the range."""
    def release(self) -> None: ...

@final
class Work:
    """A batch of a lane to call, or the records of one that are not settled."""

    @property
    def lane(self) -> int: ...
    @property
    def records(self) -> Records:
        """All records that the entries cover."""
    @property
    def entries(self) -> list[Entry]:
        """The work list, first call first; a new batch has one entry without attempts."""
    @property
    def exponent(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def is_resumed(self) -> bool:
        """Whether it was in flight before: in a runner that exited, or in a back-off wait."""
    @property
    def is_alone(self) -> bool: ...
    @property
    def stream(self) -> str: ...
    @property
    def shard_id(self) -> str: ...
    @property
    def window(self) -> WorkWindow | None:
        """The window of the calls; None for a lane without windows."""

@final
class WorkWindow:
    """The tumbling window of a `Work`."""

    @property
    def start_us(self) -> int: ...
    @property
    def end_us(self) -> int: ...
    @property
    def state_kind(self) -> int:
        """Kind of the state: 0 none, 1 JSON, 2 bytes."""
    @property
    def state(self) -> bytes:
        """The state that the last successful call left."""
    @property
    def is_final(self) -> bool:
        """Whether this is the final call; it has no records, and its only entry stands for it."""
    @property
    def is_ended_early(self) -> bool: ...

@final
class LaneSet:
    """The lanes of one runner, shared by its threads.

    One thread has a lane from `next` until `settle`, `wait` or `yield_`. Methods that write raise
    `LeaseLost` if another runner has the lease; then the lane is no longer in the set.
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

        With a `filter`, batches contain matching records only; the lane's position moves past the
        other records without a call. `Board.MATCHED`, `Board.FILTERED` and `Board.NOT_JSON` of
        `board` count the records, for the mapping at `index`.

        If a worker died while it was calling the lane's batch, the batch is taken over: its
        `worker_deaths` increases by one and no attempt counts. But if the batch ran while nothing
        else ran in that worker, each entry of its first call gets cause 1, and the runner of the
        batch counts the attempt.

        Returns:
            The lease is kept only with `ok`.

            * `ok`: the lane is in the set.
            * `held`: another process has the lease.
            * `judge`: another live worker, or another runner of this worker, was calling the batch;
              its supervisor must rewrite the in-flight slot first.
            * `stale`: the factor in force has no such lane, or the lane has windows and
              `tumbling_window` is None, or the reverse.
            * `parents`: a parent shard is not finished.
            * `exclusive`: the batch was in flight at two deaths of a worker. Ask again when nothing
              else runs in this worker.
        """
    def remove(self, lane: int) -> None:
        """Sync the lane's checkpoint and release its lease; waits while a thread has the lane."""
    def next(self, timeout: float) -> Work | None:
        """Wait for the next batch of any free lane, and mark it as being called in its slot.

        Returns:
            None: there was no batch in time, the set was stopped, or a lane found damage, which
            `take_damage` returns.

        Raises:
            LeaseLost: The lane is no longer in the set. The other lanes continue, here and below.
            SequenceTrimmed: Records were deleted before they were read. Raised once; the lane
                continues with the records that are kept.
            StorageIO: Or another error of files; the lane is tried again after a second.
        """
    def next_of(self, lane: int) -> Work | None:
        """Return the next batch of one lane if it is free and has one now; raises as `next`.

        A thread that has just released the lane calls this, and need not wake another thread.
        """
    def take_damage(self) -> list[tuple[int, int, Corruption, bool]]:
        """Return the damage that lanes found since the last call of this method.

        Each item is lane, slot, error, and whether the lane skipped the damage. A lane that did not
        skip it stops there and tries again after ten seconds. Damage that was returned no longer
        wakes `next`.
        """
    def hold(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """Rewrite the in-flight slot with the entries that are not settled, first call first.

        The checkpoint moves to the lowest open record. An empty list is refused: use `settle`. With
        more than `SLOT_ENTRIES_MAX` entries the slot holds one range, from the lowest open record
        to the end of the batch.
        """
    def set_calling(self, lane: int, *, is_calling: bool) -> None:
        """Rewrite in the slot whether the function is being called; `next` has set it to True."""
    def wait(self, lane: int, entries: Sequence[Entry], exponent: int, seconds: float) -> None:
        """`hold`, and release the lane; `next` returns the batch again after `seconds`."""
    def keep_state(self, lane: int, kind: int, data: bytes, *, ended_early: bool) -> None:
        """Keep the state that a successful call left.

        `hold`, `wait`, `yield_` or `settle` writes it, together with the position, when the
        position moves. If it was not written, `next` discards it. With `ended_early` the window is
        closed once the batch is settled.
        """
    def settle(self, lane: int, exponent: int = 0) -> None:
        """Move the checkpoint to the end of the batch, which is done, and release the lane."""
    def yield_(self, lane: int, entries: Sequence[Entry], exponent: int) -> None:
        """`wait` for no time, in a runner that stops; it does not count as an attempt."""
    def pass_on(self) -> None:
        """Wake a thread that sleeps in `next` if there is more to do.

        A thread calls this when it has released a lane and does not call `next` itself.
        """
    def set_burst(self, on: bool) -> None:
        """Close batch windows, and write idle positions, at once."""
    def stop(self) -> None:
        """Make `next` return None from now on."""
    def lanes(self) -> list[int]: ...
    def close(self) -> None:
        """Stop, and release all lanes."""

@final
class Membership:
    """`workers/<uuid>.lock`, held while this worker is alive."""

    @staticmethod
    def join(log: Log, body: bytes) -> Membership: ...
    @property
    def uuid(self) -> str: ...
    @staticmethod
    def living(log: Log) -> dict[str, bytes]:
        """Return the bodies of all live workers by their UUIDs."""
    def update(self, body: bytes) -> None: ...
    def leave(self) -> None: ...

def run_front(listener: int, control: int, lifeline: int) -> None:
    """Run the front of a worker (docs/front.md) until it is drained.

    The process is ended with code 71 when the life-line closes. The GIL is released.

    Args:
        listener: Descriptor of the listening socket `workers/<uuid>.sock`.
        control: Descriptor of the connection to the supervisor.
        lifeline: Descriptor of the pipe that closes when the supervisor exits.

    Raises:
        OSError: One of the descriptors cannot be used.
    """

def exit_when_closed(fd: int, code: int) -> None:
    """Start a native thread that calls `_exit(code)` when `fd` reaches end of file."""

def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one."""

def slot_of(partition_key: str | None, sequence_number: int, factor: int) -> int:
    """Return the slot (lane number within its shard) that a record belongs to."""
