"""Tests for `streamfn.error_text` and `streamfn.texts`: an error as text of bounded size."""

import sys
import traceback
import tracemalloc

import pytest

from streamfn.error_text import (
    MESSAGE_BYTES_MAX,
    TRACEBACK_BYTES_MAX,
    TYPE_BYTES_MAX,
    message_of,
    traceback_of,
    type_of,
)
from streamfn.texts import cut, shown

LARGE = 10_000_000


def raised(error, cause=None):
    """Return the error as one that was raised."""
    try:
        throw(error, cause)
    except BaseException as caught:  # noqa: BLE001 -- of any kind
        return caught


def throw(error, cause):
    if cause is None:
        raise error
    raise error from cause


def chain(length):
    error = None
    for number in range(length):
        error = raised(ValueError(f"error {number}"), error)
    return error


def nested(depth):
    error = ValueError("innermost")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return raised(error)


def deep(depth):
    """Return an error raised `depth` calls deep, by two functions in turn."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 1_000)
    try:
        this(depth)
    except ValueError as error:
        return error
    finally:
        sys.setrecursionlimit(limit)


def this(depth):
    return that(depth - 1) if depth else int("bottom")


def that(depth):
    return this(depth - 1) if depth else int("bottom")


def in_a_line_of(length, tmp_path):
    """Return an error raised in one line of a source file."""
    path = tmp_path / "generated.py"
    path.write_text(f"def fail(): x = {'1 + ' * (length // 4)}1; raise ValueError('no')\n")
    names = {}
    exec(compile("def fail(): raise ValueError('no')", str(path), "exec"), names)
    try:
        names["fail"]()
    except ValueError as error:
        return error


def with_notes(count, length):
    error = ValueError("no")
    for _ in range(count):
        error.add_note("n" * length)
    return raised(error)


def misspelt():
    """Return an error that has a very long line of code in it."""
    try:
        compile("x" * 1_000_000 + " y", "generated", "exec")
    except SyntaxError as error:
        return error


class Odd(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise KeyError("no text")


MONSTERS = {
    "a long message": lambda _: raised(ValueError("x" * LARGE)),
    "a long key": lambda _: raised(KeyError("x" * LARGE)),
    "a long argument in a list": lambda _: raised(ValueError(["x" * LARGE])),
    "many arguments": lambda _: raised(ValueError(*range(200_000))),
    "a large list": lambda _: raised(ValueError(list(range(1_000_000)))),
    "a large dict": lambda _: raised(ValueError(dict.fromkeys(range(1_000_000)))),
    "large bytes": lambda _: raised(ValueError(b"\0" * LARGE, 1)),
    "a class with a long name": lambda _: raised(type("E" * LARGE, (Exception,), {})("no")),
    "a class of a module with a long name": lambda _: raised(
        type("E", (Exception,), {"__module__": "m" * LARGE})("no")
    ),
    "a group of many": lambda _: raised(ExceptionGroup("g", [ValueError("no")] * 100_000)),
    "a group of many that were raised": lambda _: raised(
        ExceptionGroup("g", [raised(ValueError(str(n))) for n in range(5_000)])
    ),
    "a group of long ones": lambda _: raised(
        ExceptionGroup("g" * LARGE, [ValueError("x" * LARGE)])
    ),
    "groups in groups": lambda _: nested(300),
    "a chain of many causes": lambda _: chain(5_000),
    "a chain of long causes": lambda _: raised(ValueError("a" * LARGE), ValueError("b" * LARGE)),
    "a deep stack": lambda _: deep(20_000),
    "a long line of source": lambda tmp_path: in_a_line_of(2_000_000, tmp_path),
    "a long line that is no Python": lambda _: misspelt(),
    "many notes": lambda _: with_notes(100_000, 10),
    "a long note": lambda _: with_notes(1, LARGE),
}  # fmt: skip


class TestOrdinaryErrors:
    """What fits is shown as Python shows it."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: raised(ValueError("no")),
            lambda: raised(ValueError()),
            lambda: raised(ValueError("one", 2, ["three"])),
            lambda: raised(KeyError("name")),
            lambda: raised(OSError(2, "No such file", "x")),
            lambda: raised(Odd()),
            lambda: raised(ValueError("no"), KeyError("why")),
            lambda: raised(ExceptionGroup("g", [raised(ValueError("a")), KeyError("b")])),
            lambda: chain(20),
            lambda: with_notes(3, 20),
            lambda: deep(60),
        ],
    )
    def test_the_traceback_is_pythons(self, make):
        error = make()

        assert traceback_of(error) == "".join(traceback.format_exception(error))

    def test_the_message_is_pythons(self):
        for error in (
            ValueError("no"),
            ValueError(),
            ValueError(1, "a"),
            KeyError("a"),
            OSError(2),
        ):
            assert (type_of(error), message_of(error)) == (type(error).__name__, str(error))

    def test_one_that_was_not_raised_has_no_traceback(self):
        assert traceback_of(ValueError("no")) == ""

    def test_one_that_cannot_be_shown_says_so(self):
        assert message_of(raised(Odd())) == "<KeyError in __str__>"
        assert traceback_of(raised(Odd())).endswith("Odd: <exception str() failed>\n")

    def test_half_a_surrogate_pair_becomes_a_question_mark(self):
        error = raised(ValueError("a\ud800b"))

        assert message_of(error) == "a?b"
        assert traceback_of(error).endswith("ValueError: a?b\n")

    def test_frames_of_files_can_be_left_out(self):
        error = raised(ValueError("no"), KeyError("why"))

        assert "in throw" in traceback_of(error)
        assert "in throw" not in traceback_of(error, (__file__,))


