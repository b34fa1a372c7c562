"""`symbi bench`: every promised figure is a row, measured here and now, peers beside it.

`frame` runs rows, `machine` says what they ran on, `report` prints them, `suites` holds them, one module a
suite.
Not here: promises (docs), and any assertion on time: a missed target is reported as missed.
"""
