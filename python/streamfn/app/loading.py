"""Loads the app that an APP argument names: `module:attr`, `file.py` or `file.py:attr`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from streamfn.error_text import message_of, type_of
from streamfn.errors import ConfigError
from streamfn.model.options import nearest

from .registration import App

FIELD = "APP"
"""`ConfigError.field` of errors about the argument itself."""


def load_app(text: str, *, factory: bool = False) -> App:
    """Import the app that `text` names; the current folder is on the import path.

    Without an attribute, the module's `app` is used, or else its only `App`.

    Args:
        text: `module:attr`, `module`, `file.py` or `file.py:attr`; `attr` may have dots.
        factory: The attribute is a callable without parameters that returns the app.

    Raises:
        ConfigError: Field `APP`: the module does not import (`__cause__` is the reason), or the
            attribute is not an app. Other fields: an invalid setting in the app's code.
    """
    place, _, attribute = text.partition(":")
    if not place:
        raise ConfigError(FIELD, f"`{text}` names no module, write `module:app` or `file.py`")
    module = _module(place)
    found = _attribute(module, attribute, place) if attribute else _only_app(module, factory)
    if factory and callable(found):
        found = _made(found, text)
    if not isinstance(found, App):
        hint = ", or add --factory" if callable(found) else ""
        reason = f"`{text}` is a {type(found).__name__}, not a `streamfn.App`{hint}"
        raise ConfigError(FIELD, reason)
    return found


def _module(place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    is_file = place.endswith(".py") or "/" in place
    if is_file and not Path(place).is_file():
        raise ConfigError(FIELD, f"there is no file `{place}`, check the path")
    try:
        return _module_of_file(Path(place).resolve()) if is_file else importlib.import_module(place)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}."):
            # WHY no cause: its traceback has no frame of the user's.
            raise ConfigError(FIELD, _nothing_at(place, error.name)) from None
        raise ConfigError(FIELD, _why(place, error)) from error


def _module_of_file(path: Path) -> ModuleType:
    """Import a file under its own name, with its folder on the import path."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or name in sys.stdlib_module_names:
        name = f"streamfn_app_{name}"  # WHY: `json.py` must not replace the standard library's
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(FIELD, f"`{path}` is not a Python file, name one that ends with `.py`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _nothing_at(place: str, missing: str | None) -> str:
    if Path(place).is_file():
        return f"`{place}` is not a Python file, name one that ends with `.py`, or a module"
    return f"there is no module `{missing}` in {Path.cwd()} or among what is installed"


def _why(place: str, error: BaseException) -> str:
    line = " ".join(message_of(error).split())
    cause = f"{type_of(error)}: {line}" if line else type_of(error)
    return f"`{place}` does not import ({cause}), fix what the traceback shows"


def _attribute(module: ModuleType, attribute: str, place: str) -> object:
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            apps = [name for name, value in vars(module).items() if isinstance(value, App)]
            advice = nearest(part, apps) if apps else "it has no `streamfn.App` at all"
            raise ConfigError(FIELD, f"`{place}` has no `{part}`, {advice}")
        found = getattr(found, part)
    return found


def _only_app(module: ModuleType, factory: bool) -> object:  # noqa: FBT001
    if factory or hasattr(module, "app"):
        return _attribute(module, "app", module.__name__)
    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    if len(apps) == 1:
        return next(iter(apps.values()))
    if apps:
        advice = nearest("", (f"{module.__name__}:{name}" for name in apps))
        raise ConfigError(FIELD, f"`{module.__name__}` has several apps, {advice}")
    reason = f'`{module.__name__}` has no `streamfn.App`, make one: `app = App("name")`'
    raise ConfigError(FIELD, reason)


def _made(factory: object, text: str) -> object:
    assert callable(factory)
    try:
        return factory()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(FIELD, _why(text, error)) from error
