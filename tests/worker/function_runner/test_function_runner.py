"""Tests for `streamfn.worker.function_runner`: a real process, and a front of Python."""

PRICE = """
@app.function(timeout="5s")
def price(order, context):
    print("pricing", order)
    if order == "bad":
        raise ValueError("no such order")
    return {"total": order, "id": context.aws_request_id}
"""


def test_it_answers_calls_one_after_the_other(start):
    runner, front = start(PRICE)

    assert front.seats == 1
    for number in range(3):
        request_id = front.give("shop.price", number)
        assert front.answer() == (
            {"seat": 0, "failed": False, "log": None},
            {"total": number, "id": request_id},
        )
