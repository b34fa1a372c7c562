"""A worker's end of its calls: cancellations and answers that cross."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import symbi
from symbi.agents.channel import CALLS_MAX
from symbi.agents.worker_calls import Calls

AGENT, RUN = "agent", "run"
RECEIVE: dict[str, Any] = {"limit": 2, "timeout_s": 60}


class Pipe:
    """What was said, and calls that wait."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.calls = Calls(self.said.append)
        self.calls.begin(AGENT, RUN)

    async def ask(self, operation: str, arguments: dict[str, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(self.calls.call(RUN, operation, arguments))
        await asyncio.sleep(0)
        return task

    def answer(self, number: int, value: Any) -> None:
        self.calls.hear({"type": "reply", "id": number, "value": value})


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_wc2_who_gives_up_says_so_and_an_error_that_answers_it_is_nobodys() -> None:
    pipe = Pipe()
    await _cancelled(await pipe.ask("bus.receive", RECEIVE))
    assert [(line["type"], line["id"]) for line in pipe.said] == [("call", 1), ("cancel", 1)]
    pipe.calls.hear({"type": "reply", "id": 1, "error": {"class": "LifecycleError", "message": "over"}})
    pipe.calls.hear({"type": "reply", "id": 1, "value": ["again"]})
    again = await pipe.ask("bus.receive", RECEIVE)
    pipe.answer(2, ["new"])
    assert await again == ["new"]


@pytest.mark.asyncio
@pytest.mark.parametrize("crosses", ["before", "in the same turn"])
@pytest.mark.parametrize("mailbox", [AGENT, "a subscription's"])
async def test_wc3_messages_that_cross_a_cancellation_come_first_next_time(
    crosses: str, mailbox: str
) -> None:
    pipe = Pipe()
    arguments = {**RECEIVE, "mailbox": mailbox}
    task = await pipe.ask("bus.receive", arguments)
    if crosses == "before":
        await _cancelled(task)
        pipe.answer(1, ["a", "b", "c"])
    else:
        pipe.answer(1, ["a", "b", "c"])
        await _cancelled(task)
    other = await pipe.ask("bus.receive", {**RECEIVE, "mailbox": "another"})
    assert not other.done()
    assert await (await pipe.ask("bus.receive", arguments)) == ["a", "b"]
    assert await (await pipe.ask("bus.receive", arguments)) == ["c"]
    await _cancelled(other)


@pytest.mark.asyncio
async def test_wc3_who_waits_already_has_what_somebody_else_gave_up_and_no_message_twice() -> None:
    pipe = Pipe()
    first, second = await pipe.ask("bus.receive", RECEIVE), await pipe.ask("bus.receive", RECEIVE)
    await _cancelled(first)
    pipe.answer(1, ["a"])
    assert await second == ["a"]
    assert pipe.said[-1] == {"type": "cancel", "id": 2}
    pipe.answer(2, ["b"])
    assert await (await pipe.ask("bus.receive", RECEIVE)) == ["b"]


@pytest.mark.asyncio
async def test_wc3_an_answer_nobody_waits_for_is_a_message_and_a_subscription_nobody_heard_of_ends() -> None:
    pipe = Pipe()
    asking = await pipe.ask("bus.request", {"recipient": "bob"})
    subscribing = await pipe.ask("bus.subscribe", {"pattern": "news"})
    await _cancelled(asking)
    await _cancelled(subscribing)
    pipe.answer(1, "the answer")
    pipe.answer(2, "a mailbox")
    await asyncio.sleep(0)
    assert pipe.said[-1]["operation"] == "bus.unsubscribe"
    assert pipe.said[-1]["arguments"] == {"mailbox": "a mailbox"}
    assert await (await pipe.ask("bus.receive", RECEIVE)) == ["the answer"]


@pytest.mark.asyncio
async def test_wc1_a_worker_waits_itself_and_one_that_gave_up_counts_until_it_is_answered() -> None:
    pipe = Pipe()
    tasks = [asyncio.create_task(pipe.calls.call(RUN, "labels", {})) for _ in range(CALLS_MAX + 2)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(pipe.said) == CALLS_MAX
    await _cancelled(tasks[0])
    await _cancelled(tasks[-1])  # it had not asked yet
    assert [line["id"] for line in pipe.said if line["type"] == "cancel"] == [1]
    assert len(pipe.said) == CALLS_MAX + 1
    pipe.answer(1, [])
    for _ in range(3):
        await asyncio.sleep(0)
    assert pipe.said[-1]["type"] == "call"
    for line in [*pipe.said]:
        pipe.answer(line["id"], line["type"])
    assert set(await asyncio.gather(*tasks[1:-1])) == {"call"}


@pytest.mark.asyncio
async def test_wc4_what_a_run_left_behind_asks_for_nothing_in_the_next() -> None:
    pipe = Pipe()
    pipe.calls.end()
    pipe.calls.begin(AGENT, "another run")
    with pytest.raises(symbi.LifecycleError, match="over"):
        await pipe.calls.call(RUN, "labels", {})
    assert pipe.said == []


def test_a_line_in_pieces_is_whole_when_the_last_one_came() -> None:
    calls = Calls(lambda _: None)
    assert calls.piece({"id": 1, "data": b"ab", "last": False}) is None
    assert calls.piece({"id": 2, "data": b"x", "last": True}) == b"x"
    assert calls.piece({"id": 1, "data": b"c", "last": True}) == b"abc"
