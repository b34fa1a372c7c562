"""Runs: one task of one agent, from being asked for to its recorded end.

Why: whatever an agent is made of, a run is asked for, waits for its turn, does its work within its time, and is
recorded as ended; these steps are here, once, for coroutines, workers and programs alike. The work has a task of its
own, so that whoever waits for it can go away, and everything that ends it (its caller, a time limit, a stop, a breach)
ends it in one and the same way.
Not here: whose turn it is (the kernel), standing still (`holding`), where the work happens (`workers`),
stopping agents (`brakes`).

Invariants
- RN1 a run that is ended from outside starts no new effect: the kernel is told before its code hears of it.
- RN2 who waits for a run is answered when nothing of it moves any more: its coroutine has unwound, its sandbox is
  frozen or gone. A frozen one is removed in the background.
- RN3 a run is recorded as ended once, by the first reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import copy_context
from dataclasses import dataclass
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.channel import decode, encode
from symbi.agents.context import AgentContext
from symbi.agents.definition import bind
from symbi.errors import (
    AgentError,
    InputError,
    LifecycleError,
    PolicyDenied,
    SymbiError,
    SymbiTimeoutError,
)
from symbi.runtime.holding import GATE, Gate
from symbi.runtime.leaving import Leaving
from symbi.runtime.trying import Resting, Trial, obey, tried
from symbi.tools.guarding import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping

    from symbi.agents.handle import AgentHandle
    from symbi.runtime import Runtime

__all__ = ["PRIORITY_NORMAL", "TIERS", "Active", "Request", "Runs"]

PRIORITY_NORMAL: Final = 128
TIERS: Final = ("realtime", "interactive", "batch")
TIMEOUT_S_MAX: Final = 86_400.0  # a day, as `execution_timeout_s`
PROGRAM_S: Final = 300.0  # of a program that names no limit
TEXT_CHARS_MAX: Final = 4_096  # of an error's text in the record, sealed
BRAKE_S: Final = 5.0  # how long an end waits for a coroutine that does not let go

Outcome = tuple[str, str, str]
_CANCELLED: Final[Outcome] = ("cancelled", "", "")
_DONE: Final[Outcome] = ("done", "", "")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: checked, and decided on as it stands here."""

    line: bytes
    arguments: dict[str, Any]
    labels: list[str]
    priority: int
    tier: str
    timeout_s: float | None
    deadline_s: float | None

    @classmethod
    def of(
        cls,
        given: Mapping[str, Any] | None,
        *,
        timeout_s: float | None,
        priority: int,
        tier: str,
        deadline_s: float | None,
        labels: Iterable[str],
    ) -> Request:
        """The request of `Runtime.run`.

        Raises:
            InputError: a value that cannot be; the text names it and what is accepted.
        """
        for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)):
            if value is not None and not 0 < value <= TIMEOUT_S_MAX:
                raise InputError(f"`{name}` is more than 0 and at most {TIMEOUT_S_MAX}, and is {value}")
        if not 0 <= priority <= 255:
            raise InputError(f"`priority` is 0 to 255, and is {priority}")
        if tier not in TIERS:
            raise InputError(f"`tier` is one of {', '.join(f'`{one}`' for one in TIERS)}, and is `{tier}`")
        if (tier == "realtime") != (deadline_s is not None):
            raise InputError('`deadline_s` goes with tier="realtime", which needs it')
        line, arguments = _bound(given)
        return cls(line, arguments, sorted(labels), priority, tier, timeout_s, deadline_s)


class Active:
    """A run that has begun and not ended.

    Attributes:
        agent: Whose. `run`: its id. `request`: what was asked for.
        gate: Where it stands still, and its timers.
        started: It was handed out.
        result: What it yields, or the error that its caller gets.
        ending: Where something from outside ends it: the task that does.
    """

    __slots__ = (
        *("_context", "_start", "agent", "begun_us", "ending", "gate", "last", "outcome"),
        *("request", "result", "run", "seq", "started", "trial", "work"),
    )

    def __init__(
        self, agent: AgentHandle, run: str, request: Request, gate: Gate, start: Callable[[Active], None]
    ) -> None:
        self.agent = agent
        self.run = run
        self.request = request
        self.gate = gate
        self.begun_us = time_ns() // 1000
        self.started = False
        self.work: asyncio.Task[None] | None = None
        self.result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.outcome = _CANCELLED
        self.seq: int | None = None
        self.ending: asyncio.Task[None] | None = None
        self.last: asyncio.Task[bool] | None = None  # the stop of an agent that ends with this run
        self._start = start
        self._context = copy_context()  # its caller's, whoever hands it out
        self.trial: Trial | None = None  # of who waits for the verdict on it

    def start(self) -> None:
        """Its turn has come (RT1)."""
        if self.ending is None and not self.started:
            self.started = True
            self._context.run(self._start, self)

    def fail(self, error: BaseException) -> None:
        """It ends with this error, unless it has ended already."""
        if not self.result.done():
            self.result.set_exception(error)
            self.result.exception()  # its caller may have gone away


