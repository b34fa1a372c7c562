"""One timer for everybody who waits on a loop until some time.

Why: a timer of the loop for each wait costs as much as the rest of the wait, and nearly all are taken back unused.
Not here: what is waited for.

Invariants
- LT1 a future that is not done at its time fails with `TimeoutError`, not before.
- LT2 what is done is let go: at most twice as many are kept as wait, and `KEPT_MAX` besides.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

__all__ = ["Late"]

KEPT_MAX: Final = 1_024


class Late:
    """The times of one loop. All methods are called on it."""

    __slots__ = ("_bound", "_loop", "_tie", "_timer", "_times")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._times: list[tuple[float, int, asyncio.Future[Any]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tie = 0
        self._bound = KEPT_MAX

    def __len__(self) -> int:
        return len(self._times)

    def add(self, at_s: float, future: asyncio.Future[Any]) -> None:
        """Let it fail at that time of the loop, where it is not done by then."""
        self._tie += 1
        heapq.heappush(self._times, (at_s, self._tie, future))
        if self._bound < len(self._times):  # LT2
            self._times = [one for one in self._times if not one[2].done()]
            heapq.heapify(self._times)
            self._bound = KEPT_MAX + 2 * len(self._times)
        if self._timer is None or at_s < self._timer.when():
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._times:
            at_s = self._times[0][0]
            self._timer = self._loop.call_at(at_s, self._ring, at_s)

    def _ring(self, at_s: float) -> None:
        now_s = max(self._loop.time(), at_s)  # a loop calls up to its clock's resolution too early
        self._timer = None
        while self._times and (self._times[0][0] <= now_s or self._times[0][2].done()):
            future = heapq.heappop(self._times)[2]
            if not future.done():
                future.set_exception(TimeoutError())  # LT1
        self._arm()

    def close(self) -> None:
        """Nothing fails any more."""
        self._times.clear()
        self._arm()
