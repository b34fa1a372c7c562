"""What somebody is told who uses a runtime that is not open, or opens it in a way that is none.

Why apart: these are first mistakes, and each is answered by the line to write instead.
Not here: opening (`runtime`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from symbi.errors import InputError, RuntimeClosedError

__all__ = ["NOT_OPEN", "Unopened"]

_OPENING: Final = "`async with symbi.Runtime.open() as rt:`"
NOT_OPEN: Final = f"the runtime is not open: use it in {_OPENING}"
_MADE_BY_OPENING: Final = frozenset({"bus", "tools", "context", "rag", "approvals", "keys"})


class Unopened:
    """Of a runtime. It has no state."""

    if not TYPE_CHECKING:  # a checker knows better: for it these are mistakes before anything runs

        def __enter__(self):
            raise InputError(f"a runtime belongs to an event loop: write {_OPENING}")

        def __exit__(self, *_):
            pass

        def __getattr__(self, name):
            """What an opening makes is not there before it, and is said so."""
            if name in _MADE_BY_OPENING:
                raise RuntimeClosedError(NOT_OPEN)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
