"""Handlers of messages: called one after the other, again after a failure, and ended by no message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BOUND_S = 20.0  # nothing here takes a second; what hangs ends


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as runtime:
        yield runtime


async def _agents(rt: symbi.Runtime, *names: str) -> list[symbi.AgentHandle]:
    config = [symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process") for name in names]
    return [await rt.schedule_agent(one) for one in config]


@pytest.mark.asyncio
async def test_ml1_ml2_a_handler_is_called_for_one_message_after_the_other_and_again_after_a_failure(
    rt: symbi.Runtime,
) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    called: list[tuple[bytes, int]] = []
    done = asyncio.Event()
    at_work = 0

    async def handler(message: Any) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        at_work -= 1
        called.append((message.payload, message.attempt))
        if message.payload == b"1" and message.attempt == 1:
            raise ValueError("not yet")
        if len(called) == 4:
            done.set()

    subscription = await rt.bus.subscribe(bob, "t.>", handler)
    for payload in (b"0", b"1", b"2"):
        await rt.bus.publish(alice, "t.x", payload, guarantee="at_least_once")
    async with asyncio.timeout(BOUND_S):
        await done.wait()
    await subscription.unsubscribe()
    assert called == [(b"0", 1), (b"1", 1), (b"2", 1), (b"1", 2)]
    assert subscription.failures == 1
    assert rt.bus.dead_letters() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("ends_in", ["return", "raise", "cancelled"])
async def test_ml3_no_message_ends_the_handler_that_it_is_given_to(
    rt: symbi.Runtime, caplog: pytest.LogCaptureFixture, ends_in: str
) -> None:
    alice, bob = await _agents(rt, "alice", "bob")
    called: list[Any] = []
    done = asyncio.Event()

    async def handler(message: Any) -> None:
        called.append(message.payload)
        if message.payload == b"slow":
            while not rt.bus.dead_letters():  # noqa: ASYNC110 - its time passes on the loop
                await asyncio.sleep(0)
            if ends_in == "raise":
                raise ValueError("too late for that")
            if ends_in == "cancelled":
                inner = asyncio.create_task(asyncio.Event().wait())
                inner.cancel()
                await inner
        elif message.payload == b"last":
            done.set()

    subscription = await rt.bus.subscribe(bob, "t.>", handler)
    async with asyncio.timeout(BOUND_S):
        await rt.bus.publish(alice, "t.x", b"slow", guarantee="at_least_once", lifetime_s=0.5)
        await rt.bus.publish(alice, "t.x", b"next")
        await rt.bus.publish(alice, "t.x", b"last", guarantee="at_least_once")
        await done.wait()
    assert called == [b"slow", b"next", b"last"]
    assert subscription.failures == (ends_in != "return")
    (letter,) = rt.bus.dead_letters()
    assert letter.reason == "expired"
    assert [one for one in caplog.records if letter.id in one.getMessage() and "in vain" in one.getMessage()]
    await subscription.unsubscribe()


@pytest.mark.asyncio
async def test_ml3_a_handler_whose_messages_cannot_be_read_says_so(
    rt: symbi.Runtime, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bob,) = await _agents(rt, "bob")

    async def broken(*_: object) -> None:
        raise symbi.LogUnavailableError("the trail cannot be written")

    monkeypatch.setattr(rt.dispatcher.messaging, "receive", broken)

    async def handler(message: Any) -> None: ...

    subscription = await rt.bus.subscribe(bob, "t.>", handler)
    assert subscription._task is not None
    await asyncio.wait([subscription._task], timeout=BOUND_S)
    assert "the handler of `t.>` is called no more" in caplog.text
    await subscription.unsubscribe()
    with pytest.raises(symbi.InputError):
        await rt.dispatcher.call(bob.id, "bus.missed", {"mailbox": subscription.id})
