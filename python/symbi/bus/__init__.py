"""Messages, as the host sees them: a view on the kernel.

Not here: sealing, signing, mailboxes (native). The sender is always a handle, never a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

from symbi.agents.mail import Handler, Message, Payload, Publishing, Sending, Subscription, sending
from symbi.agents.many import Messages
from symbi.agents.messaging import PLAIN
from symbi.agents.parts import part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from symbi._core import Kernel
    from symbi.agents.dispatch import Dispatcher
    from symbi.agents.handle import AgentHandle
    from symbi.agents.parts import Part
    from symbi.runtime.leaving import Leaving

__all__ = ["Bus", "DeadLetter", "Message", "Messages", "Publishing", "Sending", "Subscription"]


def _name(recipient: AgentHandle | str) -> str:
    return recipient if isinstance(recipient, str) else recipient.id


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        id: Its id. `mailbox`: whose it was to be, an agent's or a subscription's; of an earlier opening, the letter's
            own name.
        recipient, recipient_name: The agent whose mailbox that is; None where it is gone. The name stays where the
            message was durable.
        reason: `attempts` (handed out as often as may be, never acknowledged), `expired`, `recipient_gone`.
        attempts: How often it was handed out.
        sender, sender_name, created_us, topic: As of the message; None where it was never handed out.
        labels: What it carries.
    """

    id: str
    mailbox: str
    recipient: str | None
    recipient_name: str | None
    reason: Literal["attempts", "expired", "recipient_gone"]
    attempts: int
    sender: str | None
    sender_name: str | None
    created_us: int | None
    topic: str | None
    labels: frozenset[str]

    @classmethod
    def of(cls, row: dict[str, Any]) -> DeadLetter:
        """From what the kernel tells."""
        return cls(**{**row, "labels": frozenset(row["labels"])})


class _HostChannel:
    """An agent's channel, held by the host."""

    __slots__ = ("_agent", "_dispatcher")

    def __init__(self, dispatcher: Dispatcher, agent: str) -> None:
        self._dispatcher = dispatcher
        self._agent = agent

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._dispatcher.call(self._agent, operation, arguments)

    async def receive(self, mailbox: str, limit: int, timeout_s: float | None) -> Messages:
        receive = self._dispatcher.messaging.receive
        return await self._dispatcher.do(receive, self._agent, mailbox, limit, timeout_s)

    def put_back(self, messages: Sequence[Message]) -> None:
        self._dispatcher.messaging.put_back(self._agent, messages)

    async def checkpoint(self) -> None:
        return


class _HostSubscription(Subscription):
    """A subscription whose messages never were lines on a pipe."""

    _channel: _HostChannel

    async def _take(self, limit: int, timeout_s: float | None) -> Messages:
        return await self._channel.receive(self.id, limit, timeout_s)


