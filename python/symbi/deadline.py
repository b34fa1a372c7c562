"""A time limit that can stand still: of a run that is held, of a sandbox that is frozen.

Not here: what is bounded, and what follows when the time is up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Deadline"]


class Deadline:
    """Calls `expired` when `left_s` seconds have passed while it went on. It begins standing still.

    All methods are called on one loop.
    """

    __slots__ = ("_expired", "_handle", "_left_s")

    def __init__(self, left_s: float, expired: Callable[[], object]) -> None:
        self._left_s = left_s
        self._expired = expired
        self._handle: asyncio.TimerHandle | None = None

    def go_on(self) -> None:
        """Time passes."""
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_later(self._left_s, self._expired)

    def hold(self) -> None:
        """Time stands still; what is left is kept."""
        if self._handle is not None:
            self._left_s = max(0.0, self._handle.when() - asyncio.get_running_loop().time())
            self._handle.cancel()
            self._handle = None
