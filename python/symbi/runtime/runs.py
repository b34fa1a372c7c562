"""Runs: one task of one agent, from being asked for to its recorded end.

Why: whatever an agent is made of, a run is asked for, waits for its turn, does its work within its time, and is
recorded as ended; these steps are here, once, for coroutines, workers and programs alike. The work has a task of its
own, so that whoever waits for it can go away, and everything that ends it (its caller, a time limit, a stop, a breach)
ends it in one and the same way. Runs that end in one turn of the loop are recorded in one call.
Not here: whose turn it is (the kernel), many at once (`together`), standing still (`holding`), where the work happens
(`workers`), stopping agents (`brakes`).

Invariants
- RN1 a run that is ended from outside starts no new effect: the kernel is told before its code hears of it.
- RN2 who waits for a run is answered when nothing of it moves any more: its coroutine has unwound, its sandbox is
  frozen or gone. A frozen one is removed in the background.
- RN3 a run is recorded as ended once, by the first reason.
- RN4 what goes wrong with the end of one run keeps no other from its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.context import AgentContext
from symbi.agents.definition import bind, takes_context
from symbi.errors import (
    AgentError,
    InputError,
    LifecycleError,
    LogUnavailableError,
    PolicyDenied,
    SymbiError,
    SymbiTimeoutError,
)
from symbi.runtime.active import CANCELLED, Active, Outcome
from symbi.runtime.holding import GATE, Gate
from symbi.runtime.leaving import Leaving
from symbi.runtime.trying import Resting, Trial, obey, tried
from symbi.tools.definition import AGENT_AT_WORK
from symbi.tools.guarding import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from symbi.agents.handle import AgentHandle
    from symbi.agents.mail import Message
    from symbi.runtime import Runtime
    from symbi.runtime.asking import Request
    from symbi.sandbox.base import Sandbox

__all__ = ["Runs"]

PROGRAM_S: Final = 300.0  # of a program that names no limit
BRAKE_S: Final = 5.0  # how long an end waits for a coroutine that does not let go


class Runs:
    """The runs of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.active: dict[str, Active] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._ended: list[Active] = []  # in this turn of the loop
        self._callers = 0  # that wait for the end of their run
        self._none_left: asyncio.Event | None = None
        self.resting = Resting()

    @property
    def waiting(self) -> int:
        """How many have not been handed out."""
        return sum(not active.started for active in self.active.values())

    def of_agent(self, agent: str) -> list[Active]:
        """The agent's runs, the oldest first."""
        return [active for active in self.active.values() if active.agent.id == agent]

    async def run(self, agent: AgentHandle, request: Request) -> Any:
        """As `Runtime.run`, of a scheduled agent."""
        if agent.config.supervision is not None:
            return await tried(self, self._runtime, agent, request)
        return await self.attempt(agent, request)

    async def attempt(self, agent: AgentHandle, request: Request, trial: Trial | None = None) -> Any:
        """One run, from the decision to its recorded end."""
        active = await self._begin(agent, request, self.set_to_work, trial)
        self._callers += 1
        try:
            try:
                await self._until_over(active)
            except asyncio.CancelledError:
                self.end(active, CANCELLED, None)
                await self._until_over(active)
                raise
        finally:
            self._callers -= 1
            if self._none_left is not None and not self._callers:
                self._none_left.set()
        return active.answer()

    async def when_agreed(self, agent: AgentHandle, request: Request, denied: PolicyDenied) -> Any:
        """A run that was refused because persons must agree first, once they have."""
        changed = await self._runtime.approvals.wait(denied, request.approval_timeout_s)
        return await self.attempt(agent, request if changed is None else request.changed(changed))

    async def stream(self, agent: AgentHandle, request: Request) -> AsyncGenerator[bytes, None]:
        """As `Runtime.stream`."""
        if not agent.config.program:
            raise InputError(f"`{agent.name}` is not a program: use `rt.run(agent, …)`")
        workers = self._runtime.workers
        turn = asyncio.Event()
        trial = None if agent.config.supervision is None else Trial(None)
        active = await self._begin(agent, request, lambda _: turn.set(), trial)
        active.on_done = turn.set  # it may end before its turn comes
        try:
            await turn.wait()
            if not active.done:
                self._limit_by_budget(active)
                sandbox = await workers.program(agent, request.approval_timeout_s)
                active.gate.house(sandbox)
                self._runtime.breaches.watch(active, sandbox)
                self._limit_processor(active, sandbox, since_start=True)
                sandbox.arm(agent.config.limits.execution_timeout_s or PROGRAM_S)
                while not active.done and (line := await sandbox.receive()) is not None:
                    await active.gate.passing()
                    yield line
                ended = await sandbox.wait()
                if ended.code != 0:
                    text = sandbox.stderr_tail().decode("utf-8", "replace")[-400:]
                    active.fail(
                        AgentError(f"`{agent.name}` ended with code {ended.code}: {text}", kind="exit")
                    )
            active.finish(None)
            active.answer()
        except SymbiError as error:
            active.fail(error)
            active.answer()
        finally:
            if not active.done:
                self.end(active, CANCELLED, None)
            await workers.end_program(agent.id)
            if active.ending is None:
                self._hand_in(active)
            await self._until_over(active)
            if trial is not None:
                await obey(self._runtime, agent, trial)

    def stop(self, active: Active, by: str = "host") -> None:
        """End a run because its agent is stopped."""
        error = AgentError(f"`{active.agent.name}` was stopped", kind="stopped")
        self.end(active, CANCELLED, error, by=by)

    def end(self, active: Active, outcome: Outcome, error: SymbiError | None, *, by: str = "host") -> None:
        """End a run from outside: no new effect of it starts from here on (RN1), once (RN3).

        Args:
            active: Which.
            outcome: What is recorded.
            error: What its caller gets; None where the caller itself went away.
            by: Who ends it.
        """
        if active.ending is not None or active.done:
            return
        active.outcome = outcome
        with contextlib.suppress(SymbiError):  # its agent is gone, and nothing of it starts either
            _, moves = self._runtime.kernel.cancel_run(by, active.run)
            self._runtime.moves.apply(moves)
        active.ending = self.in_background(self._end(active))
        if active.work is not None:
            active.work.cancel()
        active.gate.end(thaw=False)
        if error is not None:
            active.fail(error)

    def in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Work that goes on whoever waits for it goes away; `close` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Wait for everything that is being ended, and until its callers have their answers (RT2, RT3)."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)
        self._flush()
        if self._callers:
            self._none_left = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BRAKE_S):
                    await self._none_left.wait()

    async def _begin(
        self,
        agent: AgentHandle,
        request: Request,
        start: Callable[[Active], None],
        trial: Trial | None = None,
    ) -> Active:
        """Ask for a run: decided and recorded; it starts now or when its turn comes."""
        runtime = self._runtime
        while True:
            try:
                async with Leaving(runtime, "agents"):
                    if not runtime.takes_runs(agent.id):
                        raise LifecycleError(f"`{agent.name}` is stopped, or about to be: schedule it anew")
                    run, _, moves, allowance = runtime.kernel.begin_run(
                        "host",
                        agent.id,
                        request.line,
                        request.labels,
                        request.priority,
                        tier=request.tier,
                        deadline_ms=request.deadline_ms,
                        retry_of=None if trial is None else trial.retry_of,
                    )
                break
            except PolicyDenied as denied:
                changed = await runtime.approvals.wait(denied, request.approval_timeout_s)
                if changed is not None:
                    request = request.changed(changed)
        active = self.admit(agent, run, request, start, trial)
        active.allowance = allowance
        runtime.moves.apply(moves)
        return active

    def admit(
        self,
        agent: AgentHandle,
        run: str,
        request: Request,
        start: Callable[[Active], None],
        trial: Trial | None = None,
    ) -> Active:
        """A run that the kernel has accepted; its time begins."""
        active = Active(agent, run, request, Gate(partial(self._runtime.moves.stood, run)), start)
        active.trial = trial
        self.active[run] = active
        if request.timeout_s is not None:
            text = f"`{agent.name}` took longer than {request.timeout_s} s"
            active.gate.clock.arm(request.timeout_s, lambda: self._too_late(active, text))
        return active

    def _too_late(self, active: Active, text: str) -> None:
        self.end(active, ("failed", "timeout", text), SymbiTimeoutError(text))

    def set_to_work(self, active: Active) -> None:
        """Its turn has come: its code runs in a task of its own, in its caller's context."""
        self._limit_by_budget(active)
        work = self._in_process if active.agent.config.isolation == "in_process" else self._elsewhere
        active.work = asyncio.get_running_loop().create_task(self._work(active, work), context=active.context)

    async def _work(self, active: Active, work: Callable[[Active], Coroutine[Any, Any, Any]]) -> None:
        """The task of one run: whatever comes out of it is the run's result."""
        try:
            value = await work(active)
            if active.gate.asked and self._is_held(active):
                await active.gate.passing()  # what it yields waits, too (HO1)
        except asyncio.CancelledError:
            active.fail(AgentError(f"`{active.agent.name}` cancelled itself", kind="CancelledError"))
        except Exception as error:  # noqa: BLE001 - its caller gets it
            active.fail(error)
        else:
            active.finish(value)
        if active.ending is None:
            self._hand_in(active)

    def _is_held(self, active: Active) -> bool:
        """Whether its agent is suspended. One that was only asked for its place gives it back by ending."""
        return self._runtime.kernel.agent_state(active.agent.id) == "suspended"

    async def _elsewhere(self, active: Active) -> Any:
        """In the agent's worker."""
        agent, gate = active.agent, active.gate
        if agent.config.program:
            raise InputError(f"`{agent.name}` is a program: read it with `rt.stream(agent)`")
        session = await self._runtime.workers.session(agent, active.request.approval_timeout_s)
        await gate.passing()
        gate.house(session.sandbox)
        self._runtime.breaches.watch(active, session.sandbox)
        self._limit_processor(active, session.sandbox, since_start=False)
        self._limit(active)
        return await session.run(active.run, active.task, active.request.arguments, gate)

    async def _in_process(self, active: Active) -> Any:
        """In this task. What the agent's own code raises is its failure, whichever side of a pipe it runs on."""
        agent, gate = active.agent, active.gate
        function = agent.config.function
        if function is None:
            raise InputError(f"`{agent.name}` has no function")
        GATE.set(gate)
        PRINCIPAL.set((self._runtime, agent.id))
        AGENT_AT_WORK.set(True)  # TD2
        if gate.asked:
            await gate.passing()
        context = self._context(active) if takes_context(function) else None
        work = bind(function, context, active.request.arguments)
        self._runtime.breaches.guard_loop(active)
        self._limit(active)
        try:
            return await work
        except PolicyDenied:
            raise
        except Exception as error:
            raise AgentError(f"{type(error).__name__}: {error}", kind=type(error).__name__) from error

    def _context(self, active: Active) -> AgentContext:
        agent = active.agent
        channel = _Direct(self._runtime, agent.id, active.gate)
        return AgentContext(
            channel, agent_id=agent.id, name=agent.name, run_id=active.run, task_id=active.task
        )

    def _limit(self, active: Active) -> None:
        """The agent's own time limit: of the work alone."""
        limit_s = active.agent.config.limits.execution_timeout_s
        if limit_s is not None:
            text = f"`{active.agent.name}` took longer than its limit of {limit_s} s"
            active.gate.clock.arm(limit_s, lambda: self._past_limit(active, text))

    def _limit_by_budget(self, active: Active) -> None:
        """What budgets of time leave the run: from its turn on, as the kernel counts it."""
        allowance_ms = None if active.allowance is None else active.allowance[0]
        if allowance_ms is not None:
            text = f"has spent what its budgets of time left it, {allowance_ms} ms"
            active.gate.clock.arm(allowance_ms / 1000, lambda: self._over_budget(active, text))

    def _limit_processor(self, active: Active, sandbox: Sandbox, *, since_start: bool) -> None:
        """What budgets of processor time leave the run."""
        _, allowance_ms, counted = active.allowance or (None, None, False)
        if counted:
            from symbi.runtime.processor import Spending

            spent = f"has spent what its budgets of processor time left it, {allowance_ms} ms"
            unread = "is counted by its processor time, which this host does not show of its sandbox"
            active.spending = Spending(
                sandbox,
                allowance_ms,
                since_start=since_start,
                over=lambda: self._over_budget(active, spent),
                blind=lambda: self._over_budget(active, unread, "denied"),
            )

    def _past_limit(self, active: Active, text: str) -> None:
        self._runtime.breaches.out_of_time(active)
        self._too_late(active, text)

    def _over_budget(self, active: Active, what: str, code: str = "over_budget") -> None:
        text = f"`{active.agent.name}` {what}"
        self.end(active, ("failed", code, text), PolicyDenied(text, code=code))

    async def _end(self, active: Active) -> None:
        """Bring a run to where nothing of it moves, and record it (RN2)."""
        if active.started and active.agent.config.isolation == "sandbox":
            await self._runtime.workers.abandon(active.agent.id)
        if active.work is not None:
            _, refusing = await asyncio.wait([active.work], timeout=BRAKE_S)
            if refusing:
                self._runtime.faults.note("agents", "agent.refuses_to_end")
        self._hand_in(active)
        self._flush()

    async def _until_over(self, active: Active) -> None:
        """What a run's caller waits for on its way out: its end on disk (RT2), and its agent's, where that ends too."""
        if not active.over:
            over = asyncio.Event()
            active.on_over = lambda _: over.set()
            await over.wait()
        if active.last is not None:
            await asyncio.shield(active.last)

    def _hand_in(self, active: Active) -> None:
        """It has ended. Those of one turn of the loop are recorded together, at its end."""
        if not self._ended:
            asyncio.get_running_loop().call_soon(self._flush)
        self._ended.append(active)

    def _flush(self) -> None:
        """Record how they ended, and hand on what they held (RN3)."""
        ended, self._ended = self._ended, []
        if not ended:
            return
        runtime = self._runtime
        try:
            seq, moves = runtime.kernel.end_runs([self._close(active) for active in ended])
            runtime.moves.apply(moves)
            if seq is None:
                problem = runtime.kernel.log_problem()
                raise LogUnavailableError(f"how a run ended cannot be recorded: {problem}")
            runtime.bridge.tell(seq, partial(self._settle, ended))
        except SymbiError as error:
            self._settle(ended, error)
        for active in ended:
            active.last = runtime.brakes.after_run(active.agent.id)

    def _close(self, active: Active) -> tuple[str, str, str, str]:
        """The last of a run in this process; how it ended, for the kernel."""
        outcome = active.how()
        del self.active[active.run]
        try:
            self._runtime.breaches.over(active)  # before its end: an agent is held while it runs
            if active.spending is not None and (used_ms := active.spending.stop()) is not None:
                self._runtime.kernel.run_used_cpu(active.run, used_ms)
            active.gate.end(thaw=active.ending is None)
            if outcome[0] == "failed":
                code = active.error.code if isinstance(active.error, SymbiError) else outcome[1]
                self._runtime.faults.note("agents", code, active.agent.id)
            if active.trial is not None:
                active.trial.judge(self._runtime, active.run, outcome)
        except Exception as error:  # noqa: BLE001 - RN4
            active.fail(error)
        return active.run, *outcome

    def _settle(self, ended: list[Active], trouble: Exception | None) -> None:
        """Their ends are on disk, or never will be: then nobody gets a result (RT2)."""
        for active in ended:
            if trouble is not None and active.error is None:
                active.error = trouble
            active.settle()


class _Direct:
    """The channel of an agent in the host's process."""

    __slots__ = ("_agent", "_gate", "_runtime")

    def __init__(self, runtime: Runtime, agent: str, gate: Gate) -> None:
        self._runtime = runtime
        self._agent = agent
        self._gate = gate

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._runtime.dispatcher.call(self._agent, operation, arguments)

    def put_back(self, messages: Sequence[Message]) -> None:
        self._runtime.dispatcher.messaging.put_back(self._agent, messages)

    async def checkpoint(self) -> None:
        await self._gate.passing()
