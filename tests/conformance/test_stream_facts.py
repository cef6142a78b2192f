"""The facts of Kinesis mappings, each played through the engine on a log in memory."""

import json
from collections import defaultdict
from datetime import timedelta

import pytest

from streamfn import App, Batch, ConfigError, Context, Record
from streamfn.engine.deadletter import DeadLetters
from streamfn.testing import Crash, Driver, MemoryLog, run_once


@pytest.fixture
def app():
    return App("shop")


def report(*numbers):
    return {"batchItemFailures": [{"itemIdentifier": str(number)} for number in numbers]}


def conditions(ran, function="total"):
    return [(letter.sequence_number, letter.condition) for letter in ran.dead_letters(function)]


# ---------------------------------------------------------------- mappings


@pytest.mark.fact("G-1")
def test_a_record_may_come_twice_and_never_less_than_once(app):
    seen = []

    @app.stream("orders")
    def total(batch: Batch, context: Context) -> None:
        seen.extend(batch.values())
        if context.attempt == 1:
            raise Crash

    run_once(app, {"orders": [b"a", b"b"]})

    assert set(seen) == {b"a", b"b"}
    assert len(seen) > 2


@pytest.mark.fact("G-4")
@pytest.mark.parametrize("timeout", ["0.5s", "901s"])
def test_a_timeout_is_1_to_900_seconds(app, timeout):
    with pytest.raises(ConfigError, match="AWS"):
        app.stream("orders", preset="aws", timeout=timeout)
    app.stream("orders", preset="aws", name="f")(print)
    assert app.mappings[0].timeout == timedelta(seconds=3)


@pytest.mark.fact("G-9")
def test_two_functions_have_two_positions_and_one_function_one_mapping(app):
    seen = defaultdict(list)

    @app.stream("orders", batch_size=1)
    def first(batch: Batch) -> None:
        seen["first"] += batch.values()

    @app.stream("orders", batch_size=2)
    def second(batch: Batch) -> None:
        seen["second"] += batch.values()

    with pytest.raises(ConfigError, match="registered already"):
        app.stream("orders", name="first")(first)
    ran = run_once(app, {"orders": [b"a", b"b", b"c"]})

    assert seen == {"first": [b"a", b"b", b"c"], "second": [b"a", b"b", b"c"]}
    assert (len(ran.calls("first")), len(ran.calls("second"))) == (3, 2)


# ---------------------------------------------------------------- batches


@pytest.mark.fact("K-1")
def test_a_batch_is_of_one_shard(app):
    @app.stream("orders")
    def total(batch: Batch) -> None:
        assert len({(record.stream, record.shard_id) for record in batch}) == 1

    log = MemoryLog()
    log.create_stream("orders", shards=4)
    ran = run_once(app, {"orders": [(b"x", f"k{n}") for n in range(40)]}, log=log)

    assert len(ran.calls("total")) == 4
    assert ran.dead_letters("total") == []


@pytest.mark.fact("K-3")
@pytest.mark.parametrize(
    ("limits", "sizes"),
    [({"batch_size": 2}, [2, 2, 1]), ({"batch_bytes": 25}, [2, 2, 1]), ({}, [5])],
)
def test_a_call_is_made_on_the_first_limit_reached(app, limits, sizes):
    @app.stream("orders", **limits)
    def total(batch: Batch) -> None: ...

    ran = run_once(app, {"orders": [b"0123456789"] * 5})

    assert [len(numbers) for numbers in ran.calls("total")] == sizes


def amounts_above(least):
    return {"data": {"amount": [{"numeric": [">", least]}]}}


@pytest.mark.fact("K-5")
def test_filters_come_before_batching(app):
    @app.stream("orders", filter=amounts_above(5), batch_size=3)
    def total(batch: Batch) -> None: ...

    ran = run_once(app, {"orders": [{"amount": n} for n in [9, 1, 9, 1, 1, 9, 9]]})

    assert ran.calls("total") == [[0, 2, 5], [6]]


@pytest.mark.fact("K-6")
def test_the_position_passes_what_is_filtered(app):
    @app.stream("orders", filter=amounts_above(5))
    def total(batch: Batch) -> None: ...

    ran = run_once(app, {"orders": [{"amount": 1}] * 10})

    assert ran.calls("total") == []
    ran.stop()
    from streamfn import _core

    [lane] = _core.Mapping.open(ran.log.core, "shop.total").lanes("orders")
    assert lane.checkpoint == 10


@pytest.mark.fact("K-8")
def test_one_lane_is_strictly_in_order(app):
    seen = []

    @app.stream("orders", batch_size=7, max_retries=3)
    def total(batch: Batch) -> None:
        if len(seen) == 14 and len(batch) > 1:
            raise ValueError
        seen.extend(record.sequence_number for record in batch)

    run_once(app, {"orders": [(b"x", f"k{n}") for n in range(50)]})

    assert seen == sorted(seen)


