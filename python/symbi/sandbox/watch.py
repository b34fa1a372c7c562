"""Watches what a sandbox uses while a task runs in it, and says when it comes near a limit.

Why: a limit that kills is held by the kernel; that it is about to be reached is worth a decision before. Nothing is
read while no task runs, and rarely while nothing changes.
Not here: reading (`usage`), what is done about it (`symbi.runtime.breaches`, the kernel).

Invariants
- WT1 each limit is told at most once in one watch.
- WT2 a watch that was stopped reads nothing, tells nothing and holds no timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from symbi.sandbox.base import Limit, SandboxSpec
    from symbi.sandbox.usage import Usage

__all__ = ["FAST_S", "NEAR_PERCENT", "SLOW_S", "Watch", "bounds_of"]

NEAR_PERCENT: Final = 90
"""How much of a limit is near it. The rest is time to act: at 1 GiB, 100 MiB."""

FAST_S: Final = 0.05
"""Between two readings while something changes."""

SLOW_S: Final = 2.0
"""Between two readings while nothing does."""

_CHANGE_PERCENT: Final = 1  # of a bound: less is nothing that happens

_FIGURE: Final[Mapping[Limit, str]] = {
    "memory_mb": "memory_bytes",
    "pids": "processes",
    "output_bytes": "output_bytes",
}
"""The figure of a usage that a limit bounds. Time is not among them: a clock needs no reading."""


def bounds_of(spec: SandboxSpec) -> dict[Limit, int]:
    """The limits of a sandbox that can be come near to, in the unit of their figure (bytes, processes)."""
    return {
        "memory_mb": int(spec.limits.memory_mb or 0) << 20,
        "pids": spec.pids_max,
        "output_bytes": spec.output_bytes_max,
    }


class Watch:
    """One task in one sandbox. Started when it is made, on the running loop.

    Args:
        read: What the sandbox uses now.
        bounds: By limit; see `bounds_of`.
        near: Called with limit, use and bound, both in the figure's unit, once for each limit (WT1).
    """

    def __init__(
        self,
        read: Callable[[], Usage],
        bounds: Mapping[Limit, int],
        near: Callable[[Limit, int, int], None],
    ) -> None:
        self._read = read
        self._bounds = {limit: bound for limit, bound in bounds.items() if bound > 0}
        self._near = near
        self._told: set[Limit] = set()
        self._seen: dict[Limit, int] = {}
        self._pause_s = FAST_S
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._arm()

    def stop(self) -> None:
        """End it (WT2). Twice is once."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Read once, now, and tell what is near."""
        usage = self._read()
        changed = False
        for limit, bound in self._bounds.items():
            used: int | None = getattr(usage, _FIGURE[limit])
            if used is None:
                continue
            before = self._seen.get(limit, 0)
            if abs(used - before) * 100 >= bound * _CHANGE_PERCENT:
                changed = True
                self._seen[limit] = used
            if used * 100 >= bound * NEAR_PERCENT and limit not in self._told and not self._stopped:
                self._told.add(limit)  # WT1
                self._near(limit, used, bound)
        self._pause_s = FAST_S if changed else min(SLOW_S, self._pause_s * 2)

    def _arm(self) -> None:
        if not self._stopped and self._told != self._bounds.keys():
            self._timer = self._loop.call_later(self._pause_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look()
        self._arm()
