"""What an agent may ask for, one table: operation name to the kernel's call.

Why: agents in the host's process and agents behind a pipe go through the very same lines. The agent's id comes from the
channel, never from the arguments. What concerns messages is in `messaging`.

Invariants
- DP1 an operation that is not in the table is refused; an argument of a wrong kind is `InputError`, not a crash.
- DP3 the calls of a run stand still at its gate while it is held: before they act, and before they are answered.
- DP4 an operation that needs persons waits for them, and is then asked for again, with what they made of it.
- DP2 nothing is answered before its record is on disk, where the answer leaves the process (`outside`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from symbi.agents.changing import CHANGES, with_payload, within
from symbi.agents.messaging import Messaging
from symbi.agents.parts import Part, part_of
from symbi.agents.shapes import seconds, take
from symbi.errors import InputError, PolicyDenied
from symbi.runtime.holding import GATE, Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from symbi._core import Kernel
    from symbi.runtime.approvals import Approvals
    from symbi.runtime.bridge import Bridge
    from symbi.tools.caller import ToolCaller

__all__ = ["Dispatcher"]

T = TypeVar("T")


def _texts(arguments: dict[str, Any], name: str) -> list[str]:
    value = take(arguments, name, list)
    if not all(isinstance(one, str) for one in value):
        raise InputError(f"`{name}` is a list of texts")
    return list(value)


def _patience(arguments: tuple[Any, ...]) -> float | None:
    """How long who asks is ready to wait for persons, in seconds; None: until they have decided."""
    given = arguments[-1] if isinstance(arguments[-1], dict) else {}
    wait_s = take(given, "approval_timeout_s", (int, float), None)
    return None if wait_s is None else seconds(wait_s)


class Dispatcher:
    """The table, bound to one runtime."""

    def __init__(
        self,
        kernel: Kernel,
        bridge: Bridge,
        tools: ToolCaller,
        heed: Callable[[], None] = lambda: None,
        approvals: Approvals | None = None,
    ) -> None:
        """`heed` is called at each refusal, before it is answered: the kernel may have decided more than that. Without
        `approvals` nothing waits for a person."""
        self._heed = heed
        self._approvals = approvals
        self._kernel = kernel
        self._bridge = bridge
        self._tools = tools
        self.messaging = Messaging(kernel, bridge, approvals)
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
        self._waits: dict[Callable[..., Awaitable[Any]], Callable[..., tuple[Any, ...]]] = {
            **{self._table[name]: within(change) for name, change in CHANGES.items()},
            self.messaging.send: with_payload,
            self.messaging.request: with_payload,
        }

    async def call(self, agent: str, operation: str, arguments: dict[str, Any]) -> Any:
        """Do one operation for the agent.

        Raises:
            SymbiError: refused, failed, or not an operation.
        """
        act = self._table.get(operation)
        if act is None or not isinstance(arguments, dict):
            raise InputError(f"`{operation}` is not an operation")  # DP1
        return await self.do(act, agent, arguments)

    def do(self, act: Callable[..., Awaitable[T]], *arguments: Any) -> Awaitable[T]:
        """`act` as an operation: at the gate of the run that calls; a refusal leaves when it is on disk (DP2, DP3)."""
        gate = GATE.get()
        if gate is None:  # the host's own call, for an agent whose handle it holds
            return self._act(act, *arguments)
        return self._at(gate, act, *arguments)

    async def _at(self, gate: Gate, act: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        await gate.enter()  # DP3
        try:
            return await self._act(act, *arguments)
        finally:
            await gate.leave()

    async def _act(self, act: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        while True:
            try:
                return await act(*arguments)
            except PolicyDenied as denied:
                self._heed()
                await self._bridge.durable(denied.seq)  # DP2
                again = self._waits.get(act)
                if again is None or self._approvals is None:
                    raise
                content = await self._approvals.wait(denied, _patience(arguments))  # DP4
                if content is not None:
                    arguments = again(arguments, content)

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
        labels = _texts({"labels": [], **arguments}, "labels")
        document, seq = self._kernel.write_document(agent, title, text, _texts(arguments, "readers"), labels)
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
