"""The story: a runtime with a long past is killed; the next one knows what counts, and reads only what is young."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "permit (principal, action, resource);\n"
COUNTERS = (
    '[budgets.calls]\naction = "tool.call"\nmeasure = "calls"\nwindow_s = 86400\nagent = 301\n'
    '[counters.different]\naction = "tool.call"\nper = "principal"\nwindow_s = 86400\n'
    'kind = "distinct"\nof = "call.number"\n'
)
CALLS = 300

_WORK = """
import asyncio, os, sys, symbi

@symbi.tool(name="snapshots.note", attributes=["number"])
async def note(number: int) -> int:
    if number == int(sys.argv[3]) - 1:
        os.kill(os.getpid(), 9)  # in the act
    return number

@symbi.agent(name="worker", isolation="in_process")
async def worker(ctx, count):
    for number in range(count):
        await ctx.tools.call("snapshots.note", {"number": number})

async def main():
    config = symbi.Config.load(overrides={"audit.snapshot_records": 100})
    async with symbi.Runtime.open(config, data=sys.argv[1], policy=[sys.argv[2]]) as rt:
        await rt.run(worker, {"count": int(sys.argv[3])})

asyncio.run(main())
"""


@symbi.tool(name="snapshots.note", attributes=["number"])
async def note(number: int) -> int:
    return number


@symbi.agent(name="worker", isolation="in_process")
async def worker(ctx: symbi.AgentContext, number: int) -> None:
    await ctx.tools.call("snapshots.note", {"number": number})


@pytest.mark.asyncio
async def test_k38_k112_counts_survive_a_kill_and_only_the_tail_is_read(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "p.cedar").write_text(POLICY)
    (policies / "c.counters.toml").write_text(COUNTERS)
    command = [sys.executable, "-c", _WORK, str(tmp_path / "d"), str(policies), str(CALLS)]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=120)  # noqa: ASYNC221 - nothing else runs
    assert killed.returncode == -9, killed.stderr.decode()
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policies) as rt:
        records, replayed = int(rt.opened["records"]), int(rt.opened["replayed"])
        assert records >= 2 * CALLS
        assert replayed <= 250, f"{replayed} of {records} were read again"
        assert rt.opened["unknown"] == 1  # the one in whose act it was killed
        await rt.run(worker, {"number": 7})  # the last that the budget holds
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run(worker, {"number": 8})
        assert refused.value.code == "over_budget"
        asked = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.intent")
        assert list(asked)[-1].details["counters"]["different"] == CALLS