class Runs:
    """The runs of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.active: dict[str, Active] = {}
        self._background: set[asyncio.Task[Any]] = set()
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
        active = await self._begin(agent, request, self._set_to_work, trial)
        self._callers += 1
        try:
            value = await active.result
        except asyncio.CancelledError:
            self.end(active, _CANCELLED, None)
            raise
        finally:
            try:
                await self._finish(active)
            finally:
                self._callers -= 1
                if self._none_left is not None and not self._callers:
                    self._none_left.set()
        return value

    async def stream(self, agent: AgentHandle, request: Request) -> AsyncGenerator[bytes, None]:
        """As `Runtime.stream`."""
        if not agent.config.program:
            raise InputError(f"`{agent.name}` is not a program: use `rt.run(agent, …)`")
        workers = self._runtime.workers
        turn = asyncio.Event()
        trial = None if agent.config.supervision is None else Trial(None)
        active = await self._begin(agent, request, lambda _: turn.set(), trial)
        active.result.add_done_callback(lambda _: turn.set())  # it may end before its turn comes
        try:
            await turn.wait()
            if not active.result.done():
                sandbox = await workers.program(agent)
                active.gate.house(sandbox)
                self._runtime.breaches.watch(active, sandbox)
                sandbox.arm(agent.config.limits.execution_timeout_s or PROGRAM_S)
                while not active.result.done() and (line := await sandbox.receive()) is not None:
                    await active.gate.passing()
                    yield line
                ended = await sandbox.wait()
                if ended.code != 0:
                    text = sandbox.stderr_tail().decode("utf-8", "replace")[-400:]
                    active.fail(
                        AgentError(f"`{agent.name}` ended with code {ended.code}: {text}", kind="exit")
                    )
            if not active.result.done():
                active.result.set_result(None)
            active.result.result()
        except SymbiError as error:
            active.fail(error)
            active.result.result()
        finally:
            if not active.result.done():
                self.end(active, _CANCELLED, None)
            await workers.end_program(agent.id)
            await self._finish(active)
            if trial is not None:
                await obey(self._runtime, agent, trial)

    def stop(self, active: Active, by: str = "host") -> None:
        """End a run because its agent is stopped."""
        error = AgentError(f"`{active.agent.name}` was stopped", kind="stopped")
        self.end(active, _CANCELLED, error, by=by)

    def end(self, active: Active, outcome: Outcome, error: SymbiError | None, *, by: str = "host") -> None:
        """End a run from outside: no new effect of it starts from here on (RN1), once (RN3).

        Args:
            active: Which.
            outcome: What is recorded.
            error: What its caller gets; None where the caller itself went away.
            by: Who ends it.
        """
        if active.ending is not None or (active.result.done() and not active.result.cancelled()):
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
        async with Leaving(runtime, "agents"):
            if not runtime.takes_runs(agent.id):
                raise LifecycleError(f"`{agent.name}` is stopped, or about to be: schedule it anew")
            run, _, moves = runtime.kernel.begin_run(
                "host",
                agent.id,
                request.line,
                request.labels,
                request.priority,
                tier=request.tier,
                deadline_ms=None if request.deadline_s is None else max(1, round(request.deadline_s * 1000)),
                retry_of=None if trial is None else trial.retry_of,
            )
        gate = Gate(lambda: runtime.moves.stood(run))
        active = self.active[run] = Active(agent, run, request, gate, start)
        active.trial = trial
        if request.timeout_s is not None:
            text = f"`{agent.name}` took longer than {request.timeout_s} s"
            gate.clock.arm(request.timeout_s, lambda: self._too_late(active, text))
        runtime.moves.apply(moves)
        return active

    def _too_late(self, active: Active, text: str) -> None:
        self.end(active, ("failed", "timeout", text), SymbiTimeoutError(text))

    def _set_to_work(self, active: Active) -> None:
        active.work = asyncio.get_running_loop().create_task(self._work(active))

    async def _work(self, active: Active) -> None:
        """The task of one run: whatever comes out of it is the run's result."""
        try:
            value = await self._execute(active)
            if active.gate.asked and self._is_held(active):
                await active.gate.passing()  # what it yields waits, too (HO1)
        except asyncio.CancelledError:
            active.fail(AgentError(f"`{active.agent.name}` cancelled itself", kind="CancelledError"))
        except Exception as error:  # noqa: BLE001 - its caller gets it
            active.fail(error)
        else:
            if not active.result.done():
                active.result.set_result(value)

    def _is_held(self, active: Active) -> bool:
        """Whether its agent is suspended. One that was only asked for its place gives it back by ending."""
        return self._runtime.kernel.agent_state(active.agent.id) == "suspended"

    async def _execute(self, active: Active) -> Any:
        agent, gate = active.agent, active.gate
        if agent.config.program:
            raise InputError(f"`{agent.name}` is a program: read it with `rt.stream(agent)`")
        if agent.config.isolation == "in_process":
            return await self._in_process(active)
        session = await self._runtime.workers.session(agent)
        await gate.passing()
        gate.house(session.sandbox)
        self._runtime.breaches.watch(active, session.sandbox)
        self._limit(active)
        return await session.run(active.run, active.request.arguments, gate)

    async def _in_process(self, active: Active) -> Any:
        agent, gate = active.agent, active.gate
        function = agent.config.function
        if function is None:
            raise InputError(f"`{agent.name}` has no function")
        GATE.set(gate)
        PRINCIPAL.set((self._runtime, agent.id))
        await gate.passing()
        channel = _Direct(self._runtime, agent.id, gate)
        context = AgentContext(channel, agent_id=agent.id, name=agent.name, run_id=active.run)
        work = bind(function, context, active.request.arguments)
        self._runtime.breaches.guard_loop(active)
        self._limit(active)
        return await _as_behind_a_pipe(work)

    def _limit(self, active: Active) -> None:
        """The agent's own time limit: of the work alone."""
        limit_s = active.agent.config.limits.execution_timeout_s
        if limit_s is not None:
            text = f"`{active.agent.name}` took longer than its limit of {limit_s} s"
            active.gate.clock.arm(limit_s, lambda: self._past_limit(active, text))

    def _past_limit(self, active: Active, text: str) -> None:
        self._runtime.breaches.out_of_time(active)
        self._too_late(active, text)

    async def _end(self, active: Active) -> None:
        """Bring a run to where nothing of it moves, and record it (RN2)."""
        if active.started and active.agent.config.isolation == "sandbox":
            await self._runtime.workers.abandon(active.agent.id)
        if active.work is not None:
            _, refusing = await asyncio.wait([active.work], timeout=BRAKE_S)
            if refusing:
                self._runtime.faults.note("agents", "agent.refuses_to_end")
        self._record(active)

    async def _finish(self, active: Active) -> None:
        """What a run's caller waits for on its way out."""
        if active.ending is None:
            self._record(active)
        else:
            await asyncio.shield(active.ending)
        if active.last is not None:
            await asyncio.shield(active.last)
        await self._runtime.bridge.durable(active.seq)  # RT2

    def _record(self, active: Active) -> None:
        """Record how it ended, and hand on what it held (RN3)."""
        outcome = active.outcome if active.ending is not None else _outcome(active.result)
        self._runtime.breaches.over(active)  # before its end: an agent is held while it runs
        active.gate.end(thaw=active.ending is None)
        del self.active[active.run]
        if outcome[0] == "failed":
            self._runtime.faults.note("agents", _code(active.result, outcome), active.agent.id)
        try:
            if active.trial is not None:
                active.trial.judge(self._runtime, active.run, outcome)
            active.seq, moves = self._runtime.kernel.end_run(active.run, *outcome)
            self._runtime.moves.apply(moves)
        finally:
            active.last = self._runtime.brakes.after_run(active.agent.id)


