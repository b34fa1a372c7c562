"""A rule that punishes: who runs into it stands still before it hears of the denial, or is ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 20.0
_OPEN = "permit (principal, action, resource);"
_PUNISHING = (
    _OPEN
    + """
@id("no-leak") @on_violation("suspend")
forbid (principal, action == Action::"tool.call", resource == Tool::"leak");
@id("no-wreck") @on_violation("terminate")
forbid (principal, action == Action::"tool.call", resource == Tool::"wreck");
"""
)


@symbi.tool(name="leak")
def leak() -> str:
    return "out"


@symbi.tool(name="wreck")
def wreck() -> str:
    return "gone"


def calling(name: str) -> Any:
    async def run(ctx: symbi.AgentContext) -> str:
        try:
            await ctx.tools.call(name)
        except symbi.PolicyDenied as error:
            await ctx.checkpoint()
            return error.code
        return "done"

    return symbi.AgentConfig(
        name="caller", function=run, isolation="in_process", capabilities=[f"tool:{name}"]
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.cedar"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.asyncio
async def test_a_violation_suspends_and_other_policies_let_the_agent_go_on(tmp_path: Path) -> None:
    rules = written(tmp_path, _PUNISHING)
    async with symbi.Runtime.open(data=tmp_path / "data", policy=rules) as rt:
        rt.tools.register(leak)
        agent = await rt.schedule_agent(calling("leak"))
        run = asyncio.create_task(rt.run(agent))
        async with asyncio.timeout(BOUND_S):
            while rt.kernel.agent_state(agent.id) != "suspended":  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0)
        await rt.load_policies([written(tmp_path, _OPEN)])
        assert await asyncio.wait_for(run, BOUND_S) == "denied"
        assert rt.kernel.agent_state(agent.id) == "ready"


@pytest.mark.asyncio
async def test_the_severest_violation_ends_the_agent(tmp_path: Path) -> None:
    rules = written(tmp_path, _PUNISHING)
    async with symbi.Runtime.open(data=tmp_path / "data", policy=rules) as rt:
        rt.tools.register(wreck)
        agent = await rt.schedule_agent(calling("wreck"))
        with pytest.raises(symbi.AgentError, match="stopped"):
            await asyncio.wait_for(rt.run(agent), BOUND_S)
        async with asyncio.timeout(BOUND_S):
            while rt.kernel.agent_state(agent.id) is not None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
