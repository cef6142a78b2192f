"""Makes the calls for one batch of a lane: one class per kind of input."""
