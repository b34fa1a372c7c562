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

from symbi.agents.channel import decode, encode
from symbi.agents.context import AgentContext
from symbi.agents.definition import bind, declared, definition_of
from symbi.agents.dispatch import Dispatcher
from symbi.agents.handle import AgentHandle
from symbi.bridge import Bridge
from symbi.bus import Bus
from symbi.context import Knowledge, Rag
from symbi.errors import (
    AgentError,
    InputError,
    LifecycleError,
    PolicyDenied,
    PolicyError,
    RuntimeClosedError,
    SymbiError,
    SymbiTimeoutError,
)
from symbi.forked import protect
from symbi.status import HealthStatus, SystemStatus, health_status, system_status
from symbi.tools.caller import ToolCaller
from symbi.tools.guarding import PRINCIPAL, guarded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping

    from symbi._core import Kernel
    from symbi.agents.session import Session
    from symbi.config import Config
    from symbi.control import ControlServer
    from symbi.sandbox.base import Sandbox
    from symbi.sandbox.orchestrator import Orchestrator

__all__ = ["Runtime"]

Mode = Literal["production", "development"]
PRIORITY_NORMAL = 128
TIMEOUT_S_MAX = 86_400.0  # a day, as `execution_timeout_s`
TEXT_CHARS_MAX = 4_096  # of an error's text in the record, sealed
BRAKE_S = 5.0  # how long a stop waits for a coroutine that does not let go


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
        self._orchestrator: Orchestrator | None = None
        self._control: ControlServer | None = None
        self._sessions: dict[str, Session] = {}
        self._programs: dict[str, Sandbox] = {}
        self._handles: dict[str, AgentHandle] = {}
        self._starting: dict[str, asyncio.Future[None]] = {}
        self._active: dict[str, _Active] = {}
        self._stopping: set[str] = set()
        self._errors: dict[tuple[str, str], tuple[int, int]] = {}
        self._opening = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

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
        self._stack.push_async_callback(self._end_agents)
        if self._sandboxed.exists():
            await self._sandboxes()  # its opening reaps what was left

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
        tier = self._tier(config)
        limits = config.limits
        async with self._leaving("agents"):
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
                await self._session(handle)
            except BaseException:
                await self.stop_agent(handle, force=True)
                raise
        return handle

    def _tier(self, config: Any) -> str:
        if config.isolation == "in_process":
            return "degraded"
        from symbi.agents.launch import tier_of
        from symbi.sandbox.base import SecurityTier

        default = SecurityTier.parse(self.config.security.default_sandbox_tier)
        return str(tier_of(config, default).tier)

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
        if timeout_s is not None and not 0 < timeout_s <= TIMEOUT_S_MAX:
            raise InputError(f"`timeout_s` is more than 0 and at most {TIMEOUT_S_MAX}, and is {timeout_s}")
        if not isinstance(agent, AgentHandle):
            handle = await self.schedule_agent(agent)
            try:
                return await self.run(handle, input, timeout_s=timeout_s, priority=priority, labels=labels)
            finally:
                await self.stop_agent(handle, force=True)
        handle = agent
        if not 0 <= priority <= 255:
            raise InputError(f"`priority` is 0 to 255, and is {priority}")
        if input is not None and not hasattr(input, "keys"):
            kind = type(input).__name__
            raise InputError(
                f'the input is bound by name: give a dict, such as {{"ticket": …}}, not a {kind}'
            )
        try:
            line = encode(dict(input or {}))
            arguments = decode(line)  # what is decided on is what the agent gets
        except (TypeError, ValueError) as error:
            raise InputError(f"the input cannot be given to an agent: {error}") from None
        async with self._leaving("agents"):
            self._check_open_to_runs(handle)
            run, _, started = self.kernel.begin_run("host", handle.id, line, sorted(labels), priority)
        outcome: tuple[str, str, str] = ("cancelled", "", "")
        active = self._active[run] = _Active(handle.id)
        try:
            async with active.ending, asyncio.timeout(timeout_s) as whole:
                await self._turn(run, started)
                value = await self._execute(handle, run, arguments)
            outcome = ("done", "", "")
        except TimeoutError as error:
            if active.ending.expired():
                raise AgentError(f"`{handle.name}` was stopped", kind="stopped") from None
            text = f"`{handle.name}` took longer than {timeout_s} s" if whole.expired() else str(error)
            outcome = ("failed", "timeout", text)
            self._note_error("agents", SymbiTimeoutError.code)
            raise SymbiTimeoutError(text) from None
        except SymbiError as error:
            if active.stopped:
                raise AgentError(f"`{handle.name}` was stopped", kind="stopped") from None
            kind = error.kind if isinstance(error, AgentError) and error.kind else error.code
            outcome = ("failed", kind, str(error)[:TEXT_CHARS_MAX])
            self._note_error("agents", error.code)
            raise
        finally:
            await self._finish(run, outcome)
        return value

    def _check_open_to_runs(self, handle: AgentHandle) -> None:
        if handle.id in self._stopping or handle.id not in self._handles:
            raise LifecycleError(f"`{handle.name}` is stopped, or about to be: schedule it anew")

    async def _finish(self, run: str, outcome: tuple[str, str, str]) -> None:
        """Record how a run ended, hand on what it held, and end an agent that was to stop after it."""
        active = self._active.pop(run)
        try:
            seq, started = self.kernel.end_run(run, *outcome)
            self._release(started)
            if active.agent in self._stopping:
                await self.stop_agent(active.agent)
            await self.bridge.durable(seq)  # RT2
        finally:
            active.ended.set()

    async def _turn(self, run: str, started: list[str]) -> None:
        """Wait until the scheduler has handed this run out (RT1)."""
        if run in started:
            started = [other for other in started if other != run]
            self._release(started)
            return
        future = asyncio.get_running_loop().create_future()
        self._starting[run] = future
        self._release(started)
        try:
            await future
        finally:
            self._starting.pop(run, None)

    def _release(self, started: list[str]) -> None:
        for run in started:
            future = self._starting.get(run)
            if future is not None and not future.done():
                future.set_result(None)

    async def _execute(self, handle: AgentHandle, run: str, arguments: dict[str, Any]) -> Any:
        if handle.config.program:
            raise InputError(f"`{handle.name}` is a program: read it with `rt.stream(agent)`")
        if handle.config.isolation == "in_process":
            return await self._in_process(handle, run, arguments)
        session = await self._session(handle)
        return await self._within(handle, session.run(run, arguments))

    async def _within(self, handle: AgentHandle, work: Coroutine[Any, Any, Any]) -> Any:
        """The work, within the agent's own time limit."""
        limit_s = handle.config.limits.execution_timeout_s
        bound = asyncio.timeout(limit_s)
        try:
            async with bound:
                return await work
        except TimeoutError:
            if not bound.expired():
                raise
            raise SymbiTimeoutError(f"`{handle.name}` took longer than its limit of {limit_s} s") from None

    async def _in_process(self, handle: AgentHandle, run: str, arguments: dict[str, Any]) -> Any:
        config = handle.config
        if config.function is None:
            raise InputError(f"`{handle.name}` has no function")
        context = AgentContext(_Direct(self, handle.id), agent_id=handle.id, name=config.name, run_id=run)
        work = bind(config.function, context, arguments)
        token = PRINCIPAL.set((self, handle.id))
        try:
            return await self._within(handle, _as_behind_a_pipe(work))
        finally:
            PRINCIPAL.reset(token)

    async def _session(self, handle: AgentHandle) -> Session:
        """The agent's worker, started anew where the last one has ended."""
        known = self._sessions.get(handle.id)
        if known is not None and known.alive:
            return known
        from symbi.agents.session import Session

        sandbox = await self._sandbox(handle)
        declares = declared(handle.config) if handle.config.entry is not None else None
        session = Session(sandbox, handle.id, handle.name, self._table(), declares)
        self._sessions[handle.id] = session
        await session.ready()
        return session

    async def _sandbox(self, handle: AgentHandle) -> Sandbox:
        from symbi.agents.launch import spec_of
        from symbi.sandbox.base import SecurityTier, spec_to_bytes

        orchestrator = await self._sandboxes()
        tier = SecurityTier.parse(self._tier(handle.config))
        hidden = (str(self.data.resolve()),)
        spec = spec_of(handle.config, tier, handle.id, orchestrator.owner.instance, hidden)
        async with self._leaving("sandbox") as leaving:
            permit = self.kernel.begin_sandbox(
                "host",
                spec_to_bytes(spec),
                tier=str(tier),
                network=False,
                writable=spec.writable,
                agent=handle.id,
            )
            leaving.seq = permit.intent_seq
        try:
            sandbox = await orchestrator.start(permit, spec)
        except BaseException as error:
            code = error.code if isinstance(error, SymbiError) else type(error).__name__
            permit.settle("failed", code, str(error)[:TEXT_CHARS_MAX])
            self._note_error("sandbox", code)
            raise
        permit.settle("done")
        sandbox.arm(None)
        return sandbox

    @property
    def _sandboxed(self) -> Path:
        """There while this runtime has sandboxes: found at an opening, the last one was killed with them."""
        return self.data / "sandboxed"

    async def _sandboxes(self) -> Orchestrator:
        async with self._opening:  # two agents at once, one orchestrator
            return await self._open_sandboxes()

    async def _open_sandboxes(self) -> Orchestrator:
        if self._orchestrator is None:
            from symbi.sandbox.orchestrator import Orchestrator
            from symbi.sandbox.reaper import Owner

            protected = (str(self.data.resolve()),)
            made = Orchestrator(
                Owner.current(self.data.resolve()), mode=self.config.runtime.mode, protected=protected
            )
            await made.open()
            self._orchestrator = made
            self._sandboxed.touch()
            self._stack.callback(self._sandboxed.unlink, missing_ok=True)
            self._stack.push_async_callback(made.close)
            # Sandboxes end before their backend: agents were pushed earlier, so they are ended here once more.
            self._stack.push_async_callback(self._end_agents)
        return self._orchestrator

    async def stream(self, agent: AgentHandle) -> AsyncGenerator[bytes, None]:
        """Run a program agent once and hand over its lines as they come, each at most 1 MiB.

        A line is handed over after the run's record is on disk. Ends when the program ends.

        Raises:
            PolicyDenied, SandboxError, SandboxLimitError: as `run`.
        """
        if not agent.config.program:
            raise InputError(f"`{agent.name}` is not a program: use `rt.run(agent, …)`")
        async with self._leaving("agents") as leaving:
            self._check_open_to_runs(agent)
            run, leaving.seq, started = self.kernel.begin_run("host", agent.id, b"", [], PRIORITY_NORMAL)
        outcome: tuple[str, str, str] = ("cancelled", "", "")
        sandbox: Sandbox | None = None
        try:
            await self._turn(run, started)
            sandbox = await self._sandbox(agent)
            self._programs[agent.id] = sandbox
            sandbox.arm(agent.config.limits.execution_timeout_s or 300.0)
            while (line := await sandbox.receive()) is not None:
                yield line
            ended = await sandbox.wait()
            outcome = ("done", "", "") if ended.code == 0 else ("failed", "exit", str(ended.code))
            if ended.code != 0:
                text = sandbox.stderr_tail().decode("utf-8", "replace")[-400:]
                raise AgentError(f"`{agent.name}` ended with code {ended.code}: {text}", kind="exit")
        except SymbiError as error:
            outcome = ("failed", error.code, str(error)[:TEXT_CHARS_MAX])
            raise
        finally:
            self._programs.pop(agent.id, None)
            if sandbox is not None:
                await sandbox.stop(force=True)
            seq, more = self.kernel.end_run(run, *outcome)
            self._release(more)
            if agent.id in self._stopping:
                await self.stop_agent(agent)
            await self.bridge.durable(seq)

    def sandbox_facts(self, agent: AgentHandle) -> Any:
        """What was verified about the agent's sandbox, or None where it has none now."""
        session = self._sessions.get(agent.id)
        if session is not None:
            return session.sandbox.facts
        program = self._programs.get(agent.id)
        return None if program is None else program.facts

    async def stop_agent(self, agent: AgentHandle | str, *, force: bool = False, by: str = "host") -> bool:
        """Stop an agent; never refused. `force` ends its task now; graceful lets it end, and the agent after it.

        Runs that wait for their turn end either way, and no new one begins.

        Returns:
            Whether it is terminated; False where its task still runs.
        """
        identity = agent if isinstance(agent, str) else agent.id
        if self.kernel.agent_state(identity) is None:
            return True
        runs, seq, terminated = self.kernel.stop_agent(by, identity, force)
        self._stopping.add(identity)
        ending = [active for run in runs if (active := self._active.get(run)) is not None]
        for active in ending:
            active.stop()
        for run in runs:
            future = self._starting.get(run)
            if run not in self._active and future is not None and not future.done():
                future.set_exception(AgentError(f"agent {identity} was stopped", kind="stopped"))
        if terminated:
            self._stopping.discard(identity)
            self._handles.pop(identity, None)
            session = self._sessions.pop(identity, None)
            if session is not None:
                await session.close(force=force)
            program = self._programs.pop(identity, None)
            if program is not None:
                await program.stop(force=True)
        for active in ending:
            await active.gone()  # RT3
        with contextlib.suppress(SymbiError):
            await self.bridge.durable(seq)
        return terminated

    async def stop_all(self, by: str = "host") -> int:
        """Emergency stop: every agent, at once. Answers how many."""
        rows = self.kernel.list_agents()
        await asyncio.gather(*(self.stop_agent(str(row["id"]), force=True, by=by) for row in rows))
        return len(rows)

    async def _end_agents(self) -> None:
        if self._kernel is not None:
            await self.stop_all()

    # What it says about itself

    async def get_system_status(self) -> SystemStatus:
        """A moment of the runtime. Cost: proportional to the number of agents."""
        return system_status(self.kernel, self.config, waiting=len(self._starting))

    async def health_check(self) -> HealthStatus:
        """Every part of the runtime, the worst of them, and what went wrong lately (spec O7)."""
        return health_status(self.kernel, self.config, self._errors)

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
        async with self._leaving("policy") as leaving:
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

    def _table(self) -> Dispatcher:
        if self._dispatcher is None:
            raise RuntimeClosedError("the runtime is not open")
        return self._dispatcher

    def _note_error(self, component: str, code: str) -> None:
        count, _ = self._errors.get((component, code), (0, 0))
        from time import time_ns

        self._errors[(component, code)] = (count + 1, time_ns() // 1000)

    def _leaving(self, component: str) -> _Leaving:
        return _Leaving(self, component)


class _Active:
    """A run that has begun and not ended: how to end it from outside, and how to know that it has."""

    __slots__ = ("agent", "ended", "ending", "stopped", "task")

    def __init__(self, agent: str) -> None:
        self.agent = agent
        self.task = asyncio.current_task()
        self.ending = asyncio.timeout(None)
        self.ended = asyncio.Event()
        self.stopped = False

    def stop(self) -> None:
        """End it at its next await."""
        if not self.stopped:
            self.stopped = True
            with contextlib.suppress(RuntimeError):  # it is past the last line that can be ended
                self.ending.reschedule(asyncio.get_running_loop().time())

    async def gone(self) -> None:
        """Wait until it has ended: not for ever, for a coroutine can refuse to, and never for itself."""
        if self.task is asyncio.current_task():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BRAKE_S):
                await self.ended.wait()


