"""Errors as text of bounded size: for messages between processes, for logs, for dead letters.

An exception can be of any size: a message of many megabytes, a group of 100,000 members, a chain of
as many causes. The functions here read little more of it than they show, so time and memory do not
grow with its size. A `__str__` or `__repr__` that the exception's own class defines is not bounded.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import islice
from types import FrameType, TracebackType
from typing import Final

from .texts import HEAVY, bounded_repr, cut, is_heavy, shown

TYPE_BYTES_MAX: Final = 2**10
MESSAGE_BYTES_MAX: Final = 4 * 2**10
TRACEBACK_BYTES_MAX: Final = 32 * 2**10

CHAIN_MAX: Final = 10
"""Causes shown of a longer chain: those nearest to the error, besides the first cause."""
CAUSE_BYTES_MAX: Final = 2**10
"""Longest message of one cause."""
CHAIN_LOOKED_AT: Final = 10_000
"""Causes that are visited to find the first one."""
FRAMES_MAX: Final = 1_000
"""Frames read of one traceback; equals Python's default recursion limit."""
ERRORS_MAX: Final = 100
"""An error with more causes and group members than this is not formatted by `traceback`."""
MEMBERS_MAX: Final = 15
"""Members of a group that are shown; Python shows as many."""
NOTES_MAX: Final = 10
LINE_CHARS_MAX: Final = 500
"""Longest line of source, file name or function name."""

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def type_of(error: BaseException) -> str:
    """Return the name of an error's class."""
    return cut(_name(type(error)), TYPE_BYTES_MAX)


def message_of(error: BaseException) -> str:
    """Return `str(error)`, cut to `MESSAGE_BYTES_MAX`."""
    try:
        return cut(_message(error), MESSAGE_BYTES_MAX)
    except BaseException as second:  # noqa: BLE001 -- that of a user's exception may even exit
        return f"<{type_of(second)} in __str__>"


def traceback_of(error: BaseException, hidden: tuple[str, ...] = ()) -> str:
    """Return the traceback as Python prints it.

    The text is empty if the exception was never raised or cannot be formatted.

    Args:
        error: The exception.
        hidden: Path prefixes; frames of files under them are left out.
    """
    if frames_of(error) is None:
        return ""
    try:
        text = _as_python_does(error, hidden) if _is_light(error) else _in_short(error, hidden)
    except BaseException:  # noqa: BLE001 -- as above, for `__repr__`, notes and causes
        try:
            text = "".join(_stack(error, hidden))
        except BaseException:  # noqa: BLE001 -- too deep in the stack, or out of memory
            return ""
    return cut(text, TRACEBACK_BYTES_MAX)


def stack_of(frames: TracebackType | None) -> list[str]:
    """Return each frame as `traceback.format_list` prints it; of too many, the innermost.

    They have `TRACEBACK_BYTES_MAX` together; the outermost that do not fit are left out.

    Args:
        frames: A traceback without the frames that are not to be shown.
    """
    try:
        told = traceback.StackSummary.extract(_innermost(frames), lookup_lines=False)
        # WHY no columns: AWS's texts have no line of `^^^` below the source.
        plain = [
            (each.filename, each.lineno or 0, each.name, each.line) for each in _readable(told)
        ]
        texts = traceback.format_list(plain)
    except BaseException:  # noqa: BLE001 -- too deep in the stack, or out of memory
        return []
    room, kept = TRACEBACK_BYTES_MAX, list[str]()
    for text in reversed(texts):
        shown_text = cut(text, TRACEBACK_BYTES_MAX)
        room -= len(shown_text.encode())
        if room < 0:
            break
        kept.append(shown_text)
    return kept[::-1]


def frames_of(error: BaseException) -> TracebackType | None:
    """Return an exception's traceback, even if its class overrides `__traceback__`."""
    frames: TracebackType | None = _TRACEBACK(error)
    return frames


