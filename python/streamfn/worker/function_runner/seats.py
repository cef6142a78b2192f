"""The seats of a function runner: takes calls from the front, makes them, sends the answers.

With one seat the main thread makes the calls itself: no thread waits for another. With several, for
`async def` functions, each seat has a thread that waits for its call, started when it is needed.

User code may have an exception thrown into any thread here, between any two instructions. So every
step can be taken again: what was done before is not done twice.
"""

from __future__ import annotations

import queue
import time
from functools import partial
from typing import Final

from streamfn.engine.sturdy_thread import SturdyThread
from streamfn.invocation.frames import BadFrame, Frame, Kind
from streamfn.worker.child.exhaustion import are_descriptors_used_up

from .calls import FunctionCalls
from .front_link import FrontLink, Lost, Strayed
from .seat_call import SeatCall

LEAVE_SECONDS: Final = 1.0
"""How long a runner that takes no more calls waits for the front's word after its last call."""
LOOK_SECONDS: Final = 0.02
"""Interval at which it looks whether its last call has ended."""

_Calls = queue.SimpleQueue[SeatCall | None]
"""The calls of one seat; None: no more."""


class Seats:
    """Takes calls until the front or the supervisor ends this runner."""

    def __init__(self, count: int, link: FrontLink, calls: FunctionCalls, strayed: Strayed) -> None:
        """Prepare the seats.

        Args:
            count: Calls that run at once.
            link: The connection to the front.
            calls: Makes the calls.
            strayed: Called with exceptions that were thrown into threads of ours.
        """
        self._count, self._link, self._calls, self._strayed = count, link, calls, strayed
        self._queues: dict[int, _Calls] = {}
        self._threads: list[SturdyThread] = []
        self._current: SeatCall | None = None
        """The call of the frame that is being handled."""
        self._open: set[SeatCall] = set()
        """Calls that were received and are not answered."""
        self.is_exhausted = False
        """Whether this process is out of descriptors, memory or threads."""

    def run(self) -> None:
        """Make calls until this runner leaves; then all its calls have ended."""
        while not self._is_over():
            pass
        for each in self._queues.values():
            each.put(None)
        for thread in self._threads:
            thread.join()

    def drain(self) -> None:
        """Take no more calls; `run` returns once the running ones have ended."""
        self._link.leave()
        self._hang_up_when_idle()

    def _is_over(self) -> bool:
        """Take calls from one connection until it ends; whether it was the last."""
        link = self._link
        try:
            if link.is_connected or (not link.is_leaving and link.connect()):
                self._serve()
            while self._open:  # their answers are not the next front's
                time.sleep(LOOK_SECONDS)
        except BaseException as error:  # noqa: BLE001 -- thrown into this thread
            self._strayed(error)
            return False
        return link.is_leaving

    def _serve(self) -> None:
        """Take calls until the connection ends, or this runner is to leave."""
        while True:
            try:
                # WHY a loop in here: Python runs signal handlers where a loop begins again.
                while self._step():
                    pass
            except (Lost, BadFrame):
                self._current, self._link.is_connected = None, False
                return
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                self._strayed(error)
            else:
                return

    def _step(self) -> bool:
        """Handle one frame; False: this runner is to leave.

        Raises:
            Lost: The front has closed the connection.
            BadFrame: It does not speak this protocol.
        """
        link = self._link
        if self._is_forgotten():
            link.is_connected = False
            return False
        frame = link.next()
        if frame.kind is Kind.LEAVE:
            link.dismissed()
            link.is_connected = False
            return False
        if frame.kind is Kind.CALL:
            self._take(frame)
        link.done()
        self._current = None
        return True

    def _is_forgotten(self) -> bool:
        """Whether the front does not answer this runner, which said that it takes no more calls.

        With several seats another thread watches for that.
        """
        is_ours = self._link.is_leaving and self._count == 1
        return is_ours and not self._link.has_frame(LEAVE_SECONDS)

    def _take(self, frame: Frame) -> None:
        """Make a call, or hand it to the thread of its seat."""
        call = self._current
        if call is None or call.frame is not frame:
            self._current = call = SeatCall(frame)
            if not 0 <= call.seat < self._count:
                raise BadFrame(f"there is no seat {call.seat}")
        if call.is_reported:
            return
        self._open.add(call)
        if self._count == 1:
            self._proceed(call)
        elif call.seat in self._queues or self._start(call.seat):
            self._queues[call.seat].put(call)
        else:
            # WHY here: no thread can be started, and this call is given to no other process.
            self.is_exhausted = True
            self._link.leave()
            self._proceed(call)

    def _start(self, seat: int) -> bool:
        calls: _Calls = queue.SimpleQueue()
        held = list[SeatCall | None]()
        thread = SturdyThread(partial(self._work, calls, held), f"seat-{seat}")
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads.append(thread)
        self._queues[seat] = calls
        return True

    def _work(self, calls: _Calls, held: list[SeatCall | None]) -> None:
        """Make the calls of one seat, in its thread.

        Args:
            calls: The calls.
            held: Has the one at hand.
        """
        while True:
            try:
                while True:
                    if not held:
                        # WHY not assigned: an exception before that would lose the call.
                        held.extend(map(calls.get, (True,)))
                    if held[0] is None:
                        return
                    self._proceed(held[0])
                    if self.is_exhausted:
                        self._hang_up_when_idle()
                    held.clear()
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                self._strayed(error)

    def _proceed(self, call: SeatCall) -> None:
        """Make a call, send its answer and report a failure; each of it once."""
        while call in self._open:
            try:
                self._calls.make(call)
                self._send(call)
                self._calls.report(call)
                self._open.discard(call)
            except BaseException as error:  # noqa: BLE001 -- thrown into this thread
                self._strayed(error)

    def _send(self, call: SeatCall) -> None:
        answer = call.answer
        assert answer is not None
        if call.data is None:
            if answer.is_starved or answer.is_fatal or are_descriptors_used_up():
                self.is_exhausted = self._link.is_leaving = True
            call.data = call.result()
        self._link.send(call.data, call.sent)

    def _hang_up_when_idle(self) -> None:
        """End the connection if the front does not, `LEAVE_SECONDS` after the last call."""
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < LEAVE_SECONDS:
            time.sleep(LOOK_SECONDS)
            if self._open:
                idle_since = time.monotonic()
        self._link.hang_up()
