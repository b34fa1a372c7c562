"""Limits while a task runs: who watches, what is reported, and what follows.

Why: the host's kernel and clock hold the limits; that one was reached, or nearly, is told to the monitor with its
numbers, and the monitor answers what follows (`limit.breach`; docs/policy.md).
Not here: holding a limit (`symbi.sandbox`), measuring (`symbi.sandbox.usage`, `watchdog`), judging (the kernel).

Invariants
- BC1 what ended a task at a limit is reported before the task is recorded as ended.
- BC2 when a task is over, nothing watches it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import AgentError, SandboxLimitError, SymbiError
from symbi.runtime.watchdog import Block, Watchdog
from symbi.status import ComponentHealth

if TYPE_CHECKING:
    from symbi.runtime import Runtime
    from symbi.runtime.active import Active
    from symbi.sandbox.base import Sandbox
    from symbi.sandbox.watch import Watch

__all__ = ["Breaches"]

_log = logging.getLogger("symbi")

LATELY_S: Final = 600.0
"""How long a blocked loop colours the health: ten minutes."""

PLACES_MAX: Final = 64
"""Places of one run that are recorded: a record each time the loop stands still would be a flood of its own."""

_UNITS: Final = {"memory_mb": "bytes", "pids": "processes", "output_bytes": "bytes", "loop_block_ms": "ms"}


class Breaches:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._watched: dict[str, tuple[Watch, Sandbox]] = {}
        self._blocked_at: dict[str, set[str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchdog: Watchdog | None = None
        self._last_block: tuple[float, str] | None = None

    def open(self) -> None:
        """On the loop that the agents will run on."""
        self._loop = asyncio.get_running_loop()
        threshold_ms = self._runtime.config.runtime.loop_block_ms
        self._watchdog = Watchdog(self._loop, threshold_ms, self._blocked)

    def close(self) -> None:
        """Nothing watches any more."""
        for watch, _ in self._watched.values():
            watch.stop()
        self._watched.clear()
        if self._watchdog is not None:
            self._watchdog.close()

    @property
    def watched(self) -> int:
        """How many tasks are watched in their sandboxes."""
        return len(self._watched)

    # A run's way

    def watch(self, active: Active, sandbox: Sandbox) -> None:
        """A task begins in this sandbox."""
        from symbi.sandbox.watch import Watch, bounds_of

        def near(limit: str, used: int, bound: int) -> None:
            self._report(active, limit, used, bound, hard=False)

        self._watched[active.run] = (Watch(sandbox.usage, bounds_of(sandbox.spec), near), sandbox)

    def guard_loop(self, active: Active) -> None:
        """A task begins in this process, in the current asyncio task."""
        if self._watchdog is not None:
            self._watchdog.enter(active.run, active.agent.id, active.agent.name)

    def out_of_time(self, active: Active) -> None:
        """It used up its `execution_timeout_s`, and is ended now (BC1)."""
        bound_ms = round((active.agent.config.limits.execution_timeout_s or 0) * 1000)
        self._report(active, "execution_timeout_ms", bound_ms, bound_ms, hard=True)

    def over(self, active: Active) -> None:
        """The task is over, and about to be recorded (BC1, BC2)."""
        if self._watchdog is not None:
            self._watchdog.leave(active.run)
        self._blocked_at.pop(active.run, None)
        watched = self._watched.pop(active.run, None)
        if watched is None:
            return
        watch, sandbox = watched
        watch.stop()
        error = active.error
        if active.ending is None and isinstance(error, SandboxLimitError):
            used, bound = _figures(sandbox, error.limit)
            self._report(active, error.limit, used, bound, hard=True)

    # What follows

    def _report(self, active: Active, limit: str, used: int, bound: int, *, hard: bool) -> None:
        try:
            verdict, _, moves = self._runtime.kernel.report_breach(
                active.agent.id, active.run, limit, used, bound, hard
            )
        except SymbiError:  # its agent is gone: nothing is left to judge
            return
        if not hard:
            self._follow(active, limit, (used, bound), verdict, moves)

    def _follow(self, active: Active, limit: str, figures: tuple[int, int], verdict: str, moves: Any) -> None:
        if verdict == "suspended":
            self._runtime.moves.apply(moves)
        elif verdict == "ended":
            used, bound = figures
            text = f"`{active.agent.name}` used {used} of {bound} {_UNITS[limit]} (`{limit}`), and policy ended it"
            error: SymbiError
            if active.agent.config.isolation == "in_process":
                error = AgentError(text, kind=limit)
            else:
                error = SandboxLimitError(text, limit=limit)
            self._runtime.runs.end(active, ("failed", limit, text), error)

    def _blocked(self, block: Block) -> None:
        """On the watchdog's thread, while the loop stands still."""
        self._last_block = (time.monotonic(), block.place)
        who = f"`{block.name}`" if block.name else "an in-process agent"
        if block.first:
            _log.warning(
                "%s has held up the event loop for %d ms, and every other agent with it; nothing may block there: "
                "await, or use `asyncio.to_thread`, or run it in a sandbox. It stands at\n%s",
                who,
                block.blocked_ms,
                block.stack,
            )
        if not block.run:
            return
        places = self._blocked_at.setdefault(block.run, set())
        if block.place in places or len(places) >= PLACES_MAX:
            return
        places.add(block.place)
        bound_ms = self._runtime.config.runtime.loop_block_ms
        with contextlib.suppress(SymbiError):  # the runtime is closing
            verdict, _, moves = self._runtime.kernel.report_breach(
                block.agent, block.run, "loop_block_ms", block.blocked_ms, bound_ms, False, block.stack
            )
            if verdict != "tolerated" and self._loop is not None:
                self._loop.call_soon_threadsafe(
                    self._after_block, block.run, (block.blocked_ms, bound_ms), verdict, moves
                )

    def _after_block(self, run: str, figures: tuple[int, int], verdict: str, moves: Any) -> None:
        """On the loop again."""
        active = self._runtime.runs.active.get(run)
        if active is not None:
            self._follow(active, "loop_block_ms", figures, verdict, moves)

    # Health

    def health(self) -> ComponentHealth:
        """Whether the loop stood still lately."""
        watchdog, last = self._watchdog, self._last_block
        if watchdog is None or last is None or time.monotonic() - last[0] > LATELY_S:
            return ComponentHealth("green")
        return ComponentHealth(
            "yellow",
            f"in-process agents held up the event loop {watchdog.blocks} times, at the longest "
            f"{watchdog.longest_ms} ms, last at {last[1]}",
        )


def _figures(sandbox: Sandbox, limit: str) -> tuple[int, int]:
    """What was used and what was allowed, as far as it could still be read."""
    used, spec = sandbox.usage(), sandbox.spec
    memory = used.memory_peak_bytes, int(spec.limits.memory_mb or 0) << 20
    time_ms = round((spec.limits.execution_timeout_s or 0) * 1000)
    known = {
        "memory_mb": memory,
        "pids": (used.processes, spec.pids_max),
        "output_bytes": (used.output_bytes, spec.output_bytes_max),
        "execution_timeout_ms": (time_ms, time_ms),
    }
    figure, bound = known[limit]
    return figure or 0, bound
