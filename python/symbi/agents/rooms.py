"""Who waits for room in a full mailbox, and in which order they try again.

Why: a full mailbox slows its senders down and loses nothing. The kernel names a mailbox that has room again; whoever
has waited longest tries first, so that messages of one sender keep their order.
Not here: mailboxes and their bounds (native).

Invariants
- RM1 of those that send to one recipient, who came first is the first to succeed.
- RM2 who gives up leaves the line, and the next one takes its turn.
- RM3 nobody waits on after `close`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from symbi.errors import MailboxFullError, RuntimeClosedError
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Rooms"]

T = TypeVar("T")


class _Line:
    """Those that wait for one recipient."""

    __slots__ = ("bell", "lock", "mailbox", "users")

    def __init__(self, mailbox: str) -> None:
        self.mailbox = mailbox
        self.lock = asyncio.Lock()  # first come, first served
        self.bell = asyncio.Event()
        self.users = 0


class Rooms:
    """The lines of one runtime, on its loop."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(line.users for line in self._lines.values())

    def is_free(self, recipient: str) -> bool:
        """Whether nobody waits for this recipient: who sends now overtakes nobody."""
        return recipient not in self._lines

    def bell(self, mailbox: str) -> None:
        """The mailbox has room again."""
        for line in self._lines.values():
            if line.mailbox == mailbox:
                line.bell.set()

    def close(self) -> None:
        """The runtime is closed: whoever waits learns it (RM3)."""
        self._closed = True
        for line in self._lines.values():
            line.bell.set()

    async def send(self, recipient: str, attempt: Callable[[], T], timeout_s: float | None) -> T:
        """Call `attempt` until there is room, in turn (RM1).

        Args:
            recipient: The name of the line.
            attempt: Raises `MailboxFullError` where there is none.
            timeout_s: Longest wait, seconds; None: as long as it takes.

        Raises:
            MailboxFullError: no room within `timeout_s`.
        """
        if self.is_free(recipient):
            try:
                return attempt()
            except MailboxFullError as full:
                return await self.wait(recipient, attempt, timeout_s, full)
        return await self.wait(recipient, attempt, timeout_s)

    async def wait(
        self,
        recipient: str,
        attempt: Callable[[], T],
        timeout_s: float | None,
        full: MailboxFullError | None = None,
    ) -> T:
        """As `send`, for who has tried once and found it full, or does not try before those who wait."""
        if full is not None and timeout_s is not None and timeout_s <= 0:
            raise full
        line = self._lines.setdefault(recipient, _Line("" if full is None else full.mailbox))
        line.users += 1
        full_error = MailboxFullError(f"no room in the mailbox of `{recipient}` within {timeout_s} s")
        try:
            async with asyncio.timeout(timeout_s), line.lock:
                while True:
                    line.bell.clear()
                    try:
                        return attempt()
                    except MailboxFullError as still_full:
                        line.mailbox, full_error = still_full.mailbox, still_full
                    await line.bell.wait()
                    if self._closed:
                        raise RuntimeClosedError("the runtime was closed")
                    if (gate := GATE.get()) is not None:
                        await gate.passing()
        except TimeoutError:
            raise full_error from None
        finally:
            line.users -= 1
            if not line.users and self._lines.get(recipient) is line:
                del self._lines[recipient]  # RM2