@pytest.mark.fact("K-9")
def test_lanes_share_a_shard_by_key_and_keep_its_order(app):
    by_key, calls = defaultdict(list), []

    @app.stream("orders", parallelization_factor=4, batch_size=10)
    def total(batch: Batch) -> None:
        calls.append({record.partition_key for record in batch})
        for record in batch:
            by_key[record.partition_key].append(record.sequence_number)

    run_once(app, {"orders": [(b"x", f"k{n % 16}") for n in range(400)]})

    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    lanes = {frozenset(keys) for keys in calls}
    together = {key: {k for keys in lanes if key in keys for k in keys} for key in by_key}
    assert len({frozenset(keys) for keys in together.values()}) == 4, "a key has one lane"


@pytest.mark.fact("K-10")
def test_a_record_of_several_is_one_record(app):
    packed = b"\xf3\x89\x9a\xc2" + b"two records that a producer library packed"
    seen = []

    @app.stream("orders")
    def total(batch: Batch) -> None:
        seen.extend(batch.values())

    run_once(app, {"orders": [packed]})

    assert seen == [packed]


@pytest.mark.fact("K-13")
def test_a_child_is_read_after_its_parents(app):
    seen = []

    @app.stream("orders", batch_size=5)
    def total(batch: Batch) -> None:
        seen.extend((record.shard_id, record.data) for record in batch)

    log = MemoryLog()
    orders = log.create_stream("orders")
    for n in range(20):
        orders.put(b"%d" % n, f"k{n % 8}")
    children = orders.split("shardId-000000000000")
    for n in range(20, 40):
        orders.put(b"%d" % n, f"k{n % 8}")
    orders.merge(*children)
    for n in range(40, 60):
        orders.put(b"%d" % n, f"k{n % 8}")
    Driver(app, log).run()

    order = [int(data) for _, data in seen]
    assert sorted(order) == list(range(60))
    generations = [n // 20 for n in order]
    assert generations == sorted(generations)


# ---------------------------------------------------------------- failures


@pytest.mark.fact("K-20")
def test_what_was_not_called_uses_no_retry(app):
    """A process that dies between calls, again and again, costs no attempt."""

    @app.stream("orders", max_retries=0)
    def total(batch: Batch) -> None: ...

    driver = Driver(app, calls_max=1)
    driver.log.stream("orders").put_many([b"x"] * 500)
    for _ in range(10):
        driver.restart()
        try:
            driver.run()
        except RuntimeError:
            continue
        break

    assert driver.dead_letters("total") == []
    assert {call.attempt for call in driver.all_calls} == {1}


@pytest.mark.fact("K-21")
@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_n_retries_are_n_plus_1_calls(app, retries):
    @app.stream("orders", max_retries=retries, bisect=False)
    def total(batch: Batch) -> None:
        raise ValueError

    ran = run_once(app, {"orders": [b"a", b"b"]})

    assert ran.calls("total") == [[0, 1]] * (retries + 1)
    assert [call.attempt for call in ran.all_calls] == list(range(1, retries + 2))


@pytest.mark.fact("K-22")
def test_exhausted_and_expired_have_their_condition_and_the_shard_goes_on(app):
    log = MemoryLog()

    @app.stream("orders", max_retries=1, max_record_age="60s", input="record")
    def total(record: Record) -> None:
        if record.data == b"bad":
            raise ValueError

    orders = log.create_stream("orders")
    orders.put(b"old")
    log.clock.advance(timedelta(seconds=61))
    orders.put_many([b"bad", b"good"])
    ran = Driver(app, log).run()

    assert conditions(ran) == [(0, "RecordAgeExceeded"), (1, "RetryAttemptsExhausted")]
    assert ran.calls("total")[-1] == [2] or [2] in ran.calls("total")


@pytest.mark.fact("K-23")
def test_bisect_goes_down_to_one_record_first_half_first_for_free(app):
    @app.stream("orders", max_retries=0)
    def total(batch: Batch) -> None:
        if b"bad" in batch.values():
            raise ValueError

    ran = run_once(app, {"orders": [b"a", b"b", b"c", b"bad", b"e"]})

    assert ran.calls("total") == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4], [3], [4]]
    assert conditions(ran) == [(3, "RetryAttemptsExhausted")]


@pytest.mark.fact("K-25")
def test_a_report_splits_at_its_number_and_an_error_in_the_middle(app):
    @app.stream("orders", max_retries=1)
    def total(batch: Batch):
        numbers = [record.sequence_number for record in batch]
        if 6 in numbers and len(numbers) > 1:
            raise ValueError
        return report(3) if 3 in numbers else None

    ran = run_once(app, {"orders": [b"x"] * 8})

    whole, half, again, last_try, other_half = ran.calls("total")[:5]
    assert (whole, half, other_half) == ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7])
    assert again == last_try == [3], "only what the report left is called again"
    assert {number for number, _ in conditions(ran)} == {3}


