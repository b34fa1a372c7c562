"""Many runs for one caller: asked for in few crossings, waited for at once.

Why: a program with ten thousand agents does not want ten thousand callers. Each run is decided on, queued, recorded and
ended as any other; what is shared is the way into the kernel and the waiting.
Not here: what a run is (`runs`), the decision on each (the kernel).

Invariants
- TG1 when the call ends, with whatever, none of its runs moves any more.
- TG2 an answer stands where its task stood.
- TG3 who needs persons waits for them; the others do not wait for him.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import LifecycleError, PolicyDenied
from symbi.runtime.active import CANCELLED, Active

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from symbi.agents.handle import AgentHandle
    from symbi.runtime import Runtime
    from symbi.runtime.asking import Request

__all__ = ["Together"]

CHUNK: Final = 256
"""Runs that are asked for in one crossing: a few milliseconds, then the loop goes round."""


class Together:
    """The runs of one `Runtime.run_many`."""

    def __init__(
        self, runtime: Runtime, asked: list[tuple[AgentHandle, Request]], *, keep_errors: bool
    ) -> None:
        self._runtime = runtime
        self._asked = asked
        self._keep_errors = keep_errors
        self._results: list[Any] = [None] * len(asked)
        self._places: dict[str, int] = {}  # of runs that are not over
        # Of those that have a caller of their own: attempts of supervised agents, and who waits for persons.
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._lasts: list[asyncio.Task[bool]] = []
        self._all_asked = False
        self._over = asyncio.get_running_loop().create_future()
        self._denied = -1  # the last record of a refusal
        self.error: BaseException | None = None

    async def results(self) -> list[Any]:
        """As `Runtime.run_many`."""
        try:
            await self._ask()
            self._look()
            await self._over
        except BaseException:
            await asyncio.shield(self._runtime.runs.in_background(self._end()))
            raise
        if self._lasts:
            await asyncio.wait(self._lasts)
        if self._denied >= 0:
            await self._runtime.bridge.durable(self._denied)
        if self.error is not None:
            raise self.error
        return self._results

    async def _ask(self) -> None:
        for first in range(0, len(self._asked), CHUNK):
            if self.error is not None:
                break
            if first:
                await asyncio.sleep(0)
            places: list[int] = []
            for at, (agent, request) in enumerate(self._asked[first : first + CHUNK], first):
                if not self._runtime.takes_runs(agent.id):
                    text = f"`{agent.name}` is stopped, or about to be: schedule it anew"
                    self._put(at, error=LifecycleError(text))
                elif agent.config.supervision is not None:
                    self._apart(at, self._runtime.runs.run(agent, request))
                else:
                    places.append(at)
            if places:
                self._begin(places)
        self._all_asked = True

    def _apart(self, at: int, run: Coroutine[Any, Any, Any]) -> None:
        """It has a caller of its own."""
        task = asyncio.get_running_loop().create_task(run)
        self._tasks[task] = at
        task.add_done_callback(self._task_over)

    def _begin(self, places: list[int]) -> None:
        asked, runs = self._asked, self._runtime.runs
        common = asked[places[0]][1]
        begun, moves, allowances = self._runtime.kernel.begin_runs(
            "host",
            [(asked[at][0].id, asked[at][1].line) for at in places],
            common.labels,
            common.priority,
            tier=common.tier,
            deadline_ms=common.deadline_ms,
        )
        for at, run in zip(places, begun, strict=True):
            if isinstance(run, str):
                agent, request = asked[at]
                active = runs.admit(agent, run, request, runs.set_to_work)
                active.on_over, active.allowance = self._run_over, allowances.get(run)
                self._places[run] = at
            else:
                if isinstance(run, PolicyDenied):
                    self._runtime.faults.note("agents", run.code)
                    self._denied = max(self._denied, -1 if run.seq is None else run.seq)
                    if run.code == "needs_approval" and self.error is None:
                        self._apart(at, runs.when_agreed(*asked[at], run))
                        continue
                self._put(at, error=run)
        self._runtime.moves.apply(moves)
        if self.error is not None:  # one of them was refused, and others stood behind it
            self._stop()

    def _run_over(self, active: Active) -> None:
        if active.last is not None:
            self._lasts.append(active.last)
        self._put(self._places.pop(active.run), active.value, active.error)
        self._look()

    def _task_over(self, task: asyncio.Task[Any]) -> None:
        at = self._tasks.pop(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._put(at, None if error is not None else task.result(), error)
        self._look()

    def _put(self, at: int, value: Any = None, error: BaseException | None = None) -> None:
        """TG2."""
        self._results[at] = value if error is None else error
        if error is not None and self.error is None and not self._keep_errors:
            self.error = error
            self._stop()

    def _stop(self) -> None:
        """The others are cancelled (TG1)."""
        runs = self._runtime.runs
        for run in list(self._places):
            if (active := runs.active.get(run)) is not None:
                runs.end(active, CANCELLED, None)
        for task in self._tasks:
            task.cancel()

    def _look(self) -> None:
        if self._all_asked and not self._places and not self._tasks and not self._over.done():
            self._over.set_result(None)

    async def _end(self) -> None:
        """Its caller goes away (TG1)."""
        self._all_asked, self._keep_errors = True, True
        self._over = asyncio.get_running_loop().create_future()
        self._stop()
        self._look()
        await self._over
