"""Where agents live that do not live in the host's process: sandboxes, and the workers in them.

Why: an agent's worker is started when the agent is scheduled, serves its runs one after the other, and is replaced when
it has ended.
Invariants
- WO1 a sandbox that is given up is frozen first; removing it goes on in the background, and `end` waits for that.

Not here: starting sandboxes (`symbi.sandbox`), the worker's pipe (`symbi.agents.session`), whose turn it is
(`runs`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from symbi.agents.definition import declared
from symbi.errors import LifecycleError, SymbiError, SymbiTimeoutError
from symbi.runtime.leaving import Leaving

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from symbi._core import Permit
    from symbi.agents.definition import AgentConfig
    from symbi.agents.handle import AgentHandle
    from symbi.agents.session import Session
    from symbi.limits import ResourceLimits
    from symbi.runtime import Runtime
    from symbi.sandbox.base import Sandbox
    from symbi.sandbox.orchestrator import Orchestrator
    from symbi.sandbox.risk import TierChoice
    from symbi.sandbox.usage import Usage

__all__ = ["Workers"]

TEXT_CHARS_MAX = 4_096  # of an error's text in the record, sealed
PRINTED_MAX = 16  # ended workers whose last words are kept, 64 KiB each
FREEZE_S = 2.0  # freezing takes 10 to 40 ms; a daemon that does not answer does not keep the caller


class Workers:
    """The sandboxes of one runtime, by agent."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sessions: dict[str, Session] = {}
        self._programs: dict[str, Sandbox] = {}
        self._orchestrator: Orchestrator | None = None
        self._printed: dict[str, bytes] = {}  # of workers that ended, the last few
        self._removing: dict[str, list[asyncio.Task[Any]]] = {}
        self._opening = asyncio.Lock()

    def tier(self, config: AgentConfig) -> str:
        """The tier that an agent of this configuration runs in."""
        choice = self.choice(config)
        return "degraded" if choice is None else str(choice.tier)

    def choice(self, config: AgentConfig) -> TierChoice | None:
        """How that tier was chosen; None for an agent in the host's process."""
        if config.isolation == "in_process":
            return None
        from symbi.agents.launch import tier_of
        from symbi.sandbox.base import SecurityTier

        return tier_of(config, SecurityTier.parse(self._runtime.config.security.default_sandbox_tier))

    def held(self, config: AgentConfig) -> ResourceLimits:
        """What a run of such an agent reserves.

        In this process: what it asked for with `reserve`. In a sandbox: its limits, and the memory that it gets where
        it names none, for memory is not shared. The processor is: its default ceiling of one core reserves nothing.
        """
        if config.isolation == "in_process":
            return config.reserve
        from symbi.sandbox.base import fill_limits

        return replace(config.limits, memory_mb=fill_limits(config.limits).memory_mb)

    def houses(self, agent: str) -> bool:
        """Whether it lives in a sandbox now, or one of it is being removed."""
        return agent in self._sessions or agent in self._programs or agent in self._removing

    async def session(self, agent: AgentHandle, wait_s: float | None = None) -> Session:
        """The agent's worker, started anew where the last one has ended. `wait_s`: as `sandbox`."""
        known = self._sessions.get(agent.id)
        if known is not None and known.alive:
            return known
        from symbi.agents.session import Session

        sandbox = await self.sandbox(agent, wait_s)
        declares = declared(agent.config) if agent.config.entry is not None else None
        session = Session(sandbox, agent.id, agent.name, self._runtime.dispatcher, declares)
        self._sessions[agent.id] = session
        await session.ready()
        return session

    async def program(self, agent: AgentHandle, wait_s: float | None = None) -> Sandbox:
        """A sandbox with the agent's program in it, this one run's own. `wait_s`: as `sandbox`."""
        sandbox = self._programs[agent.id] = await self.sandbox(agent, wait_s)
        return sandbox

    async def sandbox(self, agent: AgentHandle, wait_s: float | None = None) -> Sandbox:
        """A sandbox of the agent's tier, decided, recorded, started and verified.

        Where policy wants persons to agree, it waits for them, `wait_s` seconds at most; None: until they have decided.
        """
        from symbi.agents.launch import spec_of
        from symbi.sandbox.base import SecurityTier, spec_to_bytes

        orchestrator = await self.open()
        tier = SecurityTier.parse(self.tier(agent.config))
        hidden = (str(self._runtime.data.resolve()),)
        spec = spec_of(agent.config, tier, agent.id, orchestrator.owner.instance, hidden)

        async def ask() -> Permit:
            if not self._runtime.takes_runs(agent.id):  # it may have been stopped while persons were asked
                raise LifecycleError(f"`{agent.name}` is stopped, or about to be: schedule it anew")
            async with Leaving(self._runtime, "sandbox") as leaving:
                permit = self._runtime.kernel.begin_sandbox(
                    "host",
                    spec_to_bytes(spec),
                    tier=str(tier),
                    network=False,
                    writable=spec.writable,
                    agent=agent.id,
                )
                leaving.seq = permit.intent_seq
            return permit

        permit = await self._runtime.approvals.after(ask, wait_s)
        try:
            sandbox = await orchestrator.start(permit, spec)
        except BaseException as error:
            code = error.code if isinstance(error, SymbiError) else type(error).__name__
            permit.settle("failed", code, str(error)[:TEXT_CHARS_MAX])
            self._runtime.faults.note("sandbox", code)
            raise
        permit.settle("done")
        sandbox.arm(None)
        return sandbox

    def facts(self, agent: str) -> Any:
        """What was verified about the agent's sandbox, or None where it has none now."""
        session = self._sessions.get(agent)
        if session is not None:
            return session.sandbox.facts
        program = self._programs.get(agent)
        return None if program is None else program.facts

    def usage(self, agent: str) -> Usage | None:
        """What the agent's sandbox uses, or None where it has none now."""
        session = self._sessions.get(agent)
        sandbox = self._programs.get(agent) if session is None else session.sandbox
        return None if sandbox is None else sandbox.usage()

    def usages(self) -> list[Usage]:
        """What each sandbox uses. Cost: about 60 µs each."""
        return [
            *(session.sandbox.usage() for session in self._sessions.values()),
            *(program.usage() for program in self._programs.values()),
        ]

    @property
    def count(self) -> int:
        """How many sandboxes there are, those included that are being removed."""
        removing = sum(len(removals) for removals in self._removing.values())
        return len(self._sessions) + len(self._programs) + removing

    def printed(self, agent: str) -> str:
        """The last that the agent's worker wrote to its stderr, where also goes what it prints; 64 KiB at most."""
        session = self._sessions.get(agent)
        tail = self._printed.get(agent, b"") if session is None else session.sandbox.stderr_tail()
        return tail.decode("utf-8", "replace")

    async def end_program(self, agent: str) -> None:
        """End the sandbox of the agent's program, where there is one."""
        program = self._programs.pop(agent, None)
        if program is not None:
            await program.stop(force=True)

    async def abandon(self, agent: str) -> None:
        """Give up whatever the agent lives in, while it works. Returns when it stands still (WO1)."""
        session, program = self._sessions.pop(agent, None), self._programs.pop(agent, None)
        if session is not None:
            await self._freeze(session.sandbox)
            self._keep_printed(agent, session)
            self._remove(agent, session.close(force=True))
        if program is not None:
            await self._freeze(program)
            self._remove(agent, program.stop(force=True))

    async def end(self, agent: str, *, force: bool) -> None:
        """End whatever the agent lives in, and wait until it is gone."""
        session = self._sessions.pop(agent, None)
        if session is not None:
            await session.close(force=force)
            self._keep_printed(agent, session)
        await self.end_program(agent)
        await asyncio.gather(*self._removing.get(agent, ()), return_exceptions=True)

    def _keep_printed(self, agent: str, session: Session) -> None:
        self._printed.pop(agent, None)
        self._printed[agent] = session.sandbox.stderr_tail()
        if len(self._printed) > PRINTED_MAX:
            del self._printed[next(iter(self._printed))]

    async def _freeze(self, sandbox: Sandbox) -> None:
        try:
            async with asyncio.timeout(FREEZE_S):
                await sandbox.halt()
        except (SymbiError, TimeoutError) as error:  # then its removal alone ends it
            self._runtime.faults.note("sandbox", getattr(error, "code", SymbiTimeoutError.code))

    def _remove(self, agent: str, removal: Coroutine[Any, Any, Any]) -> None:
        task = self._runtime.runs.in_background(removal)
        known = self._removing.setdefault(agent, [])
        known.append(task)

        def gone(ended: asyncio.Task[Any]) -> None:
            known.remove(ended)
            if not known and self._removing.get(agent) is known:
                del self._removing[agent]
            if not ended.cancelled() and (error := ended.exception()) is not None:
                self._runtime.faults.note("sandbox", getattr(error, "code", type(error).__name__))

        task.add_done_callback(gone)

    @property
    def marker(self) -> Path:
        """There while this runtime has sandboxes: found at an opening, the last one was killed with them."""
        return self._runtime.data / "sandboxed"

    async def open(self) -> Orchestrator:
        """The orchestrator, made when the first sandbox is needed; making it reaps what a killed runtime left."""
        async with self._opening:  # two agents at once, one orchestrator
            if self._orchestrator is None:
                self._orchestrator = await self._made()
            return self._orchestrator

    async def _made(self) -> Orchestrator:
        from symbi.sandbox.orchestrator import Orchestrator
        from symbi.sandbox.reaper import Owner

        data = self._runtime.data.resolve()
        made = Orchestrator(
            Owner.current(data), mode=self._runtime.config.runtime.mode, protected=(str(data),)
        )
        await made.open()
        self.marker.touch()
        closing = self._runtime.closing
        closing.callback(self.marker.unlink, missing_ok=True)
        closing.push_async_callback(made.close)
        # Sandboxes end before their backend: agents were pushed earlier, so they are ended here once more.
        closing.push_async_callback(self._runtime.stop_all)
        return made
