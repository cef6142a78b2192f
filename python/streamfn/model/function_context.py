"""`FunctionContext`: what a function that is called by request can learn about its call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streamfn.clock import Clock

from .function_config import FunctionConfig
from .handles import LogHandle, StreamHandle
from .lambda_input import CognitoIdentity, function_arn

DEFAULT_MEMORY: Final = "128"
"""`memory_limit_in_mb` without a limit: AWS's default."""
_TRACE: Final = ("traceparent", "tracestate", "baggage")


class ContextLog:
    """`context.log`: the open log; called with a message, it prints that, as on AWS.

    It is opened when it is first used.
    """

    __slots__ = ("_open", "_opened")

    def __init__(self, open_log: Callable[[], LogHandle]) -> None:
        self._open = open_log
        self._opened: LogHandle | None = None

    def __call__(self, message: object) -> None:
        """Write to standard output; AWS collects its logs there."""
        sys.stdout.write(str(message))

    @property
    def path(self) -> str:
        """The directory."""
        return self._log.path

    def stream(self, name: str) -> StreamHandle:
        """Return the stream of that name, or raise `StreamNotFound`."""
        return self._log.stream(name)

    def streams(self) -> list[str]:
        """Return the names of all streams, sorted."""
        return self._log.streams()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- what else `streamfn.Log` has
        if name.startswith("_"):  # such as those that `copy` looks for: nothing is opened for them
            raise AttributeError(name)
        return getattr(self._log, name)

    @property
    def _log(self) -> LogHandle:
        if self._opened is None:
            self._opened = self._open()
        return self._opened


class Client:
    """`context.client_context.client`: the app that calls, as AWS's mobile SDKs describe it."""

    __slots__ = (
        "app_package_name",
        "app_title",
        "app_version_code",
        "app_version_name",
        "installation_id",
    )

    def __init__(self, fields: dict[str, Any]) -> None:
        for name in self.__slots__:
            setattr(self, name, fields.get(name))


class ClientContext:
    """`context.client_context`: what the caller passed beside the payload."""

    __slots__ = ("client", "custom", "env")

    def __init__(self, fields: dict[str, Any]) -> None:
        client = fields.get("client")
        self.custom, self.env = fields.get("custom"), fields.get("env")
        self.client = Client(client) if isinstance(client, dict) else None


class FunctionContext:
    """One call by request; passed as the function's second positional parameter.

    It has the attributes of `Context` that make sense without records, and all of AWS Lambda's
    context object, so that handlers written for AWS run unchanged.
    """

    __slots__ = ("_client_context", "_clock", "_config", "deadline", "log", "request_id")

    attempt = 1
    """A call by request is never repeated by streamfn."""
    function_version = "$LATEST"
    tenant_id: None = None

    def __init__(
        self,
        config: FunctionConfig,
        request_id: str,
        log: ContextLog,
        clock: Clock,
        *,
        client_context: object = None,
        timeout: timedelta | None = None,
    ) -> None:
        """Describe a call that begins now.

        Args:
            config: The function.
            request_id: A UUID.
            log: The open log.
            clock: Tells the deadline, and how far it is.
            client_context: What the caller passed beside the payload.
            timeout: Of this call; None: that of the function.
        """
        self._config, self._clock, self._client_context = config, clock, client_context
        self.request_id = request_id
        """A UUID: the caller's, or a new one."""
        self.deadline: datetime = clock.now() + (config.timeout if timeout is None else timeout)
        """When the process is killed if the call has not returned; aware, UTC."""
        self.log = log
        """The open log, for putting records from inside the function."""

    def __repr__(self) -> str:
        return f"FunctionContext({self.function!r}, request_id={self.request_id!r})"

    @property
    def function(self) -> str:
        """Return the name of the function, without its app."""
        return self._config.function

    @property
    def remaining(self) -> timedelta:
        """Return the time left until the deadline, at least zero."""
        return max(self.deadline - self._clock.now(), timedelta(0))

    # ---- AWS's names. Source: AWS's runtime interface client for Python.

    @property
    def aws_request_id(self) -> str:
        """Return `request_id`."""
        return self.request_id

    @property
    def function_name(self) -> str:
        """Return `function`."""
        return self._config.function

    @property
    def invoked_function_arn(self) -> str:
        """Return the Lambda ARN that a function of this name would have."""
        return function_arn(self._config.function)

    @property
    def memory_limit_in_mb(self) -> str:
        """Return the memory limit in MiB, a string as on AWS; without a limit AWS's default."""
        memory = self._config.memory
        return DEFAULT_MEMORY if memory is None else str(memory // 2**20)

    @property
    def log_group_name(self) -> str:
        """Return the name of the log group that the function would have."""
        return f"/aws/lambda/{self._config.function}"

    @property
    def log_stream_name(self) -> str:
        """Return the name that a log stream could have."""
        day = self.deadline.astimezone(UTC)
        return f"{day:%Y/%m/%d}/[$LATEST]{self.request_id.replace('-', '')}"

    @property
    def client_context(self) -> Any:  # noqa: ANN401 -- `ClientContext`, or what was passed
        """Return what the caller passed beside the payload: `custom`, `env` and `client`.

        None if it passed nothing; a value that is not a JSON object is returned as it is.
        """
        given = self._client_context
        return ClientContext(given) if isinstance(given, dict) else given

    @property
    def identity(self) -> CognitoIdentity:
        """Return an identity without a user."""
        return CognitoIdentity()

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left until the deadline, in ms, at least 0."""
        return self.remaining // timedelta(milliseconds=1)

    def w3c(self) -> dict[str, str]:
        """Return `traceparent`, `tracestate` and `baggage` of the client context's `custom`."""
        context = self.client_context
        custom = context.custom if isinstance(context, ClientContext) else None
        if not isinstance(custom, dict):
            return {}
        return {name: custom[name] for name in _TRACE if isinstance(custom.get(name), str)}
