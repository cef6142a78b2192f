"""A runner process: imports the app, holds lanes and calls the functions.

Its supervisor is in `worker.supervisor`; the two packages do not import each other.
"""
