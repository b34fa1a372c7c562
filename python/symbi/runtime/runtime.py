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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from symbi.agents.definition import definition_of
from symbi.agents.dispatch import Dispatcher
from symbi.agents.handle import AgentHandle
from symbi.agents.parts import with_subject
from symbi.bus import Bus
from symbi.context import Knowledge, Rag
from symbi.errors import InputError, RuntimeClosedError
from symbi.runtime.approvals import Approvals
from symbi.runtime.asking import PRIORITY_NORMAL, Request
from symbi.runtime.brakes import Brakes
from symbi.runtime.breaches import Breaches
from symbi.runtime.bridge import Bridge
from symbi.runtime.calling import Tools
from symbi.runtime.forked import protect
from symbi.runtime.keys import Keys
from symbi.runtime.leaving import Faults, Leaving
from symbi.runtime.making import Agents, handle_of
from symbi.runtime.moves import Moves
from symbi.runtime.notices import Notices
from symbi.runtime.opening import open_kernel, policy_paths
from symbi.runtime.persons import Persons
from symbi.runtime.policies import Policies
from symbi.runtime.runs import Runs
from symbi.runtime.showing import describe, why
from symbi.runtime.together import Together
from symbi.runtime.unopened import NOT_OPEN, Unopened
from symbi.runtime.upkeep import Upkeep
from symbi.runtime.workers import Workers
from symbi.status import HealthStatus, SystemStatus, health_status, system_status
from symbi.supervision import DeadTask, dead_tasks
from symbi.tools.caller import ToolCaller
from symbi.tools.guarding import guarded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from symbi._core import Kernel
    from symbi.audit import AuditLog
    from symbi.config import Config
    from symbi.control import ControlServer
    from symbi.policy import PolicyId
    from symbi.policy.sources import PolicyChange
    from symbi.sandbox.usage import Usage

__all__ = ["Runtime"]

Mode = Literal["production", "development"]
Tier = Literal["realtime", "interactive", "batch"]
Cause = Literal["operator_hold", "policy_violation", "resource_constraint"]


