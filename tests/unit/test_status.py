"""What a runtime says of itself is what it is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path


@symbi.agent(isolation="in_process")
async def waits(gate: Any = None) -> None:
    await _GATE["open"].wait()


_GATE: dict[str, asyncio.Event] = {}


@pytest.mark.asyncio
async def test_the_status_counts_agents_by_state_and_runs(tmp_path: Path) -> None:
    _GATE["open"] = asyncio.Event()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent, other = await rt.schedule_agent(waits), await rt.schedule_agent(waits)
        runs = [asyncio.create_task(rt.run(agent)) for _ in range(3)]
        while (status := await rt.get_system_status()).runs_waiting < 2:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)
        assert (status.agents, status.agents_by_state) == (2, {"running": 1, "ready": 1})
        assert (status.runs_running, status.operations_unknown, status.mode) == (1, 0, "production")
        assert 0 < status.records <= rt.kernel.durable()  # more may have reached the disk since
        _GATE["open"].set()
        await asyncio.gather(*runs)
        await rt.stop_agent(other)
        assert (await rt.get_system_status()).agents_by_state == {"ready": 1}
        json.dumps(dataclasses.asdict(status))


@pytest.mark.asyncio
async def test_a_runtime_that_is_well_is_green_in_every_part(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        health = await rt.health_check()
        assert health.overall_status == "green", health
        assert {"audit", "policy", "monitor", "scheduler", "bus", "sandboxes", "knowledge"} <= set(
            health.component_health
        )
        assert health.recent_errors == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("[security]\nenforce_policies = false\n", "policy"),
        ("[security]\naudit_enabled = false\n", "audit"),
        ('[security]\ndefault_sandbox_tier = "degraded"\n', "sandboxes"),
    ],
)
async def test_what_is_switched_off_in_development_is_red(tmp_path: Path, section: str, part: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(section)
    async with symbi.Runtime.open(file, data=tmp_path / "d", mode="development") as rt:
        health = await rt.health_check()
        assert health.overall_status == "red"
        assert [name for name, one in health.component_health.items() if one.level == "red"] == [part]
        assert health.component_health[part].text


@pytest.mark.asyncio
@pytest.mark.parametrize("section", ["enforce_policies = false", "audit_enabled = false"])
async def test_production_refuses_what_switches_the_monitor_off(tmp_path: Path, section: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(f"[security]\n{section}\n")
    with pytest.raises(symbi.ConfigError):
        await symbi.Runtime.open(file, data=tmp_path / "d").__aenter__()


@pytest.mark.asyncio
async def test_recent_errors_are_counted_by_kind(tmp_path: Path) -> None:
    @symbi.agent(name="bad", isolation="in_process")
    async def bad() -> None:
        raise ValueError("x")

    async with symbi.Runtime.open(data=tmp_path) as rt:
        for _ in range(3):
            with pytest.raises(symbi.AgentError):
                await rt.run(bad)
        (error,) = (await rt.health_check()).recent_errors
        assert (error.component, error.code, error.count) == ("agents", "agent.failed", 3)
