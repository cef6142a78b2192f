"""Calling functions by request: through a worker of the log, or in this process."""
