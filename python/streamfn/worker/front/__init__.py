"""The process of a front: no code of ours in Python but what starts it."""
