"""Warns of functions of this app that are in the log and not in the code."""

from __future__ import annotations

from streamfn import _core
from streamfn.errors import StreamfnError
from streamfn.health.orphans import Orphan, new_name_of, orphans
from streamfn.worker.report import Report

from .mapping_registry import MappingRegistry


def report_not_in_code(log: _core.Log, registry: MappingRegistry, report: Report) -> None:
    """Report each function that is not in the code, what it holds back and what to do."""
    apps = {each.mapping.app for each in registry}
    try:
        found = [each for app in apps for each in orphans(log, app, registry.in_code)]
    except StreamfnError:  # what cannot be read is reported elsewhere; here it is only a warning
        return
    for orphan in found:
        report(
            "function_not_in_code",
            mapping=orphan.name,
            records=orphan.records_behind,
            holds_back=list(orphan.holds_back),
            hint=_hint(orphan, registry.new),
        )


def _hint(orphan: Orphan, new: tuple[str, ...]) -> str:
    renamed = new_name_of(orphan, new)
    remove = f"`streamfn fn rm {orphan.name}`"
    if renamed is None:
        return f"if it was renamed: `streamfn fn rename {orphan.name} NEW`; if not: {remove}"
    rename = f"`streamfn fn rename {orphan.name} {renamed} --replace`"
    return f"if it was renamed: stop the worker, {rename}; if not: {remove}"
