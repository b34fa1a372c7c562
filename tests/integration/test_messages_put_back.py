"""What was taken out of a mailbox and was not looked at is there for who reads it next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi.agents.entry import find, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BOUND_S = 20.0


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as runtime:
        yield runtime


async def _agents(rt: symbi.Runtime, *names: str) -> list[symbi.AgentHandle]:
    config = [symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process") for name in names]
    return [await rt.schedule_agent(one) for one in config]


async def _listened_to_the_first(rt: symbi.Runtime, agent: symbi.AgentHandle) -> None:
    """A handler is at work on the first message when it is ended."""
    begun = asyncio.Event()

    async def handler(_message: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    subscription = await rt.bus.listen(agent, handler)
    async with asyncio.timeout(BOUND_S):
        await begun.wait()
        await subscription.unsubscribe()


@pytest.mark.asyncio
@pytest.mark.parametrize("guarantee", ["at_most_once", "at_least_once"])
async def test_ml4_mg3_who_stops_listening_leaves_the_rest_where_it_was(
    rt: symbi.Runtime, guarantee: Any
) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    for number in range(10):
        await rt.bus.send(alice, bob, b"%d" % number, guarantee=guarantee)
    await _listened_to_the_first(rt, bob)
    await rt.bus.send(alice, bob, b"10")
    first = await rt.bus.receive_many(bob, limit=2)
    assert (first.payloads, [one.payload for one in first]) == ([b"1", b"2"], [b"1", b"2"])
    await _listened_to_the_first(rt, bob)
    rest = [*await rt.bus.receive_many(bob), *await rt.bus.receive_many(bob)]
    assert [one.payload for one in rest] == [b"%d" % number for number in range(4, 11)], "in their order"
    assert {one.attempt for one in rest[:-1]} == {int(guarantee == "at_least_once")}, "no attempt was spent"
    await rt.bus.ack(bob, *rest)


SANDBOXED = """
import asyncio
import symbi

@symbi.agent(name="hears", tier="degraded")
async def hears(ctx: symbi.AgentContext) -> list:
    for number in range(4):
        await ctx.bus.send("hears", b"%d" % number)
    begun = asyncio.Event()

    async def handler(message: symbi.Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    listening = await ctx.bus.listen(handler)
    await begun.wait()
    await listening.unsubscribe()
    first = await ctx.bus.receive(limit=2)
    await ctx.bus.send("hears", b"4")
    rest = [*await ctx.bus.receive(timeout_s=10), *await ctx.bus.receive(timeout_s=10)]
    return [[one.payload.decode() for one in some] for some in (first, rest)]
"""


@pytest.mark.asyncio
async def test_wc3_who_stops_listening_in_a_sandbox_leaves_the_rest_too(tmp_path: Path) -> None:
    file = tmp_path / "hears.py"
    file.write_text(SANDBOXED)
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        assert await rt.run(read(find(f"{file}:hears")), timeout_s=BOUND_S) == [["1", "2"], ["3", "4"]]


@pytest.mark.asyncio
async def test_mg3_who_waits_for_the_mailbox_gets_what_was_put_back(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    for number in range(3):
        await rt.bus.send(alice, bob, b"%d" % number)
    begun = asyncio.Event()

    async def handler(_message: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    subscription = await rt.bus.listen(bob, handler)
    async with asyncio.timeout(BOUND_S):
        await begun.wait()
        waiting = asyncio.create_task(rt.bus.receive_many(bob, timeout_s=BOUND_S))
        await asyncio.sleep(0)
        await subscription.unsubscribe()
        assert (await waiting).payloads == [b"1", b"2"]


@pytest.mark.asyncio
async def test_mg3_an_answer_that_came_when_its_request_was_cancelled_is_a_message_like_others(
    rt: symbi.Runtime,
) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    asking = asyncio.create_task(rt.bus.request(alice, bob, b"?"))
    async with asyncio.timeout(BOUND_S):
        (question,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
        await rt.bus.reply(bob, question, b"!")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (answer,) = await rt.bus.receive_many(alice, timeout_s=0)
    assert (answer.payload, answer.in_reply_to) == (b"!", question.id)


@pytest.mark.asyncio
async def test_mg3_nothing_is_kept_of_who_is_gone_nor_of_a_person_who_was_erased(rt: symbi.Runtime) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    about = [symbi.Part("her words", frozenset({"subject:ann"}))]
    for payload in (b"first", about, b"last"):
        await rt.bus.send(alice, bob, payload)  # type: ignore[arg-type]
    await _listened_to_the_first(rt, bob)
    await rt.persons.erase("ann", by="operator:0")
    assert [one.payload for one in await rt.bus.receive_many(bob)] == [b"last"]
    for payload in (b"first", b"last"):
        await rt.bus.send(alice, bob, payload)
    await _listened_to_the_first(rt, bob)
    await rt.stop_agent(bob, force=True)
    assert not rt.dispatcher.messaging._back
    with pytest.raises(symbi.InputError):
        await rt.bus.receive_many(bob)
    rt.dispatcher.messaging.put_back(bob.id, [])
    assert not rt.dispatcher.messaging._back
