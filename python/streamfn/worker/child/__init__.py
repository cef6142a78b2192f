"""The child's half of a supervised process: how it starts, hears its supervisor and ends.

The supervisor's half is `worker.supervisor.child_process`. A runner is the first kind of child.
"""
