"""What the kernel says is to happen now: runs that start, that are to stand still, that go on.

Why: every call that may change who runs answers with three lists of runs; here they become coroutines that are
stepped, gates that close and gates that open. What time alone changes is asked for once, at the moment the kernel
names: there is no tick.
Not here: choosing (the kernel), standing still (`holding`), running (`runs`).

Invariants
- MV2 an agent that a refusal holds or ends is held before it hears of the refusal.
- MV1 at most one timer is armed, and none where the kernel waits for no time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING

from symbi.errors import SymbiError

if TYPE_CHECKING:
    from symbi.runtime import Runtime

__all__ = ["Move", "Moves"]

Move = tuple[list[str], list[str], list[str]]
"""Run ids: those that start, those that are to stand still, those that go on."""


class Moves:
    """Carries out, for one runtime, what its kernel decided."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queue: deque[Move] = deque()
        self._applying = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0

    def apply(self, moves: Move) -> None:
        """Carry out one answer, and whatever follows from it."""
        self._queue.append(moves)
        if self._applying:  # a run that stands still at once answers with more
            return
        self._applying = True
        try:
            while self._queue:
                self._carry_out(*self._queue.popleft())
        finally:
            self._applying = False
        self._arm()

    def stood(self, run: str) -> None:
        """The run stands still now: what it gave back may go to others."""
        with contextlib.suppress(SymbiError):  # it ended meanwhile
            self.apply(self._runtime.kernel.run_suspended(run))

    def heed(self) -> None:
        """What the kernel decided by itself: it rang, or it has just refused something (MV2)."""
        kernel = self._runtime.kernel
        if kernel.has_untold():
            self.apply(kernel.tick())
            for agent in kernel.take_condemned():
                brakes = self._runtime.brakes
                self._runtime.runs.in_background(brakes.stop(agent, force=True, by="host"))

    def close(self) -> None:
        """Let go of the loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carry_out(self, start: list[str], suspend: list[str], resume: list[str]) -> None:
        active = self._runtime.runs.active
        for run in suspend:
            if (known := active.get(run)) is not None:
                known.gate.ask()
        for run in resume:
            if (known := active.get(run)) is not None:
                with contextlib.suppress(SymbiError):  # it ended meanwhile
                    self._runtime.kernel.run_resumed(
                        run
                    )  # first: what it asks for next is asked by one that runs
                known.gate.release()
        for run in start:
            if (known := active.get(run)) is not None:
                known.start()

    def _arm(self) -> None:
        at_ns = self._runtime.kernel.wake_at_ns()
        if at_ns is None:
            self.close()
        elif self._timer is None or at_ns != self._timer_ns:
            self.close()
            self._timer_ns = at_ns
            delay_s = max(0.0, (at_ns - monotonic_ns()) / 1e9)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.apply(self._runtime.kernel.tick())
