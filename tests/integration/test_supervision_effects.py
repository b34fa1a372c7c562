"""Supervision with everything real: an agent in a sandbox, a tool that fails n times, an effect that can be counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi._core import builtin_policy

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

BOUND_S = 120.0

_AGENT = """
import os
import symbi

RUNS = []

@symbi.agent(supervision=symbi.Supervision(retries=5, backoff_ms=1, restarts=1, window_s=3600))
async def clerk(ctx: symbi.AgentContext, mode: str) -> list:
    RUNS.append(mode)
    lines = await ctx.tools.call("ledger.append", {"line": "paid"})
    if mode == "bug":
        raise KeyError(mode)
    answer = await ctx.tools.call("printer.print", {"page": 1})
    return [lines, answer, len(RUNS)]
"""

STATE: dict[str, Any] = {}


@symbi.tool(name="ledger.append", effects="write")
def append(line: str) -> int:
    with STATE["ledger"].open("a") as ledger:
        ledger.write(line + "\n")
    return len(STATE["ledger"].read_text().splitlines())


@symbi.tool(name="printer.print")
async def print_page(page: int) -> str:
    STATE["tried"] += 1
    if STATE["tried"] <= STATE["fails"]:
        raise ConnectionRefusedError("the printer is off")
    return f"page {page}"


@pytest.mark.asyncio
async def test_a_tool_that_fails_three_times_is_tried_four_times_and_the_ledger_has_one_line(
    tmp_path: Path, tier: SecurityTier
) -> None:
    STATE.update(ledger=tmp_path / "ledger.txt", tried=0, fails=3)
    (tmp_path / "clerk.py").write_text(_AGENT)
    policy = tmp_path / "open.cedar"
    policy.write_text(
        builtin_policy("secure-default") + 'permit (principal, action == Action::"tool.call", resource);\n'
    )
    from symbi.agents.entry import Entry, read

    config = read(Entry(tmp_path / "clerk.py", "clerk"))
    assert config.supervision is not None
    config = symbi.AgentConfig(
        name="clerk", entry=config.entry, tier=str(tier), supervision=config.supervision
    )
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy) as rt:
        agent = await asyncio.wait_for(rt.schedule_agent(config), BOUND_S)
        result = await asyncio.wait_for(rt.run(agent, {"mode": "ok"}), BOUND_S)
        assert result == [1, "page 1", 4]
        assert STATE["ledger"].read_text() == "paid\n"
        assert STATE["tried"] == 4
        log = symbi.AuditLog.open(rt.opened["trail"])
        replayed = list(log.query(event_type="operation.replayed"))
        assert len(replayed) == 3
        log.verify()

        # A failed task restarts the worker: what it had in memory is gone. One more ends the agent.
        before = rt.sandbox_facts(agent)
        with pytest.raises(symbi.AgentError):
            await asyncio.wait_for(rt.run(agent, {"mode": "bug"}), BOUND_S)
        assert (await asyncio.wait_for(rt.run(agent, {"mode": "ok"}), BOUND_S))[2] == 1
        assert rt.sandbox_facts(agent) != before
        with pytest.raises(symbi.AgentError):
            await asyncio.wait_for(rt.run(agent, {"mode": "bug"}), BOUND_S)
        assert rt.kernel.agent_state(agent.id) is None
        assert STATE["ledger"].read_text() == "paid\n" * 4, "four tasks, a line each"
