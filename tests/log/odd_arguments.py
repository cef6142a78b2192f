"""Makes arguments for the calls of `streamfn._core`: near right mostly, and sometimes anything."""

from datetime import UTC, datetime, timedelta

from streamfn import _core
from streamfn._core import Board, Entry, Filter, LaneSet, Log, Mapping, Membership, Record, Records

MOST = 2**64 - 1
INTS = [
    *(0, 1, 2, 3, 7, -1, 255, 256, 257, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53),
    *(2**63 - 1, 2**63, MOST - 1, MOST, 2**64, 2**127, 2**128 - 1, 2**128, -(2**63), 10**30),
]
FLOATS = [
    *(0.0, -0.0, 0.001, -1.0, 1e18, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
]
TIMEOUTS = [0.0, -1.0, 0.001, float("nan"), float("-inf")]
"""Those that end at once."""
TEXTS = [
    *("", "s", "t", "app.fn", "app.fn.dlq", "app.fn.redrive", "app.fn@replay-1", "@", "mapping"),
    *("shardId-000000000000", "shardId-", "0", "1", "4294967295", "4294967296", "..", "/", "\0"),
    *("trim_horizon", "latest", "group", "process", "zstd", "none", "dlq", "removed"),
    *("0" * 32, "\ud800", "é" * 300, "a" * 129, "a" * 100_000),
]
BYTES = [b"", b"x", b"{}", b"[", b'{"a":1}', b'{"a":1e999}', b"[" * 100_000, b"\xff", b"y" * 3000]
PATTERNS = [
    *("{}", '{"a":[1]}', '{"a":{"b":[{"exists":false}]}}', '{"data":{"a":[{"numeric":[">",1]}]}}'),
    *("[", '{"a":"b"}', '{"a":[{"wildcard":"*"}]}', '{"a":' * 500, '{"a":[{"cidr":"::/0"}]}'),
    *('{"partitionKey":["k"]}', '{"a":[{"exactly":"x"}]}'),
]


def attempt(call, *args, **kwargs):
    """Call it and return what it returned; None if it raised anything but a panic."""
    try:
        return call(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 - a panic is no `Exception`
        assert type(error).__name__ != "PanicException", (call, args, kwargs)  # noqa: PT017
        return None


class Raises:
    """Fails however it is looked at."""

    def __iter__(self):
        raise KeyError("iter")

    def __index__(self):
        raise KeyError("index")

    def items(self):
        raise SystemExit(3)


class Nowhen(datetime):
    """A time that is none."""

    def timestamp(self):
        return float("nan")


class Arguments:
    """Makes arguments by their names, from what the calls before returned too."""

    def __init__(self, random, pool):
        self.random = random
        self.pick = random.choice
        self.pool = pool

    def make(self, name):
        """Return an argument of that name; of one in ten anything."""
        if name in TIMED:
            return self.pick(TIMEOUTS)
        if self.random.random() < 0.1:
            return self.odd()
        return MAKERS[name](self)

    def odd(self, depth=0):
        """Return anything."""
        kinds = [
            lambda: self.pick(INTS),
            lambda: self.pick(FLOATS),
            lambda: self.pick(TEXTS),
            lambda: self.pick([*BYTES, bytearray(b"x"), memoryview(b"abcdef")[::2]]),
            lambda: self.pick([None, True, False, int, object(), Raises()]),
            self.time,
            lambda: self.pick(self.pool),
        ]
        if depth < 2:
            some = [self.odd(depth + 1) for _ in range(self.random.randrange(4))]
            kinds += [lambda: some, lambda: tuple(some), lambda: iter(some)]
            kinds += [lambda: {"a": b"x", "b": self.odd(depth + 1)}]
        return self.pick(kinds)()

    def one(self, *kinds):
        """Return one of the things made before, or None."""
        return self.pick([each for each in self.pool if isinstance(each, kinds)] or [None])

    def several(self, kind):
        found = [each for each in self.pool if isinstance(each, kind)]
        return self.random.sample(found, min(len(found), self.random.randrange(4)))

    def number(self):
        return self.pick(INTS) if self.random.random() < 0.5 else self.random.randrange(12)

    def unsigned(self, bits=64):
        return self.number() % 2**bits

    def time(self):
        now = datetime.now(UTC)
        least, most = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        naive = now.replace(tzinfo=None)
        return self.pick([now, naive, least, most, now + timedelta(days=400), Nowhen(2020, 1, 1)])

    def place(self):
        return self.pick(["trim_horizon", "latest", None, self.number(), self.time()])

    def entries(self):
        return [self.entry() for _ in range(self.random.randrange(30))]

    def entry(self):
        first, last = sorted((self.unsigned(), self.unsigned()))
        return Entry(first, last, attempts=self.unsigned(32), joined=self.pick([True, False]))

    def stretches(self):
        shards = ["0", "1", "shardId-000000000000", self.pick(TEXTS)]
        return {self.pick(shards): (self.number(), self.number()) for _ in range(3)}

    def slice(self):
        step = self.pick([None, 1, -1, 2, 0])
        return self.pick([0, -1, self.number(), slice(self.number(), self.number(), step)])

    def record(self):
        data = self.pick([b"x", b'{"a":1}'])
        number = self.pick([None, self.unsigned()])
        return Record(data, "k", sequence_number=number, timestamp_us=self.unsigned())


TIMED = {"timeout", "wait"}

MAKERS = {
    **dict.fromkeys(
        [
            *("sequence_number", "timestamp_us", "now_us", "slot", "runner", "cell"),
            *("counter", "amount", "limit", "max_bytes", "first", "last", "seen", "exponent"),
            *("worker_deaths", "attempts", "cause", "detail", "first_failed_us", "index"),
            *("batch_bytes", "budget_bytes", "retention_bytes", "segment_bytes"),
        ],
        Arguments.number,
    ),
    **dict.fromkeys(
        [
            *("exist_ok", "internal", "force", "is_calling", "is_alone", "is_exclusive"),
            *("alone", "exclusive", "skip_corruption", "windowed", "retention_consumed"),
            *("for_records", "is_paused", "on", "ended_early", "joined"),
        ],
        lambda make: make.pick([True, False]),
    ),
    **dict.fromkeys(["start", "before", "end"], Arguments.place),
    **dict.fromkeys(
        ["seconds", "batch_window", "retention_seconds"], lambda make: make.pick(FLOATS)
    ),
    **dict.fromkeys(["deadline", "tumbling_window"], lambda make: make.pick([None, *FLOATS])),
    **dict.fromkeys(["data", "event", "body"], lambda make: make.pick(BYTES)),
    "events": lambda make: [make.pick(BYTES) for _ in range(3)],
    "many": lambda make: [make.pick(BYTES) for _ in range(make.random.randrange(30))],
    "partition_key": lambda make: make.pick([None, "k", "a", "é", ""]),
    "partition_keys": lambda make: make.pick([None, ["a"], [None, "b"]]),
    "headers": lambda make: make.pick([None, {"h": b"v"}, {}]),
    "headers_": lambda make: make.pick([None, [None], [{"h": b"v"}]]),
    "shard_id": lambda make: make.pick(["shardId-000000000000", "0", "1", make.pick(TEXTS)]),
    "other": lambda make: make.pick(["0", "1", "2"]),
    "stream": lambda make: make.pick(["s", "t", "app.fn.redrive", "x"]),
    "name": lambda make: make.pick(["app.fn", "s", "t", "u", make.pick(TEXTS)]),
    "factor": lambda make: make.pick([1, 2, 3, make.number()]),
    "shards": lambda make: make.pick([1, 2, 3, 0, 2**32 - 1]),
    "stretches": Arguments.stretches,
    "log": lambda make: make.one(Log),
    "mapping": lambda make: make.one(Mapping),
    "board": lambda make: make.one(Board),
    "filter": lambda make: make.pick([None, make.one(Filter)]),
    "records": lambda make: make.pick([make.one(Records), make.several(Record)]),
    "record_list": lambda make: make.several(Record),
    "parts": lambda make: make.several(Records),
    "entries": Arguments.entries,
    "lane": lambda make: make.random.randrange(4),
    "batch_size": lambda make: make.pick([1, 3, 100, make.number()]),
    "worker": lambda make: make.pick(["0" * 32, "f" * 32]),
    "fd": lambda make: make.pick([-1, -(2**31), 10**6]),
    "patterns": lambda make: [make.pick(PATTERNS) for _ in range(make.random.randrange(3))],
    "slice": Arguments.slice,
    "hash_key": lambda make: make.pick([None, make.number(), 2**127]),
    "durability": lambda make: make.pick(["group", "process", None]),
    "compression": lambda make: make.pick(["zstd", "none"]),
    "kind": lambda make: make.pick([0, 1, 2, make.number(), dict]),
    "on_failure": lambda make: make.pick([None, "dlq", "s", make.pick(TEXTS)]),
    "shared": lambda make: {"a": 1},
}

MAKES = [
    (Record, "data partition_key sequence_number= shard_id= stream= timestamp_us= headers="),
    (Records, "record_list"),
    (Records.concat, "parts"),
    (Board.create, ""),
    (Board.attach, "fd"),
    (Filter, "patterns for_records="),
    (Entry, "first last attempts joined cause detail first_failed_us"),
    (Mapping.register, "log name factor= start= windowed="),
    (Mapping.open, "log name"),
    (Mapping.names, "log"),
    (Mapping.remove, "log name timeout="),
    (LaneSet, "log worker= runner= budget_bytes="),
    (Membership.join, "log body"),
    (Membership.living, "log"),
    (_core.slot_of, "partition_key sequence_number factor"),
]
"""What makes things, and its arguments; `name=` is a keyword."""

METHODS = {
    Record: """
        json
        text
        as_type kind
        """,
    Records: """
        __getitem__ slice
        running board cell
        values
        json
        to_arrow
        kinesis_records shared
        partition_keys
        sequence_numbers
        index sequence_number
        between first last
        """,
    _core.ArrowBatch: """
        __arrow_c_schema__
        __arrow_c_array__
        __arrow_c_stream__
        """,
    Log: """
        set_time now_us
        create_stream name shards= exist_ok= internal= durability= retention_seconds= segment_bytes=
        create_stream name retention_bytes= retention_consumed= compression=
        stream name
        remove_stream name force= timeout=
        streams internal=
        wake
        wait seen timeout
        sync
        """,
    _core.Stream: """
        put data partition_key headers timeout
        put_many many partition_keys headers_ timeout
        shards
        split shard_id hash_key timeout
        merge shard_id other timeout
        trim shard_id before timeout
        reader shard_id start skip_corruption=
        """,
    _core.PutResults: "__getitem__ slice",
    _core.ShardReader: """
        poll limit max_bytes wait
        take_skipped
        """,
    Board: """
        begin cell lane deadline
        end cell
        cells
        add index counter amount
        counters index
        """,
    Filter: """
        matches events
        matches_records records
        explain event
        """,
    Mapping: """
        prepare stream
        factor stream shard_id
        change_factor stream shard_id
        set_paused is_paused
        wait_drained timeout
        seek stream start timeout=
        plan_replay stream start end shard_id=
        replay stream stretches timeout=
        finish_replay
        note_on_failure on_failure
        set_wanted factor= windowed=
        lanes stream
        judge stream shard_id slot filter
        """,
    _core.LaneJudge: """
        in_flight
        write entries worker= is_calling= worker_deaths= is_alone= is_exclusive=
        records first last
        release
        """,
    LaneSet: """
        add lane mapping stream shard_id slot batch_size= batch_window= batch_bytes= filter= alone=
        add lane mapping stream shard_id slot batch_size= batch_window= batch_bytes= board= index=
        next timeout
        next timeout
        next_of lane
        hold lane entries exponent
        set_calling lane is_calling=
        wait lane entries exponent seconds
        keep_state lane kind data ended_early=
        settle lane exponent
        yield_ lane entries exponent
        pass_on
        set_burst on
        lanes
        take_damage
        """,
    Membership: """
        update body
        leave
        """,
}
"""The methods of each class, one a line, and their arguments."""
