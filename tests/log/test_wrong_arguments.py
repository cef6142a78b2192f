"""Arguments of a wrong type get an error that says which, what it should be, and the fix."""

import os
import re
from types import MappingProxyType

import pytest

from streamfn import Batch, ConfigError, Log, Record
from streamfn.errors import ForkedHandle

HALF = "'\\ud800' has half a surrogate pair, which is no text"


@pytest.fixture
def stream(log):
    """An empty stream."""
    return log.create_stream("s")


def refused(kind, message):
    """Expect an error whose text ends in just this message."""
    return pytest.raises(kind, match=re.escape(message) + "$")


class TestHeaders:
    """Headers are a mapping of texts to bytes."""

    WRONG = (
        ({"a": "b"}, "header `a` is bytes, not `str`: encode it (`.encode()`)"),
        ({"a": 5}, "header `a` is bytes, not `int`"),
        ({"a": None}, "header `a` is bytes, not `NoneType`"),
        ({"a": b"", "b": [1]}, "header `b` is bytes, not `list`"),
        ({b"a": b""}, "the name of a header is a str, not `bytes`"),
        ({1: b""}, "the name of a header is a str, not `int`"),
        ([("a", b"")], "headers are a mapping of str to bytes, not `list`"),
        ("a", "headers are a mapping of str to bytes, not `str`"),
        (5, "headers are a mapping of str to bytes, not `int`"),
    )

    @pytest.mark.parametrize(("headers", "message"), WRONG, ids=str)
    def test_of_one_record(self, stream, headers, message):
        with refused(TypeError, message):
            stream.put(b"x", headers=headers)
        with refused(TypeError, message):
            Record(b"x", headers=headers)

    @pytest.mark.parametrize(("headers", "message"), WRONG, ids=str)
    def test_of_one_record_of_many(self, stream, headers, message):
        with refused(TypeError, f"entry 2: {message}"):
            stream.put_many([b"a", b"b", b"c"], headers=[None, {}, headers])
        assert list(stream.read()) == []

    def test_what_has_the_bytes_is_taken(self, stream):
        headers = {"a": bytearray(b"x"), "b": memoryview(b"y"), "c": b"z"}
        stream.put(b"", headers=headers)
        stream.put(b"", headers=MappingProxyType(headers))
        [batch] = stream.read()
        assert [record.headers for record in batch] == [{"a": b"x", "b": b"y", "c": b"z"}] * 2

    def test_a_name_that_is_no_text_is_refused(self, stream):
        with refused(ConfigError, HALF) as caught:
            stream.put(b"", headers={"\ud800": b""})
        assert caught.value.field == "headers"


class TestDataAndKeys:
    """Data is bytes, a key is a text."""

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ("x", "data is bytes or has a buffer of bytes, not `str`: encode it (`.encode()`)"),
            (5, "data is bytes or has a buffer of bytes, not `int`"),
            (None, "data is bytes or has a buffer of bytes, not `NoneType`"),
            ({"a": 1}, "data is bytes or has a buffer of bytes, not `dict`"),
        ],
        ids=str,
    )
    def test_data(self, stream, data, message):
        with refused(TypeError, message):
            stream.put(data)
        with refused(TypeError, f"entry 1: {message}"):
            stream.put_many([b"", data])

    @pytest.mark.parametrize("key", [b"k", 5, ["k"]], ids=str)
    def test_keys(self, stream, key):
        message = f"a partition key is a str or None, not `{type(key).__name__}`"
        with refused(TypeError, message):
            stream.put(b"", key)
        with refused(TypeError, f"entry 1: {message}"):
            stream.put_many([b"", b""], ["k", key])

    def test_a_key_that_is_no_text(self, stream):
        with refused(ConfigError, HALF) as caught:
            stream.put(b"", "\ud800")
        assert caught.value.field == "partition_key"
        with refused(ConfigError, f"entry 1: {HALF}"):
            stream.put_many([b"", b""], ["k", "\ud800"])

    def test_one_value_in_the_place_of_many(self, stream):
        with refused(TypeError, "`data` is a sequence of values, not one value"):
            stream.put_many(b"x")
        with refused(TypeError, "`data` is a sequence of values, not `int`"):
            stream.put_many(5)
        with refused(TypeError, "`partition_keys` is a sequence of values, not `int`"):
            stream.put_many([b""], 5)
        with refused(TypeError, "`headers` is a sequence of values, not `int`"):
            stream.put_many([b""], headers=5)

    def test_the_error_of_an_iterable_of_ones_own_is_left_as_it_is(self, stream):
        class Broken:
            def __iter__(self):
                raise TypeError("mine")

        with pytest.raises(TypeError, match=r"^mine$"):
            stream.put_many(Broken())


class TestOthers:
    """The same of what is read, made and opened."""

    @pytest.mark.parametrize("start", [["latest"], 1.5, b"latest"], ids=str)
    def test_a_start_of_a_wrong_type(self, stream, start):
        message = f"start is a str, an int or a datetime, not `{type(start).__name__}`"
        with refused(TypeError, message):
            list(stream.read(start=start))

    @pytest.mark.parametrize("start", [-1, 2**64])
    def test_a_start_that_is_no_sequence_number(self, stream, start):
        message = f"`{start}` is not a sequence number: 0 to 18446744073709551615"
        with refused(ConfigError, message) as caught:
            list(stream.read(start=start))
        assert caught.value.field == "start"

    def test_a_batch_of_no_records(self):
        with refused(TypeError, "`records` is a sequence of `Record`, not `int`"):
            Batch.of(5)
        with refused(TypeError, "entry 1: a batch has `Record`s, not `bytes`"):
            Batch.of([Record(b""), b"x"])

    @pytest.mark.parametrize(
        "retention", [5, 1.5, True, {"7d": 1}, (5,), ["7d", None], b"7d"], ids=str
    )
    def test_a_retention_of_a_wrong_type(self, log, retention):
        with pytest.raises(ConfigError, match="write `7d`, `10GiB` or `consumed`"):
            log.create_stream("s", retention=retention)
        assert log.streams() == []

    def test_an_argument_taken_as_a_whole_is_named_in_a_note(self, log):
        with pytest.raises(TypeError) as caught:
            log.create_stream(5)
        assert caught.value.__notes__ == ["while processing 'name'"]

    def test_a_path_may_be_bytes(self, log_dir):
        with Log.open(os.fsencode(log_dir)) as log:
            assert log.streams() == []

    def test_a_forked_handle_names_the_way_out(self):
        text = str(ForkedHandle("/srv/log"))
        assert "/srv/log was opened before a fork" in text
        assert "call `Log.open` again" in text
