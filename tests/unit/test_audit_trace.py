"""Provenance: what a run had read, been told and been answered before an operation, back to who wrote it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi import AuditLog
from symbi.audit import AuditEvent
from symbi.audit.message_proof import MessageProof
from symbi.audit.trace import Source, trace
from symbi.cli.main import main
from symbi.errors import CryptoError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _walk(node: Source) -> Iterator[tuple[str, str, str]]:
    for source in node.sources:
        details = source.event.details
        yield node.event.details.get("action", ""), source.relation, details.get("action", "")
        yield from _walk(source)


@symbi.tool(name="out.send", effects="external")
async def send_tool(text: str) -> str:
    return text


@symbi.agent(name="trace-librarian", isolation="in_process", capabilities=["knowledge:write"])
async def librarian(ctx: symbi.AgentContext) -> str:
    return await ctx.context.write(
        "ward", "The pump of ward three was replaced in May.", readers=["trace-analyst"]
    )


@symbi.agent(name="trace-analyst", isolation="in_process")
async def analyst(ctx: symbi.AgentContext, courier: str) -> None:
    found = await ctx.context.search("pump of ward three")
    await ctx.bus.send(courier, str(found[0]["title"]).encode())


@symbi.agent(name="trace-courier", isolation="in_process", capabilities=["out:call"])
async def courier(ctx: symbi.AgentContext) -> None:
    (message,) = await ctx.bus.receive(timeout_s=30)
    await ctx.tools.call("out.send", {"text": "first"})
    with contextlib.suppress(symbi.PolicyDenied):
        await ctx.tools.call("out.forbidden", {"text": str(message.payload)})


POLICY = """
@id("calls") permit (principal is Agent, action == Action::"tool.call", resource)
when { principal.capabilities.contains("out:call") };
@id("never") forbid (principal, action == Action::"tool.call", resource == Tool::"out.forbidden");
"""


@symbi.tool(name="out.forbidden", effects="external")
async def forbidden_tool(text: str) -> str:
    return text


async def _live(place: Path) -> list[int]:
    (place / "calls.cedar").write_text(POLICY)
    seen: list[int] = []
    async with symbi.Runtime.open(
        data=place / "data", policy=[place / "calls.cedar", "secure-default"]
    ) as rt:
        stream = rt.audit.stream(from_seq=0)
        await rt.run(librarian)
        sender, receiver = await rt.schedule_agents([analyst, courier])
        await asyncio.gather(rt.run(sender, {"courier": receiver.id}), rt.run(receiver))
        async for event in stream:
            assert isinstance(event, AuditEvent)
            seen.append(event.seq)
            if event.event_type == "run.finished" and event.agent_id == receiver.id:
                break
    return seen


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    """What a runtime leaves: a document, who read it and told another, and what that one did."""
    place = tmp_path_factory.mktemp("trace")
    seen = asyncio.run(_live(place))
    assert seen == list(range(len(seen))), "AS1: a running runtime's stream is its trail"
    return AuditLog.open(place / "data" / "trail")


def test_tr1_tr2_a_refused_call_is_followed_to_the_message_the_documents_and_the_task(demo: AuditLog) -> None:
    refused = demo.query(event_type="operation.denied")[0]
    tree = trace(demo, refused.details["decision_id"])
    assert tree.event == refused
    steps = set(_walk(tree))
    assert ("tool.call", "sent to it", "message.send") in steps, "TR2: that it was read is not recorded"
    assert ("message.send", "read", "data.read") in steps
    assert ("data.read", "written by", "data.write") in steps
    assert ("tool.call", "result of", "tool.call") in steps
    assert ("tool.call", "task", "agent.run") in steps

    def earlier(node: Source) -> None:
        for source in node.sources:
            assert source.event.seq < node.event.seq, "TR1"
            earlier(source)

    earlier(tree)
    assert len({event.seq for event in tree.events()}) == len(tree.events())
    for event in tree.events()[:5]:
        demo.prove(event).check(demo.fingerprint)


def test_tr4_an_ordinary_message_that_led_to_a_call_is_named_and_proven_to_a_stranger(
    demo: AuditLog, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = demo.query(event_type="operation.denied")[0]
    assert main(["audit", "trace", str(refused.seq), str(demo.directory), "--json", "--proofs"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    (sent,) = [source for source in told["sources"] if source["relation"] == "sent to it"]
    assert "messages" in sent["event"]["details"], "it shares a record"
    (message,) = sent["messages"]
    (proof,) = sent["message_proofs"]
    assert proof["message"] == message
    found = MessageProof(**{**proof, "path": tuple(proof["path"])})
    found.check()
    proven = symbi.audit.Proof(sent["proof"]).check(demo.fingerprint)
    assert proven.event.seq == sent["seq"]
    with pytest.raises(CryptoError):
        dataclasses.replace(found, leaf="00" * 32).check()
    assert main(["audit", "trace", str(refused.seq), str(demo.directory)]) == 0
    assert f"message {message}" in capsys.readouterr().out
    assert main(["audit", "prove", "--message", message, str(demo.directory)]) == 0
    assert main(["audit", "trace", str(refused.seq), str(demo.directory), "--proofs"]) == 2


def test_tr3_what_a_bound_cut_off_is_said(demo: AuditLog) -> None:
    refused = demo.query(event_type="operation.denied")[0]
    tree = trace(demo, refused.seq, depth=1)
    cut = [source for source in tree.sources if source.left_out]
    assert cut, "the message has sources that are not shown"
    assert all(not source.sources for source in tree.sources)


def test_an_outcome_is_led_back_to_its_decision(demo: AuditLog) -> None:
    outcome = demo.query(event_type="operation.outcome", limit=1)[0]
    tree = trace(demo, outcome.event_id)
    assert [source.relation for source in tree.sources] == ["decided in"]
    assert tree.sources[0].event.op == outcome.op
    with pytest.raises(InputError, match="no event, operation or decision"):
        trace(demo, "nothing")
    with pytest.raises(InputError, match="no record 99999"):
        trace(demo, 99999)


def test_the_tree_is_printed_and_is_json(demo: AuditLog, capsys: pytest.CaptureFixture[str]) -> None:
    refused = demo.query(event_type="operation.denied")[0]
    assert main(["audit", "trace", str(refused.seq), str(demo.directory)]) == 0
    text = capsys.readouterr().out
    assert "└─ " in text
    assert refused.event_id in text
    assert main(["audit", "trace", str(refused.seq), str(demo.directory), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["seq"] == refused.seq
    assert any(source["relation"] == "sent to it" for source in told["sources"])
