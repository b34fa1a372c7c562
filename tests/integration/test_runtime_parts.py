"""The runtime with its parts together: bus, knowledge and labels, a disk that fills, both loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi.context import Passage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BOUND_S = 30.0


@symbi.agent(isolation="in_process")
async def quiet() -> None: ...


@symbi.agent(name="answering", isolation="in_process")
async def answering(ctx: symbi.AgentContext, count: int) -> int:
    served = 0
    while served < count:
        for message in await ctx.bus.receive(timeout_s=5):
            await ctx.bus.reply(message, b"re: " + message.payload)  # type: ignore[operator]
            served += 1
    return served


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    async with symbi.Runtime.open(data=tmp_path / "d") as opened:
        yield opened


async def _agents(rt: symbi.Runtime, *names: str, **fields: Any) -> list[symbi.AgentHandle]:
    made = []
    for name in names:
        config = symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process", **fields)
        made.append(await rt.schedule_agent(config))
    return made


@pytest.mark.asyncio
async def test_messages_arrive_in_order_with_sender_and_labels(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    identities = [await rt.bus.send(alice, bob, f"m{number}".encode()) for number in range(50)]
    by_name = await rt.bus.send(alice, "bob", [symbi.Part("secret text", frozenset({"secret"}))])
    messages = await rt.bus.receive_many(bob)
    assert [message.id for message in messages] == [*identities, by_name]
    assert {(message.sender, message.sender_name) for message in messages} == {(alice.id, "alice")}
    assert [message.payload for message in messages[:50]] == [f"m{number}".encode() for number in range(50)]
    assert messages[-1].labels == {"secret"}
    assert rt.kernel.agent_labels(bob.id) == ["secret"]  # reading raised them
    assert rt.kernel.agent_labels(alice.id) == []


@pytest.mark.asyncio
async def test_a_batch_is_sent_in_order(rt: symbi.Runtime) -> None:
    alice, bob, carol = await _agents(rt, "alice", "bob", "carol")
    await rt.bus.send_many(alice, [(bob, b"1"), (carol, b"2"), ("bob", b"3")])
    assert [message.payload for message in await rt.bus.receive_many(bob)] == [b"1", b"3"]
    assert [message.payload for message in await rt.bus.receive_many(carol)] == [b"2"]


@pytest.mark.asyncio
async def test_a_request_is_answered_and_a_missing_answer_is_a_timeout(rt: symbi.Runtime) -> None:
    (asker,) = await _agents(rt, "asker")
    server = await rt.schedule_agent(answering)
    serving = asyncio.create_task(rt.run(server, {"count": 20}))
    replies = await asyncio.gather(*(rt.bus.request(asker, server, str(n).encode()) for n in range(20)))
    assert [reply.payload for reply in replies] == [f"re: {n}".encode() for n in range(20)]
    assert await asyncio.wait_for(serving, BOUND_S) == 20
    with pytest.raises(symbi.SymbiTimeoutError, match=r"no answer within 0\.05 s"):
        await rt.bus.request(asker, server, b"?", timeout_s=0.05)
    with pytest.raises(TimeoutError):
        await rt.bus.request(asker, server, b"?", timeout_s=0)
    with pytest.raises(symbi.InputError, match="timeout_s"):
        await rt.bus.request(asker, server, b"?", timeout_s=float("nan"))


@pytest.mark.asyncio
async def test_absent_and_forbidden_recipients_look_alike(rt: symbi.Runtime) -> None:
    alice, gone = await _agents(rt, "alice", "gone")
    await rt.stop_agent(gone)
    told = set()
    for recipient in ("nobody", gone, "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(symbi.PolicyDenied) as caught:
            await rt.bus.send(alice, recipient, b"x")
        told.add((str(caught.value), caught.value.code))
    assert len(told) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("payload", ["text", 7, None, [b"x"], {"a": 1}])
async def test_a_payload_is_bytes_or_parts(rt: symbi.Runtime, payload: Any) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    with pytest.raises(symbi.InputError, match="payload"):
        await rt.bus.send(alice, bob, payload)
    assert await rt.bus.receive_many(bob) == []


@pytest.mark.asyncio
async def test_waiting_for_mail_ends_with_mail_or_with_its_time(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    waiting = asyncio.create_task(rt.bus.receive_many(bob, timeout_s=BOUND_S))
    await asyncio.sleep(0)
    await rt.bus.send(alice, bob, b"hello")
    assert [message.payload for message in await waiting] == [b"hello"]
    assert await rt.bus.receive_many(bob, timeout_s=0.02) == []


@symbi.agent(name="writing", isolation="in_process", capabilities=["knowledge:write"])
async def writing(ctx: symbi.AgentContext) -> str:
    return await ctx.context.write("birds", "penguins walk")


@pytest.mark.asyncio
async def test_what_an_agent_writes_for_nobody_in_particular_everybody_finds(rt: symbi.Runtime) -> None:
    document = await rt.run(writing)
    (stranger,) = await _agents(rt, "stranger")
    assert [hit.document for hit in await rt.context.search_knowledge(stranger, "penguins")] == [document]


@pytest.mark.asyncio
async def test_what_is_found_brings_its_labels_and_only_readers_find_it(rt: symbi.Runtime) -> None:
    (librarian,) = await _agents(rt, "librarian", capabilities=("knowledge:write",))
    reader, stranger = await _agents(rt, "reader", "stranger")
    digest = await rt.context.ingest(
        librarian,
        "ward.txt",
        [Passage("The infusion pump of ward three was replaced in May.", 0, 52, ("internal",))],
    )
    assert await rt.context.search_knowledge(reader, "pump") == []  # brought in is not published
    document = await rt.context.store_document(librarian, digest, readers=["reader"])
    (hit,) = await rt.context.search_knowledge(reader, "infusion pump")
    assert (hit.document, hit.title) == (document, "ward.txt")
    assert "internal" in hit.part.labels
    assert "internal" in rt.kernel.agent_labels(reader.id)
    (answer,) = await rt.rag.answer(reader, "When was the infusion pump replaced?")
    assert "replaced in May" in answer.text
    assert answer.part.source is not None
    assert await rt.context.search_knowledge(stranger, "infusion pump") == []
    assert await rt.rag.answer(stranger, "When was the infusion pump replaced?") == []
    assert rt.kernel.agent_labels(stranger.id) == []
    with pytest.raises((symbi.PolicyDenied, symbi.InputError)):
        await rt.context.store_document(reader, digest)  # what others brought in does not exist for it


@pytest.mark.asyncio
async def test_knowledge_outlives_the_runtime(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        (librarian,) = await _agents(rt, "librarian", capabilities=("knowledge:write",))
        digest = await rt.context.ingest(
            librarian, "t", [Passage("Otters hold hands while they sleep.", 0, 35)]
        )
        await rt.context.store_document(librarian, digest, readers=["*"])
    async with symbi.Runtime.open(data=tmp_path) as rt:
        (anybody,) = await _agents(rt, "librarian")
        assert [hit.text for hit in await rt.context.search_knowledge(anybody, "otters")] == [
            "Otters hold hands while they sleep."
        ]


_FULL = """
import asyncio, os, resource, signal, sys, symbi

