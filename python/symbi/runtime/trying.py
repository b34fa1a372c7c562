"""Attempts of a task of a supervised agent: what the kernel's verdict asks the host to do.

Why: whether a failure is tried again is decided and recorded in the kernel. This module obeys: it waits, asks for the
next attempt, restarts a worker, ends an agent.
Not here: what may be asked for (`symbi.supervision`), one attempt (`runs`), the rules (the native core).

Invariants
- SU1 a task is tried again only when the kernel says so; one that waits for its next attempt ends with its agent, its
  caller or its time, and is given up aloud.
- SU2 an attempt that came to an effect of which nobody knows fails, whatever its code returns.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from symbi.errors import AgentError, EffectUnknownError, SymbiError

if TYPE_CHECKING:
    from symbi.agents.handle import AgentHandle
    from symbi.runtime import Runtime
    from symbi.runtime.asking import Request
    from symbi.runtime.runs import Runs

__all__ = ["Resting", "Trial", "obey", "tried"]


class Trial:
    """One attempt of a task, as its verdict comes to whoever tries it.

    Attributes:
        retry_of: The attempt before; None for the first.
        task: The first attempt; None where this is it.
        run: This attempt, once it has ended.
        verdict: `none`, `retry`, `restart`, `escalate` or `dead`.
        error_class: What the failure is; None where there was none.
        after_s: Seconds until the next attempt.
    """

    __slots__ = ("after_s", "error_class", "retry_of", "run", "task", "verdict")

    def __init__(self, retry_of: str | None, task: str | None = None) -> None:
        self.retry_of = retry_of
        self.task = task
        self.run: str | None = None
        self.verdict = "none"
        self.error_class: str | None = None
        self.after_s = 0.0

    def judge(self, runtime: Runtime, run: str, outcome: tuple[str, str, str]) -> None:
        """Ask the kernel what follows; just before the end of the run is recorded."""
        self.run = run
        judged = runtime.kernel.judge(run, *outcome)
        if judged is not None:
            self.error_class, self.verdict, _, _, after_ms = judged
            self.after_s = after_ms / 1000


class Resting:
    """Tasks that wait for their next attempt, so that a stop of their agent ends the wait."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event] = {}

    def stop(self, run: str) -> None:
        """The task whose last attempt was `run` waits no more."""
        if (end := self._ends.get(run)) is not None:
            end.set()

    async def wait(self, run: str, after_s: float) -> bool:
        """Whether the whole time has passed."""
        end = self._ends[run] = asyncio.Event()
        try:
            async with asyncio.timeout(after_s):
                await end.wait()
        except TimeoutError:
            return True
        finally:
            del self._ends[run]
        return False


async def obey(runtime: Runtime, agent: AgentHandle, trial: Trial) -> None:
    """Restart its worker, or end it, where the verdict says so."""
    if trial.verdict == "restart":
        await runtime.workers.end(agent.id, force=True)  # the next run gets a fresh one
    elif trial.verdict == "escalate":
        await runtime.stop_agent(agent, force=True)


async def tried(runs: Runs, runtime: Runtime, agent: AgentHandle, request: Request) -> Any:
    """A task of a supervised agent: attempts until one is done, or the kernel says that it was the last (SU1).

    The caller's time is that of all attempts together; where it would be over before the next one, the task is given up
    and its last error raised.
    """
    now = asyncio.get_running_loop().time
    ends = None if request.timeout_s is None else now() + request.timeout_s
    first: str | None = None
    last: str | None = None
    while True:
        trial = Trial(last, first)
        error: SymbiError | None = None
        value = None
        try:
            value = await runs.attempt(agent, request, trial)
        except SymbiError as failed:
            error = failed
        except BaseException:
            _give_up(runtime, trial.run or last)
            raise
        if trial.run is None:  # refused before it began
            _give_up(runtime, last)
            raise error or AgentError(f"`{agent.name}` did not run", kind="not_scheduled")
        last = trial.run
        first = first or last
        if trial.error_class == "unknown_effect":
            error = _unknown(agent, error)  # SU2
        await obey(runtime, agent, trial)
        if error is None:
            return value
        if trial.verdict != "retry":
            raise error
        if ends is not None and now() + trial.after_s >= ends:
            _give_up(runtime, last)
            raise error
        try:
            waited = await runs.resting.wait(last, trial.after_s)
        except BaseException:
            _give_up(runtime, last)
            raise
        if not waited:
            _give_up(runtime, last)
            raise AgentError(f"`{agent.name}` was stopped", kind="stopped") from error
        if ends is not None:
            request = replace(request, timeout_s=max(0.001, ends - now()))


def _unknown(agent: AgentHandle, error: SymbiError | None) -> SymbiError:
    text = f"an effect of an earlier attempt of `{agent.name}` is unknown, so it is not repeated"
    unknown = EffectUnknownError(f"{text}: `symbi approvals list`")
    unknown.__cause__ = error
    return unknown


def _give_up(runtime: Runtime, run: str | None) -> None:
    """The task of `run` is not tried again; nothing where it does not wait for that."""
    if run is not None:
        with contextlib.suppress(SymbiError):
            runtime.kernel.give_up(run)
