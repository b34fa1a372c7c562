"""One module a suite: `NAME`, `SUMMARY`, and `rows(context) -> list[Row]`. Found by being here.

A suite uses the public names, as a user would, never the native core; a peer's package is imported in its
measure.
"""