class Bus:
    """`rt.bus`: messages on behalf of an agent whose handle one holds. `ctx.bus` is the same, for an agent itself."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher, leaving: Callable[[], Leaving]) -> None:
        self._kernel = kernel
        self._dispatcher = dispatcher
        self._leaving = leaving
        self._messaging = dispatcher.messaging

    async def send(
        self, agent: AgentHandle, recipient: AgentHandle | str, payload: Payload, **how: Unpack[Sending]
    ) -> str:
        """Send one message; answers its id once it is in the recipient's mailbox. A full mailbox makes the sender wait.

        Args:
            agent: Who sends.
            recipient: A handle, an agent's id, or its name.
            payload: At most 1 MiB; 128 KiB where `durable`.
            how: See `symbi.agents.mail.Sending`.

        Raises:
            PolicyDenied: refused, or no such recipient: the two look alike.
            MailboxFullError: no room within `timeout_s`; nothing was sent.
        """
        do, name = self._dispatcher.do, _name(recipient)
        if not how:
            return await do(self._messaging.send, agent.id, name, payload)
        arguments = {"recipient": name, "payload": payload, **sending(**how)}
        return str(await self._dispatcher.call(agent.id, "bus.send", arguments))

    async def send_many(
        self,
        agent: AgentHandle,
        messages: Iterable[tuple[AgentHandle | str, Payload]],
        *,
        signing: Literal["batch", "each"] = "batch",
        timeout_s: float | None = None,
    ) -> Sequence[str]:
        """Send all, in order, in one crossing; answers their ids. Where policy refuses one, none is sent.

        Args:
            agent: Who sends.
            messages: Recipient and payload of each, at most 65,536. Messages of one size to one recipient, in which no
                detector finds anything, are one question to policy.
            signing: `batch`: one signature for up to 256, each with its proof; `each`: one each.
            timeout_s: Longest wait for room of one message, as in `send`.
        """
        rows = messages if isinstance(messages, list) else list(messages)
        return await self._dispatcher.do(self._messaging.send_many, agent.id, rows, signing, timeout_s)

    async def receive_many(
        self, agent: AgentHandle, limit: int = 1024, timeout_s: float | None = None
    ) -> Messages:
        """What is in the agent's mailbox, verified and opened; waits up to `timeout_s` where there is nothing.

        Answers a sequence of messages, each of which is made when it is looked at; `payloads` has what they say.
        """
        return await self._dispatcher.do(self._messaging.receive, agent.id, agent.id, limit, timeout_s)

    async def ack(self, agent: AgentHandle, *messages: Message) -> None:
        """The agent is done with these messages of its mailbox. Answers when that is on disk.

        Raises:
            InputError: one of them was given up meanwhile: its time was over. The others are done with.
        """
        if due := [message.id for message in messages if message.attempt]:
            await self._dispatcher.call(agent.id, "bus.ack", {"messages": due})

    async def nack(self, agent: AgentHandle, message: Message) -> None:
        """The agent could not deal with this message: it is handed out again after a pause, or is a dead letter."""
        await self._dispatcher.call(agent.id, "bus.give_back", {"message": message.id})

    async def publish(
        self, agent: AgentHandle, topic: str, payload: Payload, **how: Unpack[Publishing]
    ) -> str:
        """Send to everybody whose subscription takes this topic; answers the message's id. How: `Publishing`.

        Args:
            agent: Who publishes.
            topic: `orders.eu.new`.
            payload: At most 1 MiB; 128 KiB where `durable`.
            guarantee, id, lifetime_s: As `send`.
            durable: It survives the runtime's end for each who is subscribed now: at least once, on disk before this
                answers. After a crash it goes to the next subscription of the same agent's name and pattern.
            timeout_s: Longest wait for room in a subscription, seconds, where it may not be missed.

        Raises:
            PolicyDenied: refused. InputError: not a topic.
            MailboxFullError: no room within `timeout_s`. Where `durable`, nobody has it then.
        """
        arguments = {"topic": topic, "payload": payload, **sending(**how)}
        return str(await self._dispatcher.call(agent.id, "bus.publish", arguments))

    async def subscribe(
        self, agent: AgentHandle, pattern: str, handler: Handler | None = None
    ) -> Subscription:
        """Hear, as the agent, of the topics that a pattern takes: `orders.*` (any one level), `orders.>` (the rest).

        Args:
            agent: Who hears. Its subscriptions end with it.
            pattern: At most 255 bytes; at most 64 subscriptions of one agent.
            handler: A coroutine function, called with one message at a time; None: iterate over the subscription.

        Raises:
            PolicyDenied: refused. InputError: not a pattern.
        """
        mailbox = str(await self._dispatcher.call(agent.id, "bus.subscribe", {"pattern": pattern}))
        channel = _HostChannel(self._dispatcher, agent.id)
        return _HostSubscription(channel, mailbox, pattern, handler)

    async def listen(self, agent: AgentHandle, handler: Handler | None = None) -> Subscription:
        """The agent's own mailbox as a subscription: a handler is called with each message."""
        channel = _HostChannel(self._dispatcher, agent.id)
        return _HostSubscription(channel, agent.id, f"the mailbox of {agent.id}", handler, ends=False)

    async def request(
        self,
        agent: AgentHandle,
        recipient: AgentHandle | str,
        payload: Payload,
        timeout_s: float = 30.0,
    ) -> Message:
        """Send, and wait for the answer. Cancelling the call ends the wait.

        Raises:
            SymbiTimeoutError: none within `timeout_s` seconds.
        """
        request = self._messaging.request
        return await self._dispatcher.do(request, agent.id, _name(recipient), payload, timeout_s)

    async def reply(self, agent: AgentHandle, message: Message, payload: Payload) -> str:
        """Answer a message."""
        options = (message.id, *PLAIN[1:])
        return await self._dispatcher.do(self._messaging.send, agent.id, message.sender, payload, options)

    def dead_letters(self) -> list[DeadLetter]:
        """The messages that were given up, the oldest first; the youngest 1,024 are kept, the trail has all. Those that
        were sent with `durable` are here after a restart, too."""
        return [DeadLetter.of(row) for row in self._kernel.dead_letters()[0]]

    async def read_dead_letter(self, letter: DeadLetter | str, *, by: str = "host") -> bytes | list[Part]:
        """What a dead letter says, once the record that it was read is on disk; no built-in policy lets anybody.

        Args:
            letter: It, or its id. by: Who reads it: `host`, or `operator:<uid>`.

        Raises:
            PolicyDenied: `message.read` is not permitted. InputError: no such dead letter, or nothing was kept of it.
        """
        async with self._leaving() as leaving:
            payload, leaving.seq = self._kernel.read_dead_letter(by, *_place(letter))
        return payload if isinstance(payload, bytes) else [part_of(shape) for shape in payload]

    async def revive(self, letter: DeadLetter | str, *, by: str = "host") -> None:
        """Put a dead letter back into its mailbox, as if it had never been handed out: decided as the host's sending,
        and of an operator as `operation.resolve` too. A durable one of an earlier opening goes to whoever has its
        recipient's name, or waits for the next one.

        Raises:
            PolicyDenied: refused. InputError: no such dead letter, or nothing was kept of it.
        """
        async with self._leaving() as leaving:
            leaving.seq = self._kernel.revive(by, *_place(letter))

    async def discard(self, letter: DeadLetter | str, *, by: str = "host") -> None:
        """Throw a dead letter away, for good. Built-in policies leave this to operators (`operation.resolve`).

        Raises:
            PolicyDenied: refused. InputError: no such dead letter.
        """
        async with self._leaving() as leaving:
            leaving.seq = self._kernel.discard(by, *_place(letter))


def _place(letter: DeadLetter | str) -> tuple[str, str | None]:
    return (letter, None) if isinstance(letter, str) else (letter.id, letter.mailbox)
