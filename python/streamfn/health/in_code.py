"""Which recorded functions are not in the code of their app."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streamfn.model.mapping import function_of


def not_in_code(recorded: Iterable[str], in_code: Collection[str]) -> list[str]:
    """Return the recorded functions, without replays, that their app does not have.

    Args:
        recorded: Names of the mappings and replays in a log.
        in_code: Names of all functions of an app; those of other apps say nothing.
    """
    apps = {app_of(name) for name in in_code}
    return sorted(
        name
        for name in recorded
        if app_of(name) in apps and name not in in_code and function_of(name) == name
    )


def app_of(name: str) -> str:
    """Return the name of the app of a function or replay."""
    return name.partition(".")[0]


def reason_not_in_code(name: str, workers: Iterable[int | None]) -> str:
    """Return a text that says which workers run the app without the function.

    Args:
        name: Name of the function.
        workers: Process ids of the workers.
    """
    pids = ", ".join(str(pid) for pid in workers)
    return f"the code of app `{app_of(name)}` that worker {pids} runs has no such function"
