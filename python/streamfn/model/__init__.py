"""Frozen values that the packages pass to each other; no I/O, no threads."""
