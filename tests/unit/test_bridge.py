"""The bridge: who waits for the disk is woken, once, whatever happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from symbi.errors import RuntimeClosedError
from symbi.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.runtime.bridge import Bridge

BOUND_S = 10.0


@pytest.mark.asyncio
async def test_br1_a_thousand_waiters_are_woken_in_any_order(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        start = rt.kernel.durable()
        numbers = [rt.kernel.create_agents("host", **_SHAPE)[1] for _ in range(1000)]
        assert numbers[-1] >= start + 999
        waits = [rt.bridge.durable(seq) for seq in reversed(numbers)]
        await asyncio.wait_for(asyncio.gather(*waits), BOUND_S)
        assert rt.kernel.durable() > numbers[-1]


@pytest.mark.asyncio
async def test_nothing_recorded_is_nothing_to_wait_for(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        await asyncio.wait_for(rt.bridge.durable(None), BOUND_S)
        await asyncio.wait_for(rt.bridge.durable(0), BOUND_S)


@pytest.mark.asyncio
async def test_br2_who_waits_when_it_closes_is_told(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        far = asyncio.create_task(rt.bridge.durable(1 << 40))
        mail = asyncio.create_task(rt.bridge.mailbox("nobody"))
        await asyncio.sleep(0)
    for waiting in (far, mail):
        with pytest.raises(RuntimeClosedError):
            await waiting


@pytest.mark.asyncio
async def test_br1_a_waiter_that_gave_up_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        seq = rt.kernel.create_agents("host", **_SHAPE)[1]
        gone = asyncio.create_task(rt.bridge.durable(1 << 40))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait_for(rt.bridge.durable(seq), BOUND_S)


@pytest.mark.asyncio
async def test_br2_a_closed_bridge_takes_no_waiter(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        bridge: Bridge = rt.bridge
        bridge.close()
        bridge.close()
        with pytest.raises(RuntimeClosedError):
            await bridge.mailbox("x")


@pytest.mark.asyncio
async def test_br4_who_stops_waiting_for_a_mailbox_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Runtime.open(data=tmp_path) as rt:
        (identity,), _ = rt.kernel.create_agents("host", **_SHAPE)
        before = rt.bridge.waiting
        for _ in range(100):
            waiting = asyncio.create_task(rt.bridge.mailbox(identity))
            await asyncio.sleep(0)
            assert rt.bridge.waiting == before + 1, "BR4"
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert rt.bridge.waiting == before, "BR4"


_SHAPE = {
    "name": "a",
    "kind": "python",
    "in_process": True,
    "tier": "degraded",
    "capabilities": [],
    "labels": [],
    "memory_mb": None,
    "cpu_millicores": None,
    "disk_io_mbps": None,
    "network_io_mbps": None,
    "connections": None,
    "execution_timeout_ms": None,
}
