"""Tumbling windows against a model: any records, failures, deaths, restarts, shards, hours.

The state of the function is the list of records that went into it. So the model says of every final
call what its state must be: the records of that shard and time, in order, without those that are
given up; and that the call is made once the window is over, and not before.

`STREAMFN_WINDOW_MODEL_STEPS` is how many steps (operations and calls) are tried at least.
"""

import json
import os
import time
from collections import Counter, defaultdict
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from streamfn import App, Reject
from streamfn.testing import Crash, Driver, MemoryLog
from streamfn.units import to_microseconds

STEPS = int(os.environ.get("STREAMFN_WINDOW_MODEL_STEPS", "3000"))
WIDTH_US = 30_000_000
HOPELESS = {"raises", "rejects", "crashes", "hangs", "is failed", "is reported"}
FATES = ["fine"] * 14 + ["fails once", *sorted(HOPELESS)]
FINAL_FATES = ["fine"] * 6 + ["fails once", "crashes once", "hangs once", "raises"]

tried = Counter()


class Machine(RuleBasedStateMachine):
    """A log, an app with one function over windows, and what its final calls said."""

    @initialize(shards=st.integers(1, 2), chance=st.randoms(use_true_random=False))
    def begin(self, shards, chance):
        self.chance = chance
        self.log = MemoryLog()
        self.orders = self.log.create_stream("orders", shards=shards)
        self.fate, self.failures = {}, Counter()
        self.final_fate, self.finals = {}, defaultdict(list)
        self.without_window, self.counted = set(), []
        self.driver = self.start()

    def start(self, *, calls_max=100_000, width="30s", factor=1):
        app = App("shop")
        options = {
            "batch_size": 8,
            "max_retries": 2,
            "timeout": "10s",
            "tumbling_window": width,
            "parallelization_factor": factor,
        }
        app.stream("orders", **options)(self.total)
        return Driver(app, self.log, calls_max=calls_max)

    # ------------------------------------------------------------ the function

    def total(self, batch):
        tried["steps"] += 1
        if batch.is_final:
            self.close(batch)
            return None
        if batch.window is None:
            seen = self.counted
        else:
            seen = batch.state = batch.state if batch.state is not None else []
        for record in batch:
            name = record.data.decode()
            if self.fate[name] == "is reported":
                return {"batchItemFailures": [{"itemIdentifier": str(record.sequence_number)}]}
            self.meet(name, record, batch)
            if self.fate[name] != "is failed":
                seen.append(name)
        return None

    def meet(self, name, record, batch):
        """Do what the record's fate says."""
        fate = self.fate[name]
        if fate == "fails once" and not self.failures[name]:
            self.failures[name] += 1
            raise ConnectionError(name)
        if fate == "raises":
            raise ValueError(name)
        if fate == "rejects":
            raise Reject(name)
        if fate == "crashes":
            raise Crash(11)
        if fate == "hangs":
            self.log.clock.advance(timedelta(seconds=11))
        if fate == "is failed":
            batch.fail(record)

    def close(self, batch):
        """Note the final call, and do what is drawn for its window."""
        window = batch.context.shard_id, to_microseconds(batch.window.start)
        self.finals[window].append(batch.state or [])
        if window not in self.final_fate:
            self.final_fate[window] = self.chance.choice(FINAL_FATES)
        fate, is_first = self.final_fate[window], len(self.finals[window]) == 1
        if fate == "raises" or (fate == "fails once" and is_first):
            raise ValueError(fate)
        if fate == "crashes once" and is_first:
            raise Crash(9)
        if fate == "hangs once" and is_first:
            self.log.clock.advance(timedelta(seconds=11))

    # ------------------------------------------------------------ what happens

    @rule(fates=st.lists(st.sampled_from(FATES), max_size=20))
    def put(self, fates):
        tried["steps"] += 1
        names = [str(len(self.fate) + place) for place in range(len(fates))]
        self.fate |= dict(zip(names, fates, strict=True))
        self.orders.put_many([name.encode() for name in names], [f"k{name}" for name in names])

    @rule(seconds=st.sampled_from([0.001, 5, 29.999, 30, 70]))
    def pass_time(self, seconds):
        tried["steps"] += 1
        self.log.clock.advance(timedelta(seconds=seconds))

    @rule()
    def run(self):
        tried["steps"] += 1
        self.driver.run()
        self.check_all()

    @rule(calls=st.integers(1, 6))
    def stop_in_the_middle(self, calls):
        tried["steps"] += 1
        self.driver.stop()
        self.driver = self.start(calls_max=calls)
        try:
            self.driver.run()
        except RuntimeError:
            tried["stops"] += 1
        self.driver.stop()
        self.driver = self.start()

    @rule()
    def die_between_calls(self):
        tried["steps"] += 1
        self.driver.restart()

    @rule(place=st.integers(0, 10))
    def split(self, place):
        tried["steps"] += 1
        shards = [shard for shard in self.orders.info().shards if shard.is_open]
        if len(shards) < 5:
            self.orders.split(shards[place % len(shards)].shard_id)

    @rule()
    def merge(self):
        tried["steps"] += 1
        shards = [shard for shard in self.orders.info().shards if shard.is_open]
        shards.sort(key=lambda shard: shard.hash_keys)
        if len(shards) > 1:
            self.orders.merge(shards[0].shard_id, shards[1].shard_id)

    @rule(factor=st.integers(1, 3), fates=st.lists(st.sampled_from(FATES), max_size=20))
    def go_without_windows_for_a_while(self, factor, fates):
        """No window is open when they are taken away; their lanes and others take turns."""
        self.pass_time(70)
        self.run()
        self.driver.stop()
        self.driver = self.start(width=0, factor=factor)
        first = len(self.fate)
        self.put(fates)
        self.without_window |= {str(number) for number in range(first, len(self.fate))}
        self.driver.run()
        self.driver.stop()
        self.driver = self.start()

    # ------------------------------------------------------------ what must hold

    def check_all(self):
        letters = self.driver.dead_letters("total")
        dead = {letter.data.decode() for letter in letters if letter.window is None}
        assert dead == {name for name, fate in self.fate.items() if fate in HOPELESS}
        assert self.without_window - dead <= set(self.counted) <= self.without_window

        expected = self.windows_that_are_over()
        finals = {window: unique(states) for window, states in self.finals.items()}
        assert finals == {window: [names] for window, names in expected.items()}
        given_up = {
            (letter.shard_id, to_microseconds(letter.window[0])): letter.data
            for letter in letters
            if letter.window is not None
        }
        assert set(given_up) == {w for w, fate in self.final_fate.items() if fate == "raises"}
        for window, data in given_up.items():
            assert json.loads(data or b"[]") == expected[window]

    def windows_that_are_over(self):
        """What each final call must have said by now: those that came up, without the hopeless."""
        found = defaultdict(list)
        for record in self.driver.records("orders"):
            name = record.data.decode()
            if name not in self.without_window:
                states = found[record.shard_id, record.timestamp_us // WIDTH_US * WIDTH_US]
                states += [name] if self.fate[name] not in HOPELESS else []
        now = to_microseconds(self.log.clock.now())
        is_open = {shard.shard_id: shard.is_open for shard in self.orders.info().shards}
        return {
            (shard_id, start): names
            for (shard_id, start), names in found.items()
            if start + WIDTH_US <= now or not is_open[shard_id]
        }

    def teardown(self):
        if hasattr(self, "driver"):
            self.driver.close()


def unique(states):
    """The states without repetitions."""
    return [json.loads(text) for text in sorted({json.dumps(state) for state in states})]


@pytest.mark.timeout(0)
def test_every_final_call_has_exactly_the_records_of_its_window_whatever_happens():
    """Nothing is missing, nothing counts twice, and no window closes too early or never."""
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
    print(f"windows: {tried['steps']:,} steps in {time.monotonic() - began:.0f} s")
