"""Messages, as the host sees them: a view on the kernel.

Not here: sealing, signing, mailboxes (native). The sender is always a handle, never a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from symbi.agents.mail import Guarantee, Handler, Inbox, Message, Payload, Subscription, sending
from symbi.agents.shapes import payload_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from symbi._core import Kernel
    from symbi.agents.dispatch import Dispatcher
    from symbi.agents.handle import AgentHandle

__all__ = ["Bus", "DeadLetter", "Message", "Subscription"]


def _name(recipient: AgentHandle | str) -> str:
    return recipient if isinstance(recipient, str) else recipient.id


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        id: Its id. `mailbox`: whose it was to be, an agent's or a subscription's.
        reason: `attempts` (handed out as often as may be, never acknowledged), `expired`, `recipient_gone`.
        attempts: How often it was handed out.
        sender, sender_name, created_us, topic: As of the message; None where it was never handed out.
    """

    id: str
    mailbox: str
    reason: Literal["attempts", "expired", "recipient_gone"]
    attempts: int
    sender: str | None
    sender_name: str | None
    created_us: int | None
    topic: str | None


class _HostChannel:
    """An agent's channel, held by the host."""

    __slots__ = ("_agent", "_dispatcher")

    def __init__(self, dispatcher: Dispatcher, agent: str) -> None:
        self._dispatcher = dispatcher
        self._agent = agent

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        return await self._dispatcher.call(self._agent, operation, arguments)

    async def checkpoint(self) -> None:
        return


class Bus:
    """`rt.bus`: messages on behalf of an agent whose handle one holds. `ctx.bus` is the same, for an agent itself."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher) -> None:
        self._kernel = kernel
        self._dispatcher = dispatcher

    async def send(
        self,
        agent: AgentHandle,
        recipient: AgentHandle | str,
        payload: Payload,
        *,
        guarantee: Guarantee = "at_most_once",
        durable: bool = False,
        id: str | None = None,  # noqa: A002 - its public name
        lifetime_s: float | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Send one message; answers its id once it is in the recipient's mailbox. A full mailbox makes the sender wait.

        Args:
            agent: Who sends.
            recipient: A handle, an agent's id, or its name.
            payload: At most 1 MiB; 128 KiB where `durable`.
            guarantee: `at_least_once`: it is handed out until it is acknowledged.
            durable: It survives the runtime's end, kill -9 included: at least once, and on disk before this answers.
            id: Its id, a UUID of version 4. A message that is sent again under its id is taken once.
            lifetime_s: Seconds until it is given up, at most a day; an hour unless it says otherwise.
            timeout_s: Longest wait for room, seconds; 0: none. None: as long as it takes.

        Raises:
            PolicyDenied: refused, or no such recipient: the two look alike.
            MailboxFullError: no room within `timeout_s`; nothing was sent.
        """
        more = sending(
            guarantee=guarantee, durable=durable, id=id, lifetime_s=lifetime_s, timeout_s=timeout_s
        )
        arguments = {"recipient": _name(recipient), "payload": payload, **more}
        return str(await self._dispatcher.call(agent.id, "bus.send", arguments))

    async def send_many(
        self,
        agent: AgentHandle,
        messages: Iterable[tuple[AgentHandle | str, Payload]],
        *,
        signing: Literal["batch", "each"] = "batch",
        timeout_s: float | None = None,
    ) -> list[str]:
        """Send all, in order, in one crossing; answers their ids. Where policy refuses one, none is sent.

        Args:
            agent: Who sends.
            messages: Recipient and payload of each, at most 65,536.
            signing: `batch`: one signature for up to 256, each with its proof; `each`: one each.
            timeout_s: Longest wait for room of one message, as in `send`.
        """
        rows = [(_name(recipient), payload_of(payload)) for recipient, payload in messages]
        async with self._dispatcher.leaving():
            return await self._dispatcher.messaging.send_rows(
                agent.id, rows, each=signing == "each", timeout_s=timeout_s
            )

    async def receive_many(
        self, agent: AgentHandle, limit: int = 1024, timeout_s: float | None = None
    ) -> list[Message]:
        """What is in the agent's mailbox, verified and opened; waits up to `timeout_s` where there is nothing."""
        rows = await self._dispatcher.messaging.receive_rows(agent.id, agent.id, limit, timeout_s)
        return [Message.of(row) for row in rows]

    async def ack(self, agent: AgentHandle, *messages: Message) -> None:
        """The agent is done with these messages of its mailbox. Answers when that is on disk."""
        if due := [message.id for message in messages if message.attempt]:
            await self._dispatcher.call(agent.id, "bus.ack", {"messages": due})

    async def nack(self, agent: AgentHandle, message: Message) -> None:
        """The agent could not deal with this message: it is handed out again after a pause, or is a dead letter."""
        await self._dispatcher.call(agent.id, "bus.give_back", {"message": message.id})

    async def publish(
        self,
        agent: AgentHandle,
        topic: str,
        payload: Payload,
        *,
        guarantee: Guarantee = "at_most_once",
        id: str | None = None,  # noqa: A002 - its public name
        lifetime_s: float | None = None,
        timeout_s: float | None = None,
    ) -> str:
        """Send to everybody whose subscription takes this topic; answers the message's id.

        Raises:
            PolicyDenied: refused. InputError: not a topic.
        """
        more = sending(guarantee=guarantee, id=id, lifetime_s=lifetime_s, timeout_s=timeout_s)
        arguments = {"topic": topic, "payload": payload, **more}
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
        return Subscription(_HostChannel(self._dispatcher, agent.id), mailbox, pattern, handler)

    async def listen(self, agent: AgentHandle, handler: Handler | None = None) -> Subscription:
        """The agent's own mailbox as a subscription: a handler is called with each message."""
        return Inbox(
            _HostChannel(self._dispatcher, agent.id), agent.id, f"the mailbox of {agent.id}", handler
        )

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
        arguments = {"recipient": _name(recipient), "payload": payload, "timeout_s": timeout_s}
        return Message.read(await self._dispatcher.call(agent.id, "bus.request", arguments))

    async def reply(self, agent: AgentHandle, message: Message, payload: Payload) -> str:
        """Answer a message."""
        arguments = {"recipient": message.sender, "payload": payload, "in_reply_to": message.id}
        return str(await self._dispatcher.call(agent.id, "bus.send", arguments))

    def dead_letters(self) -> list[DeadLetter]:
        """The messages that were given up, the oldest first; the youngest 1,024 are kept, the trail has all."""
        return [DeadLetter(**row) for row in self._kernel.dead_letters()[0]]

    def revive(self, letter: DeadLetter | str) -> None:
        """Put a dead letter back into its mailbox, as if it had never been handed out: decided as the host's sending.

        Raises:
            PolicyDenied: refused. InputError: no such dead letter, or nothing was kept of it.
        """
        self._kernel.revive("host", letter if isinstance(letter, str) else letter.id)
