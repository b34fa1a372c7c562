"""One run that has begun and not ended: what it is, and how far it has come.

Not here: what is done with it (`runs`).
"""

from __future__ import annotations

from contextvars import copy_context
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import AgentError, SymbiError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from symbi.agents.handle import AgentHandle
    from symbi.runtime.asking import Request
    from symbi.runtime.holding import Gate
    from symbi.runtime.processor import Spending
    from symbi.runtime.trying import Trial

__all__ = ["CANCELLED", "Active", "Outcome"]

TEXT_CHARS_MAX: Final = 4_096  # of an error's text in the record, sealed

Outcome = tuple[str, str, str]
CANCELLED: Final[Outcome] = ("cancelled", "", "")
_DONE: Final[Outcome] = ("done", "", "")


class Active:
    """A run that has begun and not ended.

    Attributes:
        agent: Whose. `run`: its id. `request`: what was asked for.
        gate: Where it stands still, and its timers.
        started: It was handed out.
        done: It has a result: `value`, or the `error` that its caller gets.
        work: The task of its code, where it has one.
        ending: Where something from outside ends it: the task that does. `outcome`: what is recorded then.
        over: Its end is recorded, and on disk.
        last: The stop of an agent that ends with this run.
        trial: Of who waits for the verdict on it.
        allowance: `(ms at work, ms of processors, whether those are counted)`, where budgets of time bound it.
        spending: Of its processor time, where a counter counts that.
        on_done: Called when it has a result. `on_over`: called when it is over.
    """

    __slots__ = (
        *(
            "_start",
            "agent",
            "allowance",
            "begun_us",
            "context",
            "done",
            "ending",
            "error",
            "gate",
            "last",
            "on_done",
        ),
        *("on_over", "outcome", "over", "request", "run", "spending", "started", "trial", "value", "work"),
    )

    def __init__(
        self, agent: AgentHandle, run: str, request: Request, gate: Gate, start: Callable[[Active], None]
    ) -> None:
        self.agent = agent
        self.run = run
        self.request = request
        self.gate = gate
        self.begun_us = time_ns() // 1000
        self.context = copy_context()  # its caller's, whoever hands it out
        self.started = self.done = self.over = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.work: asyncio.Task[None] | None = None
        self.ending: asyncio.Task[None] | None = None
        self.outcome = CANCELLED
        self.last: asyncio.Task[bool] | None = None
        self.trial: Trial | None = None
        self.allowance: tuple[int | None, int | None, bool] | None = None
        self.spending: Spending | None = None
        self.on_done: Callable[[], None] | None = None
        self.on_over: Callable[[Active], None] | None = None
        self._start = start

    @property
    def task(self) -> str:
        """The id of its task: of its first attempt."""
        first = None if self.trial is None else self.trial.task
        return self.run if first is None else first

    def start(self) -> None:
        """Its turn has come (RT1)."""
        if self.ending is None and not self.started:
            self.started = True
            self._start(self)

    def finish(self, value: Any) -> None:
        """It ends with this value, unless it has ended already."""
        if not self.done:
            self.done, self.value = True, value
            if self.on_done is not None:
                self.on_done()

    def fail(self, error: BaseException) -> None:
        """It ends with this error, unless it has ended already."""
        if not self.done:
            self.done, self.error = True, error
            if self.on_done is not None:
                self.on_done()

    def settle(self) -> None:
        """Its end is recorded (RT2)."""
        self.over = True
        if self.on_over is not None:
            self.on_over(self)

    def answer(self) -> Any:
        """Its value, or its error raised."""
        if self.error is not None:
            raise self.error
        return self.value

    def how(self) -> Outcome:
        """How it ended, as it is recorded."""
        if self.ending is not None:
            return self.outcome
        error = self.error
        if error is None:
            return _DONE
        if isinstance(error, AgentError) and error.kind:
            kind = error.kind
        else:
            kind = error.code if isinstance(error, SymbiError) else type(error).__name__
        return "failed", kind, str(error)[:TEXT_CHARS_MAX]
