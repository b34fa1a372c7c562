"""Runs: one task of one agent, from being asked for to its recorded end.

Why: whatever an agent is made of, a run is asked for, waits for its turn, does its work within its time, and is
recorded as ended; these steps are here, once, for coroutines, workers and programs alike.
Not here: whose turn it is (the kernel), where the work happens (`symbi.workers`), ending an agent (`symbi.stopping`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

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
from symbi.leaving import Leaving
from symbi.tools.guarding import PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping

    from symbi.agents.handle import AgentHandle
    from symbi.runtime import Runtime
    from symbi.sandbox.base import Sandbox

__all__ = ["PRIORITY_NORMAL", "Active", "Runs", "check"]

PRIORITY_NORMAL = 128
TIMEOUT_S_MAX = 86_400.0  # a day, as `execution_timeout_s`
PROGRAM_S = 300.0  # of a program that names no limit
TEXT_CHARS_MAX = 4_096  # of an error's text in the record, sealed
BRAKE_S = 5.0  # how long a stop waits for a coroutine that does not let go

Outcome = tuple[str, str, str]
_CANCELLED: Outcome = ("cancelled", "", "")
_DONE: Outcome = ("done", "", "")


class Runs:
    """The runs of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._starting: dict[str, asyncio.Future[None]] = {}
        self.active: dict[str, Active] = {}

    @property
    def waiting(self) -> int:
        """How many have not been handed out."""
        return len(self._starting)

    async def run(
        self,
        agent: AgentHandle,
        given: Mapping[str, Any] | None,
        *,
        timeout_s: float | None,
        priority: int,
        labels: Iterable[str],
    ) -> Any:
        """As `Runtime.run`, of a scheduled agent."""
        check(timeout_s, priority)
        line, arguments = _bound(given)
        async with Leaving(self._runtime, "agents"):
            self._check_open(agent)
            run, _, moves = self._runtime.kernel.begin_run("host", agent.id, line, sorted(labels), priority)
        outcome = _CANCELLED
        active = self.active[run] = Active(agent.id)
        try:
            async with active.ending, asyncio.timeout(timeout_s) as whole:
                await self._turn(run, moves[0])
                value = await self._execute(agent, run, arguments)
            outcome = _DONE
        except TimeoutError as error:
            if active.ending.expired():
                raise AgentError(f"`{agent.name}` was stopped", kind="stopped") from None
            text = f"`{agent.name}` took longer than {timeout_s} s" if whole.expired() else str(error)
            outcome = ("failed", "timeout", text)
            self._runtime.faults.note("agents", SymbiTimeoutError.code)
            raise SymbiTimeoutError(text) from None
        except SymbiError as error:
            if active.stopped:
                raise AgentError(f"`{agent.name}` was stopped", kind="stopped") from None
            kind = error.kind if isinstance(error, AgentError) and error.kind else error.code
            outcome = ("failed", kind, str(error)[:TEXT_CHARS_MAX])
            self._runtime.faults.note("agents", error.code)
            raise
        finally:
            await self._finish(run, outcome)
        return value

    async def stream(self, agent: AgentHandle) -> AsyncGenerator[bytes, None]:
        """As `Runtime.stream`."""
        if not agent.config.program:
            raise InputError(f"`{agent.name}` is not a program: use `rt.run(agent, …)`")
        async with Leaving(self._runtime, "agents") as leaving:
            self._check_open(agent)
            run, leaving.seq, moves = self._runtime.kernel.begin_run(
                "host", agent.id, b"", [], PRIORITY_NORMAL
            )
        outcome = _CANCELLED
        sandbox: Sandbox | None = None
        try:
            await self._turn(run, moves[0])
            sandbox = await self._runtime.workers.program(agent)
            sandbox.arm(agent.config.limits.execution_timeout_s or PROGRAM_S)
            while (line := await sandbox.receive()) is not None:
                yield line
            ended = await sandbox.wait()
            outcome = _DONE if ended.code == 0 else ("failed", "exit", str(ended.code))
            if ended.code != 0:
                text = sandbox.stderr_tail().decode("utf-8", "replace")[-400:]
                raise AgentError(f"`{agent.name}` ended with code {ended.code}: {text}", kind="exit")
        except SymbiError as error:
            outcome = ("failed", error.code, str(error)[:TEXT_CHARS_MAX])
            raise
        finally:
            if sandbox is not None:
                await self._runtime.workers.end_program(agent.id)
            seq, moves = self._runtime.kernel.end_run(run, *outcome)
            self._release(moves[0])
            await self._runtime.stopping.after_run(agent.id)
            await self._runtime.bridge.durable(seq)

    def refuse_waiting(self, run: str, error: SymbiError) -> None:
        """End a run that waits for its turn."""
        future = self._starting.get(run)
        if run not in self.active and future is not None and not future.done():
            future.set_exception(error)

    def _check_open(self, agent: AgentHandle) -> None:
        if not self._runtime.takes_runs(agent.id):
            raise LifecycleError(f"`{agent.name}` is stopped, or about to be: schedule it anew")

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

    async def _execute(self, agent: AgentHandle, run: str, arguments: dict[str, Any]) -> Any:
        if agent.config.program:
            raise InputError(f"`{agent.name}` is a program: read it with `rt.stream(agent)`")
        if agent.config.isolation == "in_process":
            return await self._in_process(agent, run, arguments)
        session = await self._runtime.workers.session(agent)
        return await self._within(agent, session.run(run, arguments))

    async def _within(self, agent: AgentHandle, work: Coroutine[Any, Any, Any]) -> Any:
        """The work, within the agent's own time limit."""
        limit_s = agent.config.limits.execution_timeout_s
        bound = asyncio.timeout(limit_s)
        try:
            async with bound:
                return await work
        except TimeoutError:
            if not bound.expired():
                raise
            raise SymbiTimeoutError(f"`{agent.name}` took longer than its limit of {limit_s} s") from None

    async def _in_process(self, agent: AgentHandle, run: str, arguments: dict[str, Any]) -> Any:
        config = agent.config
        if config.function is None:
            raise InputError(f"`{agent.name}` has no function")
        channel = _Direct(self._runtime, agent.id)
        context = AgentContext(channel, agent_id=agent.id, name=config.name, run_id=run)
        work = bind(config.function, context, arguments)
        token = PRINCIPAL.set((self._runtime, agent.id))
        try:
            return await self._within(agent, _as_behind_a_pipe(work))
        finally:
            PRINCIPAL.reset(token)

    async def _finish(self, run: str, outcome: Outcome) -> None:
        """Record how a run ended, hand on what it held, and end an agent that was to stop after it."""
        active = self.active.pop(run)
        try:
            seq, moves = self._runtime.kernel.end_run(run, *outcome)
            self._release(moves[0])
            await self._runtime.stopping.after_run(active.agent)
            await self._runtime.bridge.durable(seq)  # RT2
        finally:
            active.ended.set()


class Active:
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


class _Direct:
    """The channel of an agent in the host's process."""

    __slots__ = ("_agent", "_runtime")

    def __init__(self, runtime: Runtime, agent: str) -> None:
        self._runtime = runtime
        self._agent = agent

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._runtime.dispatcher.call(self._agent, operation, arguments)


def check(timeout_s: float | None, priority: int) -> None:
    if timeout_s is not None and not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise InputError(f"`timeout_s` is more than 0 and at most {TIMEOUT_S_MAX}, and is {timeout_s}")
    if not 0 <= priority <= 255:
        raise InputError(f"`priority` is 0 to 255, and is {priority}")


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


async def _as_behind_a_pipe(work: Coroutine[Any, Any, Any]) -> Any:
    """What an agent's own code raises is its failure, whichever side of the pipe it runs on."""
    try:
        return await work
    except PolicyDenied:
        raise
    except Exception as error:
        raise AgentError(f"{type(error).__name__}: {error}", kind=type(error).__name__) from error
