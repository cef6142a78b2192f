"""The supervisor process: starts runners, assigns lanes, kills hanging calls, handles exits.

It never imports the app and never runs user code. The code of runners is in `worker.runner`. The
two packages do not import each other; they communicate by `worker.messages` and the board.
"""
