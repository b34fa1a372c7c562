"""Messages, as an agent sends and receives them: `ctx.bus`; and subscriptions, the same for the host.

Not here: deciding, sealing, keeping (native). Each method is one call over the channel.

Invariants
- ML1 a handler is called for one message at a time, in their order; the next waits until it is done.
- ML2 a message that is to be acknowledged is so when its handler has returned, and given back when it raised.
- ML3 nothing that a sender chooses ends a handler: a message whose time was over before it was done is told in the
  log, and the next one is handled. What does end one is told, too, unless its agent or the runtime was ended.
- ML4 what was taken out of an agent's own mailbox is looked at, or there for who reads it next.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias, TypedDict, Unpack

from symbi.agents.parts import Part, part_of
from symbi.errors import InputError, RuntimeClosedError, SymbiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from symbi.agents.channel import Channel

__all__ = [
    "AgentBus",
    "Guarantee",
    "Handler",
    "Message",
    "Payload",
    "Publishing",
    "Sending",
    "Subscription",
]

Payload: TypeAlias = bytes | list[Part]
Guarantee: TypeAlias = Literal["at_most_once", "at_least_once"]
_log = logging.getLogger("symbi.bus")
_NOTHING: Final[frozenset[str]] = frozenset()
_AT_ONCE = 64  # messages taken from a mailbox in one call
_WAIT_S = 3_600.0  # then it asks again: a waiter of the runtime is bounded


class Message(NamedTuple):
    """A message that was verified and opened.

    Attributes:
        id: Its id.
        sender: The sender's agent id; `sender_name` what policies call it.
        payload: Bytes, or parts with their labels.
        labels: What it carries; reading it made them the reader's.
        created_us: When it was sent, microseconds since the epoch.
        in_reply_to: The id of the message it answers, or None.
        topic: The topic it was published under, or None.
        attempt: 1 for the first hand-out of a message that is to be acknowledged, 2 for the second, …; 0 where nobody
            waits for an acknowledgement.
    """

    id: str
    sender: str
    sender_name: str
    payload: bytes | list[Part]
    labels: frozenset[str]
    created_us: int
    in_reply_to: str | None = None
    topic: str | None = None
    attempt: int = 0

    @classmethod
    def read(cls, shape: dict[str, Any]) -> Message:
        """From what the channel carried."""
        return cls(**{**shape, "labels": frozenset(shape["labels"])})

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Message:
        """From what the kernel handed over."""
        labels = frozenset(row[4]) if row[4] else _NOTHING
        payload = row[3] if type(row[3]) is bytes else [part_of(shape) for shape in row[3]]
        return cls(row[0], row[1], row[2], payload, labels, *row[5:])


Handler: TypeAlias = "Callable[[Message], Awaitable[object]]"


class Sending(TypedDict, total=False):
    """How a message is sent, where that is not as usual.

    Attributes:
        guarantee: `at_least_once`: it is handed out until it is acknowledged. Otherwise once, or never.
        durable: It survives the runtime's end, kill -9 included: at least once, and on disk before the call answers.
        id: Its id, a UUID of version 4. A message that is sent again under its id is taken once.
        lifetime_s: Seconds until it is given up, at most a day; an hour unless it says otherwise.
        timeout_s: Longest wait for room, seconds; 0: none. None: as long as it takes.
        approval_timeout_s: Longest wait for persons, where policy wants them to agree, seconds; 0: none. None: until
            they have decided.
    """

    guarantee: Guarantee
    durable: bool
    id: str | None
    lifetime_s: float | None
    timeout_s: float | None
    approval_timeout_s: float | None


class Publishing(TypedDict, total=False):
    """How a message is published, where that is not as usual: as `Sending`.

    Attributes:
        durable: It survives the runtime's end for each who is subscribed now. After a crash it goes to the next
            subscription of the same agent's name and pattern.
    """

    guarantee: Guarantee
    durable: bool
    id: str | None
    lifetime_s: float | None
    timeout_s: float | None
    approval_timeout_s: float | None


def sending(
    *,
    guarantee: Guarantee = "at_most_once",
    durable: bool = False,
    id: str | None = None,  # noqa: A002 - its public name
    lifetime_s: float | None = None,
    timeout_s: float | None = None,
    approval_timeout_s: float | None = None,
) -> dict[str, Any]:
    """The arguments that differ from their defaults: a line over the pipe stays short."""
    given = {
        "guarantee": None if guarantee == "at_most_once" else guarantee,
        "durable": durable or None,
        "id": id,
        "lifetime_s": lifetime_s,
        "timeout_s": timeout_s,
        "approval_timeout_s": approval_timeout_s,
    }
    return {name: value for name, value in given.items() if value is not None}


class Subscription:
    """The messages of the topics that a pattern takes, in their order of arrival.

        async with await ctx.bus.subscribe("orders.*") as orders:
            async for message in orders:
                ...

    Made by `subscribe`; with a handler it calls that, and there is nothing to iterate over.

    Attributes:
        id: Of its mailbox. `pattern`: what it hears.
        failures: Calls of the handler that raised.
    """

    def __init__(
        self, channel: Channel, mailbox: str, pattern: str, handler: Handler | None, *, ends: bool = True
    ) -> None:
        """`ends`: whether the mailbox goes with it; an agent's own stays."""
        self._channel = channel
        self._ends = ends
        self._ready: deque[Message] = deque()
        self._closed = False
        self.id = mailbox
        self.pattern = pattern
        self.failures = 0
        self._task = None if handler is None else asyncio.create_task(self._handle(handler))

    async def receive(self, limit: int = _AT_ONCE, timeout_s: float | None = None) -> Sequence[Message]:
        """What is there, at most `limit`; waits up to `timeout_s` seconds where there is nothing."""
        taken = [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]
        return taken or await self._take(limit, timeout_s)

    async def _take(self, limit: int, timeout_s: float | None) -> Sequence[Message]:
        arguments = {"mailbox": self.id, "limit": limit, "timeout_s": timeout_s}
        return [Message.read(shape) for shape in await self._channel.call("bus.receive", arguments)]

    async def ack(self, *messages: Message) -> None:
        """These messages are done with: they are not handed out again. Answers when that is on disk.

        Messages that were sent at most once need none, and are passed over.

        Raises:
            InputError: one of them was given up meanwhile: its time was over. The others are done with.
        """
        if due := [message.id for message in messages if message.attempt]:
            await self._channel.call("bus.ack", {"mailbox": self.id, "messages": due})

    async def nack(self, message: Message) -> None:
        """This message could not be dealt with: it is handed out again after a pause, or becomes a dead letter."""
        await self._channel.call("bus.give_back", {"mailbox": self.id, "message": message.id})

    async def missed(self) -> int:
        """How many messages, sent at most once, it had no room for. Each is counted in the trail."""
        return int(await self._channel.call("bus.missed", {"mailbox": self.id}))

    async def unsubscribe(self) -> None:
        """End it. What is unread is lost, or a dead letter where it was to be acknowledged; in the agent's own mailbox
        it stays. Twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])
        ready = [*self._ready]
        self._ready.clear()
        if self._ends:
            await self._channel.call("bus.unsubscribe", {"mailbox": self.id})
        elif ready:
            self._channel.put_back(ready)  # ML4

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._ready.extend(await self._take(_AT_ONCE, _WAIT_S))
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.unsubscribe()

    async def _handle(self, handler: Handler) -> None:
        try:
            async for message in self:  # ML1
                await self._call(handler, message)
        except (InputError, RuntimeClosedError):
            self._closed = True  # its agent was stopped, or the runtime closed: nothing comes any more
        except Exception:  # noqa: BLE001 - nobody waits for this task: the log is where it is told
            _log.exception(
                "the handler of `%s` is called no more: its messages cannot be read", self.pattern
            )  # ML3

    async def _call(self, handler: Handler, message: Message) -> None:
        try:
            await handler(message)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._failed(message)  # it let something of its own be cancelled, and was not itself
        except Exception:  # noqa: BLE001 - ML2: whatever the handler raises is its failure
            await self._failed(message)
        else:
            await self._settle(message, self.ack)

    async def _failed(self, message: Message) -> None:
        self.failures += 1
        _log.exception("a handler of `%s` failed on message %s", self.pattern, message.id)
        await self._settle(message, self.nack)  # ML2

    async def _settle(self, message: Message, done: Callable[[Message], Awaitable[None]]) -> None:
        if not message.attempt:
            return
        try:
            await done(message)
        except RuntimeClosedError:
            raise
        except SymbiError as error:  # ML3
            _log.warning("message %s of `%s` was dealt with, in vain: %s", message.id, self.pattern, error)


class AgentBus:
    """Messages to and from other agents."""

    __slots__ = ("_agent", "_channel")

    def __init__(self, channel: Channel, agent: str = "") -> None:
        self._channel = channel
        self._agent = agent

    async def send(self, recipient: str, payload: Payload, **how: Unpack[Sending]) -> str:
        """Send to the agent of this name or id; answers the message's id once it is in the mailbox.

        A full mailbox makes the sender wait. Messages of one sender to one recipient arrive in their order.

        Args:
            recipient: The agent.
            payload: At most 1 MiB; 128 KiB where `durable`.
            how: See `Sending`.

        Raises:
            PolicyDenied: policy does not allow it, or there is no such agent: the two look alike.
            MailboxFullError: no room within `timeout_s`; nothing was sent.
        """
        arguments = {"recipient": recipient, "payload": payload, **sending(**how)}
        return str(await self._channel.call("bus.send", arguments))

    async def send_many(
        self, messages: Iterable[tuple[str, Payload]], *, signing: Literal["batch", "each"] = "batch"
    ) -> list[str]:
        """Send all, in order; answers their ids. Where policy refuses one, none is sent.

        Args:
            messages: Recipient and payload of each, at most 65,536.
            signing: `batch`: one signature for up to 256, each with its proof; `each`: one each.
        """
        arguments = {"messages": [list(one) for one in messages], "signing": signing}
        return list(await self._channel.call("bus.send_many", arguments))

    async def publish(self, topic: str, payload: Payload, **how: Unpack[Publishing]) -> str:
        """Send to everybody whose subscription takes this topic, such as `orders.eu.new`; answers the message's id.

        A subscription without room misses a message that is sent at most once, and is told so; a message at least once
        is waited with, after everybody else has it. How: see `Publishing`. One that is `durable` survives a
        crash for each who is subscribed now, and is waited with before anybody has it.

        Raises:
            PolicyDenied: policy does not allow it.
            InputError: not a topic.
        """
        arguments = {"topic": topic, "payload": payload, **sending(**how)}
        return str(await self._channel.call("bus.publish", arguments))

    async def subscribe(self, pattern: str, handler: Handler | None = None) -> Subscription:
        """Hear of the topics that a pattern takes: `orders.*` (any one level), `orders.>` (one or more).

        Args:
            pattern: At most 255 bytes; at most 64 subscriptions of one agent.
            handler: A coroutine function, called with each message; None: iterate over the subscription.

        Raises:
            PolicyDenied: policy does not allow it.
            InputError: not a pattern.
        """
        mailbox = str(await self._channel.call("bus.subscribe", {"pattern": pattern}))
        return Subscription(self._channel, mailbox, pattern, handler)

    async def listen(self, handler: Handler | None = None) -> Subscription:
        """The agent's own mailbox as a subscription: a handler is called with each message."""
        return Subscription(self._channel, self._agent, "the mailbox", handler, ends=False)

    async def request(self, recipient: str, payload: Payload, timeout_s: float = 30.0) -> Message:
        """Send, and wait for the answer. Cancelling the call ends the wait.

        Raises:
            SymbiTimeoutError: no answer within `timeout_s` seconds.
        """
        arguments = {"recipient": recipient, "payload": payload, "timeout_s": timeout_s}
        return Message.read(await self._channel.call("bus.request", arguments))

    async def reply(self, message: Message, payload: Payload) -> str:
        """Answer a message."""
        arguments = {"recipient": message.sender, "payload": payload, "in_reply_to": message.id}
        return str(await self._channel.call("bus.send", arguments))

    async def receive(self, limit: int = _AT_ONCE, timeout_s: float | None = None) -> list[Message]:
        """What is in the mailbox, at most `limit`; waits up to `timeout_s` seconds where there is nothing.

        Reading a message raises this agent's labels by what it carries.
        """
        shapes = await self._channel.call("bus.receive", {"limit": limit, "timeout_s": timeout_s})
        return [Message.read(shape) for shape in shapes]

    async def ack(self, *messages: Message) -> None:
        """These messages are done with: they are not handed out again. Answers when that is on disk. Those that were
        sent at most once need none, and are passed over.

        Raises:
            InputError: one of them was given up meanwhile: its time was over. The others are done with.
        """
        if due := [message.id for message in messages if message.attempt]:
            await self._channel.call("bus.ack", {"messages": due})

    async def nack(self, message: Message) -> None:
        """This message could not be dealt with: it is handed out again after a pause that doubles, five times at most,
        and is a dead letter then."""
        await self._channel.call("bus.give_back", {"message": message.id})
