"""What a function's bad hour costs, under a clock that is moved by hand: outages and poison."""

from datetime import timedelta
from random import Random

import pytest

from streamfn import App, Batch, Record
from streamfn.testing import Crash, Driver, MemoryLog

RECORDS = 10_000
OUTAGE = timedelta(seconds=60)
DEAD_MAX = {"batch": 4, "record": 15}
"""Records of one lane that an outage of a minute may cost."""


CALLS_MAX = {1: 22, 3: 58, 50: 577}
"""Calls that so many poison records in a batch of 1,000 may cost with one retry."""


def filled(app, keys, records=RECORDS, seed=0):
    driver = Driver(app, MemoryLog(), seed=seed)
    orders = driver.log.stream("orders")
    orders.put_many([b"%d" % n for n in range(records)], [f"k{n % keys}" for n in range(records)])
    return driver


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("input", ["batch", "record"])
def test_an_outage_of_a_minute_costs_a_few_records_a_lane(input, lanes, seed):
    """The exponent belongs to the lane, so waits grow while everything fails; nothing is lost."""
    app, done = App("shop"), set()

    @app.stream("orders", input=input, parallelization_factor=lanes)
    def total(given):
        if driver.clock.now() < end:
            raise ConnectionError("the database")
        records = given if input == "batch" else [given]
        done.update(record.sequence_number for record in records)

    driver = filled(app, keys=64, seed=seed)
    end = driver.clock.now() + OUTAGE

    driver.run()

    dead = {letter.sequence_number for letter in driver.dead_letters("total")}
    assert len(dead) <= DEAD_MAX[input] * lanes
    assert done | dead == set(range(RECORDS)), "nothing is lost"
    assert not done & dead


def places(count, spread):
    """Where the poison lies in a batch of 1,000: together, at an end, or anywhere."""
    if isinstance(spread, int):
        return sorted(Random(spread).sample(range(1_000), count))
    start = {"first": 0, "middle": 475, "last": 1_000 - count}[spread]
    return list(range(start, start + count))


@pytest.mark.parametrize("kind", ["raises", "crashes", "hangs"])
@pytest.mark.parametrize("spread", ["first", "middle", "last", 1, 2, 3])
@pytest.mark.parametrize("count", CALLS_MAX)
def test_exactly_the_poison_is_set_aside_in_so_many_calls(count, spread, kind):
    """Neighbours look like an outage and wait as long, but the number of calls stays bounded."""
    app, poison = App("shop"), places(count, spread)

    @app.stream("orders", batch_size=1_000, max_retries=1, timeout="10s")
    def total(batch: Batch) -> None:
        if not any(int(record.data) in poison for record in batch):
            return
        if kind == "raises":
            raise ValueError
        if kind == "crashes":
            raise Crash(11)
        driver.clock.advance(timedelta(seconds=11))

    driver = filled(app, keys=1, records=1_000)
    driver.run()

    assert [letter.sequence_number for letter in driver.dead_letters("total")] == poison
    assert len(driver.all_calls) <= CALLS_MAX[count]


def test_the_order_of_a_key_outlives_the_outage():
    app, seen = App("shop"), []

    @app.stream("orders", input="record", parallelization_factor=4, max_retries=-1)
    def total(record: Record) -> None:
        if driver.clock.now() < end and record.sequence_number % 3 == 0:
            raise ConnectionError
        seen.append((record.partition_key, record.sequence_number))

    driver = filled(app, keys=16, records=500)
    end = driver.clock.now() + timedelta(seconds=5)
    driver.run()

    for key in {key for key, _ in seen}:
        numbers = [number for each, number in seen if each == key]
        assert numbers == sorted(numbers)
    assert len(seen) == 500