# WHY: read through Python's base classes; the attributes of a user's exception class may raise.
_QUALNAME: Final = type.__dict__["__qualname__"].__get__
_TRACEBACK: Final = BaseException.__dict__["__traceback__"].__get__


# ---------------------------------------------------------------- errors of ordinary size


def _is_light(error: BaseException) -> bool:
    """Whether an error with its causes and members is small enough for `traceback`."""
    frames = characters = 0
    for number, each in enumerate(islice(_all_errors(error), ERRORS_MAX + 1)):
        notes = _notes(each)
        frames += _depth(frames_of(each), FRAMES_MAX + 1)
        characters += _length(each) + len(_name(type(each))) + len(_module(each))
        characters += sum(len(note) if isinstance(note, str) else HEAVY for note in notes)
        is_source = isinstance(each, SyntaxError) and is_heavy((each.text, each.filename))
        is_over = number == ERRORS_MAX or frames > FRAMES_MAX or characters > HEAVY
        if is_over or is_source or len(notes) > NOTES_MAX:
            return False
    return True


def _all_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and, recursively, its causes and group members; each once."""
    seen, ahead = set[int](), [error]
    while ahead:
        each = ahead.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        ahead.extend(cause for cause in (each.__cause__, each.__context__) if cause is not None)
        if isinstance(each, BaseExceptionGroup):
            ahead.extend(each.exceptions[: ERRORS_MAX + 1])


def _length(error: BaseException) -> int:
    """Return roughly how many characters Python would print for an error."""
    try:
        return HEAVY + 1 if is_heavy(error.args) else len(_message(error))
    except BaseException:  # noqa: BLE001 -- as above; Python shows one line in its place
        return 0


def _as_python_does(error: BaseException, hidden: tuple[str, ...]) -> str:
    told = traceback.TracebackException.from_exception(error, compact=True)
    _shorten(told, hidden)
    return "".join(told.format())


def _shorten(told: traceback.TracebackException, hidden: tuple[str, ...]) -> None:
    """Remove hidden frames and cut long lines, in all parts."""
    told.stack = _readable(told.stack, hidden)
    for part in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if part is not None:
            _shorten(part, hidden)


# ---------------------------------------------------------------- errors above that size


def _in_short(error: BaseException, hidden: tuple[str, ...]) -> str:
    """Return the causes and the error in Python's order, within the limits above."""
    chain, left_out = _chain(error)
    parts = list[str]()
    for place, (each, link) in enumerate(chain):
        if place == 1 and left_out:
            parts.append(f"\n… {left_out:,} causes left out …\n\n")
        if frames_of(each) is not None:
            parts += ["Traceback (most recent call last):\n", *_stack(each, hidden)]
        bytes_max = MESSAGE_BYTES_MAX if each is error else CAUSE_BYTES_MAX
        parts += [*_last_lines(each, bytes_max), link]
    return "".join(parts)


def _chain(error: BaseException) -> tuple[list[tuple[BaseException, str]], int]:
    """Return the causes of an error and the error, each with the text that links it to the next.

    Of a long chain, return the first cause and those nearest to the error. The second value is the
    number of causes left out.
    """
    nearest, first = [(error, "")], (error, "")
    seen = {id(error)}
    while True:
        cause, link = error.__cause__, _CAUSE
        if cause is None and not error.__suppress_context__:
            cause, link = error.__context__, _CONTEXT
        if cause is None or id(cause) in seen or len(seen) == CHAIN_LOOKED_AT:
            break
        seen.add(id(cause))
        error, first = cause, (cause, link)
        if len(nearest) < CHAIN_MAX:
            nearest.append(first)
    if len(seen) == len(nearest):
        return nearest[::-1], 0
    return [first, *nearest[::-1]], len(seen) - len(nearest) - 1


