"""The watchdog: sees when an in-process agent blocks the event loop, and says where.

Why: in the host's process nothing can take the processor from a coroutine that computes or waits without `await`; all
other agents, timers and brakes stand still behind it. It cannot be helped from outside, so it must at least be seen.
A thread looks; while nothing runs in the process it sleeps without a timer.
Not here: what is done about it (`breaches`, the kernel); agents in sandboxes, which cannot block this loop.

It sees every block of one and a half times the threshold, and none below the threshold. It does not see a single call
of native code that keeps the interpreter's lock throughout: nobody can run while it lasts.

Invariants
- WD1 while no in-process run is active the thread waits without a timeout: no processor time.
- WD2 a loop that answers within the threshold is never reported.
- WD3 after `close` there is no thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Block", "Watchdog"]

_LOOKS: Final = 4
"""Looks within one threshold: a block is seen at the latest after 1 + 2/4 of it."""

FRAMES_MAX: Final = 16
"""Frames of a stack that are kept, the innermost ones: the last names the line that blocks."""

PLACES_MAX: Final = 1_024
"""Places remembered, to tell of each once. A program with more of them has other problems."""

_IDLE: Final = ("/selectors.py", "/asyncio/runners.py")
"""Where a loop stands that waits for something to happen: in the selector, or (a native loop) below its runner."""


@dataclass(frozen=True, slots=True)
class Block:
    """A loop that stood still.

    Attributes:
        agent, run, name: Whose run stood there; empty where a task of its own making did and several run.
        place: `file:line` of the innermost line.
        stack: The innermost frames, as a traceback prints them.
        blocked_ms: How long so far, milliseconds; it may go on.
        first: Whether this place was not seen before.
    """

    agent: str
    run: str
    name: str
    place: str
    stack: str
    blocked_ms: int
    first: bool


class Watchdog:
    """Of one event loop. `enter`, `leave` and `close` are called on it; `report` is called on the watchdog's thread.

    Args:
        loop: The loop.
        threshold_ms: How long it may stand still, milliseconds.
        report: Gets each block, once.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threshold_ms: int, report: Callable[[Block], None]
    ) -> None:
        self._loop = loop
        self._threshold_s = threshold_ms / 1000
        self._report = report
        self._loop_thread = threading.get_ident()
        self._active: dict[str, tuple[str, str, asyncio.Task[Any] | None]] = {}
        self._places: set[str] = set()
        self._busy = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._answered = 0
        self.blocks = 0
        self.longest_ms = 0
        self.looks = 0

    def enter(self, run: str, agent: str, name: str) -> None:
        """A run begins in this process, in the current task."""
        self._active[run] = (agent, name, asyncio.current_task())
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(target=self._watch, name="symbi-watchdog", daemon=True)
            self._thread.start()
        if not self._busy.is_set():
            self._busy.set()

    def leave(self, run: str) -> None:
        """It has ended."""
        self._active.pop(run, None)
        if not self._active:
            self._busy.clear()  # WD1

    def close(self) -> None:
        """End the thread (WD3). Twice is once."""
        self._closing.set()
        self._busy.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # On its own thread

    def _watch(self) -> None:
        asked, asked_at, told = 0, 0.0, 0
        pause_s = self._threshold_s / _LOOKS
        while not self._closing.is_set():
            self._busy.wait()  # WD1
            self.looks += 1
            if self._answered == asked:
                frame = sys._current_frames().get(self._loop_thread)
                if frame is not None and not frame.f_code.co_filename.endswith(_IDLE):
                    asked, asked_at = asked + 1, time.monotonic()
                    with suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._answer, asked)
            elif told != asked and (stood_s := time.monotonic() - asked_at) >= self._threshold_s:
                frame = sys._current_frames().get(self._loop_thread)
                if self._answered != asked and frame is not None:  # WD2: looked at again after the stack
                    told = asked
                    self._tell(frame, round(stood_s * 1000))
            self._closing.wait(pause_s)

    def _answer(self, asked: int) -> None:
        self._answered = asked

    def _tell(self, frame: FrameType, blocked_ms: int) -> None:
        self.blocks += 1
        self.longest_ms = max(self.longest_ms, blocked_ms)
        run, agent, name = self._whose()
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        first = place not in self._places and len(self._places) < PLACES_MAX
        if first:
            self._places.add(place)
        stack = "".join(traceback.format_stack(frame)[-FRAMES_MAX:])
        self._report(Block(agent, run, name, place, stack, blocked_ms, first))

    def _whose(self) -> tuple[str, str, str]:
        """The run whose task the loop stands in; or the only one there is, for it may have made tasks of its own."""
        active = list(self._active.items())
        with suppress(RuntimeError):
            task = asyncio.current_task(self._loop)
            for run, (agent, name, its_task) in active:
                if its_task is task and task is not None:
                    return run, agent, name
        if len(active) == 1:
            run, (agent, name, _) = active[0]
            return run, agent, name
        return "", "", ""
