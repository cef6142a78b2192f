"""The demo `streamfn demo`: a week of real flights, a function with a bug, and its recovery.

`flights.py` reads the data, `first_try.py` is the app with the bug, `fixed.py` the one without,
`story.py` runs them on a real log with a real worker, and `screen.py` shows what happens.
"""
