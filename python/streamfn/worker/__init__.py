"""Runs an app's functions in one supervisor process and its child processes.

`supervisor/` runs in the supervisor, `runner/` in a runner, `child/` in every child process. Both
sides share the modules of this folder itself, such as messages, counters and exit codes.
"""
