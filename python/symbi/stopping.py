"""Stopping agents: the brake, and everything that must be gone afterwards.

Why: stopping is never refused, and it leaves nothing behind: no run that waits for a turn that will not come, no
worker, no coroutine that goes on.
Not here: whether an agent may be stopped (always), what its state becomes (the kernel).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from symbi.errors import AgentError, SymbiError

if TYPE_CHECKING:
    from symbi.runtime import Runtime

__all__ = ["Stopping"]


class Stopping:
    """The brake of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._agents: set[str] = set()

    def __contains__(self, agent: str) -> bool:
        """Whether the agent ends with the task that it runs."""
        return agent in self._agents

    async def stop(self, agent: str, *, force: bool, by: str) -> bool:
        """As `Runtime.stop_agent`."""
        kernel, runs = self._runtime.kernel, self._runtime.runs
        if kernel.agent_state(agent) is None:
            return True
        ending, seq, terminated, _ = kernel.stop_agent(by, agent, force)
        self._agents.add(agent)
        active = [known for run in ending if (known := runs.active.get(run)) is not None]
        for known in active:
            known.stop()
        for run in ending:
            runs.refuse_waiting(run, AgentError(f"agent {agent} was stopped", kind="stopped"))
        if terminated:
            self._agents.discard(agent)
            self._runtime.forget(agent)
            await self._runtime.workers.end(agent, force=force)
        for known in active:
            await known.gone()  # RT3
        with contextlib.suppress(SymbiError):
            await self._runtime.bridge.durable(seq)
        return terminated

    async def after_run(self, agent: str) -> None:
        """End an agent that was to stop after its task, which is over."""
        if agent in self._agents:
            await self.stop(agent, force=False, by="host")

    async def stop_all(self, by: str) -> int:
        """As `Runtime.stop_all`."""
        rows = self._runtime.kernel.list_agents()
        await asyncio.gather(*(self.stop(str(row["id"]), force=True, by=by) for row in rows))
        return len(rows)
