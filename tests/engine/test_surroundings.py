"""What a function breaks in its process is repaired; calls that fail for it are not blamed."""

import io
import os
import resource
import sys

import pytest

from streamfn.clock import ManualClock
from streamfn.engine.invoker import Interrupt, Invoker
from streamfn.engine.lazy_event_loop import LazyEventLoop
from streamfn.engine.outcome import Disturbed, Failed, Success
from streamfn.engine.surroundings import SURROUNDINGS
from streamfn.model.mapping import EventSourceMapping


@pytest.fixture(autouse=True)
def as_before():
    """Nothing of it is left to other tests."""
    stdout, stderr, depth = sys.stdout, sys.stderr, sys.getrecursionlimit()
    interval, files = sys.getswitchinterval(), resource.getrlimit(resource.RLIMIT_NOFILE)
    SURROUNDINGS.look()
    yield
    sys.stdout, sys.stderr = stdout, stderr
    sys.setrecursionlimit(depth)
    sys.setswitchinterval(interval)
    resource.setrlimit(resource.RLIMIT_NOFILE, files)


@pytest.fixture
def call(kit):
    """Calls a function with one record and returns the outcome."""

    def call(function):
        mapping = EventSourceMapping(
            name="shop.total", app="shop", function="total", stream="orders"
        )
        invoker = Invoker(mapping, function, None, ManualClock(), LazyEventLoop())
        return invoker.call_batch(kit.records_of("a"), 1)

    return call


def takes_the_output(_):
    sys.stdout = None


def closes_the_output(_):
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 -- the next line closes it
    sys.stdout.close()


def writes(_):
    sys.stdout.write("calm")


def switches_rarely(_):
    sys.setswitchinterval(100)


def fails(_):
    raise ValueError


@pytest.mark.parametrize("breaks", [takes_the_output, closes_the_output])
class TestAnOutputThatIsGone:
    """`print` raises, in every function."""

    def test_who_misses_it_first_has_not_failed_and_it_is_there_again(self, call, breaks):
        call(breaks)

        first, second = call(writes), call(writes)

        assert isinstance(first, Disturbed)
        assert not first.may_be_own
        assert isinstance(second, Success)

    def test_who_broke_it_may_have_failed_by_that(self, call, breaks):
        def breaks_and_writes(batch):
            breaks(batch)
            writes(batch)

        assert call(breaks_and_writes).may_be_own

    def test_between_two_records_it_was_one_of_those_before(self, kit, call, breaks):
        def function(record):
            writes(record)
            if record.sequence_number == 100:
                breaks(record)

        mapping = EventSourceMapping(
            name="shop.total", app="shop", function="total", stream="orders", input="record"
        )
        records = kit.records_of("abc")
        invoker = Invoker(mapping, function, None, ManualClock(), LazyEventLoop())
        swept = invoker.call_records(records, iter(records), 1, Interrupt())

        assert swept.done == 1
        assert isinstance(swept.outcome, Disturbed)
        assert not swept.outcome.may_be_own


def test_what_works_is_left_as_a_function_set_it(call):
    output = io.StringIO()

    def redirects(_):
        sys.stdout = output
        sys.setrecursionlimit(5_000)

    call(redirects)

    assert isinstance(call(fails), Failed)
    assert sys.stdout is output
    assert sys.getrecursionlimit() == 5_000


def test_our_own_code_has_its_stack_back_after_the_call(call):
    """Or what becomes of the call could not be written down, and the runner would end."""
    depth = sys.getrecursionlimit()

    def digs(_):
        here = sys._getframe()
        frames = 0
        while here:
            here, frames = here.f_back, frames + 1
        sys.setrecursionlimit(frames + 15)

    assert isinstance(call(digs), Success)
    assert sys.getrecursionlimit() == depth


def tracer(*_):
    raise ValueError("traced")


@pytest.mark.parametrize(
    ("tool", "current"), [(sys.settrace, sys.gettrace), (sys.setprofile, sys.getprofile)]
)
@pytest.mark.parametrize("input", ["batch", "record"])
def test_a_tracer_that_is_left_does_not_see_the_next_call(kit, tool, current, input):
    before = current()
    mapping = EventSourceMapping(
        name="shop.total", app="shop", function="total", stream="orders", input=input
    )
    invoker = Invoker(mapping, lambda _: tool(tracer), None, ManualClock(), LazyEventLoop())
    records = kit.records_of("a")
    if input == "record":
        invoker.call_records(records, iter(records), 1, Interrupt())
    else:
        invoker.call_batch(records, 1)

    assert current() is before


def test_threads_take_turns_again_after_a_failure(call):
    interval = sys.getswitchinterval()
    call(switches_rarely)

    assert isinstance(call(fails), Disturbed)
    assert sys.getswitchinterval() == interval
