"""A call that failed for what the code of another call may have done."""

from __future__ import annotations


class Disturbance(BaseException):
    """A call failed, and the code of another call may be why: it is no attempt.

    No `Exception`: what a function raises is never taken for it.
    """

    def __init__(self, cause: BaseException, *, is_fatal: bool = False) -> None:
        super().__init__(cause, is_fatal)
        self.cause, self.is_fatal = cause, is_fatal
        """What the call ended with, and whether it would end so again in this process."""
