"""Messages, as the host sees them: a view on the kernel.

Not here: sealing, signing, mailboxes (native). The sender is always a handle, never a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symbi.agents.context import Message
from symbi.agents.dispatch import payload_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi._core import Kernel
    from symbi.agents.dispatch import Dispatcher
    from symbi.agents.handle import AgentHandle
    from symbi.agents.parts import Part

__all__ = ["Bus"]


def _name(recipient: AgentHandle | str) -> str:
    return recipient if isinstance(recipient, str) else recipient.id


class Bus:
    """`rt.bus`: send, receive and request on behalf of an agent whose handle one holds."""

    def __init__(self, kernel: Kernel, dispatcher: Dispatcher) -> None:
        self._kernel = kernel
        self._dispatcher = dispatcher

    async def send(
        self, agent: AgentHandle, recipient: AgentHandle | str, payload: bytes | list[Part]
    ) -> str:
        """Send one message; answers its id once it is in the recipient's mailbox.

        Args:
            agent: Who sends.
            recipient: A handle, an agent's id, or its name.
            payload: At most 1 MiB.

        Raises:
            PolicyDenied: refused, or no such recipient: the two look alike.
            MailboxFullError: nothing was sent.
        """
        arguments = {"recipient": _name(recipient), "payload": payload}
        return str(await self._dispatcher.call(agent.id, "bus.send", arguments))

    async def send_many(
        self, agent: AgentHandle, messages: Sequence[tuple[AgentHandle | str, bytes | list[Part]]]
    ) -> list[str]:
        """Send all, in order, in one crossing; answers their ids. Stops at the first that is refused."""
        rows = [(_name(recipient), payload_of(payload)) for recipient, payload in messages]
        async with self._dispatcher.leaving():
            identities, _ = self._kernel.send_many(agent.id, rows)
        return identities

    async def receive_many(
        self, agent: AgentHandle, limit: int = 1024, timeout_s: float | None = None
    ) -> list[Message]:
        """What is in the agent's mailbox, verified and opened; waits up to `timeout_s` where there is nothing."""
        arguments: dict[str, Any] = {"limit": limit, "timeout_s": timeout_s}
        rows = await self._dispatcher.call(agent.id, "bus.receive", arguments)
        return [Message.read(row) for row in rows]

    async def request(
        self,
        agent: AgentHandle,
        recipient: AgentHandle | str,
        payload: bytes | list[Part],
        timeout_s: float = 30.0,
    ) -> Message:
        """Send, and wait for the answer.

        Raises:
            SymbiTimeoutError: none within `timeout_s` seconds.
        """
        arguments = {"recipient": _name(recipient), "payload": payload, "timeout_s": timeout_s}
        return Message.read(await self._dispatcher.call(agent.id, "bus.request", arguments))

    async def reply(self, agent: AgentHandle, message: Message, payload: bytes | list[Part]) -> str:
        """Answer a message."""
        arguments = {"recipient": message.sender, "payload": payload, "in_reply_to": message.id}
        return str(await self._dispatcher.call(agent.id, "bus.send", arguments))