class _Direct:
    """The channel of an agent in the host's process."""

    __slots__ = ("_agent", "_gate", "_runtime")

    def __init__(self, runtime: Runtime, agent: str, gate: Gate) -> None:
        self._runtime = runtime
        self._agent = agent
        self._gate = gate

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._runtime.dispatcher.call(self._agent, operation, arguments)

    async def checkpoint(self) -> None:
        await self._gate.passing()


def _bound(given: Mapping[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
    """The input as one line, and as the agent gets it: decoded from that line, which is what is decided on."""
    if given is not None and not hasattr(given, "keys"):
        kind = type(given).__name__
        raise InputError(f'the input is bound by name: give a dict, such as {{"ticket": …}}, not a {kind}')
    try:
        line = encode(dict(given or {}))
        return line, decode(line)
    except (TypeError, ValueError) as error:
        raise InputError(f"the input cannot be given to an agent: {error}") from None


def _outcome(result: asyncio.Future[Any]) -> Outcome:
    """How a run ended by itself."""
    error = result.exception()
    if error is None:
        return _DONE
    if isinstance(error, AgentError) and error.kind:
        kind = error.kind
    else:
        kind = error.code if isinstance(error, SymbiError) else type(error).__name__
    return "failed", kind, str(error)[:TEXT_CHARS_MAX]


def _code(result: asyncio.Future[Any], outcome: Outcome) -> str:
    error = None if result.cancelled() else result.exception()
    return error.code if isinstance(error, SymbiError) else outcome[1]


async def _as_behind_a_pipe(work: Coroutine[Any, Any, Any]) -> Any:
    """What an agent's own code raises is its failure, whichever side of the pipe it runs on."""
    try:
        return await work
    except PolicyDenied:
        raise
    except Exception as error:
        raise AgentError(f"{type(error).__name__}: {error}", kind=type(error).__name__) from error
