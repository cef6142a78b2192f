"""The child's half of a supervised process: start, messages to the supervisor, exit.

The supervisor's half is `worker.supervisor.child_process`. A runner is the first kind of child.
"""
