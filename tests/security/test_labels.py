"""Threat: labelled text leaves under a smaller label than it came with.

Driven at the exit: the demo's outbox, where clean parts pass, personal ones are redacted and secret ones refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi._core import builtin_policy
from symbi.agents.parts import PartSource
from symbi.context import Passage
from symbi.tools import ToolDefinition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SENT: list[Any] = []


async def outbox(parts: list[symbi.Part], note: str = "") -> int:
    SENT.append((parts, note))
    return len(parts)


# Known to the runtime of a test alone: the demo's tool of this name stays what it is.
OUTBOX = ToolDefinition("outbox.send", outbox, "external", "medium", (), takes_parts=True)


async def _quiet() -> None: ...


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    policies = tmp_path / "policies"
    policies.mkdir()
    for name in ("secure-default", "demo"):
        (policies / f"{name}.cedar").write_text(builtin_policy(name))
    SENT.clear()
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policies) as opened:
        opened.tools.register(OUTBOX)
        yield opened


async def _agent(rt: symbi.Runtime, name: str, **fields: Any) -> symbi.AgentHandle:
    config = symbi.AgentConfig(name=name, function=_quiet, isolation="in_process", **fields)
    return await rt.schedule_agent(config)


async def _send(rt: symbi.Runtime, courier: symbi.AgentHandle, *parts: symbi.Part, **arguments: str) -> Any:
    return await rt.tools.call(courier, "outbox.send", arguments, parts=parts)


def _text() -> str:
    return " ".join(part.text for parts, _ in SENT for part in parts)


@pytest.mark.asyncio
async def test_a_clean_part_passes_as_it_is(rt: symbi.Runtime) -> None:
    courier = await _agent(rt, "courier")
    assert await _send(rt, courier, symbi.Part("the pump was replaced")) == 1
    assert _text() == "the pump was replaced"


@pytest.mark.asyncio
async def test_a_personal_part_is_blanked_in_the_kernel_and_the_rest_passes(rt: symbi.Runtime) -> None:
    courier = await _agent(rt, "courier")
    await _send(
        rt, courier, symbi.Part("clean words"), symbi.Part("Jane Doe, ward 3", frozenset({"personal"}))
    )
    assert "clean words" in _text()
    assert "Jane" not in _text()
    intent = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.intent")[0]
    assert intent.decision == "redact"
    assert "Jane" not in str(intent.to_json())


@pytest.mark.asyncio
async def test_a_secret_part_is_refused_whatever_stands_beside_it(rt: symbi.Runtime) -> None:
    courier = await _agent(rt, "courier")
    with pytest.raises(symbi.PolicyDenied, match="secrets never leave the house"):
        await _send(rt, courier, symbi.Part("clean"), symbi.Part("x", frozenset({"secret"})))
    assert SENT == []


@pytest.mark.asyncio
async def test_what_the_detectors_find_is_labelled_though_nobody_declared_it(rt: symbi.Runtime) -> None:
    courier = await _agent(rt, "courier")
    with pytest.raises(symbi.PolicyDenied):
        await _send(
            rt, courier, symbi.Part("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----")
        )
    await _send(rt, courier, symbi.Part("write to jane.doe@example.org"))
    assert "jane.doe" not in _text()


@pytest.mark.asyncio
async def test_who_has_read_a_secret_cannot_send_in_its_own_words(rt: symbi.Runtime) -> None:
    source, courier = await _agent(rt, "source"), await _agent(rt, "courier")
    await rt.bus.send(source, courier, [symbi.Part("the code is 0000", frozenset({"secret"}))])
    await rt.bus.receive_many(courier)
    with pytest.raises(symbi.PolicyDenied):
        await _send(rt, courier, symbi.Part("zero zero zero zero"))
    assert SENT == []


@pytest.mark.asyncio
async def test_an_obligation_that_cannot_be_applied_to_opaque_bytes_refuses(rt: symbi.Runtime) -> None:
    source, courier = await _agent(rt, "source"), await _agent(rt, "courier")
    await rt.bus.send(source, courier, [symbi.Part("Jane", frozenset({"personal"}))])
    await rt.bus.receive_many(courier)
    with pytest.raises(symbi.PolicyDenied, match="only in parts"):
        await _send(rt, courier, symbi.Part("clean"), note="she is Jane")
    assert SENT == []


async def _library(rt: symbi.Runtime) -> symbi.AgentHandle:
    librarian = await _agent(rt, "librarian", capabilities=("knowledge:write",))
    courier = await _agent(rt, "courier")
    passages = [
        Passage("The pump of ward three was replaced in May.", 0, 43),
        Passage("The pump of ward four belongs to a patient.", 43, 86, ("personal",)),
    ]
    digest = await rt.context.ingest(librarian, "ward", passages)
    await rt.context.store_document(librarian, digest, readers=["courier"])
    return courier


@pytest.mark.asyncio
async def test_an_extractive_part_keeps_its_chunks_labels_alone(rt: symbi.Runtime) -> None:
    courier = await _library(rt)
    hits = await rt.context.search_knowledge(courier, "pump ward")
    assert len(hits) == 2
    assert "personal" in rt.kernel.agent_labels(courier.id)
    (clean,) = [hit.part for hit in hits if not hit.part.labels]
    await _send(rt, courier, clean)
    assert _text() == clean.text  # though the courier has read personal data meanwhile


@pytest.mark.asyncio
async def test_a_forged_place_brings_all_that_was_read(rt: symbi.Runtime) -> None:
    courier = await _library(rt)
    hits = await rt.context.search_knowledge(courier, "pump ward")
    (clean,) = [hit.part for hit in hits if not hit.part.labels]
    (personal,) = [hit.part for hit in hits if hit.part.labels]
    assert clean.source is not None
    forgeries = [
        symbi.Part(personal.text, frozenset(), clean.source),
        symbi.Part("belongs to a patient", frozenset(), clean.source),
        symbi.Part(clean.text + " And the other one: a patient's.", frozenset(), clean.source),
        symbi.Part(personal.text, frozenset(), PartSource(clean.source.chunk, 0, 1 << 40)),
        symbi.Part(personal.text, frozenset(), PartSource(1 << 40, 0, 1)),
        symbi.Part(personal.text, frozenset(), personal.source),
    ]
    for forged in forgeries:
        SENT.clear()
        await _send(rt, courier, forged)
        assert "patient" not in _text(), forged


@pytest.mark.asyncio
async def test_a_part_cannot_declare_its_labels_away(rt: symbi.Runtime) -> None:
    source, middle, courier = [await _agent(rt, name) for name in ("source", "middle", "courier")]
    await rt.bus.send(source, middle, [symbi.Part("x", frozenset({"secret"}))])
    (message,) = await rt.bus.receive_many(middle)
    assert message.labels == {"secret"}
    await rt.bus.send(middle, courier, [symbi.Part("laundered", frozenset())])
    (relayed,) = await rt.bus.receive_many(courier)
    assert relayed.labels == {"secret"}
    with pytest.raises(symbi.PolicyDenied):
        await _send(rt, courier, symbi.Part("laundered twice"))
