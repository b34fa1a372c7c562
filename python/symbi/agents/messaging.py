"""What an agent may ask of the bus: operation name to the kernel's call.

Why: agents in the host's process and agents behind a pipe go through the very same lines (`dispatch`). Which
mailboxes are an agent's own is the kernel's to say.
Not here: sealing, deciding, mailboxes (native); waiting for room (`rooms`).

Invariants
- MG1 what `durable` was asked for is on disk before it is delivered and before its sender is answered.
- MG2 an acknowledgement is on disk before it is answered.
- MG3 between taking messages and handing them over nobody can be interrupted; what was handed over, and put back
  because nobody had looked at it, is handed to the next who reads that mailbox.
- MG4 a durable sending that its caller gives up before it is on disk is not sent, and its id is free at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.mail import Message
from symbi.agents.many import Ids, Kept, Messages
from symbi.agents.rooms import Rooms
from symbi.agents.shapes import message_shape, payload_of, seconds, take
from symbi.errors import InputError, MailboxFullError, PolicyDenied, SymbiError, SymbiTimeoutError
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from symbi._core import DurablePublish, DurableSend, Kernel
    from symbi.runtime.approvals import Approvals
    from symbi.runtime.bridge import Bridge

__all__ = ["PLAIN", "SENT_AT_ONCE_MAX", "Messaging", "options_of"]

SENT_AT_ONCE_MAX: Final = 65_536
"""Messages in one call of `send_many`."""

_GUARANTEES: Final = ("at_most_once", "at_least_once")
RECEIVED_AT_ONCE_MAX: Final = 65_536
"""Messages in one call of `receive`."""
Options = tuple[str | None, bool, bool, str | None, int | None]
"""`(in reply to, expects a reply, at least once, id, lifetime in µs)`."""
Shaped = bytes | list[tuple[str, list[str], tuple[int, int, int] | None]]
PLAIN: Final[Options] = (None, False, False, None, None)
ASKING: Final[Options] = (None, True, False, None, None)


def options_of(arguments: dict[str, Any]) -> Options:
    """How a message is sent, as it crosses into the kernel."""
    guarantee = take(arguments, "guarantee", str, _GUARANTEES[0])
    if guarantee not in _GUARANTEES:
        raise InputError("`guarantee` is `at_most_once` or `at_least_once`")
    lifetime_s = take(arguments, "lifetime_s", (int, float), None)
    if lifetime_s is not None and not 0 < lifetime_s <= 86_400:
        raise InputError("`lifetime_s` is above 0 and at most 86400, a day")
    return (
        take(arguments, "in_reply_to", str, None),
        False,
        guarantee == _GUARANTEES[1],
        take(arguments, "id", str, None),
        None if lifetime_s is None else max(1, round(lifetime_s * 1e6)),
    )


def _wait(arguments: dict[str, Any]) -> float | None:
    timeout_s = take(arguments, "timeout_s", (int, float), None)
    return None if timeout_s is None else seconds(timeout_s)


def _late(timeout_s: float) -> SymbiTimeoutError:
    return SymbiTimeoutError(f"no answer within {timeout_s} s")


class Messaging:
    """The bus's part of the table, bound to one runtime."""

    def __init__(self, kernel: Kernel, bridge: Bridge, approvals: Approvals | None = None) -> None:
        self._approvals = approvals
        self._kernel = kernel
        self._bridge = bridge
        self.rooms = Rooms()
        self._back: dict[str, list[Message]] = {}  # by agent: of its own mailbox, put back
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

    def _post(self, agent: str, recipient: str, payload: Shaped, options: Options) -> str:
        identity, _, filled = self._kernel.send(agent, recipient, payload, None, False, options, True)
        if filled:
            self._bridge.filled(filled)
        return identity

    async def _in_turn(
        self, agent: str, recipient: str, shaped: Shaped, options: Options, timeout_s: float | None
    ) -> str:
        """Post it: at once where nobody waits for room, as almost always."""
        full = None
        if self.rooms.is_free(recipient):
            try:
                return self._post(agent, recipient, shaped, options)
            except MailboxFullError as error:
                full = error
        attempt = partial(self._post, agent, recipient, shaped, options)
        return await self.rooms.wait(recipient, attempt, timeout_s, full)

    async def send(
        self,
        agent: str,
        recipient: str,
        payload: object,
        options: Options = PLAIN,
        *,
        durable: bool = False,
        timeout_s: float | None = None,
    ) -> str:
        """One message; answers its id."""
        shaped = payload_of(payload)
        if not durable:
            return await self._in_turn(agent, recipient, shaped, options, timeout_s)
        kernel = self._kernel
        identity = options[3] or kernel.fresh_message_id()  # a second attempt is the same message
        options = (*options[:3], identity, options[4])
        begun = await self.rooms.send(
            recipient, lambda: kernel.begin_durable(agent, recipient, shaped, options), timeout_s
        )
        if begun is not None:
            await self._until_kept(begun)
            kernel.deliver_durable(begun)
        return identity

    async def _until_kept(self, begun: DurableSend | DurablePublish) -> None:
        """Until its record is on disk (MG1).

        Who goes away before was told nothing, and may send anew under its id (MG4): not when the last trace of the
        cancelled call is gone, but now.
        """
        try:
            await self._bridge.durable(begun.intent_seq)
        except BaseException:
            begun.give_up()
            raise

    async def _send(self, agent: str, arguments: dict[str, Any]) -> str:
        return await self.send(
            agent,
            take(arguments, "recipient", str),
            arguments.get("payload"),
            options_of(arguments),
            durable=take(arguments, "durable", bool, False),
            timeout_s=_wait(arguments),
        )

    async def _send_many(self, agent: str, arguments: dict[str, Any]) -> list[str]:
        messages = take(arguments, "messages", list)
        signing = take(arguments, "signing", str, "batch")
        rows = [(recipient, payload) for recipient, payload in messages]
        return list(await self.send_many(agent, rows, signing, _wait(arguments)))

    async def send_many(
        self,
        agent: str,
        rows: list[tuple[Any, Any]],
        signing: str = "batch",
        timeout_s: float | None = None,
    ) -> Sequence[str]:
        """Messages in one crossing; those without room one by one, when there is some. A recipient is an id or a name,
        or has one as its `id`."""
        if signing not in ("batch", "each"):
            raise InputError("`signing` is `batch` or `each`")
        if len(rows) > SENT_AT_ONCE_MAX:
            raise InputError(f"at most {SENT_AT_ONCE_MAX} messages at once, and these are {len(rows)}")
        sent: list[str | None] = [None] * len(rows)
        left: Iterable[int] = range(len(rows))
        if not self.rooms.waiting:  # somebody waits otherwise: nobody overtakes
            ids, filled = await self._sent(agent, rows, each=signing == "each")
            if filled:
                self._bridge.filled(filled)
            left = ids.left()
            if not left:
                return Ids(ids)
            sent = [ids.text(place) for place in range(len(rows))]
        for place in left:
            recipient, payload = rows[place]
            name = recipient if isinstance(recipient, str) else recipient.id
            sent[place] = await self.send(agent, name, payload, timeout_s=timeout_s)
        return [identity for identity in sent if identity is not None]

    async def _sent(self, agent: str, rows: list[tuple[Any, Any]], *, each: bool) -> tuple[Any, Any]:
        """All of them are let through, or none; those that need persons are waited for one after the other."""
        while True:
            try:
                return self._kernel.send_many(agent, rows, payload_of, each)
            except PolicyDenied as denied:
                if self._approvals is None:
                    raise
                await self._bridge.durable(denied.seq)
                if await self._approvals.wait(denied, None) is not None:
                    denied.add_note("a person has changed one of these messages: send that one by itself")
                    raise

    async def _request(self, agent: str, arguments: dict[str, Any]) -> dict[str, Any]:
        timeout_s = take(arguments, "timeout_s", (int, float), 30.0)
        recipient, payload = take(arguments, "recipient", str), arguments.get("payload")
        return message_shape(await self.request(agent, recipient, payload, timeout_s))

    async def request(self, agent: str, recipient: str, payload: object, timeout_s: float) -> Message:
        """One message, and the answer to it."""
        bridge, kernel = self._bridge, self._kernel
        until_s = bridge.until(seconds(timeout_s))
        try:
            request = await self._in_turn(agent, recipient, payload_of(payload), ASKING, timeout_s)
        except MailboxFullError:
            raise _late(timeout_s) from None
        in_time = True
        try:
            while in_time:
                in_time = await self._mail(agent, until_s)
                reply = kernel.take_reply(agent, request)  # MG3
                if reply is not None:
                    return Message.of(reply)
        except asyncio.CancelledError:
            with contextlib.suppress(SymbiError):  # the agent may be gone
                if (reply := kernel.take_reply(agent, request)) is not None:
                    self.put_back(
                        agent, [Message.of(reply)]
                    )  # a message like others: nobody waits for it any more
            kernel.forget_reply(agent, request)
            raise
        kernel.forget_reply(agent, request)
        raise _late(timeout_s)

    async def _receive(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        mailbox, limit = take(arguments, "mailbox", str, agent), take(arguments, "limit", int, 64)
        timeout_s = take(arguments, "timeout_s", (int, float), None)
        return [message_shape(one) for one in await self.receive(agent, mailbox, limit, timeout_s)]

    async def receive(self, agent: str, mailbox: str, limit: int, timeout_s: float | None) -> Messages:
        """What is in a mailbox; waits up to `timeout_s` where there is nothing."""
        if not 1 <= limit <= RECEIVED_AT_ONCE_MAX:
            raise InputError(f"`limit` is 1 to {RECEIVED_AT_ONCE_MAX}")
        if self._back and mailbox == agent and (kept := self._kept(agent, limit)):
            return Kept(kept)
        take_mail = self._kernel.receive_many
        mail = take_mail(agent, limit, mailbox)
        if mail is None and timeout_s is not None:
            until_s = self._bridge.until(seconds(timeout_s))
            in_time = True
            while mail is None and in_time:
                in_time = await self._mail(mailbox, until_s)
                if self._back and mailbox == agent and (kept := self._kept(agent, limit)):
                    return Kept(kept)
                mail = take_mail(agent, limit, mailbox)  # MG3
        return Messages(mail)

    async def _mail(self, mailbox: str, until_s: float) -> bool:
        """Wait until something has come into the mailbox, and the run may look (DP3). False where nothing came until
        then; something may have while the run was held."""
        try:
            await self._bridge.mailbox(mailbox, until_s)
            in_time = True
        except TimeoutError:
            in_time = False
        if (gate := GATE.get()) is not None:
            await gate.passing()
        return in_time

    def put_back(self, agent: str, messages: Sequence[Message]) -> None:
        """These came out of the agent's own mailbox, and nobody has looked at them (MG3)."""
        if self._kernel.agent_state(agent) is None:
            return
        self._back[agent] = [*messages, *self._back.get(agent, ())]
        self._bridge.filled([agent])

    def _kept(self, agent: str, limit: int) -> list[Message]:
        kept = self._back.pop(agent, [])
        if limit < len(kept):
            self._back[agent] = kept[limit:]
        return kept[:limit]

    def forget(self, agent: str) -> None:
        """The agent is terminated."""
        self._back.pop(agent, None)

    def let_go(self, labels: set[str]) -> None:
        """What carries one of these is to be forgotten: a person was."""
        for agent, kept in [*self._back.items()]:
            self._back[agent] = [message for message in kept if not labels & message.labels]

    async def _publish(self, agent: str, arguments: dict[str, Any]) -> str:
        topic, payload = take(arguments, "topic", str), payload_of(arguments.get("payload"))
        options, timeout_s = options_of(arguments), _wait(arguments)
        kernel = self._kernel
        if take(arguments, "durable", bool, False):
            identity = options[3] or kernel.fresh_message_id()  # a second attempt is the same message
            kept = (*options[:3], identity, options[4])
            begun = await self.rooms.send(
                f"{topic} kept", lambda: kernel.begin_durable_publish(agent, topic, payload, kept), timeout_s
            )
            if begun is not None:
                await self._until_kept(begun)
                kernel.deliver_durable_publish(begun)
            return identity
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
