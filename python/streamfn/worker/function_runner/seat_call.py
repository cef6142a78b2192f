"""One call on a seat, from its frame until its answer is sent."""

from __future__ import annotations

from typing import Any

from streamfn.engine.answer import Answer
from streamfn.engine.function_call import Request
from streamfn.invocation.frames import BadFrame, Frame, Kind, encode
from streamfn.worker.child.tail import Tail


class SeatCall:
    """A call; its steps may be repeated after an exception that was thrown into their thread."""

    __slots__ = (
        "answer",
        "data",
        "frame",
        "function",
        "is_begun",
        "is_counted",
        "is_over",
        "is_reported",
        "request",
        "seat",
        "sent",
        "tail",
    )

    def __init__(self, frame: Frame) -> None:
        """Read a CALL.

        Raises:
            BadFrame: It lacks something.
        """
        self.frame, header = frame, frame.header
        try:
            self.seat: int = header["seat"]
            self.function: str = header["function"]
            self.request = Request(
                header["request_id"], header.get("client_context"), header["timeout"]
            )
        except (KeyError, TypeError) as error:
            raise BadFrame(f"a call lacks {error}") from None
        self.tail = Tail() if header.get("tail") else None
        self.answer: Answer | None = None
        self.is_begun = self.is_over = self.is_counted = self.is_reported = False
        self.data: bytes | None = None
        """The frame with the answer."""
        self.sent: list[int] = []
        """How many bytes of it were sent."""

    def result(self) -> bytes:
        """Return the frame with the answer."""
        answer = self.answer
        assert answer is not None
        log = None if self.tail is None else self.tail.text()
        header: dict[str, Any] = {"seat": self.seat, "failed": answer.is_failed, "log": log}
        return encode(Kind.RESULT, header, answer.body)
