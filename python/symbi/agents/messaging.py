"""What an agent may ask of the bus: operation name to the kernel's call.

Why: agents in the host's process and agents behind a pipe go through the very same lines (`dispatch`). Which
mailboxes are an agent's own is the kernel's to say.
Not here: sealing, deciding, mailboxes (native); waiting for room (`rooms`).

Invariants
- MG1 what `durable` was asked for is on disk before it is delivered and before its sender is answered.
- MG2 an acknowledgement is on disk before it is answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.rooms import Rooms
from symbi.agents.shapes import message_shape, payload_of, seconds, take
from symbi.errors import InputError, MailboxFullError, SymbiTimeoutError
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi._core import Kernel
    from symbi.runtime.bridge import Bridge

__all__ = ["SENT_AT_ONCE_MAX", "Messaging"]

SENT_AT_ONCE_MAX: Final = 65_536
"""Messages in one call of `send_many`."""

_GUARANTEES: Final = ("at_most_once", "at_least_once")
Options = tuple[str | None, bool, bool, str | None, int | None]


def _options(arguments: dict[str, Any], *, expects_reply: bool = False) -> Options:
    guarantee = take(arguments, "guarantee", str, _GUARANTEES[0])
    if guarantee not in _GUARANTEES:
        raise InputError("`guarantee` is `at_most_once` or `at_least_once`")
    lifetime_s = take(arguments, "lifetime_s", (int, float), None)
    if lifetime_s is not None and not 0 < lifetime_s <= 86_400:
        raise InputError("`lifetime_s` is above 0 and at most 86400, a day")
    return (
        take(arguments, "in_reply_to", str, None),
        expects_reply,
        guarantee == _GUARANTEES[1],
        take(arguments, "id", str, None),
        None if lifetime_s is None else max(1, round(lifetime_s * 1e6)),
    )


def _wait(arguments: dict[str, Any]) -> float | None:
    timeout_s = take(arguments, "timeout_s", (int, float), None)
    return None if timeout_s is None else seconds(timeout_s)


class Messaging:
    """The bus's part of the table, bound to one runtime."""

    def __init__(self, kernel: Kernel, bridge: Bridge) -> None:
        self._kernel = kernel
        self._bridge = bridge
        self.rooms = Rooms()
        self.table: dict[str, Callable[[str, dict[str, Any]], Awaitable[Any]]] = {
            "bus.send": self._send,
            "bus.send_many": self._send_many,
            "bus.request": self._request,
            "bus.receive": self._receive,
            "bus.publish": self._publish,
            "bus.subscribe": self._subscribe,
            "bus.unsubscribe": self._unsubscribe,
            "bus.missed": self._missed,
            "bus.ack": self._acknowledge,
            "bus.give_back": self._give_back,
        }

    async def _send(self, agent: str, arguments: dict[str, Any]) -> str:
        recipient, payload = take(arguments, "recipient", str), payload_of(arguments.get("payload"))
        options, timeout_s = _options(arguments), _wait(arguments)
        kernel = self._kernel
        if not take(arguments, "durable", bool, False):
            send = kernel.send
            return await self.rooms.send(
                recipient, lambda: send(agent, recipient, payload, None, False, options)[0], timeout_s
            )
        identity = options[3] or kernel.fresh_message_id()  # a second attempt is the same message
        options = (*options[:3], identity, options[4])
        begun = await self.rooms.send(
            recipient, lambda: kernel.begin_durable(agent, recipient, payload, options), timeout_s
        )
        if begun is not None:
            await self._bridge.durable(begun.intent_seq)  # MG1
            kernel.deliver_durable(begun)
        return identity

    async def _send_many(self, agent: str, arguments: dict[str, Any]) -> list[str]:
        messages = take(arguments, "messages", list)
        signing = take(arguments, "signing", str, "batch")
        if signing not in ("batch", "each"):
            raise InputError("`signing` is `batch` or `each`")
        if len(messages) > SENT_AT_ONCE_MAX:
            raise InputError(f"at most {SENT_AT_ONCE_MAX} messages at once, and these are {len(messages)}")
        rows = [(recipient, payload_of(payload)) for recipient, payload in messages]
        return await self.send_rows(agent, rows, each=signing == "each", timeout_s=_wait(arguments))

    async def send_rows(
        self, agent: str, rows: list[tuple[str, Any]], *, each: bool, timeout_s: float | None
    ) -> list[str]:
        """Messages in one crossing; those without room one by one, when there is some."""
        if self.rooms.waiting:  # somebody waits: nobody overtakes
            sent: list[str | None] = [None] * len(rows)
        else:
            sent = self._kernel.send_many(agent, rows, each)
        plain: Options = (None, False, False, None, None)
        send = self._kernel.send
        for place, identity in enumerate(sent):
            if identity is None:
                recipient, payload = rows[place]
                sent[place] = await self.rooms.send(
                    recipient,
                    lambda to=recipient, what=payload: send(agent, to, what, None, False, plain)[0],  # type: ignore[misc]
                    timeout_s,
                )
        return [identity for identity in sent if identity is not None]

    async def _request(self, agent: str, arguments: dict[str, Any]) -> dict[str, Any]:
        timeout_s = take(arguments, "timeout_s", (int, float), 30.0)
        recipient, payload = take(arguments, "recipient", str), payload_of(arguments.get("payload"))
        kernel, request = self._kernel, None
        try:
            async with asyncio.timeout(seconds(timeout_s)):
                request = await self.rooms.send(
                    recipient, lambda: kernel.send(agent, recipient, payload, None, True)[0], None
                )
                while True:
                    reply = kernel.take_reply(agent, request)
                    if reply is not None:
                        return message_shape(reply)
                    await self._mail(agent)
        except TimeoutError:
            if request is not None:
                reply = kernel.take_reply(agent, request)  # it may have come while the run was held
                if reply is not None:
                    return message_shape(reply)
                kernel.forget_reply(agent, request)
            raise SymbiTimeoutError(f"no answer within {timeout_s} s") from None
        except asyncio.CancelledError:
            if request is not None:
                kernel.forget_reply(agent, request)  # nobody waits any more
            raise

    async def _receive(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        limit = take(arguments, "limit", int, 64)
        mailbox = take(arguments, "mailbox", str, agent)
        if not 1 <= limit <= 65_536:
            raise InputError("`limit` is 1 to 65536")
        rows = await self.receive_rows(
            agent, mailbox, limit, take(arguments, "timeout_s", (int, float), None)
        )
        return [message_shape(row) for row in rows]

    async def receive_rows(
        self, agent: str, mailbox: str, limit: int, timeout_s: float | None
    ) -> list[tuple[Any, ...]]:
        """What is in a mailbox; waits up to `timeout_s` where there is nothing."""
        kernel = self._kernel
        rows = kernel.receive_many(agent, limit, mailbox)
        if not rows and timeout_s is not None:
            try:
                async with asyncio.timeout(seconds(timeout_s)):
                    while not rows:
                        await self._mail(mailbox)
                        rows = kernel.receive_many(agent, limit, mailbox)
            except TimeoutError:
                rows = kernel.receive_many(agent, limit, mailbox)  # it may have come while the run was held
        return rows

    async def _mail(self, mailbox: str) -> None:
        """Wait until something has come into the mailbox, and the run may look (DP3)."""
        await self._bridge.mailbox(mailbox)
        if (gate := GATE.get()) is not None:
            await gate.passing()

    async def _publish(self, agent: str, arguments: dict[str, Any]) -> str:
        topic, payload = take(arguments, "topic", str), payload_of(arguments.get("payload"))
        options, timeout_s = _options(arguments), _wait(arguments)
        kernel = self._kernel
        identity, full = kernel.publish(agent, topic, payload, options)
        if not options[2]:
            return identity
        again = (*options[:3], identity, options[4])
        for mailbox in full:  # everybody else has it by now

            def attempt(mailbox: str = mailbox) -> None:
                if kernel.publish(agent, topic, payload, again, [mailbox])[1]:
                    raise MailboxFullError(f"a subscription of `{topic}` has no room", mailbox=mailbox)

            await self.rooms.send(f"{topic} {mailbox}", attempt, timeout_s)
        return identity

    async def _subscribe(self, agent: str, arguments: dict[str, Any]) -> str:
        mailbox, _ = self._kernel.subscribe(agent, take(arguments, "pattern", str))
        return mailbox

    async def _unsubscribe(self, agent: str, arguments: dict[str, Any]) -> None:
        self._kernel.unsubscribe(agent, take(arguments, "mailbox", str))

    async def _missed(self, agent: str, arguments: dict[str, Any]) -> int:
        return self._kernel.missed(agent, take(arguments, "mailbox", str))

    async def _acknowledge(self, agent: str, arguments: dict[str, Any]) -> None:
        messages = take(arguments, "messages", list)
        if not all(isinstance(one, str) for one in messages):
            raise InputError("`messages` is a list of ids")
        seq = self._kernel.acknowledge(agent, take(arguments, "mailbox", str, agent), messages)
        await self._bridge.durable(seq)  # MG2

    async def _give_back(self, agent: str, arguments: dict[str, Any]) -> None:
        mailbox = take(arguments, "mailbox", str, agent)
        self._kernel.give_back(agent, mailbox, take(arguments, "message", str))
