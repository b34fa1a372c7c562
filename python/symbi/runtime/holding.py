"""Standing still: how a run is held without ending it, and how it goes on.

Why: a more urgent task may take a run's place, and an operator, a policy or a limit may hold it. A sandbox is frozen
from outside. A coroutine in the host's process cannot be: it stands still where it waits for `ctx` anyway, or at
`ctx.checkpoint()`; until then it was asked, and that is shown.
Not here: who is to stand still and who goes on (the kernel), freezing (`symbi.sandbox`).

Invariants
- HO1 a run that stands still gets no answer, starts no effect, and its time does not pass.
- HO2 a run is told to the kernel as standing only when it stands: frozen, or its coroutine at its gate.
- HO3 no call fails because its run was held: what was decided and not begun is decided anew when it goes on.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

from symbi.deadline import Deadline
from symbi.errors import SymbiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from symbi.sandbox.base import Sandbox

__all__ = ["GATE", "Clock", "Gate"]


class Clock:
    """The timers of one run. They stand still while the run does."""

    __slots__ = ("_held", "_timers")

    def __init__(self) -> None:
        self._timers: list[Deadline] = []
        self._held = False

    def arm(self, left_s: float, expired: Callable[[], None]) -> None:
        """Call `expired` when the run has had `left_s` more seconds."""
        timer = Deadline(left_s, expired)
        self._timers.append(timer)
        if not self._held:
            timer.go_on()

    def hold(self) -> None:
        """Time stops."""
        self._held = True
        for timer in self._timers:
            timer.hold()

    def go_on(self) -> None:
        """Time passes again: what was left is still left."""
        self._held = False
        for timer in self._timers:
            timer.go_on()

    def clear(self) -> None:
        """Nothing expires any more."""
        for timer in self._timers:
            timer.hold()
        self._timers.clear()


class Gate:
    """Where one run stands still. All methods are called on its loop.

    Attributes:
        asked: It is to stand still.
        standing: It does, and the kernel was told.
        trouble: Why it could not be frozen; empty where it could.
    """

    __slots__ = (
        *("_clock", "_following", "_frozen", "_inside", "_open", "_sandbox", "_stood"),
        *("asked", "standing", "trouble"),
    )

    def __init__(self, stood: Callable[[], None]) -> None:
        self.asked = False
        self.standing = False
        self._clock: Clock | None = None  # made when it is to run: most runs have no timer and are never held
        self.trouble = ""
        self._stood = stood
        self._inside = 0  # calls of `ctx` under way: its coroutine waits in them
        self._open: asyncio.Event | None = None  # made when somebody waits: most runs are never held
        self._sandbox: Sandbox | None = None
        self._frozen = False
        self._following: asyncio.Task[None] | None = None

    @property
    def clock(self) -> Clock:
        """Its timers."""
        if self._clock is None:
            self._clock = Clock()
        return self._clock

    # What the runtime does

    def house(self, sandbox: Sandbox) -> None:
        """It lives there: from now on it is frozen from outside."""
        self._sandbox = sandbox
        if self.asked:
            self._follow()

    def ask(self) -> None:
        """It is to stand still."""
        if not self.asked:
            self.asked = True
            self._follow()
            self._look()

    def release(self) -> None:
        """It goes on. What stood waits no longer, and its time passes again."""
        if self.asked:
            self.asked = self.standing = False
            self.clock.go_on()
            self._let_go()
            self._follow()

    def end(self, *, thaw: bool) -> None:
        """The run is over: nothing waits here any more. `thaw`: its sandbox serves others, and is not left frozen."""
        self.asked = self.standing = False
        if self._clock is not None:
            self._clock.clear()
        self._let_go()
        if thaw:
            self._follow()
        else:
            self._sandbox = None

    async def settled(self) -> None:
        """Wait until its sandbox is as it is to be: frozen, or not. Returns at once without one."""
        if self._following is not None:
            await asyncio.shield(self._following)

    # What a run does on its way

    async def enter(self) -> None:
        """A call of `ctx` begins; it waits here while the run is held (HO1)."""
        self._inside += 1
        if self.asked:
            try:
                await self._wait()
            except BaseException:
                self._inside -= 1
                raise

    async def leave(self) -> None:
        """A call of `ctx` ends; its answer waits here while the run is held (HO1)."""
        try:
            if self.asked:
                await self._wait()
        finally:
            self._inside -= 1

    async def passing(self) -> None:
        """Stand still here, where asked to."""
        if self.asked:
            await self.enter()
            self._inside -= 1

    async def _wait(self) -> None:
        interrupted: BaseException | None = None
        while self.asked:
            self._look()
            if self._open is None:
                self._open = asyncio.Event()
            try:
                await self._open.wait()
            except asyncio.CancelledError as error:  # a timer of the agent's own does not set it free
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.set()
            self._open = None

    def _look(self) -> None:
        """Tell that it stands, once, when it does (HO2)."""
        stands = self._frozen if self._sandbox is not None else self._inside > 0
        if self.asked and not self.standing and stands:
            self.standing = True
            self.clock.hold()
            self._stood()

    def _follow(self) -> None:
        if self._sandbox is not None and self._following is None and self._frozen != self.asked:
            self._following = asyncio.get_running_loop().create_task(self._freeze(self._sandbox))

    async def _freeze(self, sandbox: Sandbox) -> None:
        """Bring the sandbox to where it is to be, however often that changes meanwhile."""
        try:
            while self._sandbox is not None and self._frozen != self.asked:
                if self.asked:
                    await sandbox.pause()
                    self._frozen = True
                    self._look()
                else:
                    await sandbox.unpause()
                    self._frozen = False
        except SymbiError as error:  # what it asks for waits at the gate all the same
            self.trouble = str(error)
        finally:
            self._following = None


GATE: ContextVar[Gate | None] = ContextVar("symbi_gate", default=None)
"""The gate of the run that this code acts for; None where it acts for none."""
