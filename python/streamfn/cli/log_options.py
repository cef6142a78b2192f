"""`--log-format` and `--log-level`: the form of a worker's log, and how much it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class LogSettings:
    """What the options said."""

    __slots__ = ("form", "level")

    def __init__(self) -> None:
        self.form = "auto"
        """`auto` (text on a terminal, JSON elsewhere), `text` or `json`."""
        self.level: str | None = None
        """The lowest level; None: INFO, or as `-q` and `-v` say."""


log_settings = LogSettings()


def log_options(command: _Command) -> _Command:
    """Add the two options."""
    for option in (
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warn", "warning", "error"], case_sensitive=False),
            envvar="STREAMFN_LOG_LEVEL",
            expose_value=False,
            callback=_set,
            help="Lowest level of the log, and of what functions log "
            "[env: STREAMFN_LOG_LEVEL; default: info].",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["auto", "text", "json"]),
            envvar="STREAMFN_LOG_FORMAT",
            default="auto",
            show_default=True,
            expose_value=False,
            callback=_set,
            help="Lines of the log; auto: text on a terminal, else JSON "
            "[env: STREAMFN_LOG_FORMAT].",
        ),
    ):
        command = option(command)
    return command


def _set(_ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if param.name == "log_level":
        log_settings.level = value
    else:
        log_settings.form = value or "auto"
