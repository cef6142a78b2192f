"""A connection to the front of a worker for all tasks of an event loop.

Calls are told apart by their numbers, so that a thousand of them need no thousand connections.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from .address import connect
from .frames import BadFrame, Frame, Frames, Kind, encode
from .liveness import (
    IDLE_SECONDS,
    RETRY_SECONDS,
    SILENCE_SECONDS,
    AnswerLost,
    FrontEnded,
    NotCalled,
    Watch,
)
from .request import Request

UNSENT_BYTES_MAX: Final = 1 << 20
"""While more than this waits to be sent, no further call is added."""
_RECEIVE_BYTES: Final = 1 << 18
_HELLO: Final = 0
"""The number under which HELLO is awaited; calls begin at 1."""


class AsyncConnection:
    """Belongs to the event loop in which it was opened."""

    def __init__(self, connection: socket.socket) -> None:
        """Use `opened`."""
        self._socket = connection
        self._frames = Frames()
        self._number = _HELLO
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._unsent = deque[tuple[int, memoryview]]()
        """Of each frame that was not sent as a whole: its number and what is left of it."""
        self._room = asyncio.Event()
        self._room.set()
        self._heard = time.monotonic()
        self._checks = False
        self._is_retired = False
        self.is_closed = False
        asyncio.get_running_loop().add_reader(connection, self._readable)

    def __del__(self) -> None:
        # WHY: a loop that ended without closing it, as after `asyncio.run`, is no mistake.
        self._socket.close()

    @property
    def is_fresh(self) -> bool:
        """Whether the front was heard so lately that no ping is needed."""
        return not self.is_closed and time.monotonic() - self._heard <= IDLE_SECONDS

    async def hello(self, worker: str, patience: float) -> None:
        """Wait for HELLO.

        Raises:
            NotCalled: It does not come, or is another worker's.
        """
        frame = await self._reply(_HELLO, patience)
        if str(frame.header.get("worker")).replace("-", "") != worker:
            raise NotCalled(f"the socket of {worker} belongs to another worker")

    async def ping(self) -> None:
        """Make sure that the front still answers.

        Raises:
            NotCalled: It does not.
        """
        self._number += 1
        number = self._number
        self._send(number, encode(Kind.PING, {"id": number}))
        await self._reply(number, SILENCE_SECONDS)

    async def call(self, request: Request, is_living: Callable[[], bool]) -> Frame:
        """Send a call, and return the RESULT or REFUSED.

        If the task is cancelled, the call goes on in the worker.

        Args:
            request: The call.
            is_living: Whether the worker still holds its lock; asked in a thread.

        Raises:
            NotCalled: The call was not sent.
            AnswerLost: It was sent, and the connection or the worker ended before its answer.
        """
        while not self._room.is_set():
            await self._room.wait()
        if self.is_closed:
            raise NotCalled("the connection ended")
        self._number += 1
        number = self._number
        answer = self._await(number)
        self._send(number, request.frame(number))
        if not self._checks:
            self._checks = True
            self._check_later(Watch(self._ask), is_living)
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # WHY: asyncio logs what a cancelled task did not take
            if self._is_retired and not self._waiting:
                self.close()

    def retire(self) -> None:
        """Take no further calls, and close after the answers to those that were sent."""
        self._is_retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close it; calls that run go on, and their answers are dropped."""
        self._end("it was closed")

    async def _reply(self, number: int, patience: float) -> Frame:
        answer = self._waiting.get(number) or self._await(number)
        try:
            return await asyncio.wait_for(answer, patience)
        except TimeoutError:
            raise NotCalled("the front is silent") from None
        except AnswerLost as error:
            raise FrontEnded(error.reason) from None
        finally:
            self._waiting.pop(number, None)

    def _await(self, number: int) -> asyncio.Future[Frame]:
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        return answer

    # ------------------------------------------------------------ sending

    def _send(self, number: int, frame: bytes) -> None:
        """Send a frame, now or when there is room; its task may be cancelled meanwhile."""
        self._unsent.append((number, memoryview(frame)))
        if len(self._unsent) == 1:
            self._writable()
        self._note_room()

    def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsent:
            number, left = self._unsent[0]
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                loop.add_writer(self._socket, self._writable)
                break
            except OSError as error:
                self._end(str(error.strerror))
                return
            self._unsent[0] = number, left
            if not left:
                self._unsent.popleft()
        else:
            loop.remove_writer(self._socket)
        self._note_room()

    def _note_room(self) -> None:
        if sum(len(left) for _, left in self._unsent) <= UNSENT_BYTES_MAX:
            self._room.set()
        else:
            self._room.clear()

    def _ask(self) -> None:
        if not self._unsent:
            self._number += 1
            self._send(self._number, encode(Kind.PING, {"id": self._number}))

    # ------------------------------------------------------------ receiving

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            frames = self._frames.feed(data)
        except BlockingIOError:
            return
        except (OSError, BadFrame) as error:
            self._end(str(error))
            return
        if not data:
            self._end("the front closed it")
            return
        self._heard = time.monotonic()
        for frame in frames:
            number = _HELLO if frame.kind is Kind.HELLO else frame.header.get("id")
            answer = self._waiting.get(number)  # type: ignore[arg-type]  # anything is no key
            if answer is not None and not answer.done():
                answer.set_result(frame)

    def _end(self, reason: str) -> None:
        """Close the connection and tell all who wait."""
        if self.is_closed:
            return
        self.is_closed = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._socket.close()
        unsent = {number for number, _ in self._unsent}
        for number, answer in self._waiting.items():
            if not answer.done():
                error = NotCalled if number in unsent else AnswerLost
                answer.set_exception(error(f"the connection to the worker ended ({reason})"))
        self._unsent.clear()
        self._room.set()

    # ------------------------------------------------------------ watching

    def _check_later(self, watch: Watch, is_living: Callable[[], bool]) -> None:
        """Look, while calls run, whether the front has gone silent."""
        loop = asyncio.get_running_loop()
        loop.call_later(SILENCE_SECONDS, self._check, watch, is_living)

    def _check(self, watch: Watch, is_living: Callable[[], bool]) -> None:
        if self.is_closed or not self._waiting:
            self._checks = False
        elif time.monotonic() - self._heard < SILENCE_SECONDS:
            self._check_later(watch, is_living)
        else:
            # WHY in a thread: it reads the log directory.
            looked = asyncio.get_running_loop().run_in_executor(None, is_living)
            looked.add_done_callback(lambda done: self._checked(done, watch, is_living))

    def _checked(
        self, looked: asyncio.Future[bool], watch: Watch, is_living: Callable[[], bool]
    ) -> None:
        if looked.cancelled():
            return
        watch.heard(self._heard)
        try:
            watch.silent(is_living=looked.exception() is None and looked.result())
        except AnswerLost as error:
            self._end(error.reason)
            return
        self._check_later(watch, is_living)


async def opened(log_dir: str, worker: str, patience: float) -> AsyncConnection:
    """Return a connection to the front of a worker, or to the one after it.

    Raises:
        NotCalled: Nobody answers.
    """
    deadline = time.monotonic() + patience
    while True:
        connection = AsyncConnection(await _connected(log_dir, worker, deadline))
        try:
            await connection.hello(worker, max(deadline - time.monotonic(), 0.0))
        except FrontEnded:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


async def _connected(log_dir: str, worker: str, deadline: float) -> socket.socket:
    while True:
        try:
            return connect(log_dir, worker, 0)
        except (BlockingIOError, TimeoutError):  # its queue of new connections is full
            if time.monotonic() >= deadline:
                raise NotCalled("the front takes no connections") from None
            await asyncio.sleep(RETRY_SECONDS)
        except OSError as error:
            raise NotCalled(f"nobody listens: {error.strerror}") from None
