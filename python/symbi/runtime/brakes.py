"""The brakes: stopping agents, and holding them.

Why: a brake is never refused, and it leaves nothing behind: no run that waits for a turn that will not come, no
worker, no coroutine that goes on.
Not here: what the state of an agent becomes (the kernel), how a run ends (`runs`) or stands (`holding`).

Invariants
- BK1 a stop that has begun is carried through, whether or not its caller waits for it.
- BK2 a graceful stop with a grace is a forced one after it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from symbi.errors import InputError, LifecycleError, SymbiError

if TYPE_CHECKING:
    from symbi.runtime import Runtime
    from symbi.runtime.active import Active

__all__ = ["GRACE_S_MAX", "Brakes"]

GRACE_S_MAX = 86_400.0
GONE_S = 20.0  # how long a stop waits for what it ended; removing goes on afterwards


class Brakes:
    """The brakes of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stopping: dict[str, asyncio.TimerHandle | None] = {}

    def is_stopping(self, agent: str) -> bool:
        """Whether the agent ends with the task that it runs."""
        return agent in self._stopping

    async def stop(self, agent: str, *, force: bool, by: str, grace_s: float | None = None) -> bool:
        """As `Runtime.stop_agent`."""
        if grace_s is not None and not 0 <= grace_s <= GRACE_S_MAX:
            raise InputError(f"a grace is 0 to {GRACE_S_MAX:.0f} seconds, and is {grace_s}")
        kernel, runs = self._runtime.kernel, self._runtime.runs
        if kernel.agent_state(agent) is None:
            return True
        ending, seq, terminated, moves = kernel.stop_agent(by, agent, force)
        self._stopping.setdefault(agent, None)
        ended = [active for run in ending if (active := runs.active.get(run)) is not None]
        for active in ended:
            runs.stop(active, by)
        for run in ending:
            runs.resting.stop(run)
        self._runtime.moves.apply(moves)
        if terminated:
            timer = self._stopping.pop(agent)
            if timer is not None:
                timer.cancel()
            self._runtime.forget(agent)
            if ended or self._runtime.workers.houses(agent):
                await asyncio.shield(runs.in_background(self._clear_away(agent, ended, force=force)))
        elif grace_s is not None:
            self._arm(agent, grace_s, by)
        with contextlib.suppress(SymbiError):  # it is stopped, whatever the log does
            await self._runtime.bridge.durable(seq)
        return terminated

    async def stop_all(self, by: str) -> int:
        """As `Runtime.stop_all`."""
        rows = self._runtime.kernel.list_agents()
        await asyncio.gather(*(self.stop(str(row["id"]), force=True, by=by) for row in rows))
        return len(rows)

    def after_run(self, agent: str) -> asyncio.Task[bool] | None:
        """End an agent that was to stop after its task, which is over; the task that does."""
        if agent not in self._stopping:
            return None
        return self._runtime.runs.in_background(self.stop(agent, force=False, by="host"))

    async def suspend(self, agent: str, *, by: str, cause: str) -> bool:
        """As `Runtime.suspend_agent`."""
        try:
            seq, moves = self._runtime.kernel.suspend_agent(by, agent, cause)
        except LifecycleError as error:
            state = self._runtime.kernel.agent_state(agent)
            text = f"agent {agent} is `{state}`: it has no task to hold; stopping it keeps new ones from starting"
            raise LifecycleError(text) from error
        self._runtime.moves.apply(moves)
        running = [active for active in self._runtime.runs.of_agent(agent) if active.started]
        for active in running:
            await active.gate.settled()
        with contextlib.suppress(SymbiError):  # it is held, whatever the log does
            await self._runtime.bridge.durable(seq)
        return all(active.gate.standing or active.run not in self._runtime.runs.active for active in running)

    async def resume(self, agent: str, *, by: str) -> None:
        """As `Runtime.resume_agent`."""
        try:
            seq, moves = self._runtime.kernel.resume_agent(by, agent)
        except LifecycleError as error:
            state = self._runtime.kernel.agent_state(agent)
            raise LifecycleError(
                f"agent {agent} is `{state}`, not suspended: there is nothing to resume"
            ) from error
        self._runtime.moves.apply(moves)
        await self._runtime.bridge.durable(seq)

    def close(self) -> None:
        """Let go of the loop."""
        for timer in self._stopping.values():
            if timer is not None:
                timer.cancel()
        self._stopping.clear()

    def _arm(self, agent: str, grace_s: float, by: str) -> None:
        """BK2. A later stop may shorten what an earlier one left, and never lengthens it."""
        loop = asyncio.get_running_loop()
        known = self._stopping[agent]
        if known is not None:
            if known.when() <= loop.time() + grace_s:
                return
            known.cancel()
        self._stopping[agent] = loop.call_later(grace_s, self._force, agent, by)

    def _force(self, agent: str, by: str) -> None:
        self._stopping[agent] = None
        self._runtime.runs.in_background(self.stop(agent, force=True, by=by))

    async def _clear_away(self, agent: str, ended: list[Active], *, force: bool) -> None:
        """BK1, RT3: nothing of it is left, or it is on its way out."""
        mine = asyncio.current_task()
        for active in ended:
            if active.ending is not None and active.ending is not mine:
                await asyncio.wait([active.ending], timeout=GONE_S)
        await self._runtime.workers.end(agent, force=force)
