"""The error of a call that may have failed because of another call's code."""

from __future__ import annotations


class Disturbance(BaseException):
    """A call failed, perhaps because of another call's code; it does not count as an attempt.

    This is not an `Exception`, so that it cannot be confused with what a function raises.
    """

    def __init__(self, cause: BaseException, *, is_fatal: bool = False) -> None:
        super().__init__(cause, is_fatal)
        self.cause, self.is_fatal = cause, is_fatal
        """The error of the call, and whether a retry in this process would fail the same way."""
