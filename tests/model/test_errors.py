"""Tests for `streamfn.errors`: the tree, what it says, and that it travels."""

import errno
import inspect
import pickle

import pytest

from streamfn import errors

EXAMPLES = [
    errors.StreamfnError("something"),
    errors.ConfigError("batch_size", "0 is not between 1 and 100,000"),
    errors.StorageError("storage"),
    errors.Corruption("/log/s.seg", 4096, 7, 9, "the body's checksum differs"),
    errors.StorageIO(errno.EIO, "/log/s.seg", "Input/output error"),
    errors.UnsupportedFormat("/log/FORMAT", "format 9", "format 1"),
    errors.LogFull("/log/s.seg"),
    errors.LockTimeout("/log/append.lock", "process 17"),
    errors.ForkedHandle("/log"),
    errors.StoragePoisoned("/log/shard", errno.EIO),
    errors.StreamError("stream"),
    errors.StreamNotFound("orders"),
    errors.StreamExists("orders"),
    errors.StreamClosed("orders"),
    errors.RecordTooLarge(10_485_761, 10_485_760, "record bytes", 3),
    errors.SequenceTrimmed(0, 99),
    errors.CheckpointError("checkpoint"),
    errors.LeaseLost("shop.total orders shardId-000000000000 0", "epoch 4"),
    errors.CheckpointConflict("/log/0.lanes", "both slots are damaged"),
    errors.SourceError("source"),
    errors.SourceUnavailable("no answer"),
    errors.SourceRejected("no such topic"),
    errors.DestinationError("destination"),
    errors.DestinationUnavailable("no answer"),
    errors.DestinationRejected("no such queue"),
    errors.Reject("not an order"),
    errors.InvocationError("invocation"),
    errors.FunctionFailed("ValueError: no"),
    errors.FunctionTimedOut(1.5),
    errors.FunctionCrashed(11, None),
    errors.FunctionOutOfMemory(512 * 2**20),
    errors.InvalidResponse("an identifier that is not in the batch"),
    errors.FunctionError("KeyError", "'items'", ['  File "shop.py", line 9, in price\n'], "id"),
    errors.InvocationRefused("refused"),
    errors.FunctionNotFound("shop.prise", "did you mean `shop.price`?"),
    errors.Throttled("shop.price", "it is at its `concurrency`"),
    errors.WorkerUnavailable("shop.price", "its worker does not answer"),
    errors.InvalidRequest("the payload is not JSON"),
    errors.PluginError("plug-in"),
    errors.PluginNotFound("kafka"),
    errors.PluginConflict("kafka"),
]


def every_class():
    """All error classes of the module, base first."""
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [each for each in found if issubclass(each, errors.StreamfnError)]


class TestTheTree:
    """Tests for the classes."""

    def test_every_class_has_an_example_below(self):
        assert {type(example) for example in EXAMPLES} == set(every_class())

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: type(each).__name__)
    def test_an_error_survives_pickling(self, example):
        """Errors cross from a worker process to its supervisor."""
        copy = pickle.loads(pickle.dumps(example))

        assert type(copy) is type(example)
        assert str(copy) == str(example)
        assert vars(copy) == vars(example)

    @pytest.mark.parametrize("kind", every_class(), ids=lambda each: each.__name__)
    def test_every_class_is_drawn_in_the_docstring(self, kind):
        assert kind.__name__ in errors.__doc__

    @pytest.mark.parametrize("kind", every_class(), ids=lambda each: each.__name__)
    def test_every_class_says_whether_trying_again_can_help(self, kind):
        assert isinstance(kind.retryable, bool)

    def test_a_wrong_value_is_a_value_error_and_a_refused_call_an_os_error(self):
        """People catch what they know."""
        assert issubclass(errors.ConfigError, ValueError)
        assert issubclass(errors.RecordTooLarge, ValueError)
        assert issubclass(errors.StorageIO, OSError)


class TestMessages:
    """Tests for what the errors say."""

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: type(each).__name__)
    def test_a_message_is_one_line_without_a_full_stop(self, example):
        for text in (str(example), example.hint or "x"):
            assert text
            assert "\n" not in text
            assert not text.endswith(".")

    def test_a_crash_names_its_signal(self):
        assert str(errors.FunctionCrashed(11, None)) == "the call killed its process (SIGSEGV)"
        assert str(errors.FunctionCrashed(64, None)).endswith("(SIGRTMAX)")
        assert str(errors.FunctionCrashed(99, None)).endswith("(signal 99)")
        assert str(errors.FunctionCrashed(None, 1)).endswith("exit code 1")

    def test_a_death_for_memory_names_the_limit(self):
        said = "the call's process exceeded its memory limit of"

        assert str(errors.FunctionOutOfMemory(512 * 2**20)) == f"{said} 512 MiB"
        assert str(errors.FunctionOutOfMemory(2**41)) == f"{said} 2,097,152 MiB"
        assert str(errors.FunctionOutOfMemory(20_000_000)) == f"{said} 19.1 MiB"

    def test_an_os_error_keeps_its_number_and_file(self):
        error = errors.StorageIO(errno.EACCES, "/log", "Permission denied")

        assert (error.errno, error.path, error.filename) == (errno.EACCES, "/log", "/log")
        assert str(error) == "/log: Permission denied"
