"""The log and its streams, as applications use them.

A thin layer over `streamfn._core`: strings with units become values, results become named tuples,
and shard readers become iterators. The core enforces the rules.
"""

from .handle import Log
from .stream import Stream

__all__ = ["Log", "Stream"]
