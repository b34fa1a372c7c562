"""A worker's calls: asked over the pipe, answered in any order, taken back when nobody waits for them any more.

Why: asyncio cancels what it waits for, with every time-out. What is cancelled here must end at the other end of the
pipe too, or it takes what a later call is to have. A cancellation and an answer may cross: then the answer is
there, and is not thrown away.
Not here: the lines (`channel`), the runtime's end of them (`session`), runs (`worker`).

Invariants
- WC1 at most `CALLS_MAX` calls are under way, so that the runtime never leaves a line unread, a run's result least.
- WC2 a call that is cancelled is said to be; it is under way until the runtime has answered it.
- WC3 messages that nobody looked at are the next that their mailbox yields; a subscription that nobody heard of ends.
- WC4 when a run is over, what it left behind asks for nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from symbi import errors
from symbi.agents.channel import CALLS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from symbi.agents.mail import Message

__all__ = ["Calls", "RunChannel", "raised"]


def raised(error: dict[str, Any]) -> errors.SymbiError:
    """The exception that the runtime answered with."""
    kind = getattr(errors, str(error.get("class")), errors.SymbiError)
    message = str(error.get("message", ""))
    extra = {name: error[name] for name in ("code", "decision_id", "seq", "limit", "kind") if name in error}
    if kind is errors.PolicyDenied:
        return errors.PolicyDenied(
            message, code=str(extra.get("code", "denied")), decision_id=str(extra.get("decision_id", ""))
        )
    try:
        made = kind(message)
    except TypeError:
        made = errors.SymbiError(message)
    if not isinstance(made, errors.SymbiError):
        return errors.SymbiError(message)
    return made


class _Asked(NamedTuple):
    operation: str
    arguments: dict[str, Any]
    answer: asyncio.Future[Any]


class Calls:
    """Of one worker, on its loop. `say` writes a line."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._asked: dict[int, _Asked] = {}
        self._pieces: dict[int, bytearray] = {}
        self._next = 0
        self._room = asyncio.Semaphore(CALLS_MAX)
        self._agent = ""
        self._run = ""
        self._back: dict[str, list[dict[str, Any]]] = {}  # by mailbox
        self._tidying: set[asyncio.Task[None]] = set()

    def begin(self, agent: str, run: str) -> None:
        """A run has begun."""
        self._agent, self._run = agent, run

    def end(self) -> None:
        """It is over (WC4)."""
        self._run = ""

    async def call(self, run: str, operation: str, arguments: dict[str, Any]) -> Any:
        """Ask for one operation, and wait for what it yields.

        Raises:
            LifecycleError: the run is over.
        """
        await self._room.acquire()  # WC1
        number = self._next = self._next + 1
        asked = _Asked(operation, arguments, asyncio.get_running_loop().create_future())
        try:
            if run != self._run:
                raise errors.LifecycleError("the run that asked for this is over")
            if operation == "bus.receive" and (kept := self._kept(arguments)):
                return kept
            if operation == "bus.unsubscribe":
                self._back.pop(self._mailbox(arguments), None)
            self._say({"type": "call", "id": number, "operation": operation, "arguments": arguments})
            self._asked[number] = asked
        finally:
            if number not in self._asked:
                self._room.release()
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self._give_up(number, asked)
            raise

    def put_back(self, messages: Sequence[Message]) -> None:
        """Of the agent's own mailbox: before whatever else is there (WC3)."""
        shapes = [message._asdict() for message in messages]
        self._keep(self._agent, [*shapes, *self._back.pop(self._agent, [])])

    def hear(self, message: dict[str, Any]) -> None:
        """Take an answer."""
        asked = self._asked.pop(message["id"], None)
        if asked is None:
            return
        self._room.release()
        if asked.answer.done():  # nobody waits any more, and it is there all the same
            if "error" not in message:
                self._late(asked, message.get("value"))
        elif "error" in message:
            asked.answer.set_exception(raised(message["error"]))
        else:
            asked.answer.set_result(message.get("value"))

    def piece(self, message: dict[str, Any]) -> bytes | None:
        """Take a piece of a line that was too long for one; the line, when it is whole."""
        line = self._pieces.setdefault(message["id"], bytearray())
        line += message["data"]
        return bytes(self._pieces.pop(message["id"])) if message["last"] else None

    def _give_up(self, number: int, asked: _Asked) -> None:
        answer = asked.answer
        if not answer.done() or answer.cancelled():
            answer.cancel()
            self._take_back(number)
        elif answer.exception() is None:  # it was answered in this very turn of the loop
            self._late(asked, answer.result())

    def _take_back(self, number: int) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # the pipe may be gone: so is whoever would have answered
            self._say({"type": "cancel", "id": number})  # WC2

    def _late(self, asked: _Asked, value: Any) -> None:
        """WC3."""
        if asked.operation == "bus.receive":
            self._keep(self._mailbox(asked.arguments), value)
        elif asked.operation == "bus.request":
            self._keep(self._agent, [value])  # an answer for which nobody waits is a message like others
        elif asked.operation == "bus.subscribe":
            task = asyncio.get_running_loop().create_task(self._unsubscribe(self._run, value))
            self._tidying.add(task)
            task.add_done_callback(self._tidying.discard)

    async def _unsubscribe(self, run: str, mailbox: str) -> None:
        with contextlib.suppress(errors.SymbiError):
            await self.call(run, "bus.unsubscribe", {"mailbox": mailbox})

    def _mailbox(self, arguments: dict[str, Any]) -> str:
        return str(arguments.get("mailbox") or self._agent)

    def _keep(self, mailbox: str, shapes: list[dict[str, Any]]) -> None:
        if not shapes:
            return
        self._back.setdefault(mailbox, []).extend(shapes)
        for number, asked in self._asked.items():
            waits = asked.operation == "bus.receive" and not asked.answer.done()
            if waits and self._mailbox(asked.arguments) == mailbox:
                asked.answer.set_result(self._kept(asked.arguments))
                self._take_back(number)
                return

    def _kept(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        mailbox = self._mailbox(arguments)
        kept, limit = self._back.pop(mailbox, []), arguments.get("limit", 1)
        if limit < len(kept):
            self._back[mailbox] = kept[limit:]
        return kept[:limit]


class RunChannel:
    """The channel of the context of one run."""

    __slots__ = ("_calls", "_run")

    def __init__(self, calls: Calls, run: str) -> None:
        self._calls = calls
        self._run = run

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        """See `Channel.call`."""
        return await self._calls.call(self._run, operation, arguments)

    def put_back(self, messages: Sequence[Message]) -> None:
        """See `Channel.put_back`."""
        self._calls.put_back(messages)

    async def checkpoint(self) -> None:
        """Nothing: the whole sandbox is frozen from outside."""
