"""Agents: made, known by their handles, forgotten.

Not here: deciding whether one may be (the kernel), where it lives (`workers`), ending it (`brakes`).

Invariants
- MK1 agents that are asked for together are all made, with their workers ready, or none is left of them.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.handle import AgentHandle
from symbi.errors import InputError
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from symbi.agents.definition import AgentConfig
    from symbi.runtime import Runtime

__all__ = ["Agents", "handle_of"]

CHUNK: Final = 256
"""Agents that are made in one crossing: a few milliseconds, then the loop goes round."""

WORKERS_AT_ONCE: Final = 8
"""Sandboxes that start side by side: more of them take longer each, and starve the rest of the machine."""

_log = logging.getLogger("symbi.runtime")


def handle_of(agent: object) -> AgentHandle:
    """What `run_many` takes.

    Raises:
        InputError: not a handle; the text says which line makes one.
    """
    if isinstance(agent, AgentHandle):
        return agent
    raise InputError(
        f"a {type(agent).__name__} is not a scheduled agent: `agents = await rt.schedule_agents([…])`, then run these"
    )


class Agents:
    """The agents of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._handles: dict[str, AgentHandle] = {}

    async def make(self, configs: list[AgentConfig]) -> list[AgentHandle]:
        """As `Runtime.schedule_agents`, of their configurations (MK1)."""
        runtime = self._runtime
        made: list[AgentHandle] = []
        seq = None
        try:
            for _, group in groupby(configs, key=id):
                alike = list(group)
                shape = self._shape(alike[0])
                for first in range(0, len(alike), CHUNK):
                    if made:
                        await asyncio.sleep(0)
                    some = alike[first : first + CHUNK]
                    ids, seq = await runtime.approvals.after(partial(self._create, shape, len(some)), None)
                    handles = [AgentHandle(identity, some[0]) for identity in ids]
                    made += handles
                    self._handles.update(zip(ids, handles, strict=True))
            await runtime.bridge.durable(seq)
            await self._house(
                [one for one in made if one.config.isolation == "sandbox" and not one.config.program]
            )
        except BaseException:
            await asyncio.gather(*(runtime.stop_agent(one, force=True) for one in made))
            raise
        return made

    async def _create(self, shape: dict[str, Any], count: int) -> tuple[list[str], int]:
        async with Leaving(self._runtime, "agents"):
            return self._runtime.kernel.create_agents("host", **shape, count=count)

    def _shape(self, config: AgentConfig) -> dict[str, Any]:
        """An agent of this configuration, as the kernel takes it."""
        workers, limits = self._runtime.workers, config.limits
        held = workers.held(config)
        choice = workers.choice(config)
        if choice is not None and choice.below_assessment:
            _log.warning(
                "`%s` runs in tier `%s`, as was asked for; its risk score of %.2f asks for `%s`",
                *(config.name, choice.tier, choice.assessment.score, choice.assessment.tier),
            )
        timeout_s = limits.execution_timeout_s
        return {
            "name": config.name,
            "kind": "program" if config.program else "python",
            "in_process": config.isolation == "in_process",
            "tier": workers.tier(config),
            "assessed": None if choice is None else str(choice.assessment.tier),
            "capabilities": list(config.capabilities),
            "labels": sorted(config.inputs),
            "memory_mb": held.memory_mb,
            "cpu_millicores": None if held.cpu_cores is None else round(held.cpu_cores * 1000),
            "disk_io_mbps": held.disk_io_mbps,
            "network_io_mbps": held.network_io_mbps,
            "connections": limits.connections,
            "execution_timeout_ms": None if timeout_s is None else max(1, round(timeout_s * 1000)),
            "tenant": config.tenant,
            "supervision": None if config.supervision is None else config.supervision.row(),
        }

    async def _house(self, agents: list[AgentHandle]) -> None:
        """Start their workers; the first that does not start is raised when none is under way any more."""
        room = asyncio.Semaphore(WORKERS_AT_ONCE)

        async def start(agent: AgentHandle) -> None:
            async with room:
                await self._runtime.workers.session(agent)

        if len(agents) == 1:
            await self._runtime.workers.session(agents[0])
        elif agents:
            starts = [asyncio.ensure_future(start(agent)) for agent in agents]
            try:
                await asyncio.gather(*starts)
            except BaseException:
                for one in starts:
                    one.cancel()
                await asyncio.gather(*starts, return_exceptions=True)
                raise

    def knows(self, agent: str) -> bool:
        """Whether it is there."""
        return agent in self._handles

    def handle(self, agent: str) -> AgentHandle | None:
        """The agent of this id, while it is there."""
        return self._handles.get(agent)

    def forget(self, agent: str) -> None:
        """It is terminated."""
        self._handles.pop(agent, None)

    @property
    def ids(self) -> set[str]:
        """Of all that are there."""
        return set(self._handles)
