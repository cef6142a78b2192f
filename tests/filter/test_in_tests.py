"""A filter holds in tests of functions as it does in a worker."""

from streamfn import App
from streamfn.testing import run_once


def test_run_once_calls_with_matching_records_only():
    app = App("shop")

    @app.stream("orders", filter={"data": {"amount": [{"numeric": [">", 100]}]}}, batch_size=2)
    def dear(batch):
        assert all(order["amount"] > 100 for order in batch.json())

    ran = run_once(app, {"orders": [{"amount": n} for n in (7, 120, 130, 8, 140, 9)]})

    assert ran.calls("dear") == [[1, 2], [4]]
    assert ran.dead_letters("dear") == []


def test_a_record_that_matches_and_fails_is_the_only_one_to_go():
    app = App("shop")

    @app.stream("orders", filter={"data": {"kind": ["a"]}}, max_retries=0)
    def fails(batch):
        raise ValueError

    ran = run_once(app, {"orders": [{"kind": "a"}, {"kind": "b"}, {"kind": "a"}]})

    numbers = [letter.sequence_number for letter in ran.dead_letters("fails")]
    assert sorted(numbers) == [0, 2]
