"""Which functions share runner processes.

The functions of one group run in the same runners, and never in those of another group. Today an
app is one group. A function with a memory limit or an environment of its own will be a group of
its own: seats, pool and planner know groups already.
"""

from __future__ import annotations

from typing import Final

APP_GROUP: Final = "app"
"""The group of all functions that have none of their own."""
