"""What an agent may ask for, one table: operation name to the kernel's call.

Why: agents in the host's process and agents behind a pipe go through the very same lines. The agent's id comes from the
channel, never from the arguments.

Invariants
- DP1 an operation that is not in the table is refused; an argument of a wrong kind is `InputError`, not a crash.
- DP3 the calls of a run stand still at its gate while it is held: before they act, and before they are answered.
- DP2 nothing is answered before its record is on disk, where the answer leaves the process (`outside`).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from symbi.agents.parts import Part, PartSource
from symbi.errors import InputError, PolicyDenied, SymbiTimeoutError
from symbi.runtime.holding import GATE
from symbi.tools.caller import part_tuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from symbi._core import Kernel
    from symbi.runtime.bridge import Bridge
    from symbi.tools.caller import ToolCaller

__all__ = ["Dispatcher", "message_shape", "part_of"]

WAIT_S_MAX = 3_600.0
"""Longest wait of one call, seconds: a forgotten waiter does not wait for ever."""


def part_of(shape: tuple[str, list[str], tuple[int, int, int] | None]) -> Part:
    """A part as it comes out of the kernel."""
    text, labels, source = shape
    return Part(text, frozenset(labels), None if source is None else PartSource(*source))


def message_shape(row: tuple[Any, ...]) -> dict[str, Any]:
    """A received message as the channel carries it."""
    identity, sender, sender_name, payload, labels, created_us, in_reply_to = row
    return {
        "id": identity,
        "sender": sender,
        "sender_name": sender_name,
        "payload": payload if isinstance(payload, bytes) else [part_of(shape) for shape in payload],
        "labels": labels,
        "created_us": created_us,
        "in_reply_to": in_reply_to,
    }


def payload_of(value: object) -> bytes | list[tuple[str, list[str], tuple[int, int, int] | None]]:
    """A payload as it crosses into the kernel.

    Raises:
        InputError: neither bytes nor a list of parts.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple) and all(isinstance(one, Part) for one in value):
        return [part_tuple(one) for one in value]
    mend = ": write `text.encode()`" if isinstance(value, str) else ""
    raise InputError(f"a payload is bytes or a list of symbi.Part, not a {type(value).__name__}{mend}")


