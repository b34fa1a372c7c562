"""What a fork leaves of a runtime in the child: nothing.

Why: a forked child has the parent's descriptors and objects, but none of its threads. Were it to unwind out of
`async with symbi.Runtime.open()`, it would take down the parent's sandboxes, socket and event loop; were it to record,
it would wait for threads that are not there.
Not here: agents in other processes. Those are sandboxes, and are started, not forked.

Invariants
- FK1 in the child every call on the runtime raises `RuntimeClosedError`, and closing it does nothing.
- FK2 nothing of the parent's is finalised in the child: the objects are never freed there.
- FK3 a kernel that somebody kept sends and reads no message in the child: no nonce is used by both.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING, Any

from symbi.errors import RuntimeClosedError

if TYPE_CHECKING:
    from symbi.runtime import Runtime

__all__ = ["protect"]

_open: weakref.WeakSet[Runtime] = weakref.WeakSet()
_registered = False


class _Gone:
    """Stands where the kernel was (FK1)."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeClosedError(
            "this runtime was opened before a fork: open one in this process, on its own data"
        )


def protect(runtime: Runtime) -> None:
    """From now on a fork leaves the child nothing of this runtime."""
    global _registered  # noqa: PLW0603 - a handler of `os.register_at_fork` cannot be taken back, so it is added once
    _open.add(runtime)
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    from symbi._core import forked, keep_forever

    forked()  # FK3
    for runtime in list(_open):
        keep_forever(runtime.__dict__.copy())  # FK2: not even the interpreter's end frees it
        runtime._stack = contextlib.AsyncExitStack()
        runtime._kernel = None
        for part in runtime._parts():
            part._kernel = _Gone()
    _open.clear()