class TestLargeErrors:
    """Neither the text nor the memory that making it takes depends on the size of the error."""

    @pytest.mark.parametrize("kind", MONSTERS)
    def test_every_text_is_short(self, kind, tmp_path):
        error = MONSTERS[kind](tmp_path)

        texts = type_of(error), message_of(error), traceback_of(error)

        sizes = [len(text.encode()) for text in texts]
        limits = [TYPE_BYTES_MAX, MESSAGE_BYTES_MAX, TRACEBACK_BYTES_MAX]
        assert all(size <= limit for size, limit in zip(sizes, limits, strict=True)), sizes
        assert "Traceback (most recent call last):" in texts[2]

    @pytest.mark.parametrize("kind", MONSTERS)
    def test_it_takes_little_memory(self, kind, tmp_path):
        error = MONSTERS[kind](tmp_path)
        traceback_of(raised(ValueError("what is loaded once")))
        if kind == "a long line of source":
            traceback_of(error)  # the lines of a source file are kept by Python

        tracemalloc.start()
        try:
            type_of(error), message_of(error), traceback_of(error)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak < 4 * 2**20

    def test_of_many_causes_the_first_and_the_last_are_shown(self):
        text = traceback_of(chain(5_000))

        assert text.count("Traceback (most recent call last):") == 11
        assert text.index("ValueError: error 0\n") < text.index("4,989 causes left out")
        assert text.endswith("ValueError: error 4999\n")

    def test_of_a_large_group_some_members_are_shown(self):
        error = raised(ExceptionGroup("many", [ValueError(str(n)) for n in range(1_000)]))

        text = traceback_of(error)
        assert "ExceptionGroup: many (1000 sub-exceptions)\n  | ValueError: 0\n" in text
        assert "  | and 985 more exceptions\n" in text

    def test_of_a_deep_stack_the_innermost_frames_are_shown(self):
        text = traceback_of(deep(20_000))

        assert "in this" in text
        assert "invalid literal for int()" in text


class TestCut:
    """Tests for `cut`."""

    def test_a_text_that_fits_stays(self):
        assert cut("short", 5) == "short"
        assert cut("é" * 5, 10) == "é" * 5

    @pytest.mark.parametrize("letter", ["x", "é", "\N{SNOWMAN}", "\N{GRINNING FACE}"])
    @pytest.mark.parametrize("bytes_max", [50, 51, 100, 101, 1_000, 1_001])
    def test_both_ends_and_the_number_cut_are_there(self, letter, bytes_max):
        text = "<" + letter * 10_000 + ">"

        result = cut(text, bytes_max)

        assert bytes_max - 12 <= len(result.encode()) <= bytes_max
        head, mark, tail = result.split("\n")
        assert (head[0], tail[-1]) == ("<", ">")
        assert mark == f"… {len(text) - len(head) - len(tail):,} characters cut …"

    def test_where_no_mark_fits_nothing_is_left(self):
        assert cut("x" * 100, 10) == ""


class TestShown:
    """Tests for `shown`."""

    def test_it_is_what_python_prints(self):
        assert shown({"a": [1, b"x", None]}) == "{'a': [1, b'x', None]}"

    @pytest.mark.parametrize(
        "value",
        ["x" * LARGE, b"x" * LARGE, [1] * 1_000_000, dict.fromkeys(range(1_000_000)),
         [["x" * LARGE]], {"a": {"b": b"x" * LARGE}}],
    )  # fmt: skip
    def test_a_large_value_is_short(self, value):
        assert len(shown(value)) <= 100

    def test_what_cannot_be_shown_says_so(self):
        class Bad:
            def __repr__(self):
                raise KeyError

        assert shown(Bad()).startswith("<KeyError in __repr__ of a ")
        assert shown(10**5_000).startswith("<ValueError in __repr__ of a int")
