"""What an agent in a sandbox no longer waits for ends on both sides of its pipe, and what came of it is not lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.agents.channel import CALLS_MAX
from symbi.agents.entry import find, read
from symbi.sandbox.base import LINE_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 60.0
LONG_S = 3_600.0

_AGENT = """
import asyncio
import symbi

async def given_up(waits, seconds: float = 0.05) -> None:
    try:
        async with asyncio.timeout(seconds):
            await waits
    except TimeoutError:
        return
    raise AssertionError("there was something")

async def texts(ctx: symbi.AgentContext, **how) -> list:
    return [one.payload.decode() for one in await ctx.bus.receive(timeout_s=20, **how)]

async def receive(ctx):
    await given_up(ctx.bus.receive(timeout_s=LONG_S))
    await ctx.bus.send("hears", b"important")
    return await texts(ctx)

async def many(ctx):
    async def one():
        await given_up(ctx.bus.receive(timeout_s=LONG_S))
    await asyncio.gather(*(one() for _ in range(CALLS_MAX * 2 + 7)))
    return await receive(ctx)

async def subscription(ctx):
    async with await ctx.bus.subscribe("news") as news:
        await given_up(news.receive(timeout_s=LONG_S))
        await ctx.bus.publish("news", b"new")
        return [one.payload.decode() for one in await news.receive(timeout_s=20)]

async def listen(ctx):
    async def handler(message) -> None:
        raise AssertionError("nobody listens any more")
    listening = await ctx.bus.listen(handler)
    await asyncio.sleep(0)
    await listening.unsubscribe()
    await ctx.bus.send("hears", b"important")
    return await texts(ctx)

async def request(ctx):
    await given_up(ctx.bus.request("hears", b"?", timeout_s=LONG_S))
    (question,) = await ctx.bus.receive(timeout_s=20)
    await ctx.bus.reply(question, b"!")
    return await texts(ctx)

LEFT = []

async def leaves(ctx):
    LEFT.append(asyncio.create_task(ctx.bus.receive(timeout_s=LONG_S)))
    listening = await ctx.bus.listen(LEFT.append)
    LEFT.append(listening._task)
    await asyncio.sleep(0)
    return "left two"

async def follows(ctx):
    await ctx.bus.send("hears", b"for the second run")
    heard = await texts(ctx)
    left = await asyncio.gather(*LEFT, return_exceptions=True)
    return [heard, [type(one).__name__ for one in left]]

async def cancels_itself(ctx):
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task

async def large(ctx):
    return [len(one.payload) for one in await ctx.bus.receive(timeout_s=20)]

@symbi.agent(name="hears", tier="degraded")
async def hears(ctx: symbi.AgentContext, what: str):
    return await globals()[what](ctx)
"""


@pytest.fixture
def hears(tmp_path: Path) -> Any:
    file = tmp_path / "hears.py"
    file.write_text(f"LONG_S = {LONG_S}\nCALLS_MAX = {CALLS_MAX}\n" + _AGENT)
    return read(find(f"{file}:hears"))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("what", "heard"),
    [
        ("receive", ["important"]),
        ("many", ["important"]),
        ("subscription", ["new"]),
        ("listen", ["important"]),
        ("request", ["!"]),
    ],
)
async def test_se6_wc2_a_call_that_is_given_up_takes_nothing_from_the_next(
    tmp_path: Path, hears: Any, what: str, heard: list[str]
) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        assert await rt.run(hears, {"what": what}, timeout_s=BOUND_S) == heard


@pytest.mark.asyncio
async def test_se6_wc4_what_a_run_left_behind_takes_nothing_from_the_next_run(
    tmp_path: Path, hears: Any
) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        agent = await rt.schedule_agent(hears)
        assert await rt.run(agent, {"what": "leaves"}, timeout_s=BOUND_S) == "left two"
        heard, left = await rt.run(agent, {"what": "follows"}, timeout_s=BOUND_S)
    assert heard == ["for the second run"]
    assert left == ["LifecycleError", "NoneType"], "the handler has ended, too"


@pytest.mark.asyncio
async def test_w2_an_agent_that_lets_itself_be_cancelled_has_failed(tmp_path: Path, hears: Any) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        with pytest.raises(symbi.AgentError) as caught:
            await rt.run(hears, {"what": "cancels_itself"}, timeout_s=BOUND_S)
    assert caught.value.kind == "CancelledError"


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


@pytest.mark.asyncio
async def test_se1_messages_that_do_not_fit_into_a_line_arrive_all_the_same(
    tmp_path: Path, hears: Any
) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data", mode="development") as rt:
        sender, agent = await rt.schedule_agent(quiet), await rt.schedule_agent(hears)
        sizes = [LINE_BYTES_MAX // 3] * 2 + [LINE_BYTES_MAX // 4]
        for size in sizes:
            await rt.bus.send(sender, agent, b"x" * size)
        assert await rt.run(agent, {"what": "large"}, timeout_s=BOUND_S) == sizes
