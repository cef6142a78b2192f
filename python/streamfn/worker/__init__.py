"""Runs an app's functions: one supervisor process, and its child processes.

`supervisor/` runs in the supervisor, `runner/` in a runner, `child/` in every child process.
The modules of this folder itself are what both sides share: messages, counters, exit codes.
"""
