"""The calls that one batch of a lane takes: a class for each kind of input."""
