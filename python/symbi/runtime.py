"""The runtime: open one, schedule agents, run them.

    async with symbi.Runtime.open() as rt:
        agent = await rt.schedule_agent(triage)
        result = await rt.run(agent, {"ticket": {...}})

Why: the native kernel decides and records; Python owns the event loop, the sandboxes and the tools. This file joins
them and holds no rule of its own.
Not here: deciding (the kernel), starting sandboxes (`symbi.sandbox`), calling tools (`symbi.tools`), the command line.

Invariants
- RT1 an agent's code runs after its run was decided, recorded and given its resources.
- RT2 a result is handed to the host after its outcome is on disk.
- RT3 closing ends every agent and sandbox; nothing is left running, nothing is left on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from symbi.agents.definition import definition_of
from symbi.agents.dispatch import Dispatcher
from symbi.agents.handle import AgentHandle
from symbi.bridge import Bridge
from symbi.bus import Bus
from symbi.context import Knowledge, Rag
from symbi.errors import PolicyError, RuntimeClosedError
from symbi.forked import protect
from symbi.leaving import Faults, Leaving
from symbi.runs import PRIORITY_NORMAL, Runs, check
from symbi.status import HealthStatus, SystemStatus, health_status, system_status
from symbi.stopping import Stopping
from symbi.tools.caller import ToolCaller
from symbi.tools.guarding import guarded
from symbi.workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from symbi._core import Kernel
    from symbi.config import Config
    from symbi.control import ControlServer

__all__ = ["Runtime"]

Mode = Literal["production", "development"]


class _Tools:
    """`rt.tools`: call a tool on behalf of an agent whose handle one holds."""

    def __init__(self, caller: ToolCaller, dispatcher: Dispatcher) -> None:
        self._caller = caller
        self._dispatcher = dispatcher
        self.register = caller.register
        self.call_definition = caller.call_definition

    async def call(
        self,
        agent: AgentHandle,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        parts: Iterable[Any] = (),
    ) -> Any:
        """Call the tool `name`. Raises `PolicyDenied`, `ToolError`."""
        shape = {"name": name, "arguments": arguments or {}, "parts": list(parts)}
        return await self._dispatcher.call(agent.id, "tools.call", shape)


class Runtime:
    """A runtime of this process. Make one with `Runtime.open`.

    Attributes:
        data: The data directory.
        config: The settings in force.
        opened: What the opening found: `log_id`, `fingerprint`, `created`, `unknown`, `trail`, …
        bus, tools, context, rag: Views on the kernel, for the host.
        runs, workers, stopping, faults: The rooms of this house, for its own modules.
    """

    bus: Bus
    tools: _Tools
    context: Knowledge
    rag: Rag

    def __init__(self, config: Config, data: Path, policy: tuple[Path, ...] | None) -> None:
        self.config = config
        self.data = data
        self.opened: dict[str, Any] = {}
        self._policy = policy
        self._kernel: Kernel | None = None
        self._bridge: Bridge | None = None
        self._dispatcher: Dispatcher | None = None
        self._caller: ToolCaller | None = None
        self._control: ControlServer | None = None
        self._handles: dict[str, AgentHandle] = {}
        self._stack = contextlib.AsyncExitStack()
        self.faults = Faults()
        self.workers = Workers(self)
        self.runs = Runs(self)
        self.stopping = Stopping(self)

    @classmethod
    def open(
        cls,
        config: Config | Path | str | None = None,
        *,
        data: Path | str = ".symbi",
        mode: Mode | None = None,
        policy: Iterable[Path | str] | Path | str | None = None,
    ) -> Self:
        """A runtime on a data directory. Use it with `async with`.

        Args:
            config: A `Config`, a TOML file, or None for defaults and environment.
            data: The data directory; made 0700, and it hides itself from git.
            mode: `production` (the default) or `development`; None leaves it to the configuration.
            policy: Policy files or directories; None means those of the configuration, and where it names none, the
                built-in `secure-default`: agents and messages between them, nothing external.

        Raises:
            ConfigError: a setting that cannot be applied.
        """
        from symbi.config import Config as Settings

        overrides = {} if mode is None else {"runtime.mode": mode}
        settings = (
            config.with_overrides(overrides)
            if isinstance(config, Settings)
            else Settings.load(config, overrides=overrides)  # at once: what a file says may need the mode
        )
        if not isinstance(config, Settings):  # who loaded it says what must be said aloud
            for warning in settings.warnings:
                print(f"symbi: warning: {warning}", file=sys.stderr)
        if policy is None:
            paths = tuple(settings.policy.paths) or None
        else:
            paths = (
                (Path(policy),) if isinstance(policy, Path | str) else tuple(Path(path) for path in policy)
            )
        return cls(settings, Path(data), paths)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self) -> None:
        from symbi._core import Kernel
        from symbi.control import ControlServer
        from symbi.policy.archive import keep
        from symbi.policy.sources import read_policies

        texts = None if self._policy is None else read_policies(self._policy)
        security, settings = self.config.security, self.config.runtime
        trail = self.config.audit.storage
        if not security.audit_enabled:
            # Development only: the monitor cannot work without a log, so it gets one that is thrown away.
            trail = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="symbi-trail-")))
        kernel = await asyncio.to_thread(
            Kernel.open,
            self.data,
            trail=trail,
            sources=None if texts is None else list(texts.sources),
            counters=[] if texts is None else list(texts.counters),
            enforce=security.enforce_policies,
            provider=security.crypto_provider,
            signers=settings.scheduler_threads,
            memory_mb=_memory_mb(),
            cpu_millicores=(os.cpu_count() or 1) * 1000,
            sandboxes=256,
            agents_max=settings.max_concurrent_agents,
            mailbox_bytes_max=settings.message_buffer_size,
        )
        self._kernel = kernel
        self._stack.callback(kernel.close)
        if problems := kernel.policy_problems():
            raise PolicyError(problems)
        await asyncio.to_thread(keep, self.data, kernel.policy_digest(), texts)
        self.opened = dict(kernel.opened)
        self._bridge = Bridge(kernel, asyncio.get_running_loop())
        self._stack.callback(self._bridge.close)
        caller = ToolCaller(kernel, self._bridge)
        self._dispatcher = Dispatcher(kernel, self._bridge, caller)
        self.bus = Bus(kernel, self._dispatcher)
        self.tools = _Tools(caller, self._dispatcher)
        self.context = Knowledge(kernel, self._bridge, self._dispatcher)
        self.rag = Rag(self._dispatcher)
        self._caller = caller
        protect(self)
        self._control = await ControlServer.start(self)
        self._stack.push_async_callback(self._control.close)
        self._stack.push_async_callback(self.stop_all)
        if self.workers.marker.exists():
            await self.workers.open()  # its opening reaps what was left

    async def close(self) -> None:
        """End everything and close the trail (RT3). Twice is once."""
        await self._stack.aclose()
        self._kernel = None

    @property
    def kernel(self) -> Kernel:
        """The native kernel of this opening.

        Raises:
            RuntimeClosedError: it is not open.
        """
        if self._kernel is None:
            raise RuntimeClosedError(
                "the runtime is not open: use it in `async with symbi.Runtime.open() as rt:`"
            )
        return self._kernel

    @property
    def bridge(self) -> Bridge:
        """The bridge of this opening."""
        if self._bridge is None:
            raise RuntimeClosedError("the runtime is not open")
        return self._bridge

    @property
    def dispatcher(self) -> Dispatcher:
        """What agents may ask for, in this opening."""
        if self._dispatcher is None:
            raise RuntimeClosedError("the runtime is not open")
        return self._dispatcher

    @property
    def closing(self) -> contextlib.AsyncExitStack:
        """What `close` does, last come first."""
        return self._stack

    # Agents

    async def schedule_agent(self, agent: object) -> AgentHandle:
        """Create an agent: Initializing → Ready. One that runs in a sandbox has its worker started and ready.

        Args:
            agent: A function under `@symbi.agent`, or an `AgentConfig`.

        Raises:
            PolicyDenied: policy does not allow it, or its sandbox.
            InputError: its configuration cannot be; the text names the line that mends it.
            SandboxUnavailableError: its tier is not here.
            AgentError: its file does not import.
        """
        config = definition_of(agent)
        tier = self.workers.tier(config)
        limits = config.limits
        async with Leaving(self, "agents"):
            identity, _ = self.kernel.create_agent(
                "host",
                name=config.name,
                kind="program" if config.program else "python",
                in_process=config.isolation == "in_process",
                tier=tier,
                capabilities=list(config.capabilities),
                labels=sorted(config.inputs),
                memory_mb=limits.memory_mb,
                cpu_millicores=None if limits.cpu_cores is None else round(limits.cpu_cores * 1000),
                disk_io_mbps=limits.disk_io_mbps,
                network_io_mbps=limits.network_io_mbps,
                connections=limits.connections,
                execution_timeout_ms=(
                    None
                    if limits.execution_timeout_s is None
                    else max(1, round(limits.execution_timeout_s * 1000))
                ),
            )
        handle = AgentHandle(identity, config)
        self._handles[identity] = handle
        if config.isolation == "sandbox" and not config.program:
            try:
                await self.workers.session(handle)
            except BaseException:
                await self.stop_agent(handle, force=True)
                raise
        return handle

    async def run(
        self,
        agent: object,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - its public name
        *,
        timeout_s: float | None = None,
        priority: int = PRIORITY_NORMAL,
        labels: Iterable[str] = (),
    ) -> Any:
        """Run one task of an agent to its result.

        Args:
            agent: A handle; or what `schedule_agent` takes, which is then scheduled, run once, and stopped.
            input: Bound by parameter name. JSON values, bytes, and `Part`s.
            timeout_s: Wall-clock bound, seconds, waiting for its turn and its worker included; of the work alone, the
                agent's own `execution_timeout_s` holds too.
            priority: 0 to 255, the highest first.
            labels: What the input carries, besides what the detectors find in it.

        Raises:
            PolicyDenied: refused. SymbiTimeoutError: too slow; the task was ended.
            AgentError: the agent's code failed; or, with `kind` `stopped`, the agent was stopped meanwhile.
            SandboxLimitError: a limit ended it. LifecycleError: the agent is stopped, or about to be.
        """
        if isinstance(agent, AgentHandle):
            return await self.runs.run(agent, input, timeout_s=timeout_s, priority=priority, labels=labels)
        check(timeout_s, priority)  # before anything is made
        handle = await self.schedule_agent(agent)
        try:
            return await self.run(handle, input, timeout_s=timeout_s, priority=priority, labels=labels)
        finally:
            await self.stop_agent(handle, force=True)

    def stream(self, agent: AgentHandle) -> AsyncGenerator[bytes, None]:
        """Run a program agent once and hand over its lines as they come, each at most 1 MiB.

        A line is handed over after the run's record is on disk. Ends when the program ends.

        Raises:
            PolicyDenied, SandboxError, SandboxLimitError: as `run`.
        """
        return self.runs.stream(agent)

    def sandbox_facts(self, agent: AgentHandle) -> Any:
        """What was verified about the agent's sandbox, or None where it has none now."""
        return self.workers.facts(agent.id)

    async def stop_agent(self, agent: AgentHandle | str, *, force: bool = False, by: str = "host") -> bool:
        """Stop an agent; never refused. `force` ends its task now; graceful lets it end, and the agent after it.

        Runs that wait for their turn end either way, and no new one begins.

        Returns:
            Whether it is terminated; False where its task still runs.
        """
        identity = agent if isinstance(agent, str) else agent.id
        return await self.stopping.stop(identity, force=force, by=by)

    async def stop_all(self, by: str = "host") -> int:
        """Emergency stop: every agent, at once. Answers how many."""
        return await self.stopping.stop_all(by)

    def takes_runs(self, agent: str) -> bool:
        """Whether the agent is there, and not about to end."""
        return agent in self._handles and agent not in self.stopping

    def forget(self, agent: str) -> None:
        """The agent is terminated: nothing more is asked of it."""
        self._handles.pop(agent, None)

    # What it says about itself

    async def get_system_status(self) -> SystemStatus:
        """A moment of the runtime. Cost: proportional to the number of agents."""
        return system_status(self.kernel, self.config, waiting=self.runs.waiting)

    async def health_check(self) -> HealthStatus:
        """Every part of the runtime, the worst of them, and what went wrong lately (spec O7)."""
        return health_status(self.kernel, self.config, self.faults.counts)

    def guard(self, function: Callable[..., Any], *, agent: AgentHandle) -> Callable[..., Any]:
        """`symbi.guard` for a named agent, outside of its own tasks."""
        return guarded(function, lambda: (self, agent.id))

    async def load_policies(self, paths: Iterable[Path | str], *, by: str = "host") -> None:
        """Put other policies in force: compiled, decided, recorded, swapped. Those in force stay if anything is wrong.

        Raises:
            PolicyError: they do not compile. PolicyDenied: this principal may not.
        """
        from symbi.policy.archive import keep
        from symbi.policy.sources import read_policies

        texts = read_policies(paths)
        async with Leaving(self, "policy") as leaving:
            leaving.seq = self.kernel.load_policies(by, list(texts.sources), list(texts.counters))
        await asyncio.to_thread(keep, self.data, self.kernel.policy_digest(), texts)

    # Within

    def _parts(self) -> list[Any]:
        """Everything that holds the kernel."""
        held = (
            self._bridge,
            self._dispatcher,
            self._caller,
            *(self.__dict__.get(name) for name in ("bus", "context")),
        )
        return [part for part in held if part is not None]


def _memory_mb() -> int:
    """What the machine has, MiB; what agents may hold together."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return max(64, pages * size >> 20)
