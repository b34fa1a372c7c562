"""The three Python agents of the demo, each in a sandbox worker of its own.

Why so small: what matters happens elsewhere. They ask; the monitor decides, labels, redacts and records.
Not here: reading files (`scout`, a program of its own), what may leave (policies/demo.cedar).

Invariants
- DA1 a part is handed on as what it is, a quotation: its text and its place. Which labels that place has is
  the kernel's to say, not an agent's.
- DA2 what must stay clean is said before anything is read: an agent carries all that it has read.
"""

from __future__ import annotations

import re
from typing import Any

import symbi
from symbi import AgentContext, Part, PolicyDenied, ResourceLimits

SENTENCES_MAX = 2
"""Sentences quoted for one question; a report that quotes everything answers nothing."""

ASKED_MAX = 25
"""Sentences asked for, so that after those of other days' documents enough of today's remain."""

READERS = ("analyst", "courier")
"""Who may read what the librarian stores: who quotes, and who hands quotations on."""

_EVERYWHERE = frozenset({"what", "when", "which", "about", "with", "after", "does"})
"""Words of questions that say nothing about an answer."""

_CELL = re.compile(r"[,;](?=\S)|[\t|]")

_LIMITS = ResourceLimits(memory_mb=128, cpu_cores=1, execution_timeout_s=120)


@symbi.agent(name="librarian", capabilities=["knowledge:write"], limits=_LIMITS, source="builtin")
async def librarian(ctx: AgentContext, contents: list[str], places: list[str]) -> dict[str, Any]:
    """Makes documents of contents that came in; tells the analyst where something secret lies, never what."""
    documents = [await ctx.context.store(content, readers=READERS) for content in contents]
    if places:
        await ctx.bus.send("analyst", [Part(place, frozenset({"secret"})) for place in places])
    return {"documents": documents}


@symbi.agent(name="analyst", limits=_LIMITS, source="builtin")
async def analyst(
    ctx: AgentContext, questions: list[str], documents: list[str], notices: int
) -> dict[str, Any]:
    """Answers questions with quotations, and hands its report to the courier, a message for each section."""
    headings = [Part(f"{number}. {question}") for number, question in enumerate(questions, start=1)]
    if headings:
        await ctx.bus.send("courier", headings)  # DA2
    messages, answers = min(1, len(headings)), []
    known = frozenset(documents)
    for question in questions:
        found: dict[str, dict[str, Any]] = {}
        for hit in await ctx.context.answer(question, limit=ASKED_MAX):
            if hit["document"] in known:
                found.setdefault(hit["part"].text, hit)
        cited = pertinent(question, list(found.values()))[:SENTENCES_MAX]
        if cited:
            await ctx.bus.send("courier", [quotation(hit["part"]) for hit in cited])
            messages += 1
        answers.append([{"title": hit["title"], "labels": sorted(hit["part"].labels)} for hit in cited])
    for _ in range(notices):
        for message in await ctx.bus.receive(limit=1):
            await ctx.bus.send("courier", message.payload)
            messages += 1
    return {"answers": answers, "messages": messages}


@symbi.agent(name="courier", capabilities=["tool:outbox.send"], limits=_LIMITS, source="builtin")
async def courier(ctx: AgentContext, messages: int) -> list[dict[str, str]]:
    """Tries to send each part by itself, so that one that must stay does not hold up the others."""
    outcomes: list[dict[str, str]] = []
    for _ in range(messages):
        for message in await ctx.bus.receive(limit=1):
            parts = message.payload
            if not isinstance(parts, bytes):  # bytes are no report of the analyst's
                outcomes += [await _send(ctx, part) for part in parts]
    return outcomes


def pertinent(question: str, hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hits, best first, that share at least half as many words with the question as the best does."""
    words = {word for word in re.findall(r"\w{4,}", question.lower()) if word not in _EVERYWHERE}
    shared = [sum(word in hit["part"].text.lower() for word in words) for hit in hits]
    best = max(shared, default=0)
    chosen = [(count, hit) for count, hit in zip(shared, hits, strict=True) if count and 2 * count >= best]
    return [hit for _, hit in sorted(chosen, key=lambda one: -one[0])]


async def _send(ctx: AgentContext, part: Part) -> dict[str, str]:
    sent = quotation(part) if part.source is not None else part
    try:
        await ctx.tools.call("outbox.send", parts=[sent])
    except PolicyDenied as denied:
        return {"outcome": "refused", "decision": denied.decision_id, "message": str(denied)}
    return {"outcome": "sent"}


def quotation(part: Part) -> Part:
    """The same words of the same place, without anybody's labels (DA1).

    A row of a table keeps them, and so leaves whole or not at all: nothing in it says which of its cells is a name.
    """
    labels = part.labels if len(_CELL.findall(part.text)) > 1 else frozenset()
    return Part(part.text, labels, part.source)
