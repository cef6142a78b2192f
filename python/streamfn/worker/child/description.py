"""What a child process tells the supervisor of the app, which never imports it."""

from __future__ import annotations

from streamfn.app import App
from streamfn.app.fingerprint import AppCode
from streamfn.model.function import is_async
from streamfn.worker.messages import Ready


def described(app: App, code: AppCode) -> Ready:
    """Return the description of an imported app."""
    return Ready(
        mappings=[each.to_dict() for each in app.mappings],
        asynchronous=[each.name for each in app.mappings if _is_async(app, each.name)],
        code_version=code.version,
        files=dict(code.files),
        streams=[each.to_dict() for each in app.declared_streams],
        functions=[each.to_dict() for each in app.functions],
    )


def _is_async(app: App, name: str) -> bool:
    handler = app.handler(name)
    return is_async(handler) or is_async(type(handler).__call__)