EFFECTS = []

@symbi.tool(name="full.effect")
async def effect(text):
    EFFECTS.append(text)

@symbi.agent(isolation="in_process")
async def waits(ctx):
    await asyncio.Event().wait()

@symbi.agent(isolation="in_process")
async def quick(ctx): ...

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with symbi.Runtime.open(data=sys.argv[1], policy=["secure-default", sys.argv[2]]) as rt:
        agent, other = await rt.schedule_agent(waits), await rt.schedule_agent(quick)
        run = asyncio.ensure_future(rt.run(agent))
        await rt.tools.call(other, "full.effect", {"text": "before"})
        (segment,) = [one for one in os.scandir(rt.opened["trail"]) if one.name.endswith(".jsonl")]
        size = segment.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        codes = set()
        for _ in range(20):
            for ask in (
                lambda: rt.tools.call(other, "full.effect", {"text": "after"}),
                lambda: rt.schedule_agent(quick),
                lambda: rt.run(other),
            ):
                try:
                    await asyncio.wait_for(ask(), 10)
                    print("passed", ask)
                except symbi.SymbiError as error:
                    codes.add(error.code)
        print(sorted(codes))
        health = await rt.health_check()
        print(health.overall_status, health.component_health["audit"].level)
        print(await rt.stop_all())
        print(type((await asyncio.gather(run, return_exceptions=True))[0]).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(EFFECTS)

try:
    asyncio.run(main())
except symbi.AuditError as error:
    print("closing:", error.code)
    print(EFFECTS)
"""


def test_a_trail_that_cannot_be_written_refuses_every_effect_and_stops_still_work(tmp_path: Path) -> None:
    policy = tmp_path / "full.cedar"
    policy.write_text('permit (principal, action == Action::"tool.call", resource == Tool::"full.effect");')
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "d"), str(policy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    lines = ended.stdout.splitlines()
    assert "passed" not in ended.stdout, ended.stdout
    assert lines[0] in ("['audit.unavailable', 'unavailable']", "['audit.unavailable']", "['unavailable']"), (
        ended
    )
    assert lines[1] == "red red"
    assert int(lines[2]) >= 2
    assert lines[3] == "AgentError"
    assert lines[-1] == "['before']"  # nothing happened that could not be recorded
    assert symbi.AuditLog.open(tmp_path / "d" / "trail").verify().records >= 5
    # It opens again, and the brakes that could not be recorded then are there, marked late.
    asyncio.run(_reopens(tmp_path / "d"))
    late = list(symbi.AuditLog.open(tmp_path / "d" / "trail").query(event_type="brake"))
    assert any(one.details.get("late") for one in late), [one.details for one in late]


async def _reopens(data: Path) -> None:
    async with symbi.Runtime.open(data=data) as rt:
        assert (await rt.health_check()).component_health["audit"].level == "green"
        await rt.run(quiet)