def _last_lines(error: BaseException, bytes_max: int) -> Iterator[str]:
    """Yield the lines with an error's name and message, its notes and its group members."""
    name, module = type_of(error), _module(error)[:LINE_CHARS_MAX]
    if module not in {"__main__", "builtins"}:
        name = f"{module}.{name}"
    message = cut(message_of(error), bytes_max)
    yield f"{name}: {message}\n" if message else f"{name}\n"
    for note in _notes(error)[:NOTES_MAX]:
        yield cut(note if isinstance(note, str) else shown(note), bytes_max) + "\n"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions[:MEMBERS_MAX]:
            line = " ".join(message_of(member).split())
            yield f"  | {type_of(member)}: {line[:LINE_CHARS_MAX]}\n"
        if len(error.exceptions) > MEMBERS_MAX:
            yield f"  | and {len(error.exceptions) - MEMBERS_MAX:,} more exceptions\n"


# ---------------------------------------------------------------- parts of an error


def _stack(error: BaseException, hidden: tuple[str, ...]) -> Iterator[str]:
    """Yield the frames of one exception; of too many, the innermost."""
    frames = frames_of(error)
    left_out = max(_depth(frames) - FRAMES_MAX, 0)
    frames = _without_outermost(frames, left_out)
    if left_out:
        yield f"  … {left_out:,} frames left out …\n"
    told = traceback.TracebackException(Exception, Exception(), frames)
    yield from _readable(told.stack, hidden).format()


def _innermost(frames: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    """Yield the innermost `FRAMES_MAX` frames with their lines, the outermost of them first."""
    frames = _without_outermost(frames, max(_depth(frames) - FRAMES_MAX, 0))
    while frames is not None:
        yield frames.tb_frame, frames.tb_lineno
        frames = frames.tb_next


def _without_outermost(frames: TracebackType | None, count: int) -> TracebackType | None:
    for _ in range(count):
        assert frames is not None
        frames = frames.tb_next
    return frames


def _depth(frames: TracebackType | None, most: int | None = None) -> int:
    """Return the number of frames, at most `most`."""
    depth = 0
    while frames is not None and depth != most:
        depth, frames = depth + 1, frames.tb_next
    return depth


def _readable(
    stack: traceback.StackSummary, hidden: tuple[str, ...] = ()
) -> traceback.StackSummary:
    """Return the frames that are not hidden, with long texts cut."""
    frames = [frame for frame in stack if not frame.filename.startswith(hidden)]
    for place, frame in enumerate(frames):
        texts = (frame.filename, frame.name, frame.line or "")
        if any(len(text) > LINE_CHARS_MAX for text in texts):
            filename, name, line = (text[:LINE_CHARS_MAX] for text in texts)
            # WHY a new one: without columns, Python underlines nothing in the cut line.
            frames[place] = traceback.FrameSummary(
                filename, frame.lineno, name, lookup_line=False, line=line
            )
    return traceback.StackSummary.from_list(frames)


def _notes(error: BaseException) -> list[object]:
    notes = getattr(error, "__notes__", None)
    return notes[: NOTES_MAX + 1] if isinstance(notes, list) else []


def _name(kind: type) -> str:
    name: str = _QUALNAME(kind)
    return name


def _module(error: BaseException) -> str:
    module: object = type(error).__module__
    return module if isinstance(module, str) else "<unknown>"  # as Python prints it


def _message(error: BaseException) -> str:
    """Return `str(error)`; large arguments are shown in part."""
    says = type(error).__str__
    if isinstance(error, BaseExceptionGroup) and is_heavy(error.message):
        return f"{error.message[:HEAVY]}… ({len(error.exceptions)} sub-exceptions)"
    prints = says is BaseException.__str__ and not (len(error.args) == 1 and _is_text(error))
    if (prints or says is KeyError.__str__) and is_heavy(error.args):
        return bounded_repr(error.args[0] if len(error.args) == 1 else error.args)
    return str.__str__(str(error))  # `__str__` may return a subclass of `str`


def _is_text(error: BaseException) -> bool:
    return type(error.args[0]) is str
