"""Budgets and what tools say they have spent; labels of what tools return; declassification."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import symbi
from symbi.tools import spent

OPEN = "permit (principal, action, resource);\n"
BUDGET = '[budgets.spend]\naction = "tool.call"\nmeasure = "tokens"\nwindow_s = 3600\nagent = 1000\n'


@symbi.tool(name="budgets.model", costs={"tokens": "most"})
async def model(most: int, used: int) -> str:
    spent(tokens=used)
    return "words"


@symbi.tool(name="budgets.thread", costs={"tokens": 100})
def thread(used: int) -> str:
    spent(tokens=used - 1)
    spent(tokens=1)
    if used > 500:
        raise ValueError("too much")
    return "words"


@symbi.tool(name="budgets.lookup", effects="read", labels=["phi"])
def lookup(text: str) -> Any:
    return {"found": text}


@symbi.agent(name="asker", isolation="in_process")
async def asker(ctx: symbi.AgentContext, tool: str, arguments: dict[str, Any]) -> Any:
    return await ctx.tools.call(tool, arguments)


def policy(directory: Path, text: str = OPEN, counters: str = BUDGET) -> list[Path]:
    files = [directory / "p.cedar", directory / "c.counters.toml"]
    for file, content in zip(files, (text, counters), strict=True):
        file.write_text(content)
    return files


async def ask(rt: symbi.Runtime, tool: str, **arguments: Any) -> Any:
    return await rt.run(asker, {"tool": tool, "arguments": arguments})


@pytest.mark.asyncio
async def test_a_budget_reserves_what_is_expected_and_keeps_what_was_spent(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        await ask(rt, "budgets.model", most=900, used=200)
        await ask(rt, "budgets.thread", used=300)  # in another thread, said in two parts
        with pytest.raises(symbi.AgentError, match="too much"):
            await ask(rt, "budgets.thread", used=501)  # what failed has cost all the same: 1001
        with pytest.raises(symbi.PolicyDenied, match="spend_agent") as refused:
            await ask(rt, "budgets.model", most=1, used=1)
        assert refused.value.code == "over_budget"
        with pytest.raises(symbi.AgentError, match="whole number"):
            await ask(rt, "budgets.model", most=-1, used=1)
    with pytest.raises(symbi.InputError, match="while it is called"):
        spent(tokens=1)
    with pytest.raises(symbi.InputError, match="not a parameter"):
        symbi.tool(name="budgets.none", costs={"tokens": "nothing"})(lambda: None)


_WORK = """
import asyncio, os, sys, symbi
sys.path.insert(0, sys.argv[3])
import test_budgets as t
async def main():
    async with symbi.Runtime.open(data=sys.argv[1], policy=sys.argv[2].split(":")) as rt:
        await t.ask(rt, "budgets.model", most=900, used=700)
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest.mark.asyncio
async def test_k38_what_was_spent_before_a_kill_is_spent_after_it(tmp_path: Path) -> None:
    files = policy(tmp_path)
    command = [
        sys.executable,
        "-c",
        _WORK,
        str(tmp_path / "d"),
        ":".join(map(str, files)),
        str(Path(__file__).parent),
    ]
    killed = subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: ASYNC221 - it is killed at once
    assert killed.returncode == -9, killed.stderr.decode()
    async with symbi.Runtime.open(data=tmp_path / "d", policy=files) as rt:
        with pytest.raises(symbi.PolicyDenied):
            await ask(rt, "budgets.model", most=301, used=1)
        await ask(rt, "budgets.model", most=300, used=1)


@pytest.mark.asyncio
async def test_tc7_what_a_tool_returned_has_been_read(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        agent = await rt.schedule_agent(asker)
        await rt.run(agent, {"tool": "budgets.lookup", "arguments": {"text": "mail jane@clinic.example"}})
        assert set(rt.kernel.agent_labels(agent.id)) == {"phi", "personal"}
        assert await rt.declassify(agent, ["phi"]) == {"personal"}
        with pytest.raises(symbi.InputError, match="none of these"):
            await rt.declassify(agent, ["phi"])


@pytest.mark.asyncio
async def test_k116_the_built_in_set_lets_nobody_declassify(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        config = symbi.AgentConfig(name="a", function=asker.function, isolation="in_process", inputs=["phi"])
        agent = await rt.schedule_agent(config)
        with pytest.raises(symbi.PolicyDenied):
            await rt.declassify(agent, ["phi"])