def _take(arguments: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    value = arguments.get(name, default)
    if value is ... or (value is not default and (not isinstance(value, kind) or isinstance(value, bool))):
        raise InputError(f"`{name}` is missing or of a wrong kind")
    return value


def _seconds(timeout_s: float) -> float:
    if not timeout_s >= 0:  # a NaN too
        raise InputError(f"`timeout_s` is not negative, and is {timeout_s}")
    return min(timeout_s, WAIT_S_MAX)


def _texts(arguments: dict[str, Any], name: str) -> list[str]:
    value = _take(arguments, name, list)
    if not all(isinstance(one, str) for one in value):
        raise InputError(f"`{name}` is a list of texts")
    return list(value)


class Dispatcher:
    """The table, bound to one runtime."""

    def __init__(
        self, kernel: Kernel, bridge: Bridge, tools: ToolCaller, heed: Callable[[], None] = lambda: None
    ) -> None:
        """`heed` is called at each refusal, before it is answered: the kernel may have decided more than that."""
        self._heed = heed
        self._kernel = kernel
        self._bridge = bridge
        self._tools = tools
        self._table: dict[str, Callable[[str, dict[str, Any]], Awaitable[Any]]] = {
            "bus.send": self._send,
            "bus.request": self._request,
            "bus.receive": self._receive,
            "tools.call": self._call_tool,
            "context.store": self._store,
            "context.write": self._write,
            "context.search": self._search,
            "context.answer": self._answer,
            "labels": self._labels,
            "log.note": self._note,
        }

    async def call(self, agent: str, operation: str, arguments: dict[str, Any]) -> Any:
        """Do one operation for the agent.

        Raises:
            SymbiError: refused, failed, or not an operation.
        """
        act = self._table.get(operation)
        if act is None or not isinstance(arguments, dict):
            raise InputError(f"`{operation}` is not an operation")  # DP1
        gate = GATE.get()
        if gate is None:  # the host's own call, for an agent whose handle it holds
            return await self._act(act, agent, arguments)
        await gate.enter()  # DP3
        try:
            return await self._act(act, agent, arguments)
        finally:
            await gate.leave()

    async def _act(
        self, act: Callable[[str, dict[str, Any]], Awaitable[Any]], agent: str, arguments: dict[str, Any]
    ) -> Any:
        try:  # not `leaving`: this is the hot path
            return await act(agent, arguments)
        except PolicyDenied as denied:
            self._heed()
            await self._bridge.durable(denied.seq)  # DP2
            raise

    @contextlib.asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """A refusal that is raised within leaves when its record is on disk (DP2)."""
        try:
            yield
        except PolicyDenied as denied:
            await self._bridge.durable(denied.seq)
            raise

    async def _send(self, agent: str, arguments: dict[str, Any]) -> str:
        return self._post(agent, arguments, expects_reply=False)

    def _post(self, agent: str, arguments: dict[str, Any], *, expects_reply: bool) -> str:
        identity, _ = self._kernel.send(
            agent,
            _take(arguments, "recipient", str),
            payload_of(arguments.get("payload")),
            _take(arguments, "in_reply_to", str, None),
            expects_reply,
        )
        return identity

    async def _request(self, agent: str, arguments: dict[str, Any]) -> dict[str, Any]:
        timeout_s = _take(arguments, "timeout_s", (int, float), 30.0)
        request = self._post(agent, arguments, expects_reply=True)
        try:
            async with asyncio.timeout(_seconds(timeout_s)):
                while True:
                    reply = self._kernel.take_reply(agent, request)
                    if reply is not None:
                        return message_shape(reply)
                    await self._mail(agent)
        except TimeoutError:
            reply = self._kernel.take_reply(agent, request)  # it may have come while the run was held
            if reply is not None:
                return message_shape(reply)
            self._kernel.forget_reply(agent, request)
            raise SymbiTimeoutError(f"no answer within {timeout_s} s") from None
        except asyncio.CancelledError:
            self._kernel.forget_reply(agent, request)  # nobody waits any more
            raise

    async def _receive(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        limit = _take(arguments, "limit", int, 64)
        timeout_s = _take(arguments, "timeout_s", (int, float), None)
        if not 1 <= limit <= 65_536:
            raise InputError("`limit` is 1 to 65536")
        rows = self._kernel.receive_many(agent, limit)
        if not rows and timeout_s is not None:
            try:
                async with asyncio.timeout(_seconds(timeout_s)):
                    while not rows:
                        await self._mail(agent)
                        rows = self._kernel.receive_many(agent, limit)
            except TimeoutError:
                rows = self._kernel.receive_many(agent, limit)  # as above
        return [message_shape(row) for row in rows]

    async def _mail(self, agent: str) -> None:
        """Wait until something has come into the agent's mailbox, and its run may look (DP3)."""
        await self._bridge.mailbox(agent)
        if (gate := GATE.get()) is not None:
            await gate.passing()

    async def _call_tool(self, agent: str, arguments: dict[str, Any]) -> Any:
        parts = _take(arguments, "parts", list, [])
        if not all(isinstance(part, Part) for part in parts):
            raise InputError("`parts` is a list of symbi.Part")
        wait_s = _take(arguments, "approval_timeout_s", (int, float), None)
        return await self._tools.call(
            agent,
            _take(arguments, "name", str),
            _take(arguments, "arguments", dict, {}),
            parts,
            approval_timeout_s=None if wait_s is None else _seconds(wait_s),
        )

    async def _store(self, agent: str, arguments: dict[str, Any]) -> str:
        content, readers = _take(arguments, "content", str), _texts(arguments, "readers")
        document, seq = self._kernel.store_document(agent, content, readers)
        await self._bridge.durable(seq)
        return document

    async def _write(self, agent: str, arguments: dict[str, Any]) -> str:
        title, text = _take(arguments, "title", str), _take(arguments, "text", str)
        document, seq = self._kernel.write_document(agent, title, text, _texts(arguments, "readers"))
        await self._bridge.durable(seq)
        return document

    async def _search(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        text, limit = _take(arguments, "text", str), _take(arguments, "limit", int, 10)
        rows, seq = self._kernel.search(agent, text, max(1, min(limit, 100)))
        await self._bridge.durable(seq)
        return [_citation(row) for row in rows]

    async def _answer(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        question, limit = _take(arguments, "question", str), _take(arguments, "limit", int, 3)
        rows, seq = self._kernel.answer(agent, question, max(1, min(limit, 25)))
        await self._bridge.durable(seq)
        return [_citation(row) for row in rows]

    async def _labels(self, agent: str, _arguments: dict[str, Any]) -> list[str]:
        return self._kernel.agent_labels(agent)

    async def _note(self, agent: str, arguments: dict[str, Any]) -> None:
        self._kernel.note(agent, _take(arguments, "text", str))


def _citation(row: tuple[Any, ...]) -> dict[str, Any]:
    part, document, title, chunk = row
    return {"part": part_of(part), "document": document, "title": title, "chunk": chunk}
