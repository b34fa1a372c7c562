"""The processor time of a run: read while it goes on, ended where its budgets are spent, told to the kernel.

Why: what a sandbox has used of processors its host alone can read, and no limit of the kernel's stops a task at a sum
over many tasks. So it is read, and the run is ended when a reading shows that it has taken what it was allowed.
Not here: how it is read (`symbi.sandbox.usage`), how much a run may take (the kernel), ending a run (`runs`).

Invariants
- PC1 a run is ended at the first reading at which it has used what it may; readings are at most `READ_S` apart, and
  closer where less is left, so that what it takes beyond that is of a few milliseconds, and counted.
- PC2 what cannot be read, or not any more, ends the run: it is not counted as nothing, nor as what it was last, but as
  all that was reserved for it.
- PC3 one that was stopped holds no timer; what it read last is what the run came to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from symbi.sandbox.base import Sandbox

__all__ = ["READ_S", "Spending"]

READ_S: Final = 0.05
"""Longest between two readings, about 60 µs each: a sandbox that ends by itself hides what it used since the last."""

READ_S_MIN: Final = 0.005

MISSED_MAX: Final = 2
"""Readings in a row that fail. One may: a sandbox that has just ended is unreadable too, and its end is on its way."""


class Spending:
    """Of one run in one sandbox. Reads from when it is made, on the running loop.

    Args:
        sandbox: Where it works.
        allowance_ms: What it may use; None: as much as it likes, it is only counted.
        since_start: What the sandbox has used before belongs to the run, too: it was started for it.
        over: Called once when it has used what it may.
        blind: Called once when it cannot be read.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        allowance_ms: int | None,
        *,
        since_start: bool,
        over: Callable[[], None],
        blind: Callable[[], None],
    ) -> None:
        self._sandbox = sandbox
        self._allowance_ms = allowance_ms
        self._cores = float(sandbox.spec.limits.cpu_cores or 1)
        self._over, self._blind = over, blind
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._missed = 0
        now_us = self._now_us()
        self._base_us = 0 if since_start else now_us
        self.used_ms: int | None = None
        if now_us is None:
            self.used_ms = None if since_start else 0  # its task has not begun
            blind()  # PC2
        else:
            self._tick()

    def stop(self) -> int | None:
        """The last reading, in milliseconds; None where there was none, or no more. Twice is once (PC3)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._missed < MISSED_MAX:
            self._read()
        return self.used_ms

    def _now_us(self) -> int | None:
        used = self._sandbox.usage()
        return None if used.cpu_time_stale else used.cpu_time_us

    def _read(self) -> bool:
        now_us = self._now_us()
        if now_us is None or self._base_us is None:
            return False
        self.used_ms = max(self.used_ms or 0, -(-max(0, now_us - self._base_us) // 1000))
        return True

    def _tick(self) -> None:
        self._missed = 0 if self._read() else self._missed + 1
        if self._missed >= MISSED_MAX:
            self._timer, self.used_ms = None, None
            self._blind()  # PC2
            return
        pause_s = READ_S
        if self._allowance_ms is not None:
            left_ms = self._allowance_ms - (self.used_ms or 0)
            if left_ms <= 0:
                self._timer = None
                self._over()  # PC1
                return
            pause_s = min(READ_S, max(READ_S_MIN, left_ms / 1000 / self._cores))
        self._timer = self._loop.call_later(pause_s, self._tick)
