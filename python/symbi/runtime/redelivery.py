"""When a message is handed out again: a timer that is armed only while one waits for its acknowledgement.

Why: the kernel knows what is due and when; Python owns the loop, so it says so.
Not here: what is handed out again, after which pauses (the kernel).

Invariants
- RD1 while nothing is due there is no timer, and after `close` there never is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from symbi._core import Kernel

__all__ = ["Redelivery"]


class Redelivery:
    """Of one kernel on one loop. All methods are called on that loop."""

    def __init__(self, kernel: Kernel, loop: asyncio.AbstractEventLoop) -> None:
        self._kernel = kernel
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def bell(self) -> None:
        """The kernel rang: something may be due, or earlier than it was."""
        in_us = None if self._closed else self._kernel.deliveries_in_us()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if in_us is not None:  # RD1
            self._timer = self._loop.call_later(in_us / 1e6, self._pass)

    def close(self) -> None:
        """No more (RD1). Twice is once."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pass(self) -> None:
        self._timer = None
        self._kernel.pass_deliveries()
        self.bell()
