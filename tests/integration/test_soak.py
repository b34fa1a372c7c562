"""Thousands of agents come, work and go; afterwards there is as much of everything as before.

The CI share runs a few thousand; `SYMBI_LONG=1` runs fifty thousand.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.sandbox.engine import _THREADS

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

LONG = os.environ.get("SYMBI_LONG") == "1"
AGENTS = 50_000 if LONG else 3_000
AT_ONCE = 200
BOUND_S = 3_600.0 if LONG else 300.0


@symbi.agent(isolation="in_process")
async def worker(ctx: symbi.AgentContext, peer: str) -> int:
    """Does a little of everything that leaves something behind."""
    await ctx.log.note("here")
    await ctx.bus.send(peer, b"hello")
    waiting = asyncio.create_task(ctx.bus.receive(timeout_s=30))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    try:
        await ctx.tools.call("nothing.of.this.name")
    except symbi.PolicyDenied:
        return 1
    return 0


async def settled(rt: symbi.Runtime) -> None:
    """Until the collector has nothing left and no timer."""
    async with asyncio.timeout(60):
        while rt.upkeep.armed or rt.kernel.collect_in_ns() is not None:  # noqa: ASYNC110 - nobody waits for it
            await asyncio.sleep(0.02)


@pytest.mark.timeout(BOUND_S)
@pytest.mark.asyncio
async def test_after_thousands_of_agents_every_count_is_what_it_was(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "data") as rt:
        sink = await rt.schedule_agent(worker)

        async def one() -> None:
            agent = await rt.schedule_agent(worker)
            assert await rt.run(agent, {"peer": agent.id}) == 1
            await rt.stop_agent(agent)

        await one()  # what is made once and kept
        await settled(rt)
        before = rt.upkeep.leaks.counts()
        for _ in range(AGENTS // AT_ONCE):
            await asyncio.gather(*(one() for _ in range(AT_ONCE)))
        await settled(rt)
        gc.collect()
        after = rt.upkeep.leaks.counts()
        assert {kind: (before[kind], after[kind]) for kind in before if after[kind] > before[kind]} == {}
        assert rt.upkeep.leaks.growing() == {}
        assert (await rt.health_check()).component_health["resources"].level == "green"
        assert not rt.runs.active
        assert rt.agents.ids == {sink.id}
        assert rt.faults.by_agent == {}
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("symbi")] == []


@pytest.mark.asyncio
async def test_sandboxes_that_come_and_go_leave_no_descriptor_watch_or_container(
    tmp_path: Path, tier: SecurityTier
) -> None:
    file = tmp_path / "boxed.py"
    file.write_text("import symbi\n\n@symbi.agent\nasync def boxed() -> int:\n    return 1\n")
    config = symbi.AgentConfig(name="boxed", entry=(str(file), "boxed"), tier=str(tier))
    async with symbi.Runtime.open(data=tmp_path / "data") as rt:

        async def one() -> None:
            assert await rt.run(config) == 1

        await one()
        await settled(rt)
        before = rt.upkeep.leaks.counts()
        for _ in range(20 if LONG else 3):
            await asyncio.gather(one(), one())
        await settled(rt)
        after = rt.upkeep.leaks.counts()
        threads = after["threads"] - before["threads"]
        before["threads"] += threads  # those that talk to Docker are made when several calls wait, and kept
        assert {kind: (before[kind], after[kind]) for kind in before if after[kind] > before[kind]} == {}
        assert threads < _THREADS
        assert after["sandboxes"] == after["watches"] == 0
        assert await asyncio.to_thread(containers, str(rt.data.resolve())) == []


def containers(home: str) -> list[str]:
    """The containers that bear the labels of this data directory."""
    from docker import APIClient
    from symbi.sandbox.reaper import Owner

    client = APIClient(version="auto")
    try:
        name = "symbi.home"
        value = Owner.current(home).labels()[name]
        return [one["Id"] for one in client.containers(all=True, filters={"label": f"{name}={value}"})]
    finally:
        client.close()
