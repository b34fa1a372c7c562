"""Knowledge, as the host sees it: a view on the kernel.

Not here: words, ranks, access lists (native, where no caller can skip them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symbi.agents.parts import with_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi._core import Kernel
    from symbi.agents.dispatch import Dispatcher
    from symbi.agents.handle import AgentHandle
    from symbi.agents.parts import Part
    from symbi.runtime.bridge import Bridge

__all__ = ["Knowledge", "KnowledgeItem", "Passage", "Rag"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a source that is brought in.

    Args:
        text: Its text; None where only its place is kept.
        start: First byte within the source. `end`: one past the last.
        labels: Declared labels; detected ones come on top.
        digest: Of a text that is withheld, hex.
    """

    text: str | None
    start: int
    end: int
    labels: tuple[str, ...] = ()
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class KnowledgeItem:
    """Something found: a passage or a sentence, with its labels and its place."""

    part: Part
    document: str
    title: str
    chunk: int

    @property
    def text(self) -> str:
        """The text."""
        return self.part.text


class Knowledge:
    """`rt.context`: what agents know."""

    def __init__(self, kernel: Kernel, bridge: Bridge, dispatcher: Dispatcher) -> None:
        self._kernel = kernel
        self._bridge = bridge
        self._dispatcher = dispatcher

    async def ingest(
        self,
        agent: AgentHandle,
        title: str,
        passages: Sequence[Passage],
        *,
        subject: str | Sequence[str] | None = None,
    ) -> str:
        """Bring passages in on behalf of `agent`, seen by nobody until a document names them.

        Args:
            subject: Whose data all of them are, and the title; of one passage alone, a label `subject:NAME` says it.

        Returns:
            Their digest, for `ctx.context.store`.
        """
        rows = [
            (
                passage.text,
                passage.digest,
                with_subject(passage.labels, subject),
                passage.start,
                passage.end,
            )
            for passage in passages
        ]
        async with self._dispatcher.leaving():
            digest, seq = self._kernel.ingest(agent.id, title, rows)
        await self._bridge.durable(seq)
        return digest

    async def store_document(self, agent: AgentHandle, content: str, readers: Sequence[str] = ()) -> str:
        """Make a document of content that was brought in, for these readers and the agent itself."""
        arguments = {"content": content, "readers": list(readers)}
        return str(await self._dispatcher.call(agent.id, "context.store", arguments))

    async def search_knowledge(self, agent: AgentHandle, text: str, limit: int = 10) -> list[KnowledgeItem]:
        """Passages that fit, best first, of what the agent may read; reading raises its labels (spec C2)."""
        rows = await self._dispatcher.call(agent.id, "context.search", {"text": text, "limit": limit})
        return [KnowledgeItem(**row) for row in rows]


class Rag:
    """`rt.rag`: answers with citations. Extractive: sentences that stand in the documents."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def answer(self, agent: AgentHandle, question: str, limit: int = 3) -> list[KnowledgeItem]:
        """Sentences that answer, each with its place, best first; empty where nothing does."""
        arguments: dict[str, Any] = {"question": question, "limit": limit}
        rows = await self._dispatcher.call(agent.id, "context.answer", arguments)
        return [KnowledgeItem(**row) for row in rows]
