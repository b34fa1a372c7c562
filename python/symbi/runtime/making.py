"""Agents: made, known by their handles, forgotten.

Not here: deciding whether one may be (the kernel), where it lives (`workers`), ending it (`brakes`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from symbi.agents.handle import AgentHandle
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from symbi.agents.definition import AgentConfig
    from symbi.runtime import Runtime

__all__ = ["Agents"]

_log = logging.getLogger("symbi.runtime")


class Agents:
    """The agents of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._handles: dict[str, AgentHandle] = {}

    async def make(self, config: AgentConfig) -> AgentHandle:
        """As `Runtime.schedule_agent`, of its configuration."""
        runtime = self._runtime
        limits = config.limits
        held = config.reserve if config.isolation == "in_process" else limits
        choice = runtime.workers.choice(config)
        if choice is not None and choice.below_assessment:
            _log.warning(
                "`%s` runs in tier `%s`, as was asked for; its risk score of %.2f asks for `%s`",
                *(config.name, choice.tier, choice.assessment.score, choice.assessment.tier),
            )
        async with Leaving(runtime, "agents"):
            identity, seq = runtime.kernel.create_agent(
                "host",
                name=config.name,
                kind="program" if config.program else "python",
                in_process=config.isolation == "in_process",
                tier=runtime.workers.tier(config),
                capabilities=list(config.capabilities),
                labels=sorted(config.inputs),
                memory_mb=held.memory_mb,
                cpu_millicores=None if held.cpu_cores is None else round(held.cpu_cores * 1000),
                disk_io_mbps=held.disk_io_mbps,
                network_io_mbps=held.network_io_mbps,
                connections=limits.connections,
                execution_timeout_ms=(
                    None
                    if limits.execution_timeout_s is None
                    else max(1, round(limits.execution_timeout_s * 1000))
                ),
                tenant=config.tenant,
                supervision=None if config.supervision is None else config.supervision.row(),
            )
        handle = AgentHandle(identity, config)
        self._handles[identity] = handle
        try:
            await runtime.bridge.durable(seq)
            if config.isolation == "sandbox" and not config.program:
                await runtime.workers.session(handle)
        except BaseException:
            await runtime.stop_agent(handle, force=True)
            raise
        return handle

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
