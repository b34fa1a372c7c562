"""What an agent is given: `ctx`.

Why: one class, whichever side of the pipe the agent runs on. All it can do is ask; the monitor decides.
Not here: deciding, or any effect. Each method is one call over the channel.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from symbi.agents.mail import AgentBus
from symbi.agents.parts import with_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi.agents.channel import Channel
    from symbi.agents.parts import Part

__all__ = ["AgentContext", "AgentKnowledge", "AgentLog", "AgentTools"]

_YIELD_NS = (
    1_000_000  # a millisecond: a preemption is measured in tens of them, a turn of the loop in hundredths
)


class AgentTools:
    """Tools. The kernel checks, records and hands over the arguments; an adapter acts."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def call(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        parts: Sequence[Part] = (),
        approval_timeout_s: float | None = None,
    ) -> Any:
        """Call a tool. One that needs a person waits for one: until it is decided, or its time is over.

        Args:
            name: Its name, such as `outbox.send`.
            arguments: JSON values, by parameter name. They carry all that this agent has read.
            parts: Text that keeps its labels piece by piece; only these can be redacted.
            approval_timeout_s: How long to wait for a person, seconds; 0: not at all.

        Raises:
            PolicyDenied: refused; with code `needs_approval` where no person decided in time.
            ToolError: the tool failed.
        """
        shape: dict[str, Any] = {"name": name, "arguments": arguments or {}, "parts": list(parts)}
        if approval_timeout_s is not None:
            shape["approval_timeout_s"] = approval_timeout_s
        return await self._channel.call("tools.call", shape)

    if not TYPE_CHECKING:  # a type checker shall still find the mistake

        def __getattr__(self, name: str) -> Any:
            text = f'tools are called by name: write `await ctx.tools.call("{name}", {{…}})`'
            raise AttributeError(text, name=name, obj=self)


class AgentKnowledge:
    """The knowledge base, as far as this agent may see it."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def store(self, content: str, *, readers: Sequence[str] = ("*",)) -> str:
        """Make a document of content that the runtime holds (by its digest); answers the document's id.

        Args:
            content: The digest, as it came with the input.
            readers: Names of the agents that may read it; `*` for all.
        """
        return str(await self._channel.call("context.store", {"content": content, "readers": list(readers)}))

    async def write(
        self,
        title: str,
        text: str,
        *,
        readers: Sequence[str] = ("*",),
        subject: str | Sequence[str] | None = None,
        approval_timeout_s: float | None = None,
    ) -> str:
        """Store a text of this agent's own. It carries the labels of all that the agent has read.

        Args:
            title, text: What is stored.
            readers: Names of the agents that may read it; `*` for all.
            subject: Whose data it is, besides those whose data the agent has read: sealed, and erased with the person.
            approval_timeout_s: Longest wait for persons, where policy wants them to agree, seconds; 0: none.
        """
        arguments: dict[str, Any] = {
            "title": title,
            "text": text,
            "readers": list(readers),
            "labels": with_subject((), subject),
        }
        if approval_timeout_s is not None:
            arguments["approval_timeout_s"] = approval_timeout_s
        return str(await self._channel.call("context.write", arguments))

    async def search(self, text: str, limit: int = 10) -> list[dict[str, Any]]:
        """Passages that fit, best first: `{"part": Part, "document", "title", "chunk"}`.

        Reading them raises this agent's labels by theirs.
        """
        hits: list[dict[str, Any]] = await self._channel.call(
            "context.search", {"text": text, "limit": limit}
        )
        return hits

    async def answer(self, question: str, limit: int = 3) -> list[dict[str, Any]]:
        """Sentences that answer, each with its citation: `{"part": Part, "document", "title", "chunk"}`."""
        arguments = {"question": question, "limit": limit}
        citations: list[dict[str, Any]] = await self._channel.call("context.answer", arguments)
        return citations


class AgentLog:
    """The agent's own lines in the trail."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def note(self, text: str) -> None:
        """Record a line of at most 4,096 characters, sealed: operators read it, the plain trail does not show it."""
        await self._channel.call("log.note", {"text": text})


class AgentContext:
    """What an agent is given as its first argument.

    Attributes:
        bus: Messages (`symbi.agents.mail`).
        tools: Tools.
        context: The knowledge base.
        log: The agent's own lines.
        agent_id: Its id. `name`: what policies call it. `run_id`: this run.
        task_id: The task, the same in every attempt at it: what keys that must not change are made of.
    """

    __slots__ = (
        *("_channel", "_yielded_ns", "agent_id", "bus", "context", "log", "name", "run_id"),
        *("task_id", "tools"),
    )

    def __init__(
        self, channel: Channel, *, agent_id: str, name: str, run_id: str, task_id: str | None = None
    ) -> None:
        self._channel = channel
        self._yielded_ns = 0
        self.agent_id = agent_id
        self.name = name
        self.run_id = run_id
        self.task_id = run_id if task_id is None else task_id
        self.bus = AgentBus(channel, agent_id)
        self.tools = AgentTools(channel)
        self.context = AgentKnowledge(channel)
        self.log = AgentLog(channel)

    async def checkpoint(self) -> None:
        """A place in a long computation where it may be held, or ended.

        Every other call of `ctx` is one too; an agent that computes for long without any should have these. In a
        sandbox, which is frozen from outside, it only lets the agent's own other tasks run. Cost: under half a µs; at
        most once a millisecond it lets the event loop go round.
        """
        now_ns = monotonic_ns()
        if now_ns - self._yielded_ns >= _YIELD_NS:
            await asyncio.sleep(0)
            self._yielded_ns = monotonic_ns()
        await self._channel.checkpoint()

    async def labels(self) -> frozenset[str]:
        """What this agent has read so far."""
        return frozenset(await self._channel.call("labels", {}))
