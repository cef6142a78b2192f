"""An app and its functions: how they are registered, and how a command finds them."""

from .loading import load_app
from .registration import App

__all__ = ["App", "load_app"]