@pytest.mark.fact("K-26")
def test_the_lowest_number_reported_is_where_it_goes_on(app):
    """Compared as numbers: 9 lies below 10."""

    @app.stream("orders", max_retries=1)
    def total(batch: Batch, context: Context):
        return report(10, 9) if context.attempt == 1 and len(batch) > 4 else None

    ran = run_once(app, {"orders": [b"x"] * 12})

    assert ran.calls("total") == [list(range(12)), [9, 10, 11]]


SUCCESSES = ["", [], None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}]


@pytest.mark.fact("K-27")
@pytest.mark.parametrize("returned", SUCCESSES, ids=json.dumps)
def test_six_answers_are_success(app, returned):
    app.stream("orders", name="total", report_failures=True)(lambda batch: returned)

    ran = run_once(app, {"orders": [b"a", b"b"]})

    assert ran.calls("total") == [[0, 1]]
    assert ran.dead_letters("total") == []


FAILURES = [
    [{"itemIdentifier": ""}],
    [{"itemIdentifier": None}],
    [{"foo": 123}],
    [{"foo": None}],
    [{"itemIdentifier": "123"}],
]


@pytest.mark.fact("K-28")
@pytest.mark.parametrize("items", FAILURES, ids=json.dumps)
def test_a_report_that_makes_no_sense_fails_the_batch(app, items):
    app.stream("orders", name="total", max_retries=0, bisect=False)(
        lambda batch: {"batchItemFailures": items}
    )

    ran = run_once(app, {"orders": [b"a", b"b"]})

    assert [number for number, _ in conditions(ran)] == [0, 1]


@pytest.mark.fact("K-30")
def test_progress_starts_the_retries_afresh(app):
    """As recorded: batches of three, three retries; the bad record comes five times."""

    @app.stream(
        "orders", preset="aws", batch_size=3, max_retries=3, report_failures=True, on_failure="dlq"
    )
    def total(batch: Batch):
        return report(*(r.sequence_number for r in batch if r.sequence_number == 5))

    ran = run_once(app, {"orders": [b"x"] * 6})

    assert sum(5 in numbers for numbers in ran.calls("total")) == 5
    [letter] = ran.dead_letters("total")
    assert (letter.sequence_number, letter.attempts) == (5, 4)


@pytest.mark.fact("K-31")
def test_a_report_means_nothing_unless_reports_are_on(app):
    app.stream("orders", name="total", preset="aws")(lambda batch: report(0))

    ran = run_once(app, {"orders": [b"a", b"b"]})

    assert ran.calls("total") == [[0, 1]]


@pytest.mark.fact("K-32")
def test_one_expired_record_does_not_keep_five_fresh_ones(app):
    log = MemoryLog()

    @app.stream("orders", preset="aws", max_record_age="60s", on_failure="dlq")
    def total(batch: Batch) -> None: ...

    orders = log.create_stream("orders")
    orders.put(b"old")
    log.clock.advance(timedelta(seconds=61))
    orders.put_many([b"fresh"] * 5)
    ran = Driver(app, log).run()

    assert ran.calls("total") == [[1, 2, 3, 4, 5]]
    assert conditions(ran) == [(0, "RecordAgeExceeded")]


@pytest.mark.fact("K-34")
@pytest.mark.parametrize("seed", range(5))
def test_a_minute_of_failures_is_a_few_calls(app, seed):
    @app.stream("orders", preset="aws", max_record_age="60s", on_failure="dlq")
    def total(batch: Batch) -> None:
        raise ValueError

    ran = run_once(app, {"orders": [b"x"]}, seed=seed)

    assert 4 <= len(ran.calls("total")) <= 20
    assert conditions(ran) == [(0, "RecordAgeExceeded")]


@pytest.mark.fact("K-35")
def test_a_timeout_counts_as_a_failure(app):
    log = MemoryLog()

    @app.stream("orders", timeout="5s", max_retries=2)
    def total(batch: Batch) -> None:
        log.clock.advance(timedelta(seconds=6))

    ran = run_once(app, {"orders": [b"x"]}, log=log)

    assert len(ran.calls("total")) == 3
    assert [letter.error_type for letter in ran.dead_letters("total")] == ["FunctionTimedOut"]


def test_what_differs_is_as_the_page_says(app):
    """K-24, K-29, K-33: a dead letter a record, with its error; one never called has no attempt."""
    log = MemoryLog()

    @app.stream("orders", max_retries=0, max_record_age="60s")
    def total(batch: Batch):
        return report(*(record.sequence_number for record in batch))

    orders = log.create_stream("orders")
    orders.put(b"old")
    log.clock.advance(timedelta(seconds=61))
    orders.put_many([b"a", b"b"])
    ran = Driver(app, log).run()

    letters = DeadLetters(log, "shop.total").entries()
    assert [(letter.error_type, letter.attempts) for letter in letters] == [
        ("RecordAgeExceeded", 0),
        ("BatchItemFailures", 1),
        ("BatchItemFailures", 1),
    ]
    assert ran.calls("total") == [[1, 2], [2]]
