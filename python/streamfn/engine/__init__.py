"""What to do with the outcome of a call: policy, without threads or sleeps of its own."""
