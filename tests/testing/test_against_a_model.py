"""The engine against a model of what it promises: any records, failures, deaths, restarts, shards.

Each record has a fate, drawn when it is put. The model says of each what must become of it; how
often and beside which others it is called is the engine's matter, within a bound.

`STREAMFN_MODEL_STEPS` is how many steps (operations and calls) are tried at least.
"""

import os
import time
from collections import Counter, defaultdict
from datetime import timedelta
from math import ceil, log2

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from streamfn import App, Reject
from streamfn.testing import Crash, Driver, MemoryLog

STEPS = int(os.environ.get("STREAMFN_MODEL_STEPS", "5000"))
RETRIES = 2
BATCH_MAX = 16
KEYS = [None, *"abcdef"]
FATES = {
    "fine": 12,
    "fails once": 2,
    "fails twice": 1,
    "raises": 1,
    "rejects": 1,
    "crashes": 1,
    "hangs": 1,
    "is failed": 1,
    "is reported": 1,
}
"""What a record does to its function, and how often it is drawn."""
HOPELESS = {"raises", "rejects", "crashes", "hangs", "is failed", "is reported"}
TRANSIENT = {"fails once": 1, "fails twice": 2}
CALLS_OF_ONE = ceil(log2(BATCH_MAX)) + 1 + RETRIES
"""Calls that a lone hopeless record of a batch costs at most, bisecting."""

batch_sizes = st.sampled_from([1, 5, BATCH_MAX])
fates = st.sampled_from([fate for fate, weight in FATES.items() for _ in range(weight)])
tried = Counter()


