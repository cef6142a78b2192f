"""Apps: registering functions, and loading the app that a command names."""

from .loading import load_app
from .registration import App

__all__ = ["App", "load_app"]
