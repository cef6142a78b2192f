"""Every exception of a function fails its call, even if reading the exception raises or exits.

An error that escapes from the invoker ends the runner as an error of ours. The same record would
then end the next runner, and so on forever.
"""

import pytest

from streamfn.clock import ManualClock
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Failed, Failure, Rejected
from streamfn.errors import Reject
from streamfn.model.mapping import EventSourceMapping
from streamfn.model.policy import RetryPolicy


def exits(*_):
    raise SystemExit("looked at")


class Meta(type):
    """A class that exits when it is asked for anything."""

    def __getattribute__(cls, name):
        if name in {"__qualname__", "__name__", "__module__", "__mro__"}:
            raise SystemExit(name)
        return super().__getattribute__(name)

    __repr__ = __str__ = __hash__ = exits


class OfAnOddClass(Exception, metaclass=Meta):
    pass


class WithAClassOfItsOwn(Exception):
    __class__ = property(exits)


class WithATraceback(Exception):
    __traceback__ = property(exits, exits)
    with_traceback = exits


class WithCauses(Exception):
    __cause__ = __context__ = __suppress_context__ = property(exits, exits)


class WithNotes(Exception):
    __notes__ = property(exits)


class Unshown(Exception):
    __str__ = __repr__ = exits


class Text(str):
    __slots__ = ()
    encode = __format__ = __len__ = __str__ = exits


class WithAText(Exception):
    def __str__(self):
        return Text("its text")


class WithNoText(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307 -- the mistake that is tested


class Unequal(Exception):
    __eq__ = __bool__ = __hash__ = __getattr__ = exits


class OfNobody(BaseException):
    pass


class AGroup(BaseExceptionGroup):
    pass


def deep(depth):
    return ValueError() if depth == 0 else ExceptionGroup("deep", [deep(depth - 1)])


ODD = {
    "a metaclass that exits": OfAnOddClass,
    "a __class__ that exits": WithAClassOfItsOwn,
    "a __traceback__ that exits": WithATraceback,
    "causes that exit": WithCauses,
    "notes that exit": WithNotes,
    "a text that exits": Unshown,
    "a text that is one of its own": WithAText,
    "a text that is none": WithNoText,
    "one that cannot be compared": Unequal,
    "a BaseException": OfNobody,
    "a group of exits": lambda: AGroup("group", [SystemExit(1), KeyboardInterrupt()]),
    "a deep group": lambda: deep(80),
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "an endless message": lambda: ValueError("x" * 1_000_000),
    "a lone surrogate": lambda: ValueError(b"\\ud800".decode("unicode_escape")),
    "an exit with an odd code": lambda: SystemExit(Unshown()),
}


def raising(make):
    def function(given):
        raise make()

    return function


def raising_later(make):
    async def function(given):
        raise make()

    return function


def raising_in_a_generator(make):
    def function(given):
        yield b"1"
        raise make()

    return function


def failing(make):
    def function(batch):
        batch.fail(batch[0], make())

    return function


@pytest.fixture
def loops():
    loops = LazyEventLoop()
    yield loops
    loops.close()


def invoker(handler, loops, **fields):
    fields = {"name": "shop.total", "app": "shop", "function": "total", "stream": "orders"} | fields
    return Invoker(EventSourceMapping(**fields), handler, None, ManualClock(), loops)


def outcome_of(call):
    """What the invoker returns; pytest cannot show what it raises."""
    try:
        return call()
    except BaseException:  # noqa: BLE001 -- as said
        pass
    pytest.fail("an exception left the invoker", pytrace=False)


def assert_is_a_failure(outcome):
    """It is text, which any encoder takes."""
    assert type(outcome) is Failed
    failure = outcome.failure
    for text in (failure.error_type, failure.error_message, failure.traceback):
        assert type(text) is str
        text.encode()
    assert failure.error_type
    assert "in function" in failure.traceback


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
class TestWhateverIsRaised:
    """By functions of each kind."""

    def test_in_a_batch(self, kit, loops, make):
        calls = invoker(raising(make), loops)

        assert_is_a_failure(outcome_of(lambda: calls.call_batch(kit.records_of("a"), 1)))

    def test_for_a_record(self, kit, loops, make):
        records = kit.records_of("ab")
        calls = invoker(raising(make), loops, input="record")

        swept = outcome_of(lambda: calls.call_records(records, iter(records), 1, Interrupt()))

        assert swept.done == 0
        assert_is_a_failure(swept.outcome)

    def test_on_the_event_loop(self, kit, loops, make):
        async def fine(batch): ...

        calls = invoker(raising_later(make), loops)

        assert_is_a_failure(outcome_of(lambda: calls.call_batch(kit.records_of("a"), 1)))
        assert "Success" in repr(invoker(fine, loops).call_batch(kit.records_of("a"), 1))

    def test_as_its_items_are_taken(self, kit, loops, make):
        calls = invoker(raising_in_a_generator(make), loops, to="lines")

        assert_is_a_failure(outcome_of(lambda: calls.call_batch(kit.records_of("a"), 1)))


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_whatever_a_record_is_failed_with(kit, loops, make):
    """`batch.fail` takes an error as it is."""
    calls = invoker(failing(make), loops)

    outcome = outcome_of(lambda: calls.call_batch(kit.records_of("a"), 1))

    assert type(outcome.failures[100]) is Failed


def test_a_rejection_is_one_whatever_its_class_says(kit, loops):
    class Odd(Reject):
        __class__ = property(exits)

    calls = invoker(raising(Odd), loops)

    assert type(outcome_of(lambda: calls.call_batch(kit.records_of("a"), 1))) is Rejected


def test_where_nothing_can_be_shown_the_message_has_to_do(monkeypatch):
    """Too deep in the stack, or out of memory."""
    monkeypatch.setattr("traceback.TracebackException", exits)
    with pytest.raises(ValueError, match="x") as caught:
        int("x")

    assert Failure.of(caught.value).error_type == "ValueError"
    assert Failure.of(caught.value).traceback == ""


class Number(int):
    """A number that is in order while it is read, and exits when it is compared."""

    __lt__ = __gt__ = __le__ = __eq__ = __hash__ = exits
    __ge__ = int.__ge__


def test_a_reported_number_is_read_once(kit, loops):
    """Or it would run the function's code long after the call."""
    report = {"batchItemFailures": [{"itemIdentifier": Number(101)}]}

    policy = RetryPolicy(report_failures=True)
    calls = invoker(lambda _: report, loops, retry=policy)

    assert type(calls.call_batch(kit.records_of("ab"), 1).lowest) is int
