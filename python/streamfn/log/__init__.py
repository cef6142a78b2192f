"""The log and its streams, as an application uses them.

A thin and friendly face of `streamfn._core`: words with units become values here, results become
named tuples, reading becomes iteration. The rules themselves live in the core.
"""

from .handle import Log
from .stream import Stream

__all__ = ["Log", "Stream"]
