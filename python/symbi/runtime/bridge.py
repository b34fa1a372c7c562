"""The bridge between the kernel's threads and one event loop.

Why: nothing is awaited per record. One descriptor wakes the loop when the durable end of the log has passed what is
waited for, or a mailbox has filled; one drain hands over all that is ready. Works on asyncio and uvloop alike.
Not here: what is waited for.

Invariants
- BR1 a waiter whose record is durable is woken; one whose log has failed gets `LogUnavailableError`.
- BR2 nothing is left on the loop after `close`.
- BR3 who waits on another loop than the bridge's is refused: it would never be woken.
- BR4 who stops waiting for a mailbox leaves nothing behind.
- BR5 who waits for a mailbox that a call of this loop has filled goes on in the same turn, without the descriptor.
"""

from __future__ import annotations

import asyncio
import heapq
from functools import partial
from typing import TYPE_CHECKING

from symbi.errors import LogUnavailableError, RuntimeClosedError
from symbi.runtime.late import Late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from symbi._core import Kernel

__all__ = ["Bridge"]


class Bridge:
    """One kernel, one loop. All methods are called on that loop.

    `on_bell` is called after each drain: what else the kernel may have rung for. `on_room` is called with a mailbox
    that was full and has room again.
    """

    def __init__(
        self,
        kernel: Kernel,
        loop: asyncio.AbstractEventLoop,
        on_bell: Callable[[], None] = lambda: None,
    ) -> None:
        self._kernel = kernel
        self._loop = loop
        self._on_bell = on_bell
        self.on_room: Callable[[str], None] = lambda _mailbox: None
        self._waiting: list[tuple[int, int, Callable[[Exception | None], None]]] = []
        self._tie = 0
        self._mailboxes: dict[str, list[asyncio.Future[None]]] = {}
        self._late = Late(loop)
        self._closed = False
        loop.add_reader(kernel.fileno(), self._drain)

    async def durable(self, seq: int | None) -> None:
        """Wait until record `seq` is on disk. None: nothing was recorded, nothing to wait for.

        Raises:
            LogUnavailableError: the log failed before it was.
        """
        if seq is None or self._kernel.durable() > seq:
            return
        future = self._loop.create_future()
        self.tell(seq, partial(_answer, future))
        await future

    def tell(self, seq: int, told: Callable[[Exception | None], None]) -> None:
        """Have `told` called when record `seq` is on disk, now where it is; with the error, where it never will be."""
        if self._kernel.durable() > seq:
            told(None)
            return
        self._check()
        self._tie += 1
        heapq.heappush(self._waiting, (seq, self._tie, told))
        if self._kernel.want(seq) or self._kernel.log_problem() is not None:
            self._release()

    async def mailbox(self, agent: str, until_s: float | None = None) -> None:
        """Wait until something has come into the mailbox of `agent` that was empty before, or an answer to it.

        Args:
            agent: Whose mailbox.
            until_s: When to give up, in the loop's time. None: never.

        Raises:
            TimeoutError: nothing came until then.
        """
        self._check()
        future = self._loop.create_future()
        self._mailboxes.setdefault(agent, []).append(future)
        if until_s is not None:
            self._late.add(until_s, future)
        try:
            await future
        finally:
            self._forget(agent, future)

    def until(self, seconds: float) -> float:
        """The loop's time in so many seconds."""
        return self._loop.time() + seconds

    def filled(self, mailboxes: Iterable[str]) -> None:
        """A call has filled these mailboxes: who waits for them goes on (BR5). Another loop tells it to this one."""
        if asyncio.get_running_loop() is self._loop:
            self._fill(mailboxes)
        elif not self._closed:
            self._loop.call_soon_threadsafe(self._fill, mailboxes)

    def _fill(self, mailboxes: Iterable[str]) -> None:
        for mailbox in mailboxes:
            for future in self._mailboxes.pop(mailbox, ()):
                if not future.done():
                    future.set_result(None)

    @property
    def waiting(self) -> int:
        """How many wait, for records and mailboxes."""
        return len(self._waiting) + sum(len(futures) for futures in self._mailboxes.values())

    def _forget(self, agent: str, future: asyncio.Future[None]) -> None:
        futures = self._mailboxes.get(agent)
        if futures is not None and future in futures:  # BR4; who was woken was taken out by `_drain`
            futures.remove(future)
            if not futures:
                del self._mailboxes[agent]

    def _check(self) -> None:
        if self._closed:
            raise RuntimeClosedError("the runtime is closed")
        if asyncio.get_running_loop() is not self._loop:  # BR3
            raise RuntimeClosedError("this runtime belongs to another event loop: open one in this loop")

    def _drain(self) -> None:
        ready, roomy = self._kernel.drain()
        for mailbox in roomy:
            self.on_room(mailbox)
        self._fill(ready)
        self._release()
        self._on_bell()

    def _release(self) -> None:
        problem = self._kernel.log_problem()
        while self._waiting:
            durable = self._kernel.durable()
            while self._waiting and self._waiting[0][0] < durable:
                heapq.heappop(self._waiting)[2](None)
            if not self._waiting:
                return
            if problem is not None:
                self._fail(LogUnavailableError(f"the trail cannot be written: {problem}"))
                return
            if not self._kernel.want(self._waiting[0][0]):
                return

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, []
        for _, _, told in waiting:
            told(error)

    def close(self) -> None:
        """Let go of the loop; whoever still waits gets `RuntimeClosedError` (BR2)."""
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            self._late.close()
            self._loop.remove_reader(self._kernel.fileno())
            self._release()
            self._fail(RuntimeClosedError("the runtime was closed"))
            for futures in self._mailboxes.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(RuntimeClosedError("the runtime was closed"))
        self._mailboxes.clear()


def _answer(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():  # who waited went away
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
