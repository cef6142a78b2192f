"""Groups of functions that share runner processes.

The functions of a group run in the same runners, and never in those of another group. Today an app
is one group. A function with its own memory limit or environment will be its own group; seats,
pool and planner support groups already.
"""

from __future__ import annotations

from typing import Final

APP_GROUP: Final = "app"
"""The group of all functions without their own group."""