class Machine(RuleBasedStateMachine):
    """A log, an app with one function, and what became of each record."""

    @initialize(
        input=st.sampled_from(["batch", "record"]),
        shards=st.integers(1, 3),
        factor=st.integers(1, 3),
        batch_size=batch_sizes,
        sends=st.booleans(),
    )
    def begin(self, input, shards, factor, batch_size, sends):
        self.input, self.factor, self.batch_size = input, factor, batch_size
        self.to = "lines" if sends and input == "record" else None
        self.log = MemoryLog()
        self.orders = self.log.create_stream("orders", shards=shards)
        self.fate, self.failures, self.called = {}, Counter(), Counter()
        self.done, self.log_of_keys = Counter(), defaultdict(list)
        self.restarts = 0
        self.driver = self.start()

    def start(self, calls_max=100_000):
        app = App("shop")
        options = {
            "batch_size": self.batch_size,
            "max_retries": RETRIES,
            "timeout": "10s",
            "parallelization_factor": self.factor,
            "input": self.input,
            "to": self.to,
        }
        app.stream("orders", **options)(self.per_record if self.input == "record" else self.total)
        return Driver(app, self.log, calls_max=calls_max)

    # ------------------------------------------------------------ the function

    def per_record(self, record):
        tried["steps"] += 1
        self.called[record.data] += 1
        self.meet(record, None)
        self.succeed(record)
        return record.data

    def total(self, batch):
        tried["steps"] += 1
        for record in batch:
            self.called[record.data] += 1
        succeeded, reported = [], []
        for record in batch:
            if self.fate[record.data] == "is reported":
                reported.append({"itemIdentifier": str(record.sequence_number)})
                break
            self.meet(record, batch)
            if self.fate[record.data] != "is failed":
                succeeded.append(record)
        held = {r.partition_key for r in batch if self.fate[r.data] == "is failed"} - {None}
        for record in succeeded:
            earlier = [r for r in batch if r.partition_key == record.partition_key]
            first_bad = next((r for r in earlier if self.fate[r.data] == "is failed"), None)
            is_behind = (
                record.partition_key in held and first_bad.sequence_number < record.sequence_number
            )
            if not is_behind:
                self.succeed(record)
        return {"batchItemFailures": reported}

    def meet(self, record, batch):
        """Do what the record's fate says."""
        fate, data = self.fate[record.data], record.data
        if fate in TRANSIENT and self.failures[data] < TRANSIENT[fate]:
            self.failures[data] += 1
            raise ConnectionError(data)
        if fate == "raises" or (fate in {"is failed", "is reported"} and batch is None):
            raise ValueError(data)
        if fate == "rejects":
            raise Reject(str(data))
        if fate == "crashes":
            raise Crash(11)
        if fate == "hangs":
            self.log.clock.advance(timedelta(seconds=11))
        if fate == "is failed":
            batch.fail(record)

    def succeed(self, record):
        if self.fate[record.data] == "hangs":
            return
        self.done[record.data] += 1
        if record.partition_key is not None:
            self.log_of_keys[record.partition_key].append(int(record.data))

    # ------------------------------------------------------------ what happens

    @rule(keys_and_fates=st.lists(st.tuples(st.sampled_from(KEYS), fates), max_size=40))
    def put(self, keys_and_fates):
        tried["steps"] += 1
        first = len(self.fate)
        for place, (_, fate) in enumerate(keys_and_fates):
            self.fate[b"%d" % (first + place)] = fate
        self.orders.put_many(
            [b"%d" % (first + place) for place in range(len(keys_and_fates))],
            [key for key, _ in keys_and_fates],
        )

    @rule()
    def run(self):
        tried["steps"] += 1
        self.driver.run()
        self.check_all()

    @rule(calls=st.integers(1, 6))
    def stop_in_the_middle(self, calls):
        tried["steps"] += 1
        self.driver.stop()
        self.driver = self.start(calls)
        try:
            self.driver.run()
        except RuntimeError:
            self.restarts += 1
        self.driver.stop()
        self.driver = self.start()

    @rule()
    def die_between_calls(self):
        tried["steps"] += 1
        self.driver.restart()

    @rule(factor=st.integers(1, 3), batch_size=batch_sizes)
    def change_the_function(self, factor, batch_size):
        tried["steps"] += 1
        self.driver.stop()
        self.factor, self.batch_size = factor, batch_size
        self.restarts += 1
        self.driver = self.start()

    @rule(place=st.integers(0, 10))
    def split(self, place):
        tried["steps"] += 1
        shards = [shard for shard in self.orders.info().shards if shard.is_open]
        if len(shards) < 6:
            self.orders.split(shards[place % len(shards)].shard_id)

    @rule()
    def merge(self):
        tried["steps"] += 1
        shards = sorted(
            (shard for shard in self.orders.info().shards if shard.is_open),
            key=lambda shard: shard.hash_keys,
        )
        if len(shards) > 1:
            self.orders.merge(shards[0].shard_id, shards[1].shard_id)

    # ------------------------------------------------------------ what must hold

    @invariant()
    def the_order_of_each_key_is_kept(self):
        for key, numbers in getattr(self, "log_of_keys", {}).items():
            firsts = list(dict.fromkeys(numbers))
            assert firsts == sorted(firsts), f"key {key}"

    def check_all(self):
        dead = self.dead()
        hopeless = {data for data, fate in self.fate.items() if fate in HOPELESS}
        assert dead == hopeless, "exactly the hopeless are given up, no innocent is"
        assert set(self.done) == set(self.fate) - hopeless, "every other one succeeded"
        if self.to is not None:
            self.check_what_was_sent(hopeless)
        if not self.restarts:
            most = self.calls_max()
            assert all(self.called[data] <= most for data in hopeless), "calls are bounded"

    def check_what_was_sent(self, hopeless):
        sent = defaultdict(list)
        for record in self.driver.records(self.to):
            sent[record.partition_key].append(int(record.data))
        numbers = {number for each in sent.values() for number in each}
        assert numbers == {int(data) for data in set(self.fate) - hopeless}, "no value is lost"
        for key in set(sent) - {None}:
            firsts = list(dict.fromkeys(sent[key]))
            assert firsts == sorted(firsts), f"values of key {key}"

    def calls_max(self):
        """Calls that a hopeless record is part of at most, without restarts."""
        if self.input == "record":
            # What is sent on comes again after a death, and the record that died after it.
            return RETRIES + 1 + (self.to is not None)
        # What others in its batch fail, or report, costs a record calls too.
        others = Counter(self.fate.values())
        named = (others["is failed"] + others["is reported"]) * (RETRIES + 1)
        return CALLS_OF_ONE + sum(self.failures.values()) + named

    def dead(self):
        name = "per_record" if self.input == "record" else "total"
        return {letter.data for letter in self.driver.dead_letters(name)}

    def teardown(self):
        if hasattr(self, "driver"):
            self.driver.close()


@pytest.mark.timeout(0)
def test_the_engine_keeps_its_promises_whatever_happens():
    """At least once, in order per key, exactly the hopeless set aside, calls within a bound."""
    options = settings(
        max_examples=20,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        print_blob=True,
    )
    tried.clear()
    began = time.monotonic()
    while tried["steps"] < STEPS:
        run_state_machine_as_test(Machine, settings=options)
    print(f"the engine: {tried['steps']:,} steps in {time.monotonic() - began:.0f} s")