async def _as_behind_a_pipe(work: Coroutine[Any, Any, Any]) -> Any:
    """What an agent's own code raises is its failure, whichever side of the pipe it runs on."""
    try:
        return await work
    except PolicyDenied:
        raise
    except Exception as error:
        raise AgentError(f"{type(error).__name__}: {error}", kind=type(error).__name__) from error


class _Leaving:
    """What leaves the monitor for the host: waits, on its way out, until its record is on disk."""

    __slots__ = ("_component", "_runtime", "seq")

    def __init__(self, runtime: Runtime, component: str) -> None:
        self._runtime = runtime
        self._component = component
        self.seq: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PolicyDenied):
            self._runtime._note_error(self._component, error.code)
            with contextlib.suppress(SymbiError):  # the refusal stands, whatever the log does
                await self._runtime.bridge.durable(error.seq)
        elif error is None:
            await self._runtime.bridge.durable(self.seq)


class _Direct:
    """The channel of an agent in the host's process."""

    __slots__ = ("_agent", "_runtime")

    def __init__(self, runtime: Runtime, agent: str) -> None:
        self._runtime = runtime
        self._agent = agent

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._runtime._table().call(self._agent, operation, arguments)


def _memory_mb() -> int:
    """What the machine has, MiB; what agents may hold together."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return max(64, pages * size >> 20)
