"""What an agent may ask for, one table: operation name to the kernel's call.

Why: agents in the host's process and agents behind a pipe go through the very same lines. The agent's id comes from the
channel, never from the arguments. What concerns messages is in `messaging`.

Invariants
- DP1 an operation that is not in the table is refused; an argument of a wrong kind is `InputError`, not a crash.
- DP3 the calls of a run stand still at its gate while it is held: before they act, and before they are answered.
- DP2 nothing is answered before its record is on disk, where the answer leaves the process (`outside`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from symbi.agents.messaging import Messaging
from symbi.agents.parts import Part, part_of
from symbi.agents.shapes import seconds, take
from symbi.errors import InputError, PolicyDenied
from symbi.runtime.holding import GATE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from symbi._core import Kernel
    from symbi.runtime.bridge import Bridge
    from symbi.tools.caller import ToolCaller

__all__ = ["Dispatcher"]


def _texts(arguments: dict[str, Any], name: str) -> list[str]:
    value = take(arguments, name, list)
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
        self.messaging = Messaging(kernel, bridge)
        self._table: dict[str, Callable[[str, dict[str, Any]], Awaitable[Any]]] = {
            **self.messaging.table,
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

    async def _call_tool(self, agent: str, arguments: dict[str, Any]) -> Any:
        parts = take(arguments, "parts", list, [])
        if not all(isinstance(part, Part) for part in parts):
            raise InputError("`parts` is a list of symbi.Part")
        wait_s = take(arguments, "approval_timeout_s", (int, float), None)
        return await self._tools.call(
            agent,
            take(arguments, "name", str),
            take(arguments, "arguments", dict, {}),
            parts,
            approval_timeout_s=None if wait_s is None else seconds(wait_s),
        )

    async def _store(self, agent: str, arguments: dict[str, Any]) -> str:
        content, readers = take(arguments, "content", str), _texts(arguments, "readers")
        document, seq = self._kernel.store_document(agent, content, readers)
        await self._bridge.durable(seq)
        return document

    async def _write(self, agent: str, arguments: dict[str, Any]) -> str:
        title, text = take(arguments, "title", str), take(arguments, "text", str)
        document, seq = self._kernel.write_document(agent, title, text, _texts(arguments, "readers"))
        await self._bridge.durable(seq)
        return document

    async def _search(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        text, limit = take(arguments, "text", str), take(arguments, "limit", int, 10)
        rows, seq = self._kernel.search(agent, text, max(1, min(limit, 100)))
        await self._bridge.durable(seq)
        return [_citation(row) for row in rows]

    async def _answer(self, agent: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        question, limit = take(arguments, "question", str), take(arguments, "limit", int, 3)
        rows, seq = self._kernel.answer(agent, question, max(1, min(limit, 25)))
        await self._bridge.durable(seq)
        return [_citation(row) for row in rows]

    async def _labels(self, agent: str, _arguments: dict[str, Any]) -> list[str]:
        return self._kernel.agent_labels(agent)

    async def _note(self, agent: str, arguments: dict[str, Any]) -> None:
        self._kernel.note(agent, take(arguments, "text", str))


def _citation(row: tuple[Any, ...]) -> dict[str, Any]:
    part, document, title, chunk = row
    return {"part": part_of(part), "document": document, "title": title, "chunk": chunk}