class Runtime(Unopened):
    """A runtime of this process. Make one with `Runtime.open`.

    Attributes:
        data: The data directory.
        config: The settings in force.
        opened: What the opening found: `log_id`, `fingerprint`, `created`, `unknown`, `trail`, …
        bus, tools, context, rag: Views on the kernel, for the host.
        approvals: Operations that wait for persons. persons: Whose data this is, to be erased or held.
        keys: Whose keys there are.
        notices: What somebody is to be told of.
        agents, runs, workers, moves, brakes, faults, breaches, upkeep: The rooms of this house, for its own modules.
    """

    bus: Bus
    tools: Tools
    context: Knowledge
    rag: Rag
    approvals: Approvals
    keys: Keys

    def __init__(self, config: Config, data: Path, policy: tuple[Path, ...] | None) -> None:
        self.config = config
        self.data = data
        self.opened: dict[str, Any] = {}
        self._policy = policy
        self.policies = Policies(self, policy)
        self.notices = Notices()
        self._kernel: Kernel | None = None
        self._bridge: Bridge | None = None
        self._dispatcher: Dispatcher | None = None
        self._caller: ToolCaller | None = None
        self._control: ControlServer | None = None
        self._stack = contextlib.AsyncExitStack()
        self.faults = Faults()
        self.agents = Agents(self)
        self.workers = Workers(self)
        self.runs = Runs(self)
        self.brakes = Brakes(self)
        self.moves = Moves(self)
        self.breaches = Breaches(self)
        self.upkeep = Upkeep(self)
        self.persons = Persons(self)

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
        named = tuple(settings.policy.paths) or None if policy is None else policy_paths(policy)
        if not isinstance(data, os.PathLike | str):
            raise InputError(f"`data` is the path of a directory, not a {type(data).__name__}")
        return cls(settings, Path(data), named)

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
        from symbi.control import ControlServer

        kernel = await open_kernel(self, self._policy)
        self._kernel = kernel
        self.opened = dict(kernel.opened)
        self._bridge = Bridge(kernel, asyncio.get_running_loop(), self._bell)
        self._stack.callback(self._bridge.close)
        self.upkeep.open(kernel)
        self._stack.callback(self.upkeep.close)
        self.breaches.open()
        self._stack.callback(self.breaches.close)
        self._stack.callback(self.moves.close)
        self._stack.callback(self.brakes.close)
        self._stack.push_async_callback(self.runs.close)
        self.approvals = Approvals(self, kernel, self._bridge)
        caller = ToolCaller(kernel, self._bridge, self.moves.heed, self.approvals)
        self._dispatcher = Dispatcher(kernel, self._bridge, caller, self.moves.heed, self.approvals)
        self._bridge.on_room = self._dispatcher.messaging.rooms.bell
        self._stack.callback(self._dispatcher.messaging.rooms.close)
        self.bus = Bus(kernel, self._dispatcher, lambda: Leaving(self, "bus"))
        self.tools = Tools(caller, self._dispatcher)
        self.context = Knowledge(kernel, self._bridge, self._dispatcher)
        self.rag = Rag(self._dispatcher)
        self.keys = Keys(self, kernel)
        self._caller = caller
        protect(self)
        self._control = await ControlServer.start(self)
        self._stack.push_async_callback(self._control.close)
        self._stack.push_async_callback(self.stop_all)
        self.policies.open()
        if self.workers.marker.exists():
            await self.workers.open()  # its opening reaps what was left

    def _bell(self) -> None:
        """The kernel rang: beyond records and mail, something may be due, or it has decided something."""
        self.upkeep.bell()
        self.moves.heed()
        self.approvals.bell()
        self.notices.bell(self.kernel)

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
            raise RuntimeClosedError(NOT_OPEN)
        return self._kernel

    @cached_property
    def audit(self) -> AuditLog:
        """The runtime's trail, for reading: `rt.audit.query(…)`, `rt.audit.stream(…)`. Only its kernel writes there."""
        from symbi.audit import AuditLog

        self.kernel  # raises where it is not open  # noqa: B018
        return AuditLog.open(self.opened["trail"])

    @property
    def bridge(self) -> Bridge:
        """The bridge of this opening."""
        if self._bridge is None:
            raise RuntimeClosedError(NOT_OPEN)
        return self._bridge

    @property
    def dispatcher(self) -> Dispatcher:
        """What agents may ask for, in this opening."""
        if self._dispatcher is None:
            raise RuntimeClosedError(NOT_OPEN)
        return self._dispatcher

    @property
    def closing(self) -> contextlib.AsyncExitStack:
        """What `close` does, last come first."""
        return self._stack

    # Agents

    async def schedule_agent(self, agent: object) -> AgentHandle:
        """Create an agent: Initializing → Ready. One that runs in a sandbox has its worker started and ready.

        Answers when its record is on disk: 1 to 3 ms alone; many at once (`asyncio.gather`) share the wait. Where
        policy wants persons to agree to it, or to its sandbox, it waits for them (`rt.approvals`); so do `run`,
        `run_many` and what changes policies.

        Args:
            agent: A function under `@symbi.agent`, or an `AgentConfig`.

        Raises:
            PolicyDenied: policy does not allow it, or its sandbox.
            InputError: its configuration cannot be; the text names the line that mends it.
            SandboxUnavailableError: its tier is not here.
            AgentError: its file does not import.
        """
        (handle,) = await self.agents.make([definition_of(agent)])
        return handle

    async def schedule_agents(self, agents: Iterable[object]) -> list[AgentHandle]:
        """Create many agents, as `schedule_agent` does one; all of them, or none.

        Each is decided on and recorded by itself. Where one is refused, those before it are stopped, and the refusal is
        raised. Cost: about 15 µs each in this process, and the wait for the disk once; workers start eight at a time.

        Args:
            agents: What `schedule_agent` takes, each time a new agent: `[clerk] * 1000` is a thousand of them.

        Raises:
            As `schedule_agent`.
        """
        return await self.agents.make([definition_of(agent) for agent in agents])

    async def run(
        self,
        agent: object,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - its public name
        *,
        timeout_s: float | None = None,
        priority: int = PRIORITY_NORMAL,
        tier: Tier = "interactive",
        deadline_s: float | None = None,
        labels: Iterable[str] = (),
        subject: str | Iterable[str] | None = None,
        approval_timeout_s: float | None = None,
    ) -> Any:
        """Run one task of an agent to its result.

        Cancelling the call (`asyncio.Task.cancel`) cancels the run: from then on no effect of it starts, its sandbox is
        frozen, and the call ends when nothing of it moves.

        Args:
            agent: A handle; or what `schedule_agent` takes, which is then scheduled, run once, and stopped.
            input: Bound by parameter name. JSON values, bytes, and `Part`s.
            timeout_s: Bound on its time, seconds, waiting for its turn and its worker included, time that it is
                held (preempted, suspended) not; of the work alone, the agent's own `execution_timeout_s` holds too.
            priority: 0 to 255, the highest first, within tier `interactive`.
            tier: `realtime` (earliest deadline first), `interactive`, or `batch` (fair between tenants).
            deadline_s: For `realtime`: when it should have ended, seconds from now. It is not ended then; a deadline
                that cannot be held is refused at once.
            labels: What the input carries, besides what the detectors find in it.
            subject: Whose data the input is, one person or several, as your own system names them: it is sealed under
                their keys, what the agent writes from then on too, and `rt.persons.erase` forgets it.
            approval_timeout_s: How long to wait for persons, where policy wants them to agree, seconds; 0: not at all;
                None: until they have decided. The time of the run begins after it.

        Raises:
            PolicyDenied: refused; with code `over_budget` also where a budget of time ended the task.
            SymbiTimeoutError: too slow; the task was ended.
            AgentError: the agent's code failed; or, with `kind` `stopped`, the agent was stopped meanwhile.
            SandboxLimitError: a limit ended it. LifecycleError: the agent is stopped, or about to be.
            InputError: an argument that cannot be, or more resources than there are.
        """
        request = Request.of(
            input,
            timeout_s=timeout_s,
            priority=priority,
            tier=tier,
            deadline_s=deadline_s,
            labels=with_subject(labels, subject),
            approval_timeout_s=approval_timeout_s,
        )
        if isinstance(agent, AgentHandle):
            return await self.runs.run(agent, request)
        handle = await self.schedule_agent(agent)
        try:
            return await self.runs.run(handle, request)
        finally:
            await self.stop_agent(handle, force=True)

    async def run_many(
        self,
        tasks: Iterable[tuple[AgentHandle, Mapping[str, Any] | None]],
        *,
        timeout_s: float | None = None,
        priority: int = PRIORITY_NORMAL,
        tier: Tier = "interactive",
        deadline_s: float | None = None,
        labels: Iterable[str] = (),
        subject: str | Iterable[str] | None = None,
        approval_timeout_s: float | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Run many tasks; their results in the order of the tasks.

        Each is decided on, queued and recorded by itself, as by `run`; many cross into the kernel at once. Cancelling
        the call cancels all of them. One that needs persons waits for them, and the others do not wait for it.

        Args:
            tasks: `(handle, input)` of each.
            return_exceptions: Let an error stand in its task's place. Otherwise the first one cancels the other tasks,
                and is raised when none of them moves any more.
            timeout_s, priority, tier, deadline_s, labels, subject, approval_timeout_s: Of each task, as `run`.

        Raises:
            As `run`.
        """
        options = Request.of(
            None,
            timeout_s=timeout_s,
            priority=priority,
            tier=tier,
            deadline_s=deadline_s,
            labels=with_subject(labels, subject),
            approval_timeout_s=approval_timeout_s,
        )
        asked = [(handle_of(agent), options.for_input(given)) for agent, given in tasks]
        return await Together(self, asked, keep_errors=return_exceptions).results()

    def stream(
        self,
        agent: AgentHandle,
        *,
        timeout_s: float | None = None,
        priority: int = PRIORITY_NORMAL,
        tier: Tier = "interactive",
        deadline_s: float | None = None,
        labels: Iterable[str] = (),
        subject: str | Iterable[str] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Run a program agent once and hand over its lines as they come, each at most 1 MiB.

        A line is handed over after the run's record is on disk. Ends when the program ends; leaving the loop early
        cancels the run.

        Raises:
            PolicyDenied, SandboxError, SandboxLimitError, SymbiTimeoutError, InputError: as `run`.
        """
        request = Request.of(
            None,
            timeout_s=timeout_s,
            priority=priority,
            tier=tier,
            deadline_s=deadline_s,
            labels=with_subject(labels, subject),
        )
        return self.runs.stream(agent, request)

    def printed(self, agent: AgentHandle) -> str:
        """The last of what the agent's worker printed, 64 KiB at most; of one that has ended for a while too.

        What an agent prints passes no policy and stands in no record: it is for its author. `ctx.log` is for the trail.
        """
        return self.workers.printed(agent.id)

    def sandbox_facts(self, agent: AgentHandle) -> Any:
        """What was verified about the agent's sandbox, or None where it has none now."""
        return self.workers.facts(agent.id)

    def usage(self, agent: AgentHandle | str) -> Usage | None:
        """What the agent's sandbox uses, read by the host now; None where it has none. Cost: about 60 µs."""
        return self.workers.usage(_id(agent))

    async def stop_agent(
        self,
        agent: AgentHandle | str,
        *,
        force: bool = False,
        grace_s: float | None = None,
        by: str = "host",
    ) -> bool:
        """Stop an agent; never refused. `force` ends its task now; graceful lets it end, and the agent after it.

        Runs that wait for their turn end either way, and no new one begins.

        Args:
            agent: A handle, or its id.
            force: Now.
            grace_s: Of a graceful stop: how long its task may go on before it is ended by force; None for ever.
            by: Who stops it.

        Returns:
            Whether it is terminated; False where its task still runs.
        """
        return await self.brakes.stop(_id(agent), force=force, by=by, grace_s=grace_s)

    async def suspend_agent(
        self, agent: AgentHandle | str, *, cause: Cause = "operator_hold", by: str = "host"
    ) -> bool:
        """Hold an agent where it stands; never refused. `resume_agent` lets it go on.

        A sandbox is frozen. A coroutine in this process stands still when it next waits for `ctx`, or at
        `ctx.checkpoint()`. Its time limits do not run meanwhile; what it asked for before is answered afterwards.

        Returns:
            Whether it stands still; False where its coroutine was asked to and has not yet.

        Raises:
            LifecycleError: it has no task that could be held.
        """
        return await self.brakes.suspend(_id(agent), by=by, cause=cause)

    async def resume_agent(self, agent: AgentHandle | str, *, by: str = "host") -> None:
        """Let a suspended agent go on.

        Raises:
            PolicyDenied: policy does not allow it. LifecycleError: it is not suspended.
        """
        await self.brakes.resume(_id(agent), by=by)

    def why(self, agent: AgentHandle | str) -> dict[str, Any]:
        """Why an agent, or a run, does what it does: `{"state", "reason", "text", …}`; `text` is a sentence for people.

        Raises:
            InputError: there is none of this id.
        """
        return why(self, _id(agent))

    def describe(self, agent: AgentHandle | str) -> dict[str, Any]:
        """Everything about one agent, in JSON values: state, tier, tenant, limits, labels, runs, errors, and `why`.

        Raises:
            InputError: there is none of this id.
        """
        return describe(self, _id(agent))

    async def stop_all(self, by: str = "host") -> int:
        """Emergency stop: every agent, at once. Answers how many."""
        return await self.brakes.stop_all(by)

    def takes_runs(self, agent: str) -> bool:
        """Whether the agent is there, and not about to end."""
        return self.agents.knows(agent) and not self.brakes.is_stopping(agent)

    def handle(self, agent: str) -> AgentHandle | None:
        """The agent of this id, while it is there."""
        return self.agents.handle(agent)

    def forget(self, agent: str) -> None:
        """The agent is terminated: nothing more is asked of it."""
        self.agents.forget(agent)
        self.faults.forget(agent)
        if self._dispatcher is not None:
            self._dispatcher.messaging.forget(agent)

    # What it says about itself

    async def get_system_status(self) -> SystemStatus:
        """A moment of the runtime. Cost: proportional to the number of agents."""
        return system_status(
            self.kernel, self.config, waiting=self.runs.waiting, usages=self.workers.usages()
        )

    async def health_check(self) -> HealthStatus:
        """Every part of the runtime, the worst of them, and what went wrong lately (spec O7)."""
        lately = {"resources": self.upkeep.health(), "loop": self.breaches.health()}
        return health_status(self.kernel, self.config, self.faults.counts, lately)

    def dead_tasks(self) -> list[DeadTask]:
        """Tasks of supervised agents that failed for good, oldest first; the last 256, their inputs sealed."""
        return dead_tasks(self)

    def guard(self, function: Callable[..., Any], *, agent: AgentHandle) -> Callable[..., Any]:
        """`symbi.guard` for a named agent, outside of its own tasks."""
        return guarded(function, lambda: (self, agent.id))

    async def load_policies(
        self,
        paths: Iterable[Path | str],
        *,
        by: str = "host",
        flips_max: int | None = None,
        approval_timeout_s: float | None = None,
    ) -> PolicyChange:
        """Put other policies in force: compiled, tried, decided, recorded, swapped in one step for every thread.

        They take the place of all that were in force, registered ones included.

        Args:
            paths: As `Runtime.open` takes them.
            by: Who changes them.
            flips_max: A sample of recent operations is decided by both sets. Where more than so many fall otherwise,
                nothing is changed. None: they are told, and that is all.
            approval_timeout_s: How long to wait for persons, where the policies in force want them to agree, seconds;
                0: not at all; None: until they have decided.

        Raises:
            PolicyError: they do not compile, or too much would fall otherwise; those in force stay.
            PolicyDenied: this principal may not.
        """
        given = tuple(Path(path) for path in paths)
        return await self.approvals.after(
            lambda: self.policies.load(given, by=by, flips_max=flips_max), approval_timeout_s
        )

    async def register_policy(
        self, text: str, name: str, *, by: str = "host", approval_timeout_s: float | None = None
    ) -> PolicyId:
        """Add policies to those in force; an operation under policy, as `load_policies`.

        Args:
            text: Cedar policies.
            name: Shown in diagnostics and rules; what `unregister_policy` takes.
            by: Who adds them.
            approval_timeout_s: As `load_policies`.

        Raises:
            PolicyError: the set would not compile; nothing was changed. PolicyDenied: this principal may not.
            InputError: the name is taken.
        """
        return await self.approvals.after(lambda: self.policies.register(text, name, by), approval_timeout_s)

    async def unregister_policy(
        self, policy_id: PolicyId, *, by: str = "host", approval_timeout_s: float | None = None
    ) -> None:
        """Take policies out again that `register_policy` added.

        Raises:
            InputError: nothing is registered under that id. PolicyDenied: this principal may not.
        """
        await self.approvals.after(lambda: self.policies.unregister(policy_id, by), approval_timeout_s)

    async def declassify(
        self,
        agent: AgentHandle | str,
        labels: Iterable[str],
        *,
        by: str = "host",
        approval_timeout_s: float | None = None,
    ) -> frozenset[str]:
        """Take labels off an agent: from then on it counts as not having read them. Answers those that stay.

        Raises:
            PolicyDenied: policy does not allow it (the built-in set allows nobody), or a person said no.
            InputError: it carries none of them.
        """
        identity, taken = _id(agent), sorted(labels)

        async def take() -> None:
            async with Leaving(self, "policy") as leaving:
                leaving.seq = self.kernel.declassify(by, identity, taken)

        await self.approvals.after(take, approval_timeout_s)
        return frozenset(self.kernel.agent_labels(identity))

    # Within

    def _parts(self) -> list[Any]:
        """Everything that holds the kernel."""
        held = (
            self._bridge,
            self._dispatcher,
            self._dispatcher and self._dispatcher.messaging,
            self._caller,
            *(self.__dict__.get(name) for name in ("bus", "context", "approvals", "keys")),
        )
        return [part for part in held if part is not None]


def _id(agent: AgentHandle | str) -> str:
    return agent if isinstance(agent, str) else agent.id
