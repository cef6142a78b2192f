"""A week of real flights, a real bug, and a real recovery: what `streamfn demo` runs.

`flights.py` reads the data, `first_try.py` is the app with the bug, `fixed.py` the one without,
`story.py` runs them on a real log with a real worker, and `screen.py` shows what happens.
"""
