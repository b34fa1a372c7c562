"""When the kernel's collector works: a timer that is armed only while there is garbage.

Why: the kernel knows what is over and when, and works a bounded step at a time; Python owns the loop, so it says when.
An idle runtime has no timer: nothing is due, and the kernel rings the bell when that changes.
Not here: what is collected (the kernel), whether something leaks (`leaks`).

Invariants
- CO1 between two steps at least `interval_ms` pass, so collecting takes at most a step's time of each interval.
- CO2 while nothing is due there is no timer, and after `close` there never is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from symbi._core import Kernel

__all__ = ["STEP_UNITS", "Collector"]

STEP_UNITS: Final = 128
"""Work of one step, about a microsecond a unit, measured by `symbi bench start`."""

_NS_PER_S: Final = 1_000_000_000


class Collector:
    """Of one kernel on one loop. All methods are called on that loop.

    Args:
        kernel: What is collected.
        loop: Where the timer is.
        interval_ms: Least pause between two steps, milliseconds (`runtime.gc_interval_ms`).
        after: Called after each step: a moment at which something has happened lately.
    """

    def __init__(
        self,
        kernel: Kernel,
        loop: asyncio.AbstractEventLoop,
        interval_ms: int,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._kernel = kernel
        self._loop = loop
        self._interval_s = interval_ms / 1000
        self._after = after
        self._timer: asyncio.TimerHandle | None = None
        self._earliest_s = 0.0
        self._closed = False
        self.steps = 0

    @property
    def armed(self) -> bool:
        """Whether there is a timer."""
        return self._timer is not None

    def bell(self) -> None:
        """The kernel rang: something may be due earlier than the timer, or at all."""
        in_ns = None if self._closed else self._kernel.collect_in_ns()
        if in_ns is None:
            return  # CO2; a timer that is still armed finds nothing and is the last
        at_s = max(self._loop.time() + in_ns / _NS_PER_S, self._earliest_s)  # CO1
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._step)

    def close(self) -> None:
        """No more steps (CO2). Twice is once."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _step(self) -> None:
        self._timer = None
        self._kernel.collect(STEP_UNITS)
        self.steps += 1
        self._earliest_s = self._loop.time() + self._interval_s
        self._after()
        self.bell()
