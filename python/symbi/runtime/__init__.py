"""The runtime and its rooms: what opens, schedules, runs, holds and ends agents in this process.

`Runtime` is the only name for users; it is imported when it is first used, so that a module that needs one room (a
gate, an error's shape) does not load the whole house.
Not here: deciding (the kernel), agents' own side (`symbi.agents`), the socket for operators (`symbi.control`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbi.runtime.runtime import Runtime as Runtime

__all__ = ["Runtime"]


def __getattr__(name: str) -> object:
    if name != "Runtime":
        raise AttributeError(f"module 'symbi.runtime' has no attribute {name!r}")
    from symbi.runtime.runtime import Runtime

    globals()[name] = Runtime
    return Runtime
