"""The supervisor process: starts runners, gives them lanes, ends what hangs, judges what died.

It never imports the app, and never runs user code. What runs in a runner is in `worker.runner`;
the two rooms do not import each other: they meet in `worker.messages` and on the board.
"""
