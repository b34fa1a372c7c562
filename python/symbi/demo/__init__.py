"""`symbi demo`: the product in one minute, on bundled files or the user's own; no key, no network.

A user of the public names like any other: what it does, a program can do. `flow` is the story; the rest is what
it needs to be told.
"""
